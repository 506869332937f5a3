"""RMS norms on a CPU with a backward pass of their own: few passes over memory, buffers used again.

Kept for the backward pass: the inputs and one factor a row and group. With r = 1 / rms(x), n = x r and g the
gradient of w n: dx = r (w g - n mean(w g n)), dw = sum(g n).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
        split = x.unflatten(-1, (groups, -1))
        rate = _rate(split, eps)
        ctx.save_for_backward(x, weight, rate)
        return (split * rate).flatten(-2).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, rate = ctx.saved_tensors
        return *_backward(grad, x, weight, rate, ctx.needs_input_grad[1]), None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        gated = torch.nn.functional.silu(gate).mul_(x)
        split = gated.unflatten(-1, (groups, -1))
        rate = _rate(split, eps)
        ctx.save_for_backward(x, gate, weight, rate)
        return split.mul_(rate).flatten(-2).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gate, weight, rate = ctx.saved_tensors
        active = torch.nn.functional.silu(gate)
        into, into_weight = _backward(grad, active * x, weight, rate, ctx.needs_input_grad[2])
        into_gate = torch.ops.aten.silu_backward(into * x, gate)
        return active.mul_(into), into_gate, into_weight, None, None


def _rate(split: torch.Tensor, eps: float) -> torch.Tensor:
    return split.square().mean(-1, keepdim=True).add_(eps).rsqrt_()


def _backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, rate: torch.Tensor, needs_weight: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    split = x.unflatten(-1, (rate.shape[-2], -1))
    normed = split * rate
    pulled = normed.flatten(-2) * grad
    into_weight = pulled.flatten(0, -2).sum(0) if needs_weight else None
    mean = pulled.mul_(weight).unflatten(-1, (rate.shape[-2], -1)).mean(-1, keepdim=True)
    weighted = torch.mul(grad, weight, out=pulled).unflatten(-1, (rate.shape[-2], -1))
    return weighted.sub_(normed.mul_(mean)).mul_(rate).flatten(-2), into_weight


def rms_norm_cpu(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return what `rms_norm_reference` returns, computed in the widest of x's and the weight's dtype."""
    exact = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    out = _Norm.apply(torch.atleast_2d(x.to(exact)), weight.to(exact), 1, eps)
    assert isinstance(out, torch.Tensor)
    return out.view_as(x).to(x.dtype)


def gated_group_rms_norm_cpu(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """Return what `gated_group_rms_norm_reference` returns."""
    exact = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    out = _Gated.apply(x.to(exact), gate.to(exact), weight.to(exact), groups, eps)
    assert isinstance(out, torch.Tensor)
    return out.to(x.dtype)
