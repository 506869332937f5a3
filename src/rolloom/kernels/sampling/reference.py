"""Truncated sampling as its definition says, by sorting rows: the truth in float64.

A row's words are ranked by logit, equal ones by index. Top-k keeps the first k (Fan et al., arXiv
1805.04833); top-p keeps of those the shortest prefix that holds at least p of their mass (nucleus sampling,
Holtzman et al., arXiv 1904.09751), never none. What is kept is normalised again, and a word is drawn by
inverse transform in the order of the vocabulary.
"""

from __future__ import annotations

import torch

Setting = float | int | torch.Tensor
"""One for all rows, or `[S]`."""


def per_row(value: Setting, logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a setting as `[S]`."""
    return torch.as_tensor(value, device=logits.device).to(dtype).expand(len(logits))


def settings(
    logits: torch.Tensor, temperature: Setting, top_k: Setting, top_p: Setting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return temperature, k (int64, V for no limit) and p of each row; temperature 0 is k = 1."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    temperatures = per_row(temperature, logits, exact)
    limits, masses = per_row(top_k, logits, torch.int64), per_row(top_p, logits, exact)
    vocabulary = logits.shape[1]
    limits = torch.where((limits <= 0) | (limits > vocabulary), vocabulary, limits)
    greedy = temperatures == 0
    return torch.where(greedy, 1.0, temperatures), torch.where(greedy, 1, limits), masses


def processed_log_probs_reference(
    logits: torch.Tensor, temperature: Setting = 1.0, top_k: Setting = 0, top_p: Setting = 1.0
) -> torch.Tensor:
    """Return the log-probabilities `[S, V]` of what is sampled from, -inf for what is cut off."""
    temperatures, limits, masses = settings(logits, temperature, top_k, top_p)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices
    ranked = logits.to(temperatures.dtype).gather(1, order) / temperatures[:, None]
    rank = torch.arange(logits.shape[1], device=logits.device)
    ranked = ranked.masked_fill(rank >= limits[:, None], float("-inf"))
    mass = ranked.softmax(-1)
    before = mass.cumsum(-1) - mass
    dropped = (before >= masses[:, None]) & (masses < 1)[:, None] & (rank > 0)
    logp = ranked.masked_fill(dropped, float("-inf")).log_softmax(-1)
    return torch.empty_like(logp).scatter(1, order, logp)


def sample_reference(
    logits: torch.Tensor,
    uniforms: torch.Tensor,
    temperature: Setting = 1.0,
    top_k: Setting = 0,
    top_p: Setting = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a word of each row and its log-probability; see `sample`."""
    return draw(processed_log_probs_reference(logits, temperature, top_k, top_p), uniforms)


def draw(logp: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first word of each row up to which lies more mass than `uniform`, and its log-probability.

    Args:
        logp: `[S, V]`, -inf for what is cut off.
        uniforms: `[S]` of [0, 1); 1, to which one may be rounded, takes the last word that has mass.
    """
    cumulative = logp.double().exp().cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    found = torch.searchsorted(cumulative, uniforms.double()[:, None] * total, right=True)
    tokens = torch.minimum(found, torch.searchsorted(cumulative, total)).clamp(max=logp.shape[1] - 1)
    return tokens.squeeze(1), logp.gather(1, tokens).squeeze(1)
