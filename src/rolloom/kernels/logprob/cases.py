"""Cases of the log-probabilities."""

from __future__ import annotations

import torch

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.kernels.logprob.reference import linear_logprob_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation


def case(
    name: str, tokens: int, width: int, vocabulary: int, temperature: float = 1.0, strided: bool = False
) -> Case:
    """Return a case of these sizes."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        hidden, weight = draw.normal(tokens, width), draw.normal(vocabulary, width, scale=width**-0.5 * 2)
        return {
            "hidden": draw.strided(hidden) if strided else hidden,
            "weight": draw.strided(weight) if strided else weight,
            "targets": draw.integers(tokens, high=vocabulary),
            "temperature": temperature,
        }

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """One matrix product forward; three backward, of which one computes the logits again."""
    hidden, weight = inputs["hidden"], inputs["weight"]
    product = 2 * hidden.numel() * len(weight)
    size = hidden.element_size() * (hidden.numel() + weight.numel())
    return Cost(size + 16 * len(hidden), product, 2 * size + 24 * len(hidden), 3 * product)


OPERATIONS = (
    Operation(
        "linear_logprob", linear_logprob, linear_logprob_reference,
        ("torch", "invariant", "chunked", "triton"),
        cases=(
            case("one token", 1, 16, 40), case("odd", 63, 21, 97, temperature=0.7),
            case("500 tokens", 500, 12, 33, temperature=1.7), case("no token", 0, 16, 40),
            case("300 words", 5, 70, 300), case("strided", 7, 33, 65, temperature=0.5, strided=True),
        ),
        shapes=(case("8192 x 4096 x 131072", 8192, 4096, 131072),),
        differentiable=("hidden", "weight"), cost=cost,
    ),
)  # fmt: skip
