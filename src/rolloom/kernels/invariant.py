"""What deterministic mode on a CPU is made of: results of a token that no other token can change.

Two facts of torch on a CPU make this cheap. A matrix product's row has the same bits whatever the number of
rows, as long as that is a multiple of `ROWS` (a few rows take other kernels); so rows are padded.
`exp`, `log1p`, `sqrt` and the arithmetic give an element the same bits wherever it stands, but `sigmoid`,
`silu` and `softplus` compute the last elements of a block otherwise; so those are made of the former.

A parameter's gradient is summed sequence by sequence, in order: that of a packed batch is then that of its
sequences run one after the other with accumulation, to the last bit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F

ROWS = 16


def pad_rows(x: torch.Tensor) -> torch.Tensor:
    """Append zero rows to `[S, ...]` up to a multiple of `ROWS`."""
    missing = -len(x) % ROWS
    return torch.cat((x, x.new_zeros(missing, *x.shape[1:]))) if missing else x.contiguous()


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return `x @ weight` for `[S, K]` and `[K, N]`, each row independent of the others."""
    return (pad_rows(x) @ weight)[: len(x)]


def in_order(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum of parts, added from the first to the last."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _segments(bounds: tuple[int, ...] | None, tokens: int) -> list[slice]:
    whole = (0, tokens) if bounds is None else bounds
    return [slice(a, b) for a, b in pairwise(whole) if b > a]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bounds: tuple[int, ...] | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bounds = bounds
        return product(x, weight.T)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        into_x = product(grad, weight) if ctx.needs_input_grad[0] else None
        into_weight = None
        if ctx.needs_input_grad[1]:
            # Clones, so that a sequence's products do not depend on where in memory it begins.
            parts = [grad[s].clone().T @ x[s].clone() for s in _segments(ctx.bounds, len(x))]
            into_weight = in_order(parts) if parts else torch.zeros_like(weight)
        return into_x, into_weight, None


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, bounds: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Return `x weight^T + bias` for `[..., K]`, `[N, K]` and `[N]`."""
    flat = x.flatten(0, -2) if x.dim() != 2 else x
    y = _Linear.apply(flat, weight, bounds)
    assert isinstance(y, torch.Tensor)
    if bias is not None:
        y = y + spread(bias, bounds, len(flat))
    return y.view(*x.shape[:-1], len(weight))


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, parameter: torch.Tensor, bounds: tuple[int, ...] | None, tokens: int
    ) -> torch.Tensor:
        ctx.bounds, ctx.tokens = bounds, tokens
        return parameter.expand(tokens, *parameter.shape)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad = grads[0].contiguous()
        parts = [grad[s].clone().sum(0) for s in _segments(ctx.bounds, ctx.tokens)]
        return (in_order(parts) if parts else grad.new_zeros(grad.shape[1:])), None, None


def spread(parameter: torch.Tensor, bounds: tuple[int, ...] | None, tokens: int) -> torch.Tensor:
    """Give every token its own view of a parameter, `[tokens, *shape]`, whose gradients add up in order."""
    out = _Spread.apply(parameter, bounds, tokens)
    assert isinstance(out, torch.Tensor)
    return out


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, ids: torch.Tensor, bounds: tuple[int, ...] | None
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.size, ctx.bounds = weight.shape, bounds
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        grad = grads[0].contiguous()
        total = grad.new_zeros(ctx.size)
        for s in _segments(ctx.bounds, len(ids)):
            seen, inverse = ids[s].unique(return_inverse=True)
            part = grad.new_zeros(len(seen), grad.shape[1]).index_add_(0, inverse, grad[s])
            total[seen] += part
        return total, None, None


def embedding(ids: torch.Tensor, weight: torch.Tensor, bounds: tuple[int, ...] | None) -> torch.Tensor:
    """Return the rows `[L, D]` of `weight` for ids `[L]`."""
    out = _Embedding.apply(weight, ids, bounds)
    assert isinstance(out, torch.Tensor)
    return out


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-x))


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        out = _sigmoid(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        return (grads[0] * (out * (1 - out)),)


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Return 1 / (1 + exp(-x))."""
    out = _Sigmoid.apply(x.contiguous())
    assert isinstance(out, torch.Tensor)
    return out


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * _sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        gate = _sigmoid(x)
        return (grads[0] * (gate * (1 + x * (1 - gate))),)


def silu(x: torch.Tensor) -> torch.Tensor:
    """Return x sigmoid(x)."""
    out = _Silu.apply(x.contiguous())
    assert isinstance(out, torch.Tensor)
    return out


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.where(x > 20, x, torch.log1p(torch.exp(x)))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return (grads[0] * _sigmoid(x),)


def softplus(x: torch.Tensor) -> torch.Tensor:
    """Return log(1 + exp(x)), x itself above 20 as torch does."""
    out = _Softplus.apply(x.contiguous())
    assert isinstance(out, torch.Tensor)
    return out
