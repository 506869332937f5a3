"""The routers' selection bias: load balance without a loss, and how balanced the load is.

After each optimizer step, an expert that got more tokens than the mean loses `rate`, one that got fewer gains
`rate` (DeepSeek-V3, arXiv 2412.19437, section 2.1.2, from arXiv 2408.15664; Nemotron 3 takes rate 1e-3). The
bias acts on the choice only, never on the weights, so it adds no gradient.

Shapes: E experts, K experts a token, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

RATE = 1e-3
"""Nemotron 3's and DeepSeek-V3's update rate."""


def update_bias(bias: torch.Tensor, counts: torch.Tensor, rate: float = RATE) -> torch.Tensor:
    """Return a selection bias moved towards balance: bias + rate sign(mean count - count).

    Args:
        bias: `[E]`, fp32.
        counts: choices of each expert since the last update, `[E]`, summed over data-parallel ranks.
        rate: step, in units of the router's sigmoid; 0 changes nothing.

    Returns:
        A new tensor in bias' dtype; `bias` unchanged when nothing was counted.

    Raises:
        ValueError: a negative rate, or shapes that differ.
    """
    if not rate >= 0:
        raise ValueError(f"rate: expected >= 0, got {rate}")
    if bias.dim() != 1 or counts.shape != bias.shape:
        raise ValueError(f"counts: expected {tuple(bias.shape)}, bias' shape [E], got {tuple(counts.shape)}")
    # E count against the sum: exact in whole numbers, so that the mean itself is met.
    whole = counts.to(torch.int64)
    direction = torch.sign(whole.sum() - len(whole) * whole)
    return bias + rate * direction.to(bias.device, bias.dtype)


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """How evenly tokens fall on experts.

    Attributes:
        violation: most loaded expert's load over the mean, minus 1 (MaxVio of arXiv 2408.15664); 0 is
            balance, E / K - 1 the worst.
        entropy: of the load, over log E: 1 is balance.
        dead: experts that no token chose.
    """

    violation: float
    entropy: float
    dead: int


def load_metrics(counts: torch.Tensor) -> LoadMetrics:
    """Return the metrics of counts `[E]`; those of balance when nothing was counted.

    Raises:
        ValueError: counts are not `[E]` with E > 0, or negative.
    """
    if counts.dim() != 1 or not len(counts) or bool((counts < 0).any()):
        raise ValueError(
            f"counts: expected [E] of numbers >= 0, got {tuple(counts.shape)}: {counts.tolist()}"
        )
    total = float(counts.sum())
    if not total:
        return LoadMetrics(violation=0.0, entropy=1.0, dead=len(counts))
    share = counts.double() / total
    entropy = float(torch.special.entr(share).sum())
    return LoadMetrics(
        violation=float(share.max()) * len(counts) - 1,
        entropy=entropy / math.log(len(counts)) if len(counts) > 1 else 1.0,
        dead=int((counts == 0).sum()),
    )


class ExpertLoad:
    """Counts each MoE layer's choices, to be summed over ranks and turned into a new bias.

    Args:
        layers: MoE layers.
        experts: of each layer, E.

    Attributes:
        counts: int64 `[layers, E]`; a caller with several ranks sums it over them in place.
    """

    def __init__(self, layers: int, experts: int) -> None:
        if layers < 0 or experts < 1:
            raise ValueError(f"layers, experts: expected >= 0 and >= 1, got {layers} and {experts}")
        self.counts = torch.zeros(layers, experts, dtype=torch.int64)

    def add(self, recorded: Sequence[torch.Tensor], kept: torch.Tensor | None = None) -> None:
        """Count the choices of one forward pass.

        Args:
            recorded: each layer's choice, `[L, K]`, in the order of layers (`HybridLM.forward`'s `recorded`).
            kept: bool `[L]`, tokens to count; None for all.

        Raises:
            ValueError: another number of layers, or an expert that does not exist.
        """
        layers, experts = self.counts.shape
        if len(recorded) != layers:
            raise ValueError(f"recorded: expected {layers} layers, got {len(recorded)}")
        for layer, chosen in enumerate(recorded):
            flat = (chosen if kept is None else chosen[kept.to(chosen.device)]).flatten().long()
            found = torch.bincount(flat, minlength=experts)
            if len(found) > experts:
                raise ValueError(f"recorded[{layer}]: expected experts below {experts}, got {len(found) - 1}")
            self.counts[layer] += found.to(self.counts.device)

    def reset(self) -> None:
        """Start counting from zero."""
        self.counts.zero_()

    @torch.no_grad()
    def apply(self, biases: Sequence[torch.Tensor], rate: float = RATE) -> None:
        """Move each layer's bias by its counts, in place, and start counting from zero.

        Raises:
            ValueError: another number of layers, a shape that differs, or a negative rate.
        """
        if len(biases) != len(self.counts):
            raise ValueError(f"biases: expected {len(self.counts)} layers, got {len(biases)}")
        moved = [update_bias(bias, row, rate) for bias, row in zip(biases, self.counts, strict=True)]
        for bias, new in zip(biases, moved, strict=True):
            bias.copy_(new)
        self.reset()

    def metrics(self) -> dict[str, float]:
        """Return the load's metrics by name: the worst layer's and the mean over layers."""
        each = [load_metrics(row) for row in self.counts]
        if not each:
            return {}
        return {
            "moe/load_violation_max": max(one.violation for one in each),
            "moe/load_violation": sum(one.violation for one in each) / len(each),
            "moe/load_entropy": sum(one.entropy for one in each) / len(each),
            "moe/dead_experts": float(sum(one.dead for one in each)),
        }
