"""The chunked SSD scan and the decode update against the recurrence they stand for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from rolloom.kernels.ssd.op import ssd_scan, ssd_update

LENGTHS = [0, 1, 31, 32, 63, 100]
GROUPS = [1, 2, 4]
HEADS, HEAD_DIM, STATE = 4, 3, 5
NAMES = ("x", "dt", "A", "B", "C", "D", "initial_state")


def inputs(length: int, groups: int = 2, batch: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0):
    """x, dt, A, B, C, D and an initial state, all of the order of 1."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    dt = torch.rand(batch, length, HEADS, generator=g, dtype=torch.float64).to(dtype) * 0.5 + 1e-3
    decay = -torch.rand(HEADS, generator=g, dtype=torch.float64).to(dtype) * 4 - 0.1
    return (
        normal(batch, length, HEADS, HEAD_DIM), dt, decay, normal(batch, length, groups, STATE),
        normal(batch, length, groups, STATE), normal(HEADS), normal(batch, HEADS, HEAD_DIM, STATE),
    )  # fmt: skip


def scan(args: Iterable[torch.Tensor], backend: str = "torch") -> tuple[torch.Tensor, torch.Tensor]:
    x, dt, a, b, c, d, *state = args
    return ssd_scan(x, dt, a, b, c, d, state[0] if state else None, backend)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("carried", [False, True])
def test_chunks_equal_the_recurrence(length: int, groups: int, carried: bool) -> None:
    args = inputs(length, groups)
    args = args if carried else args[:-1]
    y, state = scan(args)
    expected_y, expected_state = scan(args, "reference")
    torch.testing.assert_close(y, expected_y, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(state, expected_state, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("length", [1, 31, 63, 100])
@pytest.mark.parametrize("groups", GROUPS)
def test_gradients_equal_those_of_the_recurrence(length: int, groups: int) -> None:
    grads = {}
    for backend in ("torch", "reference"):
        args = [t.requires_grad_() for t in inputs(length, groups, batch=1)]
        y, state = scan(args, backend)
        g = torch.Generator().manual_seed(1)
        pull_y = torch.randn(y.shape, generator=g, dtype=y.dtype)
        pull_state = torch.randn(state.shape, generator=g, dtype=y.dtype)
        ((y * pull_y).sum() + (state * pull_state).sum()).backward()
        grads[backend] = [t.grad for t in args]
    for name, fast, slow in zip(NAMES, grads["torch"], grads["reference"], strict=True):
        torch.testing.assert_close(
            fast, slow, atol=1e-10, rtol=1e-9, msg=lambda m, name=name: f"grad of {name}: {m}"
        )


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 40, 69])
def test_a_sequence_continues_from_its_state(cut: int) -> None:
    x, dt, a, b, c, d, state = inputs(70)
    whole, final = ssd_scan(x, dt, a, b, c, d, state)
    first, middle = ssd_scan(x[:, :cut], dt[:, :cut], a, b[:, :cut], c[:, :cut], d, state)
    second, end = ssd_scan(x[:, cut:], dt[:, cut:], a, b[:, cut:], c[:, cut:], d, middle)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(end, final, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("padding", [1, 5, 32, 60])
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_steps_with_dt_zero_leave_the_state_alone(padding: int, backend: str) -> None:
    x, dt, a, b, c, d, state = inputs(37)
    y, final = ssd_scan(x, dt, a, b, c, d, state, backend=backend)
    junk_x, _, _, junk_b, junk_c, _, _ = (t * 1e6 for t in inputs(padding, seed=9))
    padded = (torch.cat((x, junk_x), 1), torch.cat((dt, torch.zeros(2, padding, HEADS).double()), 1))
    y_padded, final_padded = ssd_scan(
        *padded, a, torch.cat((b, junk_b), 1), torch.cat((c, junk_c), 1), d, state, backend=backend
    )
    torch.testing.assert_close(y_padded[:, :37], y, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(final_padded, final, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("at", [0, 20, 31, 32, 49])
def test_no_output_sees_the_future(at: int) -> None:
    x, dt, a, b, c, d, _ = inputs(50)
    y, _ = ssd_scan(x, dt, a, b, c, d)
    later = [t.clone() for t in (x, dt, b, c)]
    for tensor in later:
        tensor[:, at + 1 :] *= 7
    changed, _ = ssd_scan(later[0], later[1], a, later[2], later[3], d)
    assert torch.equal(changed[:, : at + 1], y[:, : at + 1])


def test_fp32_stays_close_over_a_long_sequence_with_strong_decay() -> None:
    args = list(inputs(500))
    args[2] = args[2] * 8
    exact, exact_state = scan(args, "reference")
    y, state = scan(t.float() for t in args)
    assert ((y - exact).square().mean() / exact.square().mean()).sqrt() < 1e-5
    assert ((state - exact_state).square().mean() / exact_state.square().mean()).sqrt() < 1e-5


def test_bf16_inputs_accumulate_in_fp32() -> None:
    args = [t.bfloat16() for t in inputs(90)]
    exact, exact_state = scan((t.double() for t in args), "reference")
    y, state = scan(args)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert ((y - exact).square().mean() / exact.square().mean()).sqrt() < 0.005
    assert ((state - exact_state).square().mean() / exact_state.square().mean()).sqrt() < 1e-5


@pytest.mark.parametrize("groups", GROUPS)
def test_single_steps_equal_the_scan(groups: int) -> None:
    x, dt, a, b, c, d, state = inputs(40, groups, batch=3, dtype=torch.float32)
    expected, final = scan((t.double() for t in (x, dt, a, b, c, d, state)), "reference")
    held = state.clone()
    steps = [ssd_update(held, x[:, t], dt[:, t], a, b[:, t], c[:, t], d) for t in range(40)]
    torch.testing.assert_close(torch.stack(steps, 1), expected.float(), atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(held, final.float(), atol=1e-5, rtol=1e-5)


def test_a_step_touches_only_its_rows() -> None:
    x, dt, a, b, c, d, state = inputs(1, batch=4, dtype=torch.float32)
    held = state.clone()
    ssd_update(held[1:3], x[1:3, 0], dt[1:3, 0], a, b[1:3, 0], c[1:3, 0], d)
    assert torch.equal(held[0], state[0]) and torch.equal(held[3], state[3])
    assert not torch.equal(held[1:3], state[1:3])


def test_unsupported_arguments_are_named() -> None:
    x, dt, a, b, c, d, _ = inputs(3, groups=1)
    with pytest.raises(ValueError, match=r"backend.*reference.*torch.*'cuda'"):
        ssd_scan(x, dt, a, b, c, d, backend="cuda")
    with pytest.raises(ValueError, match=r"heads \(4\).*groups \(3\)"):
        ssd_scan(x, dt, a, b.expand(-1, -1, 3, -1), c.expand(-1, -1, 3, -1), d)
