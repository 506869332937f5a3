"""Decoding by replay: the scan's bits at every position, whatever the batch; narrow states; taking back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rolloom.kernels.ssd.op import ssd_scan as any_scan
from rolloom.kernels.ssd.replay import ReplayState

SHAPES: list[Any] = [(8, 32, 1, 32), (8, 16, 4, 16), (4, 8, 2, 12), (2, 64, 1, 128)]
LENGTH = 70


def inputs(rows: int, heads: int, head_dim: int, groups: int, state: int, seed: int = 0) -> Any:
    """x, dt, A, B, C, D and initial states."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return (
        normal(rows, LENGTH, heads, head_dim), torch.rand(rows, LENGTH, heads, generator=g) * 0.5,
        -torch.rand(heads, generator=g) * 4 - 0.1, normal(rows, LENGTH, groups, state),
        normal(rows, LENGTH, groups, state), normal(heads), normal(rows, heads, head_dim, state),
    )  # fmt: skip


def feed(held: ReplayState, args, lengths: list[int], begin: int = 0) -> list[torch.Tensor]:
    x, dt, a, b, c, d, _ = args
    own = [torch.cat([t[i, begin : begin + n] for i, n in enumerate(lengths)]) for t in (x, dt, b, c)]
    cu = torch.tensor([0, *lengths]).cumsum(0)
    return list(held.feed(own[0], own[1], a, own[2], own[3], d, cu).split(lengths))


def ssd_scan(*args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan whose arithmetic is replayed: `cpu`, the default, has other roundings."""
    return any_scan(*args, backend="torch")


def step(held: ReplayState, args, at: list[int], rows: list[int] | None = None) -> torch.Tensor:
    x, dt, a, b, c, d, _ = args
    every = list(range(len(at))) if rows is None else rows
    index = None if rows is None else torch.tensor(rows)
    return held.step(x[every, at], dt[every, at], a, b[every, at], c[every, at], d, index)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_position_has_the_bits_of_the_scan(shape: Any, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        args = inputs(3, *shape)
        y, _ = ssd_scan(*args)
        held = ReplayState(3, *shape)
        held.set_state(args[6])
        for t in range(LENGTH):
            assert torch.equal(step(held, args, [t] * 3), y[:, t]), t
        first: Any = [t[:, :64] if t.dim() > 2 else t for t in args[:6]]
        assert torch.equal(held.state(), ssd_scan(*[*first, args[6]])[1])
    finally:
        torch.set_num_threads(before)


def test_bits_do_not_depend_on_the_batch_or_on_how_tokens_came() -> None:
    args = inputs(4, *SHAPES[0])
    y, _ = ssd_scan(*args)
    held = ReplayState(4, *SHAPES[0])
    held.set_state(args[6])
    lengths = [0, 17, 64, 33]
    for row, part in enumerate(feed(held, args, lengths)):
        assert torch.equal(part, y[row, : lengths[row]])
    g, at = torch.Generator().manual_seed(0), list(lengths)
    while min(at) < LENGTH:
        order = torch.randperm(4, generator=g).tolist()
        rows = [row for row in order if at[row] < LENGTH and torch.rand(1, generator=g) < 0.7]
        if rows:
            found = step(held, args, [at[row] for row in rows], rows)
            for index, row in enumerate(rows):
                assert torch.equal(found[index], y[row, at[row]]), (row, at[row])
                at[row] += 1


def test_tokens_are_taken_back_within_a_chunk() -> None:
    args = inputs(2, *SHAPES[1])
    other = inputs(2, *SHAPES[1], seed=1)
    y, _ = ssd_scan(*args)
    held = ReplayState(2, *SHAPES[1])
    held.set_state(args[6])
    feed(held, args, [40, 40])
    feed(held, other, [6, 6], 40)
    held.take_back(6)
    for t in range(40, 64):
        assert torch.equal(step(held, args, [t, t]), y[:, t])
    held.take_back(3)
    step(held, args, [61], [1])
    assert held.position.tolist() == [29, 30]
    with pytest.raises(ValueError, match="tokens: 31 reach behind a boundary"):
        held.take_back(31)


@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float16, 2e-3), (torch.int8, 5e-2)], ids=str)
def test_narrow_states_stay_close_and_small(dtype: torch.dtype, allowed: float, mode) -> None:
    args = inputs(2, *SHAPES[0])
    y, _ = ssd_scan(*args)
    held = ReplayState(2, *SHAPES[0], dtype=dtype, rounding_mode=mode, seeds=torch.tensor([5, 6]))
    held.set_state(args[6])
    found = torch.stack([step(held, args, [t, t]) for t in range(LENGTH)], 1)
    error = ((found - y).square().mean() / y.square().mean()).sqrt()
    assert 0 < error < allowed
    elements = 8 * 32 * 32
    assert held._state.nbytes == 2 * elements * dtype.itemsize
    assert held.nbytes() < ReplayState(2, *SHAPES[0]).nbytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.int8], ids=str)
def test_stochastic_states_repeat_by_seed_in_any_batch(dtype: torch.dtype) -> None:
    args = inputs(3, *SHAPES[1])

    def run(rows: list[int], seeds: list[int]) -> torch.Tensor:
        held = ReplayState(len(rows), *SHAPES[1], dtype=dtype, seeds=torch.tensor(seeds))
        held.set_state(args[6][rows])
        own = [t[rows] if t.dim() > 2 else t for t in args]
        return torch.stack([step(held, own, [t] * len(rows)) for t in range(LENGTH)], 1)

    together = run([0, 1, 2], [7, 8, 9])
    assert torch.equal(together[1:2], run([1], [8]))
    assert torch.equal(together[[2, 0]], run([2, 0], [9, 7]))
    assert not torch.equal(together[1:2], run([1], [80]))


def test_bf16_inputs_give_the_scan_of_bf16_inputs() -> None:
    args: Any = [t.bfloat16() if index in (0, 3, 4) else t for index, t in enumerate(inputs(2, *SHAPES[0]))]
    y, _ = ssd_scan(*args)
    held = ReplayState(2, *SHAPES[0])
    held.set_state(args[6])
    found = torch.stack([step(held, args, [t, t]) for t in range(40)], 1)
    assert found.dtype == torch.bfloat16 and torch.equal(found, y[:, :40])


def test_unsupported_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"dtype.*float16.*bfloat16"):
        ReplayState(1, 2, 4, 1, 4, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"rounding_mode.*'up'"):
        ReplayState(1, 2, 4, 1, 4, rounding_mode="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"heads \(4\).*groups \(3\)"):
        ReplayState(1, 4, 4, 3, 4)
