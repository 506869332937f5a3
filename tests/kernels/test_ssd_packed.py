"""Packed scans: no sequence knows of another, to the last bit on a CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.parity import poisoned
from rolloom.kernels.ssd.op import ssd_scan, ssd_scan_packed

LENGTHS = {
    "odd": [63, 0, 1, 130, 32, 31, 96],
    "one": [70],
    "even": [32, 32, 64],
    "equal": [33, 33, 33],
    "empty": [0, 0, 40, 0],
}
CPU_BACKENDS = ["torch", "cpu"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
Args = Any


def inputs(lengths: list[int], heads: int, head_dim: int, groups: int, state: int, rest: int = 0) -> Args:
    """x, dt, A, B, C, D of packed sequences, and an initial state for each."""
    g = torch.Generator().manual_seed(len(lengths))
    total = sum(lengths) + rest

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return (
        normal(total, heads, head_dim), torch.rand(total, heads, generator=g) * 0.5,
        -torch.rand(heads, generator=g) * 4 - 0.1, normal(total, groups, state), normal(total, groups, state),
        normal(heads), normal(len(lengths), heads, head_dim, state),
    )  # fmt: skip


def bounds(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def gradients(outputs: tuple[torch.Tensor, torch.Tensor], leaves: Args) -> list[torch.Tensor]:
    y, final = outputs
    grads = torch.autograd.grad(y.sin().sum() + final.square().sum(), leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def packed(args: Args, cu: torch.Tensor, backend: str) -> tuple[torch.Tensor, ...]:
    leaves: Any = tuple(t.detach().requires_grad_() for t in args)
    outputs = ssd_scan_packed(*[*leaves[:6], cu, leaves[6]], backend=backend)
    return (*(t.detach() for t in outputs), *gradients(outputs, leaves))


def alone(args: Args, cu: torch.Tensor, backend: str) -> list[tuple[torch.Tensor, ...]]:
    x, dt, a, b, c, d, state = args
    found = []
    for index, (begin, end) in enumerate(pairwise(cu.tolist())):
        own = (x[None, begin:end], dt[None, begin:end], a, b[None, begin:end], c[None, begin:end], d)
        leaves: Any = tuple(t.detach().requires_grad_() for t in (*own, state[index : index + 1]))
        outputs = ssd_scan(*list(leaves), backend=backend)
        found.append((*(t.detach() for t in outputs), *gradients(outputs, leaves)))
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_outputs_have_the_bits_of_sequences_alone(lengths: list[int], backend: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for shape in ((8, 32, 1, 32), (8, 16, 4, 16), (4, 8, 2, 12)):
            args, cu = inputs(lengths, *shape), bounds(lengths)
            y, final, *_ = packed(args, cu, backend)
            singles = alone(args, cu, backend)
            assert torch.equal(y, torch.cat([single[0][0] for single in singles]))
            assert torch.equal(final, torch.cat([single[1] for single in singles]))
    finally:
        torch.set_num_threads(before)


def test_odd_sizes_have_those_bits_too() -> None:
    args, cu = inputs(LENGTHS["odd"], 4, 3, 2, 5), bounds(LENGTHS["odd"])
    assert torch.equal(
        packed(args, cu, "torch")[0], torch.cat([single[0][0] for single in alone(args, cu, "torch")])
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_gradients_of_the_cpu_scan_have_the_bits_of_sequences_alone(lengths: list[int]) -> None:
    args, cu = inputs(lengths, 8, 16, 2, 16), bounds(lengths)
    found, singles = packed(args, cu, "cpu"), alone(args, cu, "cpu")
    for name, at in {"x": 2, "dt": 3, "B": 5, "C": 6}.items():
        assert torch.equal(found[at], torch.cat([single[at][0] for single in singles])), name
    assert torch.equal(found[8], torch.cat([single[8] for single in singles]))
    for at in (4, 7):
        total = torch.stack([single[at] for single in singles]).sum(0)
        torch.testing.assert_close(found[at], total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", [*CPU_BACKENDS, "triton", "reference"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_broken_sequence_breaks_no_other(backend: str, device: str) -> None:
    if backend == "triton" and device == "cpu" and torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU here")
    lengths = [20, 45, 7]
    args = tuple(t.to(device) for t in inputs(lengths, 2, 16, 1, 16, rest=70))
    cu = bounds(lengths).to(device)
    clean = packed(args, cu, backend)
    broken = tuple(t.clone() for t in args)
    for at in (0, 1, 3, 4):
        broken[at][20:65] = float("nan")
        broken[at][72:] = float("inf")
    broken[6][1] = float("nan")
    with poisoned():
        found = packed(broken, cu, backend)
    for at, rows in ((0, slice(0, 20)), (0, slice(65, 72)), (0, slice(72, None)), (2, slice(0, 20)),
                     (3, slice(65, 72)), (5, slice(0, 20)), (6, slice(65, 72))):  # fmt: skip
        torch.testing.assert_close(found[at][rows], clean[at][rows], rtol=1e-5, atol=1e-5)
    assert not found[0][72:].any()
    torch.testing.assert_close(found[1][[0, 2]], clean[1][[0, 2]], rtol=1e-5, atol=1e-5)


def triton_twice(device: str) -> None:
    lengths = [50, 0, 70]
    args = tuple(t.to(device) for t in inputs(lengths, 4, 16, 2, 16))
    cu = bounds(lengths).to(device)
    found, again = packed(args, cu, "triton"), packed(args, cu, "triton")
    assert all(torch.equal(first, second) for first, second in zip(found, again, strict=True))
    singles = alone(args, cu, "triton")
    for at, name in {0: "y", 2: "x", 3: "dt", 5: "B", 6: "C"}.items():
        assert torch.equal(found[at], torch.cat([single[at][0] for single in singles])), name
    assert torch.equal(found[1], torch.cat([single[1] for single in singles]))


def test_triton_repeats_its_bits_and_packs_to_the_bits_of_sequences_alone() -> None:
    if torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU here; the test below runs it")
    triton_twice("cpu")


@pytest.mark.gpu
def test_triton_repeats_its_bits_on_the_gpu() -> None:
    triton_twice("cuda")


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_rows_a_million_elements_apart(backend: str) -> None:
    lengths = [40, 33]
    args, cu = inputs(lengths, 2, 16, 1, 16), bounds(lengths)
    wide = torch.full((73, 1 << 16), float("nan"))
    wide[:, :32] = args[0].flatten(1)
    spread = (wide[:, :32].unflatten(1, (2, 16)), *args[1:])
    assert torch.equal(packed(spread, cu, backend)[0], packed(args, cu, backend)[0])


@pytest.mark.parametrize(
    ("cu", "message"),
    [
        ([1, 5], "cu_seqlens"), ([0, 5, 3], "cu_seqlens"), ([0, 50], "cu_seqlens.*40"),
        ([], "cu_seqlens"), ([0.0, 4.0], "cu_seqlens: expected integers"), ([0, 4], "initial_states.*1.*2"),
    ],
)  # fmt: skip
def test_unsupported_bounds_are_named(cu: list[Any], message: str) -> None:
    args = inputs([40], 2, 4, 1, 4)
    states = torch.zeros(2, 2, 4, 4) if cu == [0, 4] else None
    with pytest.raises(ValueError, match=message):
        ssd_scan_packed(*[*args[:6], torch.tensor(cu) if cu else torch.tensor([], dtype=torch.int64), states])


def test_triton_names_what_it_cannot_take() -> None:
    args: Any = tuple(t.double() for t in inputs([4], 2, 4, 1, 4))
    with pytest.raises(UnsupportedError, match=r"x: expected float32 or bfloat16.*float64"):
        ssd_scan_packed(*[*args[:6], bounds([4])], backend="triton")
    args = inputs([4], 2, 4, 1, 300)
    with pytest.raises(UnsupportedError, match=r"B: expected state size <= 256, got 300"):
        ssd_scan_packed(*[*args[:6], bounds([4])], backend="triton")


def test_any_strides_give_the_same_bits() -> None:
    # What a convolution returns is laid out by channel; whole chunks reach the scan as views of it.
    x, dt, a, b, c, d, state = inputs([32, 64], 4, 8, 2, 8)
    bounds_of, rest = bounds([32, 64]), (dt, a, b, c, d)
    by_channel = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not by_channel.is_contiguous()
    for backend in CPU_BACKENDS:
        want = ssd_scan_packed(x, *rest, bounds_of, state, backend=backend)
        got = ssd_scan_packed(by_channel, *rest, bounds_of, state, backend=backend)
        assert all(torch.equal(one, two) for one, two in zip(want, got, strict=True))
