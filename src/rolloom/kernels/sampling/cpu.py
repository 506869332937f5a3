"""Truncated sampling that sorts values and no indices, and only as many as top-k leaves.

How many words a row keeps says which: all above a threshold, and of those equal to it the first few.
"""

from __future__ import annotations

import torch

from rolloom.kernels.sampling.reference import Setting, draw, settings


def processed_log_probs(
    logits: torch.Tensor, temperature: Setting, top_k: Setting, top_p: Setting
) -> torch.Tensor:
    """Return what `processed_log_probs_reference` returns."""
    vocabulary = logits.shape[1]
    temperatures, limits, masses = settings(logits, temperature, top_k, top_p)
    scaled = logits.to(temperatures.dtype) / temperatures[:, None]
    width = vocabulary
    if isinstance(top_k, int) and isinstance(temperature, float | int) and temperature > 0:
        width = min(top_k or vocabulary, vocabulary)
        if width == vocabulary and not isinstance(top_p, torch.Tensor) and top_p >= 1:
            return scaled.log_softmax(-1)
    whole = width == vocabulary
    best = logits.sort(-1, descending=True).values if whole else logits.topk(width, -1).values
    ranked = best.to(temperatures.dtype) / temperatures[:, None]
    rank = torch.arange(width, device=logits.device)
    ranked = ranked.masked_fill(rank >= limits[:, None], float("-inf"))
    mass = ranked.double().softmax(-1)
    before = mass.cumsum(-1) - mass
    kept = (rank < limits[:, None]) & ((before < masses[:, None]) | (masses >= 1)[:, None])
    count = kept.sum(-1, keepdim=True).clamp(min=1)
    threshold = best.gather(1, count - 1)
    ties = count - (best > threshold).sum(-1, keepdim=True)
    equal = logits == threshold
    keep = (logits > threshold) | (equal & (equal.cumsum(-1) <= ties))
    return scaled.masked_fill(~keep, float("-inf")).log_softmax(-1)


def sample(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: Setting, top_k: Setting, top_p: Setting
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `sample_reference` returns."""
    return draw(processed_log_probs(logits, temperature, top_k, top_p), uniforms)
