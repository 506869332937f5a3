"""Experts on a CPU with a backward pass of their own: rows sorted by expert, products into one buffer.

Kept for the backward pass: the inputs and relu(up x). Shapes: S tokens, D width, E experts, K experts a
token, F expert width; sorted rows are `[S K, ...]`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        up: torch.Tensor,
        down: torch.Tensor,
        indices: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        top_k = indices.shape[1]
        order = indices.flatten().argsort(stable=True)
        token = order // top_k
        spans = _spans(indices, len(up))
        gathered = x.index_select(0, token)
        hidden = x.new_empty(len(order), up.shape[1])
        for expert, rows in spans:
            torch.mm(gathered[rows], up[expert].T, out=hidden[rows])
        hidden.relu_()
        scale = weights.flatten().index_select(0, order)[:, None]
        acted = _weighted(hidden, scale)
        out = x.new_empty(len(order), down.shape[1])
        for expert, rows in spans:
            torch.mm(acted[rows], down[expert].T, out=out[rows])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        ctx.save_for_backward(gathered, up, down, hidden, scale, token, place)
        ctx.spans, ctx.top_k = spans, top_k
        return _gather_sum(out, place, top_k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gathered, up, down, hidden, scale, token, place = ctx.saved_tensors
        grad = grads[0].index_select(0, token)
        acted = _weighted(hidden, scale)
        into_acted = torch.empty_like(hidden)
        into_down = torch.zeros_like(down) if ctx.needs_input_grad[2] else None
        for expert, rows in ctx.spans:
            torch.mm(grad[rows], down[expert], out=into_acted[rows])
            if into_down is not None:
                torch.mm(grad[rows].T, acted[rows], out=into_down[expert])
        into_weights = None
        exact = torch.promote_types(hidden.dtype, scale.dtype)
        if ctx.needs_input_grad[4]:
            square = torch.mul(
                hidden.to(exact), hidden.to(exact), out=acted if acted.dtype == exact else None
            )
            into_scale = torch.einsum("rf,rf->r", into_acted.to(exact), square)
            into_weights = into_scale.index_select(0, place).view(-1, ctx.top_k)
        into_hidden = into_acted.mul_(hidden).mul_((2 * scale).to(hidden.dtype))
        into_up = torch.zeros_like(up) if ctx.needs_input_grad[1] else None
        into_rows = torch.empty_like(gathered)
        for expert, rows in ctx.spans:
            torch.mm(into_hidden[rows], up[expert], out=into_rows[rows])
            if into_up is not None:
                torch.mm(into_hidden[rows].T, gathered[rows], out=into_up[expert])
        return _gather_sum(into_rows, place, ctx.top_k), into_up, into_down, None, into_weights


def _spans(indices: torch.Tensor, experts: int) -> list[tuple[int, slice]]:
    spans, start = [], 0
    for expert, count in enumerate(torch.bincount(indices.flatten(), minlength=experts).tolist()):
        if count:
            spans.append((expert, slice(start, start + count)))
            start += count
    return spans


def _weighted(hidden: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return hidden^2 scale, rounded once from the wider dtype (see NEMOTRON.md on the router's fp32)."""
    if hidden.dtype == scale.dtype:
        return (hidden * hidden).mul_(scale)
    return (hidden.square().to(scale.dtype) * scale).to(hidden.dtype)


def _gather_sum(rows: torch.Tensor, place: torch.Tensor, top_k: int) -> torch.Tensor:
    """Sum each token's sorted rows `[S K, D]` to `[S, D]`, in one pass."""
    return F.embedding_bag(place.view(-1, top_k), rows, mode="sum")


def experts_cpu(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return what `relu2_experts` returns."""
    out = _Experts.apply(x.contiguous(), up, down, indices, weights)
    assert isinstance(out, torch.Tensor)
    return out
