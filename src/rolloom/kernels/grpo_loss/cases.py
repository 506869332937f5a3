"""Cases of the token loss."""

from __future__ import annotations

from typing import Any

import torch

from rolloom.kernels.grpo_loss.op import grpo_token_loss
from rolloom.kernels.grpo_loss.reference import grpo_token_loss_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation


def case(
    name: str, tokens: int, weighted: bool = False, penalised: bool = False, strided: bool = False, **how: Any
) -> Case:
    """Return a case of so many tokens; `how` are the words and numbers of the loss."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        behaviour = draw.normal(tokens) - 2
        logp = behaviour + draw.normal(tokens, scale=0.3)
        return {
            "logp": draw.strided(logp) if strided else logp,
            "behaviour": behaviour,
            "advantages": draw.normal(tokens),
            "weights": draw.uniform(tokens) if weighted else None,
            "reference": behaviour + draw.normal(tokens, scale=0.5) if penalised else None,
            **how,
        }

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Read the inputs, write loss, estimate, slope and flag; backward reads two vectors and writes one."""
    tokens = inputs["logp"].numel()
    given = sum(value.element_size() for value in inputs.values() if isinstance(value, torch.Tensor))
    return Cost((given + 13) * tokens, 20 * tokens, (8 + inputs["logp"].element_size()) * tokens, tokens)


OPERATIONS = (
    Operation(
        "grpo_token_loss", grpo_token_loss, grpo_token_loss_reference, ("torch", "triton"),
        cases=(
            case("one token", 1), case("odd", 63, weighted=True), case("none", 0, penalised=True),
            case("penalised", 500, weighted=True, penalised=True, kl_coefficient=0.3),
            case("k1", 63, penalised=True, kl="k1", kl_coefficient=0.3),
            case("k2", 63, penalised=True, kl="k2", kl_coefficient=0.3, strided=True),
            case("dual", 1500, weighted=True, dual_clip=1.1),
            case("cispo", 500, weighted=True, penalised=True, clip="cispo", kl_coefficient=0.1),
            case("no clip", 500, clip="none"),
        ),
        shapes=(case("1M tokens", 1 << 20, weighted=True, penalised=True, kl_coefficient=0.1),),
        differentiable=("logp",), cost=cost,
    ),
)  # fmt: skip
