"""The causal convolution of packed sequences on a CPU, with a backward pass of its own.

Many short sequences: all tokens are convolved as if they were one, by oneDNN's depthwise kernel; then the few
that stand less than k - 1 tokens from a boundary are computed again, without what lies beyond it. Long ones
are convolved one by one (`blocks.py`).

Shapes: L packed tokens, S sequences, C channels, k kernel width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from rolloom.kernels.conv1d.blocks import convolve_blocks
from rolloom.kernels.packing import Packing

LONG = 64
"""Tokens a sequence, on average, from which taking sequences one by one is faster."""
BLOCK = 512
"""Tokens whose products with their gradients are summed while they are in cache."""


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
        state: torch.Tensor | None, packing: Packing,
    ) -> torch.Tensor:  # fmt: skip
        halo = weight.shape[1] - 1
        out = _depthwise(F.pad(x, (0, 0, halo, 0)), weight, bias)
        at = _near(packing.places(x.device), halo)
        out[at] = _apart(x, weight, bias, state, packing, at)
        ctx.save_for_backward(x, weight, out, state)
        ctx.packing, ctx.biased = packing, bias is not None
        return F.silu(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, out, state = ctx.saved_tensors
        packing: Packing = ctx.packing
        halo = weight.shape[1] - 1
        pull = torch.ops.aten.silu_backward(grad, out)
        into_x = None
        if ctx.needs_input_grad[0]:
            into_x = _depthwise(F.pad(pull, (0, 0, 0, halo)), weight.flip(1), None)
            lengths = torch.tensor(packing.lengths)[packing.owners()]
            left = lengths - 1 - packing.places()
            at = _near(left, halo)
            rows = pull[at] * weight[:, halo]
            for back in range(1, halo + 1):
                inside = (left[at] >= back)[:, None]
                ahead = pull[(at + back).clamp(max=len(x) - 1)]
                rows += torch.where(inside, ahead * weight[:, halo - back], 0)
            into_x[at] = rows
        into_weight = _weight_gradient(x, pull, packing, halo) if ctx.needs_input_grad[1] else None
        into_bias = pull.sum(0) if ctx.biased and ctx.needs_input_grad[2] else None
        into_state = None if state is None else torch.zeros_like(state)
        if state is not None and into_state is not None:
            for back in range(1, halo + 1):
                early = _near(packing.places(), back)
                held = packing.owners()[early], halo + packing.places()[early] - back
                into_state.index_put_(held, pull[early] * weight[:, halo - back], accumulate=True)
                if into_weight is not None:
                    into_weight[:, halo - back] += (pull[early] * state[held]).sum(0)
        return into_x, into_weight, into_bias, into_state, None


def _depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolve `[L + k - 1, C]` as an image of height 1 whose channels lie innermost."""
    image = x.T[None, :, None]
    return F.conv2d(image, weight[:, None, None], bias, groups=len(weight))[0, :, 0].T


def _near(distance: torch.Tensor, halo: int) -> torch.Tensor:
    return (distance < halo).nonzero().squeeze(1)


def _apart(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, state: torch.Tensor | None,
    packing: Packing, at: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    halo = weight.shape[1] - 1
    places, owners = packing.places()[at], packing.owners()[at]
    out = x[at] * weight[:, halo]
    for back in range(1, halo + 1):
        inside = (places >= back)[:, None]
        before: torch.Tensor | int = 0
        if state is not None:
            before = state[owners, (halo + places - back).clamp(max=halo - 1)] * weight[:, halo - back]
        out += torch.where(inside, x[(at - back).clamp(min=0)] * weight[:, halo - back], before)
    return out if bias is None else out + bias


def _weight_gradient(x: torch.Tensor, pull: torch.Tensor, packing: Packing, halo: int) -> torch.Tensor:
    into = x.new_zeros(x.shape[1], halo + 1)
    places = packing.places()
    for back in range(halo + 1):
        total = into[:, halo - back]
        for first in range(back, len(x), BLOCK):
            last = min(len(x), first + BLOCK)
            total += (pull[first:last] * x[first - back : last - back]).sum(0)
        crossing = _near(places, back)
        crossing = crossing[crossing >= back]
        if len(crossing):
            total -= (pull[crossing] * x[crossing - back]).sum(0)
    return into


Whole = Callable[[torch.Tensor, torch.Tensor | None, Packing], torch.Tensor]
"""Of packed tokens `[L, C]`, the states `[S, k - 1, C]` before each sequence or None, and their packing."""


def over_packed(
    convolve: Whole,
    halo: int,
    x: torch.Tensor,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    final_state: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Convolve the tokens of sequences, dense or packed; what lies beyond the last gives zeros.

    Args:
        convolve: computes the outputs of the tokens.
        halo: k - 1.
        x: as in `causal_conv1d`, like the following.
        initial_state: before each sequence.
        cu_seqlens: bounds of packed sequences.
        final_state: also return the last k - 1 inputs of each sequence.
    """
    batch, length, channels = x.shape
    packing = Packing.dense(batch, length) if cu_seqlens is None else Packing(tuple(cu_seqlens.tolist()))
    flat = x.reshape(-1, channels)
    whole = flat[: packing.tokens]
    state = None if initial_state is None else initial_state.to(x)
    out = convolve(whole, state, packing)
    if len(whole) < len(flat):
        out = torch.cat((out, out.new_zeros(len(flat) - len(whole), channels)))
    if not final_state:
        return out.view_as(x)
    return out.view_as(x), _last_inputs(whole, state, packing, halo)


def convolve_packed(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    final_state: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return what `causal_conv1d_reference` returns."""
    plain = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)

    def convolve(whole: torch.Tensor, state: torch.Tensor | None, packing: Packing) -> torch.Tensor:
        if plain and packing.tokens >= LONG * packing.sequences:
            return convolve_blocks(whole, weight, bias, state, packing.bounds)
        out = _Convolve.apply(whole, weight, bias, state, packing) if len(whole) else whole
        assert isinstance(out, torch.Tensor)
        return out

    return over_packed(convolve, weight.shape[1] - 1, x, initial_state, cu_seqlens, final_state)


def _last_inputs(x: torch.Tensor, state: torch.Tensor | None, packing: Packing, halo: int) -> torch.Tensor:
    """Return the last k - 1 inputs of each sequence of `[L, C]`, `[S, k - 1, C]`, its state included."""
    if state is None:
        state = x.new_zeros(packing.sequences, halo, x.shape[1])
    history = torch.cat((state.flatten(0, 1), x))
    ends = torch.tensor(packing.lengths, device=x.device)[:, None] + torch.arange(halo, device=x.device)
    starts = len(history) - len(x) + packing.cu_seqlens(x.device)[:-1, None].long()
    first = torch.arange(packing.sequences, device=x.device)[:, None] * halo
    return history[torch.where(ends >= halo, starts + ends - halo, first + ends)]
