"""Cases of the experts."""

from __future__ import annotations

import torch

from rolloom.kernels.moe.op import BACKENDS, relu2_experts
from rolloom.kernels.registry import Case, Draw, Inputs, Operation


def reference(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor,
              weights: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """Token by token, expert by expert."""
    return BACKENDS["reference"](x, up, down, indices, weights)


def case(name: str, tokens: int, width: int, experts: int, hidden: int, top_k: int) -> Case:
    """Return a case of these sizes."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {
            "x": draw.normal(tokens, width),
            "up": draw.normal(experts, hidden, width, scale=width**-0.5),
            "down": draw.normal(experts, width, hidden, scale=hidden**-0.5),
            "indices": draw.uniform(tokens, experts, dtype=torch.float32).argsort(-1)[:, :top_k],
            "weights": draw.uniform(tokens, top_k, dtype=torch.float32),
        }

    return Case(name, make)


OPERATIONS = (
    Operation(
        "relu2_experts", relu2_experts, reference, ("dense", "sorted", "cpu", "invariant"),
        cases=(
            case("one token", 1, 16, 8, 20, 3), case("odd", 63, 21, 7, 13, 2),
            case("no token", 0, 16, 8, 20, 3), case("all experts", 9, 16, 4, 12, 4),
        ),
        differentiable=("x", "up", "down", "weights"),
    ),
)  # fmt: skip
