"""The causal convolution of packed sequences on a CPU, a block of tokens of one sequence at a time.

A block's products and sums stay in the cache of a core, and no sequence has to be kept from another. Nothing
is kept for the backward pass but the inputs.

Shapes: L packed tokens, S sequences, C channels, k kernel width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch.autograd.function import once_differentiable

BLOCK = 1 << 16
"""Elements of a block: 256 KiB of fp32, a quarter of a core's second-level cache or less."""


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
        state: torch.Tensor | None, bounds: tuple[int, ...],
    ) -> torch.Tensor:  # fmt: skip
        taps = weight.T.contiguous()
        blocks = _Blocks(x, taps, bias, state)
        out = x.new_empty(x.shape)
        for at in _pieces(bounds, x.shape[1]):
            torch.ops.aten.silu.out(blocks.before_silu(*at), out=out[at[2] : at[3]])
        ctx.save_for_backward(x, taps, bias, state)
        ctx.bounds = bounds
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, taps, bias, state = ctx.saved_tensors
        halo = len(taps) - 1
        blocks = _Blocks(x, taps, bias, state)
        into_x = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        into_taps = torch.zeros_like(taps) if ctx.needs_input_grad[1] else None
        into_bias = None if bias is None or not ctx.needs_input_grad[2] else torch.zeros_like(bias)
        into_state = None if state is None else torch.zeros_like(state)
        scratch = blocks.buffer()
        for sequence, begin, first, last in _pieces(ctx.bounds, x.shape[1]):
            before = blocks.before_silu(sequence, begin, first, last)
            pull = torch.ops.aten.silu_backward(grad[first:last], before)
            if into_bias is not None:
                into_bias += pull.sum(0)
            for back in range(halo + 1):
                start, tap = max(first, begin + back), halo - back
                if start < last:
                    inner, read = pull[start - first :], slice(start - back, last - back)
                    if into_x is not None and back:
                        into_x[read].addcmul_(inner, taps[tap])
                    elif into_x is not None:
                        torch.mul(inner, taps[tap], out=into_x[read])
                    if into_taps is not None:
                        into_taps[tap] += torch.mul(inner, x[read], out=scratch[: len(inner)]).sum(0)
                if state is not None and into_state is not None and first < begin + back:
                    held = _held(halo, back, first - begin, last - first)
                    early = pull[: held.stop - held.start]
                    into_state[sequence, held].addcmul_(early, taps[tap])
                    if into_taps is not None:
                        into_taps[tap] += (early * state[sequence, held]).sum(0)
        into_weight = None if into_taps is None else into_taps.T
        return into_x, into_weight, into_bias, into_state, None


class _Blocks:
    """Computes blocks of the convolution into one buffer."""

    def __init__(
        self, x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor | None, state: torch.Tensor | None
    ) -> None:
        self.x, self.taps, self.bias, self.state = x, taps, bias, state
        self.out = self.buffer()

    def buffer(self) -> torch.Tensor:
        """Return room for one block, `[BLOCK // C, C]`."""
        return self.x.new_empty(min(len(self.x), _rows(self.x.shape[1])), self.x.shape[1])

    def before_silu(self, sequence: int, begin: int, first: int, last: int) -> torch.Tensor:
        """Return what SiLU is applied to for tokens `first..last` of the sequence that starts at `begin`."""
        halo, out, x = len(self.taps) - 1, self.out[: last - first], self.x
        if self.bias is None:
            torch.mul(x[first:last], self.taps[halo], out=out)
        else:
            torch.addcmul(self.bias, x[first:last], self.taps[halo], out=out)
        for back in range(1, halo + 1):
            start = max(first, begin + back)
            if start < last:
                out[start - first :].addcmul_(x[start - back : last - back], self.taps[halo - back])
            if self.state is not None and first < begin + back:
                held = _held(halo, back, first - begin, last - first)
                out[: held.stop - held.start].addcmul_(self.state[sequence, held], self.taps[halo - back])
        return out


def _held(halo: int, back: int, place: int, rows: int) -> slice:
    """Return which inputs of the state are read by the first tokens of a block, `back` tokens behind them."""
    return slice(halo + place - back, min(halo, halo + place + rows - back))


def _rows(channels: int) -> int:
    return max(1, BLOCK // max(1, channels))


def _pieces(bounds: tuple[int, ...], channels: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield blocks: the sequence, where it begins, and the first token and the one behind the last."""
    rows = _rows(channels)
    for sequence, (begin, end) in enumerate(pairwise(bounds)):
        for first in range(begin, end, rows):
            yield sequence, begin, first, min(end, first + rows)


def convolve_blocks(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, state: torch.Tensor | None,
    bounds: tuple[int, ...],
) -> torch.Tensor:  # fmt: skip
    """Convolve packed tokens `[L, C]`, with the state `[S, k - 1, C]` or zeros before each sequence."""
    out = _Convolve.apply(x, weight, bias, state, bounds)
    assert isinstance(out, torch.Tensor)
    return out
