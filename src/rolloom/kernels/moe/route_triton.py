"""The router on a GPU, in fp32 throughout: scores, choice by groups, weights; and the way back.

Forward: `product` (logits and their sigmoid), `select` (a few rows of scores a program). Kept for the
backward pass: the inputs, the choice and its scores. Backward: `spread_gradient` lays the gradient of the
chosen logits out as `[S, E]`, and two products take it to x and to the router. All tiles are fixed and each
element is summed by one program, so a token's result depends on no other token, and there are no atomics.

Shapes: S tokens, D width, E experts, K experts a token.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from rolloom.kernels.dispatch import launch

MAX_EXPERTS = 4096
TILE = {"BM": 32, "BN": 64, "BK": 32, "num_warps": 4, "num_stages": 3}
ROWS = 4
"""Tokens a program chooses for."""


def unsupported(x: torch.Tensor, weight: torch.Tensor) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        return f"x: expected float32 or bfloat16, got {x.dtype}"
    if weight.device != x.device:
        return f"weight: expected a tensor on {x.device} as x is, got one on {weight.device}"
    if len(weight) > MAX_EXPERTS:
        return f"weight: expected at most {MAX_EXPERTS} experts, got {len(weight)}"
    return None


def route_triton(
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
    """Return what `route` returns, experts by falling score plus bias."""
    if replay is not None:
        top_k, replay = replay.shape[1], replay.long().contiguous()
    # The interpreter cannot widen bf16 in a product.
    inputs = x.float() if x.device.type == "cpu" else x
    weights, indices = _Route.apply(
        inputs, weight.float(), selection_bias.float().contiguous(), replay, (top_k, groups, top_groups),
        normalize, scale,
    )  # type: ignore[misc]  # fmt: skip
    return indices, weights


def _product(
    a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype = torch.float32, sigmoid: bool = False
) -> torch.Tensor:
    """Return a b or its sigmoid, fp32 sums of fp32 products, for any strides."""
    out = torch.empty(len(a), b.shape[1], dtype=dtype, device=a.device)
    grid = (-(-len(a) // TILE["BM"]), -(-b.shape[1] // TILE["BN"]))
    launch(
        product, grid, a.device,
        a, b, out, len(a), b.shape[1], a.shape[1], *a.stride(), *b.stride(), SIGMOID=sigmoid, **TILE,
    )  # fmt: skip
    return out


class _Route(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, replay: torch.Tensor | None,
        counts: tuple[int, int, int], normalize: bool, scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        top_k, groups, top_groups = counts
        experts = len(weight)
        scores = _product(x, weight.T, sigmoid=True)
        indices = torch.empty(len(x), top_k, dtype=torch.int64, device=x.device)
        chosen, weights = (torch.empty(len(x), top_k, dtype=torch.float32, device=x.device) for _ in range(2))
        launch(
            select, (-(-len(x) // ROWS),), x.device,
            scores, bias, indices if replay is None else replay, indices, chosen, weights, len(x), experts,
            top_k, groups, top_groups, experts // groups, scale, REPLAY=replay is not None,
            NORMALIZE=normalize, GROUPED=groups > 1, ROWS=ROWS, BE=_power(experts), BG=_power(groups),
            BK=_power(top_k), num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, indices, chosen)
        ctx.normalize, ctx.scale = normalize, scale
        ctx.mark_non_differentiable(indices)
        return weights, indices

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, indices, chosen = ctx.saved_tensors
        d_weights = grads[0].contiguous()
        d_logits = torch.empty(len(x), len(weight), dtype=torch.float32, device=x.device)
        launch(
            spread_gradient, (-(-len(x) // ROWS),), x.device,
            d_weights, indices, chosen, d_logits, len(x), len(weight), indices.shape[1], ctx.scale,
            NORMALIZE=ctx.normalize, ROWS=ROWS, BE=_power(len(weight)), num_warps=4,
        )  # fmt: skip
        d_x = _product(d_logits, weight, x.dtype) if ctx.needs_input_grad[0] else None
        d_weight = _product(d_logits.T, x) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, None, None, None, None, None


def _power(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


@triton.jit
def product(
    a, b, out, rows, columns, depth, a_m, a_k, b_k, b_n,
    SIGMOID: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Compute a b or its sigmoid; strides of a along rows and depth, of b along depth and columns."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    column = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK).to(tl.int64)
    left = a + row[:, None] * a_m + k[None, :] * a_k
    right = b + k[:, None] * b_k + column[None, :] * b_n
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, depth, BK):
        inside = k < depth - start
        one = tl.load(left, mask=(row < rows)[:, None] & inside[None, :], other=0.0).to(tl.float32)
        two = tl.load(right, mask=(column < columns)[None, :] & inside[:, None], other=0.0).to(tl.float32)
        total = tl.dot(one, two, total, input_precision="ieee")
        left += BK * a_k
        right += BK * b_k
    if SIGMOID:
        total = 1.0 / (1.0 + tl.exp(-total))
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(out + row[:, None] * columns + column[None, :], total, mask=mask)


@triton.jit
def select(
    scores, bias, replay, indices, chosen, weights, count, experts, top_k, groups, top_groups, group_size,
    scale,
    REPLAY: tl.constexpr, NORMALIZE: tl.constexpr, GROUPED: tl.constexpr, ROWS: tl.constexpr,
    BE: tl.constexpr, BG: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Choose the experts of ROWS tokens, the lower first in a tie, or take the replayed ones; weigh them."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < count
    expert = tl.arange(0, BE)[None, :]
    known = expert < experts
    score = tl.load(scores + row[:, None] * experts + expert, mask=inside[:, None] & known, other=0.0)
    never = float("-inf")
    choice = score + tl.load(bias + expert, mask=known, other=0.0)
    # What is not a number loses to every number, and wins against experts that may not be chosen.
    choice = tl.where(choice == choice, choice, -1e30)
    choice = tl.where(known, choice, never)
    if GROUPED and not REPLAY:
        place = tl.arange(0, BG)[None, :]
        best = tl.full((ROWS, BG), never, dtype=tl.float32)
        for group in range(0, groups):
            member = tl.where(expert // group_size == group, choice, never)
            first = tl.max(member, 1)
            at = tl.argmax(member, 1)
            second = tl.max(tl.where(expert == at[:, None], never, member), 1)
            best = tl.where(place == group, (first + second)[:, None], best)
        allowed = tl.zeros((ROWS, BE), dtype=tl.int32)
        for _ in range(0, top_groups):
            at = tl.argmax(best, 1)[:, None]
            allowed = tl.where(expert // group_size == at, 1, allowed)
            best = tl.where(place == at, never, best)
        choice = tl.where(allowed == 1, choice, never)
    slot = tl.arange(0, BK)[None, :]
    picked = tl.zeros((ROWS, BK), dtype=tl.int64)
    values = tl.zeros((ROWS, BK), dtype=tl.float32)
    for k in range(0, top_k):
        if REPLAY:
            at = tl.load(replay + row * top_k + k, mask=inside, other=0)[:, None]
        else:
            at = tl.argmax(choice, 1)[:, None].to(tl.int64)
            choice = tl.where(expert == at, never, choice)
        value = tl.sum(tl.where(expert == at, score, 0.0), 1)[:, None]
        picked = tl.where(slot == k, at, picked)
        values = tl.where(slot == k, value, values)
    mask = inside[:, None] & (slot < top_k)
    out = row[:, None] * top_k + slot
    tl.store(indices + out, picked, mask=mask)
    tl.store(chosen + out, values, mask=mask)
    if NORMALIZE:
        values = values / (tl.sum(values, 1) + 1e-20)[:, None]
    tl.store(weights + out, values * scale, mask=mask)


@triton.jit
def spread_gradient(
    d_weights, indices, chosen, d_logits, count, experts, top_k, scale,
    NORMALIZE: tl.constexpr, ROWS: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """d_logits[s, e] = sum over the slots of token s that hold e of d logit, 0 where none does."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < count
    expert = tl.arange(0, BE)[None, :]
    mass = tl.full((ROWS,), 1e-20, dtype=tl.float32)
    mean = tl.zeros((ROWS,), dtype=tl.float32)
    for k in range(0, top_k):
        score = tl.load(chosen + row * top_k + k, mask=inside, other=0.0)
        mass += score
        mean += score * tl.load(d_weights + row * top_k + k, mask=inside, other=0.0)
    total = tl.zeros((ROWS, BE), dtype=tl.float32)
    for k in range(0, top_k):
        at = tl.load(indices + row * top_k + k, mask=inside, other=0)[:, None]
        score = tl.load(chosen + row * top_k + k, mask=inside, other=0.0)
        pull = tl.load(d_weights + row * top_k + k, mask=inside, other=0.0)
        if NORMALIZE:
            pull = (pull - mean / mass) / mass
        total += tl.where(expert == at, (pull * scale * score * (1.0 - score))[:, None], 0.0)
    tl.store(d_logits + row[:, None] * experts + expert, total, mask=inside[:, None] & (expert < experts))
