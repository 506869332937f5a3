"""Cases of the log-probabilities."""

from __future__ import annotations

import torch

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.kernels.registry import Case, Draw, Inputs, Operation


def reference(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax over whole rows; fp32 results, fp64 for fp64 inputs."""
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    probabilities = logits.softmax(-1)
    logp = logits.log_softmax(-1)
    return logp.gather(1, targets[:, None]).squeeze(1), -(probabilities * logp).sum(-1)


def case(name: str, tokens: int, width: int, vocabulary: int, temperature: float = 1.0) -> Case:
    """Return a case of these sizes."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {
            "hidden": draw.normal(tokens, width),
            "weight": draw.normal(vocabulary, width, scale=width**-0.5 * 2),
            "targets": draw.integers(tokens, high=vocabulary),
            "temperature": temperature,
        }

    return Case(name, make)


OPERATIONS = (
    Operation(
        "linear_logprob", linear_logprob, reference, ("torch",),
        cases=(
            case("one token", 1, 16, 40), case("odd", 63, 21, 97, temperature=0.7),
            case("500 tokens", 500, 12, 33, temperature=1.7), case("no token", 0, 16, 40),
        ),
        shapes=(case("8192 x 4096 x 131072", 8192, 4096, 131072),),
        differentiable=("hidden", "weight"),
    ),
)  # fmt: skip
