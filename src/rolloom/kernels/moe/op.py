"""Mixture of experts of the Nemotron 3 kind: sigmoid router with a selection bias, ungated relu^2 experts.

Shapes: S tokens, D width, E experts, K experts a token, F expert width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.moe.cpu import experts_cpu
from rolloom.kernels.moe.invariant import experts_invariant, scores_invariant
from rolloom.kernels.moe.reference import experts_reference, route_reference

DENSE_MAX_TOKENS = 32
"""Up to here all experts in two matrix products beat sorting (measured at E 8, F 64 on one core)."""


def route(
    x: torch.Tensor,
    weight: torch.Tensor,
    selection_bias: torch.Tensor,
    top_k: int,
    groups: int,
    top_groups: int,
    normalize: bool,
    scale: float,
    replay: torch.Tensor | None = None,
    bounds: tuple[int, ...] | None = None,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose experts and weigh them, in fp32 (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).

    The bias acts on selection only. With `replay` the choice is given (as recorded while sampling) and only
    the weights are computed, so a near-tie cannot make the learner differ from the sampler.

    Args:
        x: `[S, D]`.
        weight: router, `[E, D]`.
        selection_bias: `[E]`.
        top_k: experts a token.
        groups: expert groups.
        top_groups: groups a token may use.
        normalize: divide the chosen scores by their sum.
        scale: routed scaling factor.
        replay: expert indices `[S, K]` or None.
        bounds: where each packed sequence begins and ends, from 0 to S; deterministic mode on a CPU sums
            the weight's gradient by them.
        backend: `torch`, `invariant` (a token's bits do not depend on the others), `triton`, `reference`, or
            None for the rule of `dispatch`.

    Returns:
        Expert indices, int64 `[S, K]`, in any order, and their weights, fp32 `[S, K]`.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    how = (selection_bias, top_k, groups, top_groups, normalize, scale, replay)
    routers = {**ROUTERS, "invariant": partial(_route_invariant, bounds=bounds)}
    run = choose("route", routers, backend, x, lambda: _refuse_route(x, weight), on_cpu(x))
    return run(x, weight, *how)


def _refuse_route(x: torch.Tensor, weight: torch.Tensor) -> str | None:
    from rolloom.kernels.moe.route_triton import unsupported

    return unsupported(x, weight)


def _route(x: torch.Tensor, weight: torch.Tensor, *how: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return _weigh(F.linear(x.float(), weight.float()).sigmoid(), *how)


def _route_invariant(
    x: torch.Tensor, weight: torch.Tensor, *how: Any, bounds: tuple[int, ...] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    return _weigh(scores_invariant(x, weight, bounds), *how)


def _weigh(
    scores: torch.Tensor,
    selection_bias: torch.Tensor,
    top_k: int,
    groups: int,
    top_groups: int,
    normalize: bool,
    scale: float,
    replay: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if replay is None:
        choice = scores.detach() + selection_bias
        if groups > 1:
            grouped = choice.view(len(scores), groups, -1)
            best = grouped.topk(2, -1).values.sum(-1).topk(top_groups, -1, sorted=False).indices
            banned = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter_(1, best, False)
            choice = grouped.masked_fill(banned[..., None], float("-inf")).flatten(1)
        indices = choice.topk(top_k, -1, sorted=False).indices
    else:
        indices = replay.long()
    weights = scores.gather(1, indices)
    if normalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return indices, weights * scale


def relu2_experts(
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor,
    backend: str | None = None,
    bounds: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Apply each token's experts, down(relu(up x)^2), and sum them by weight.

    Args:
        x: `[S, D]`.
        up: `[E, F, D]`.
        down: `[E, D, F]`.
        indices: `[S, K]`.
        weights: fp32 `[S, K]`.
        backend: `dense`, `sorted`, `cpu` (with a backward pass of its own), `invariant` (a token's bits do
            not depend on the others), `triton`, `reference`, or None to choose by device, mode and number of
            tokens.
        bounds: where each packed sequence begins and ends, from 0 to S; `invariant` sums weight gradients
            by them.

    Returns:
        `[S, D]` in x's dtype.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    few = len(x) <= DENSE_MAX_TOKENS and up.shape[0] * up.shape[1] <= 2048
    default = "sorted" if x.is_cuda else on_cpu(x, "dense" if few else "cpu")
    backends = {**BACKENDS, "invariant": partial(experts_invariant, bounds=bounds)}
    run = choose(
        "relu2_experts", backends, backend, x, lambda: _refuse_experts(x, up, down, weights), default
    )
    return run(x, up, down, indices, weights)


def _refuse_experts(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, weights: torch.Tensor
) -> str | None:
    from rolloom.kernels.moe.triton import unsupported

    return unsupported(x, up, down, weights)


def _dense(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    experts, width, _ = up.shape
    hidden = F.relu(F.linear(x, up.flatten(0, 1))).square().view(len(x), experts, width)
    gate = torch.zeros(len(x), experts, dtype=weights.dtype, device=x.device).scatter(1, indices, weights)
    weighted = (hidden.to(gate.dtype) * gate[..., None]).to(x.dtype).flatten(1)
    return weighted @ down.permute(0, 2, 1).reshape(experts * width, -1)


def _sorted(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    top_k = indices.shape[1]
    order = indices.flatten().argsort(stable=True)
    counts = torch.bincount(indices.flatten(), minlength=up.shape[0]).tolist()
    token = order // top_k
    gathered = x.index_select(0, token)
    scale = weights.flatten().index_select(0, order)[:, None]
    parts, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            part = F.relu(F.linear(gathered[start : start + count], up[expert])).square()
            weighted = (part.to(scale.dtype) * scale[start : start + count]).to(x.dtype)
            parts.append(F.linear(weighted, down[expert]))
            start += count
    if not parts:
        return x.new_zeros(x.shape)
    return torch.zeros_like(x).index_add(0, token, torch.cat(parts))


ROUTERS = {
    "torch": _route,
    "reference": route_reference,
    "triton": "rolloom.kernels.moe.route_triton:route_triton",
}
BACKENDS = {
    "cpu": experts_cpu,
    "dense": _dense,
    "sorted": _sorted,
    "reference": experts_reference,
    "triton": "rolloom.kernels.moe.triton:experts_triton",
}
