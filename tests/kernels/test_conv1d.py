"""The causal convolution against torch's own, and its state."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rolloom.kernels.conv1d.op import causal_conv1d, causal_conv1d_update

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
        out = function(*leaves, *(() if biased else (None,)))
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
