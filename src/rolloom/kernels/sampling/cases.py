"""Cases of sampling; the processed distribution is compared as probabilities, because -inf has no error."""

from __future__ import annotations

from typing import Any

import torch

from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation
from rolloom.kernels.sampling.op import processed_log_probs, sample
from rolloom.kernels.sampling.reference import Setting, processed_log_probs_reference, sample_reference


def processed(
    logits: torch.Tensor,
    temperature: Setting = 1.0,
    top_k: Setting = 0,
    top_p: Setting = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    """Return the probabilities of what is sampled from."""
    return processed_log_probs(logits, temperature, top_k, top_p, backend).exp()


def processed_reference(
    logits: torch.Tensor, temperature: Setting = 1.0, top_k: Setting = 0, top_p: Setting = 1.0
) -> torch.Tensor:
    """Return the probabilities of what is sampled from."""
    return processed_log_probs_reference(logits, temperature, top_k, top_p).exp()


def case(name: str, rows: int, vocabulary: int, draws: bool, strided: bool = False, mixed: bool = False,
         **how: Any) -> Case:  # fmt: skip
    """Return a case; `mixed` settings differ from row to row, greedy and unlimited ones among them."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        logits = draw.normal(rows, vocabulary, scale=3.0)
        inputs: Inputs = {"logits": draw.strided(logits) if strided else logits}
        if draws:
            inputs["uniforms"] = draw.uniform(rows, dtype=torch.float32)
        if mixed:
            inputs["temperature"] = draw.integers(rows, high=4) * 0.5
            inputs["top_k"] = draw.integers(rows, high=5)
            inputs["top_p"] = draw.uniform(rows, high=1.4, dtype=torch.float32).clamp(max=1.0)
        return inputs | how

    return Case(name, make)


def cases(draws: bool) -> tuple[Case, ...]:
    """Return the small cases, with uniforms or without."""
    return (
        case("one row", 1, 40, draws), case("none", 0, 40, draws),
        case("tempered", 4, 63, draws, temperature=0.7),
        case("top k", 4, 500, draws, top_k=7, strided=True), case("top p", 4, 97, draws, top_p=0.8),
        case("both", 4, 63, draws, temperature=1.3, top_k=20, top_p=0.9),
        case("mixed", 12, 33, draws, mixed=True), case("two tiles", 2, 5000, draws, top_k=3000, top_p=0.5),
    )  # fmt: skip


def cost(inputs: Inputs) -> Cost:
    """Read every logit once; write the words, or the distribution."""
    logits = inputs["logits"]
    out = 16 * len(logits) if "uniforms" in inputs else 4 * logits.numel()
    return Cost(logits.element_size() * logits.numel() + out, 5 * logits.numel())


OPERATIONS = (
    Operation(
        "sample", sample, sample_reference, ("torch", "triton"), cases=cases(True),
        shapes=(case("256 x 131072", 256, 131072, True, top_k=50, top_p=0.95),), cost=cost,
    ),
    Operation(
        "processed_log_probs", processed, processed_reference, ("torch", "triton"), cases=cases(False),
        shapes=(case("256 x 131072", 256, 131072, False, top_k=50, top_p=0.95),), cost=cost,
    ),
)  # fmt: skip
