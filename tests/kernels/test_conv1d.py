"""The causal convolution against torch's own, and its state."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from rolloom.kernels.conv1d.op import causal_conv1d, causal_conv1d_update
from rolloom.kernels.dispatch import UnsupportedError

CHANNELS = 6


def inputs(length: int, width: int, biased: bool = True, batch: int = 3):
    g = torch.Generator().manual_seed(length * 10 + width)
    x = torch.randn(batch, length, CHANNELS, generator=g, dtype=torch.float64)
    weight = torch.randn(CHANNELS, width, generator=g, dtype=torch.float64)
    return x, weight, torch.randn(CHANNELS, generator=g, dtype=torch.float64) if biased else None


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    padded = F.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return F.silu(F.conv1d(padded, weight[:, None], bias, groups=CHANNELS)).transpose(1, 2)


@pytest.mark.parametrize("length", [1, 2, 3, 31, 100])
@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("biased", [False, True])
def test_equals_torch_conv1d_with_gradients(length: int, width: int, biased: bool) -> None:
    grads = []
    for function in (causal_conv1d, plain):
        leaves = [t.requires_grad_() for t in inputs(length, width, biased) if t is not None]
        out = function(leaves[0], leaves[1], leaves[2] if biased else None)
        out.square().sum().backward()
        grads.append([out.detach(), *[t.grad for t in leaves]])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 2, 3, 17])
def test_a_sequence_continues_from_its_last_inputs(cut: int) -> None:
    x, weight, bias = inputs(20, 4)
    state = F.pad(x[:, :cut], (0, 0, 3, 0))[:, -3:]
    whole = causal_conv1d(x, weight, bias)
    rest = causal_conv1d(x[:, cut:], weight, bias, initial_state=state)
    torch.testing.assert_close(rest, whole[:, cut:], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("biased", [False, True])
def test_single_steps_equal_the_sequence(width: int, biased: bool) -> None:
    x, weight, bias = inputs(13, width, biased)
    state = torch.zeros(3, width - 1, CHANNELS, dtype=torch.float64)
    steps = [causal_conv1d_update(state, x[:, t], weight, bias) for t in range(13)]
    torch.testing.assert_close(torch.stack(steps, 1), causal_conv1d(x, weight, bias), atol=1e-12, rtol=1e-12)
    assert torch.equal(state, x[:, 13 - width + 1 :])


def test_poisoned_padding_stays_on_the_right() -> None:
    x, weight, bias = inputs(12, 4)
    clean = causal_conv1d(x, weight, bias)
    x[0, 5:] = float("nan")
    poisoned = causal_conv1d(x, weight, bias)
    assert torch.equal(poisoned[0, :5], clean[0, :5])
    assert torch.equal(poisoned[1:], clean[1:])
    assert poisoned[0, 5:].isnan().all()


def test_empty_sequence() -> None:
    x, weight, bias = inputs(0, 4)
    assert causal_conv1d(x, weight, bias).shape == (3, 0, CHANNELS)


def packed_inputs(lengths: list[int]):
    """x `[1, T, C]`, weight, bias, states `[S, 3, C]` and where the sequences start and end."""
    x, weight, bias = inputs(sum(lengths), 4, batch=1)
    assert bias is not None
    g = torch.Generator().manual_seed(7)
    states = torch.randn(len(lengths), 3, CHANNELS, generator=g, dtype=torch.float64)
    return x, weight, bias, states, torch.tensor([0, *lengths]).cumsum(0)


BACKENDS = ["torch", "torch_fast", "triton"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_sequences_equal_themselves_alone_bit_for_bit(backend: str) -> None:
    *drawn, bounds = packed_inputs([5, 0, 9, 1])
    x, weight, bias, states = (t.float() for t in drawn)
    out, final = causal_conv1d(x, weight, bias, states, bounds, final_state=True, backend=backend)
    for index, (start, end) in enumerate(pairwise(bounds.tolist())):
        own = x[:, start:end].contiguous(), weight, bias, states[index : index + 1]
        alone, last = causal_conv1d(*own, final_state=True, backend=backend)
        assert torch.equal(alone, out[:, start:end]) and torch.equal(last[0], final[index])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_poisoned_sequence_reaches_no_other(backend: str) -> None:
    *drawn, bounds = packed_inputs([4, 6, 5])
    x, weight, bias, states = (t.float() for t in drawn)
    clean, dirty = x.clone(), x.clone()
    dirty[:, 4:10] = float("nan")
    grads = []
    for values in (clean, dirty):
        values.requires_grad_()
        out = causal_conv1d(values, weight, bias, states, bounds, backend=backend)
        grads.append((out.detach(), torch.autograd.grad(out.sum(), values)[0]))
    for ours, theirs in zip(*grads, strict=True):
        assert torch.equal(ours[:, :4], theirs[:, :4]) and torch.equal(ours[:, 10:], theirs[:, 10:])
    assert grads[1][0][:, 4:10].isnan().all()


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_the_final_state_is_where_single_steps_go_on(backend: str) -> None:
    x, weight, bias = (t.float() for t in inputs(9, 4) if t is not None)
    whole = causal_conv1d(x, weight, bias, backend=backend)
    _, state = causal_conv1d(x[:, :2].contiguous(), weight, bias, final_state=True, backend=backend)
    steps = [causal_conv1d_update(state, x[:, t], weight, bias, backend=backend) for t in range(2, 9)]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, 2:], atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_named() -> None:
    x, weight, bias, states, bounds = packed_inputs([4, 6])
    for arguments, message in (
        ((x.expand(2, -1, -1), weight, bias, None, bounds), r"x: expected \[1, T, C\]"),
        ((x, weight, bias, states[:1], bounds), "initial_state: expected 2 rows"),
        ((x, weight, bias, None, bounds.float()), "cu_seqlens: expected int32 or int64"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            causal_conv1d(*arguments)
    with pytest.raises(UnsupportedError, match=r"backend='triton': x: expected float32.*float64"):
        causal_conv1d(x, weight, bias, backend="triton")
    with pytest.raises(UnsupportedError, match=r"weight: expected \[6, 2 to 4\], got \(6, 5\)"):
        causal_conv1d(x.float(), torch.ones(6, 5), None, backend="triton")
