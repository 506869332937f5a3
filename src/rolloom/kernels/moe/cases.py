"""Cases of the router and of the experts."""

from __future__ import annotations

from typing import Any

import torch

from rolloom.kernels.moe.op import relu2_experts, route
from rolloom.kernels.moe.reference import experts_reference, route_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation


def case(
    name: str, tokens: int, width: int, experts: int, hidden: int, top_k: int, used: int | None = None
) -> Case:
    """Return a case of these sizes; only the first `used` experts are chosen."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {
            "x": draw.normal(tokens, width),
            "up": draw.normal(experts, hidden, width, scale=width**-0.5),
            "down": draw.normal(experts, width, hidden, scale=hidden**-0.5),
            "indices": draw.uniform(tokens, used or experts, dtype=torch.float32).argsort(-1)[:, :top_k],
            "weights": draw.uniform(tokens, top_k, dtype=torch.float32),
        }

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Two products forward and four backward for each token and expert; every expert's weights moved once."""
    x, indices, matrices = inputs["x"], inputs["indices"], inputs["up"].numel() + inputs["down"].numel()
    product = 2 * indices.numel() * inputs["up"][0].numel()
    size, routing = x.element_size(), 12 * indices.numel()
    forward = size * (2 * x.numel() + matrices) + routing
    backward = size * (3 * x.numel() + 2 * matrices) + routing + 4 * indices.numel()
    return Cost(forward, 2 * product, backward, 4 * product)


def in_order(function: Any) -> Any:
    """Return a router whose choice comes by the experts' numbers, so that choices can be compared."""

    def ordered(*, backend: str | None = None, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        indices, weights = function(**inputs, **({} if backend is None else {"backend": backend}))
        order = indices.argsort(-1)
        return indices.gather(1, order), weights.gather(1, order)

    return ordered


def routed(
    name: str, tokens: int, width: int, experts: int, top_k: int, groups: int = 1, top_groups: int = 1,
    normalize: bool = True, replay: bool = False,
) -> Case:  # fmt: skip
    """Return a case of the router, whose weights and bias are fp32 whatever x is."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        recorded = draw.uniform(tokens, experts, dtype=torch.float32).argsort(-1)[:, :top_k]
        return {
            "x": draw.normal(tokens, width),
            "weight": draw.normal(experts, width, scale=2 * width**-0.5, dtype=torch.float32),
            "selection_bias": draw.normal(experts, scale=0.1, dtype=torch.float32),
            "top_k": top_k, "groups": groups, "top_groups": top_groups, "normalize": normalize, "scale": 2.5,
            "replay": recorded if replay else None,
        }  # fmt: skip

    return Case(name, make)


def route_cost(inputs: Inputs) -> Cost:
    """One product forward, two backward."""
    x, weight, slots = inputs["x"], inputs["weight"], len(inputs["x"]) * inputs["top_k"]
    product = 2 * x.numel() * len(weight)
    moved = x.element_size() * x.numel() + 4 * weight.numel()
    return Cost(moved + 12 * slots, product, 2 * moved + 16 * slots, 2 * product)


OPERATIONS = (
    Operation(
        "relu2_experts", relu2_experts, experts_reference,
        ("dense", "sorted", "cpu", "invariant", "triton"),
        cases=(
            case("one token", 1, 16, 8, 20, 3), case("odd", 63, 21, 7, 13, 2),
            case("no token", 0, 16, 8, 20, 3), case("all experts", 9, 16, 4, 12, 4),
            case("two of five experts", 70, 33, 5, 70, 2, used=2), case("one expert", 67, 8, 1, 5, 1),
        ),
        shapes=(case("8192 x 2688, 6 of 128 experts x 1856", 8192, 2688, 128, 1856, 6),
                case("64 x 2688, 6 of 128 experts x 1856", 64, 2688, 128, 1856, 6)),
        differentiable=("x", "up", "down", "weights"), cost=cost,
    ),
    Operation(
        "route", in_order(route), in_order(route_reference), ("torch", "invariant", "triton"),
        cases=(
            routed("one token", 1, 16, 8, 3), routed("odd", 63, 21, 7, 2, normalize=False),
            routed("no token", 0, 16, 8, 3), routed("groups", 37, 19, 12, 4, groups=3, top_groups=2),
            routed("groups, raw", 5, 70, 10, 3, groups=5, top_groups=2, normalize=False),
            routed("replay", 33, 24, 9, 4, replay=True), routed("one expert", 3, 8, 1, 1),
        ),
        shapes=(routed("8192 x 2688, 6 of 128", 8192, 2688, 128, 6),
                routed("8192 x 4096, 22 of 512", 8192, 4096, 512, 22)),
        differentiable=("x", "weight"), cost=route_cost,
    ),
)  # fmt: skip
