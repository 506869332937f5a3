"""Log-probability and entropy that never hold more than a block of rows of logits, forward or backward.

The backward pass computes the logits of each block again. With z = logits / temperature, p = softmax(z) and H
the entropy, d log p(target) / dz_j = [j = target] - p_j and dH / dz_j = -p_j (log p_j + H).

Shapes: S tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

BLOCK_LOGITS = 1 << 21
"""Logits a block holds at once; at least one row."""


def linear_logprob_chunked(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `linear_logprob_reference` returns."""
    return _LinearLogprob.apply(hidden, weight, targets, temperature)  # type: ignore[return-value]


class _LinearLogprob(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        exact = torch.promote_types(hidden.dtype, torch.float32)
        chosen, entropy, total = (
            torch.empty(len(hidden), dtype=exact, device=hidden.device) for _ in range(3)
        )
        for rows in _blocks(len(hidden), len(weight)):
            logits = F.linear(hidden[rows], weight).to(exact).div_(temperature)
            lse = logits.logsumexp(-1)
            total[rows] = lse
            logp = logits.sub_(lse[:, None])
            chosen[rows] = logp.gather(1, targets[rows, None]).squeeze(1)
            entropy[rows] = -(logp.exp().mul_(logp)).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, total, entropy)
        ctx.temperature = temperature
        return chosen, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_chosen: torch.Tensor, d_entropy: torch.Tensor) -> tuple[Any, ...]:
        hidden, weight, targets, total, entropy = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=total.dtype) if needs_weight else None
        for rows in _blocks(len(hidden), len(weight)):
            logits = F.linear(hidden[rows], weight).to(total.dtype).div_(ctx.temperature)
            logp = logits.sub_(total[rows, None])
            pull = logp.exp()
            slope = logp.add_(entropy[rows, None]).mul_(d_entropy[rows, None]).add_(d_chosen[rows, None])
            pull.mul_(slope).neg_()
            pull.scatter_add_(1, targets[rows, None], d_chosen[rows, None])
            d_logits = pull.div_(ctx.temperature).to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(d_logits, weight, out=d_hidden[rows])
            if d_weight is not None:
                d_weight += d_logits.T @ hidden[rows]
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None


def _blocks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, BLOCK_LOGITS // max(1, vocabulary))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
