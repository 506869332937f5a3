"""Router and experts as their definitions say, token by token: the truth in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def route_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    selection_bias: torch.Tensor,
    top_k: int,
    groups: int,
    top_groups: int,
    normalize: bool,
    scale: float,
    replay: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `route` returns, experts by falling score plus bias, the lower index first in a tie."""
    exact = torch.promote_types(x.dtype, torch.float32)
    scores = (x.to(exact) @ weight.to(exact).T).sigmoid()
    if replay is None:
        rows = [
            _choice(row, top_k, groups, top_groups)
            for row in (scores.detach() + selection_bias.to(exact)).tolist()
        ]
        indices = torch.tensor(rows, dtype=torch.int64, device=x.device).view(len(x), top_k)
    else:
        indices = replay.long()
    weights = scores.gather(1, indices)
    if normalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return indices, weights * scale


def _choice(row: list[float], top_k: int, groups: int, top_groups: int) -> list[int]:
    size = len(row) // groups
    allowed = range(len(row))
    if groups > 1:
        best = [sum(sorted(row[g * size : (g + 1) * size])[-2:]) for g in range(groups)]
        kept = sorted(range(groups), key=lambda g: -best[g])[:top_groups]
        allowed = [e for e in allowed if e // size in kept]
    return sorted(allowed, key=lambda e: -row[e])[:top_k]


def experts_reference(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return what `relu2_experts` returns."""
    # Unbound once, so that a token's gradient does not fill the weights of every expert.
    ups, downs, rows = up.unbind(), down.unbind(), []
    for token in range(len(x)):
        parts = []
        for weight, expert in zip(weights[token], indices[token].tolist(), strict=True):
            hidden = F.relu(ups[expert] @ x[token]).square()
            parts.append(downs[expert] @ (hidden.to(weights.dtype) * weight).to(x.dtype))
        rows.append(torch.stack(parts).sum(0))
    return torch.stack(rows) if rows else x.new_zeros(x.shape)
