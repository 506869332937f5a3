"""Routing and experts in deterministic mode on a CPU: a token's bits do not depend on the others.

Shapes: S tokens, D width, E experts, K experts a token, F expert width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels import invariant
from rolloom.kernels.packing import Packing


def scores_invariant(x: torch.Tensor, weight: torch.Tensor, bounds: tuple[int, ...] | None) -> torch.Tensor:
    """Return the router's scores, fp32 `[S, E]`."""
    return invariant.sigmoid(invariant.linear(x.float(), weight.float(), None, bounds))


def experts_invariant(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    bounds: tuple[int, ...] | None,
) -> torch.Tensor:
    """Return what `relu2_experts` returns; weight gradients are summed sequence by sequence.

    An expert's rows stand in the order of their tokens, so those of a sequence stand together.
    """
    experts, top_k = len(up), indices.shape[1]
    packing = Packing((0, len(x)) if bounds is None else bounds)
    order = indices.flatten().argsort(stable=True)
    token = order // top_k
    cell = indices.flatten() * packing.sequences + packing.owners().repeat_interleave(top_k)
    counts = torch.bincount(cell, minlength=experts * packing.sequences).view(experts, packing.sequences)
    gathered = x.index_select(0, token).split(counts.sum(1).tolist())
    scales = weights.flatten().index_select(0, order)[:, None].split(counts.sum(1).tolist())
    parts = []
    for expert, (ups, downs) in enumerate(zip(up.unbind(), down.unbind(), strict=True)):
        if len(gathered[expert]):
            own = Packing.of(counts[expert].tolist()).bounds
            hidden = F.relu(invariant.linear(gathered[expert], ups, None, own)).square()
            weighted = (hidden.to(weights.dtype) * scales[expert]).to(x.dtype)
            parts.append(invariant.linear(weighted, downs, None, own))
    if not parts:
        return x.new_zeros(x.shape)
    return torch.zeros_like(x).index_add(0, token, torch.cat(parts))
