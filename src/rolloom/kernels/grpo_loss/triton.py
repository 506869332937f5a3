"""GRPO's token loss on the GPU: loss and its slope in one pass, so that the backward pass is one product.

Shapes: S tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from rolloom.kernels.dispatch import launch
from rolloom.kernels.grpo_loss.reference import CLIPS, KLS

BLOCK = 1024
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unsupported(tensors: dict[str, torch.Tensor | None]) -> str | None:
    """Say which argument this kernel cannot take, and why."""
    logp = tensors["logp"]
    assert logp is not None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            return f"{name}: expected float32, bfloat16 or float16, got {tensor.dtype}"
        if tensor.device != logp.device:
            return f"{name}: expected a tensor on {logp.device} as logp is, got one on {tensor.device}"
        if tensor is not logp and tensor.requires_grad:
            return f"{name}: expected a tensor without gradient: only logp has one here"
    return None


def grpo_token_loss(
    logp: torch.Tensor,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor | None,
    reference: torch.Tensor | None,
    clip: str,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    kl: str,
    kl_coefficient: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `grpo_token_loss_reference` returns."""
    bounds = clip_low, clip_high, dual_clip, kl_coefficient
    return _TokenLoss.apply(  # type: ignore[return-value]
        logp, behaviour, advantages, weights, reference, CLIPS.index(clip), KLS.index(kl), bounds
    )


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logp: torch.Tensor,
        behaviour: torch.Tensor,
        advantages: torch.Tensor,
        weights: torch.Tensor | None,
        reference: torch.Tensor | None,
        clip: int,
        kl: int,
        bounds: tuple[float, float, float | None, float],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        clip_low, clip_high, dual_clip, kl_coefficient = bounds
        given = [
            None if value is None else value.contiguous()
            for value in (logp, behaviour, advantages, weights, reference)
        ]
        losses, estimates, slope = (
            torch.empty(logp.shape, dtype=torch.float32, device=logp.device) for _ in range(3)
        )
        clipped = torch.empty(logp.shape, dtype=torch.int8, device=logp.device)
        launch(
            _token_loss, (-(-logp.numel() // BLOCK),), logp.device,
            *(losses if value is None else value for value in given), losses, estimates, slope, clipped,
            logp.numel(), 1 - clip_low, 1 + clip_high, 0.0 if dual_clip is None else dual_clip,
            kl_coefficient, CLIP=clip, DUAL=dual_clip is not None, KL=kl, WEIGHTS=weights is not None,
            REFERENCE=reference is not None, BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(slope)
        ctx.dtype = logp.dtype
        flags = clipped.view(torch.bool)
        ctx.mark_non_differentiable(estimates, flags)
        return losses, estimates, flags

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> tuple[Any, ...]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).to(ctx.dtype), *[None] * 7


@triton.jit
def _k3(gap):
    """Return exp(d) - 1 - d, by its series where the difference would round away."""
    series = 1.0 + gap / 9.0
    series = 1.0 + gap / 8.0 * series
    series = 1.0 + gap / 7.0 * series
    series = 1.0 + gap / 6.0 * series
    series = 1.0 + gap / 5.0 * series
    series = 1.0 + gap / 4.0 * series
    series = 1.0 + gap / 3.0 * series
    return tl.where(tl.abs(gap) < 0.5, gap * gap * 0.5 * series, tl.exp(gap) - 1.0 - gap)


@triton.jit
def _token_loss(
    logp, behaviour, advantages, weights, reference, losses, estimates, slopes, clipped, count,
    low, high, dual, kl_coefficient,
    CLIP: tl.constexpr, DUAL: tl.constexpr, KL: tl.constexpr, WEIGHTS: tl.constexpr,
    REFERENCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = token < count
    own = tl.load(logp + token, mask=mask, other=0.0).to(tl.float32)
    advantage = tl.load(advantages + token, mask=mask, other=0.0).to(tl.float32)
    ratio = tl.exp(own - tl.load(behaviour + token, mask=mask, other=0.0).to(tl.float32))
    # Comparisons, not min and max: a NaN ratio stays NaN.
    bounded = tl.where(ratio < low, low, tl.where(ratio > high, high, ratio))
    plain = ratio * advantage
    if CLIP == 0:
        other = bounded * advantage
        flag = other < plain
        loss = -tl.where(flag, other, plain)
        if DUAL:
            floor = dual * advantage
            below = (advantage < 0.0) & (-loss < floor)
            loss = tl.where(below, -floor, loss)
            flag = flag | below
        slope = tl.where(flag, 0.0, -plain)
    elif CLIP == 1:
        flag = bounded != ratio
        slope = -(bounded * advantage)
        loss = slope * own
    else:
        flag = ratio != ratio
        flag = flag & (ratio == ratio)
        loss = -plain
        slope = loss
    estimate = tl.zeros((BLOCK,), dtype=tl.float32)
    if REFERENCE:
        gap = tl.load(reference + token, mask=mask, other=0.0).to(tl.float32) - own
        if KL == 0:
            estimate = -gap
            pull = 1.0 + estimate * 0.0
        elif KL == 1:
            estimate = gap * gap * 0.5
            pull = -gap
        else:
            estimate = _k3(gap)
            pull = -(estimate + gap)
        loss += kl_coefficient * estimate
        slope += kl_coefficient * pull
    if WEIGHTS:
        weight = tl.load(weights + token, mask=mask, other=0.0).to(tl.float32)
        loss *= weight
        slope *= weight
    tl.store(losses + token, loss, mask=mask)
    tl.store(estimates + token, estimate, mask=mask)
    tl.store(slopes + token, slope, mask=mask)
    tl.store(clipped + token, flag.to(tl.int8), mask=mask)
