"""Convolving sequences block by block changes nothing, wherever blocks and sequences end."""

from __future__ import annotations

import pytest
import torch

import rolloom.kernels.conv1d.blocks as blocks
from rolloom.kernels.conv1d.blocks import convolve_blocks
from rolloom.kernels.conv1d.packed import LONG, convolve_packed
from rolloom.kernels.conv1d.reference import causal_conv1d_reference
from rolloom.kernels.packing import Packing


def _case(
    lengths: list[int], width: int, biased: bool, state: bool
) -> tuple[Packing, list[torch.Tensor | None]]:
    packing, channels = Packing.of(lengths), 6
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    return packing, [
        leaf(packing.tokens, channels), leaf(channels, width), leaf(channels) if biased else None,
        leaf(len(lengths), width - 1, channels) if state else None,
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize(("width", "biased"), [(4, True), (2, False), (1, True)])
def test_blocks_give_the_reference_and_its_gradients(
    rows: int, state: bool, width: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", rows * 6)
    packing, inputs = _case([1, 0, 9, 2, 3, 14], width, biased, state)
    x, weight, bias, held = inputs
    assert x is not None and weight is not None
    out = convolve_blocks(x, weight, bias, held, packing.bounds)
    expected = causal_conv1d_reference(x[None], weight, bias, held, packing.cu_seqlens(), False)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(out, expected[0])
    pull = torch.randn(out.shape, dtype=out.dtype)
    leaves = [leaf for leaf in inputs if leaf is not None]
    got = torch.autograd.grad(out, leaves, pull)
    for mine, theirs in zip(got, torch.autograd.grad(expected[0], leaves, pull), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    packing, (x, weight, bias, _) = _case([9, 20], 4, True, False)
    assert x is not None and weight is not None and bias is not None
    for leaf in (x, weight, bias):
        mine, kernel, offset = (t if t is leaf else t.detach() for t in (x, weight, bias))
        out = convolve_blocks(mine, kernel, offset, None, packing.bounds)
        expected = causal_conv1d_reference(x[None], weight, bias, None, packing.cu_seqlens(), False)
        assert isinstance(expected, torch.Tensor)
        got, theirs = (torch.autograd.grad(y.sum(), leaf)[0] for y in (out, expected))
        torch.testing.assert_close(got, theirs)


def test_long_and_short_sequences_agree() -> None:
    """The two formulations of the CPU path meet where one takes over from the other."""
    _, (x, weight, bias, _) = _case([LONG] * 3, 4, True, False)
    assert x is not None and weight is not None
    few, many = (
        convolve_packed(x[None], weight, bias, None, Packing.of(lengths).cu_seqlens(), False)
        for lengths in ([LONG] * 3, [LONG] * 3 + [0])
    )
    assert isinstance(few, torch.Tensor) and isinstance(many, torch.Tensor)
    torch.testing.assert_close(few, many)
