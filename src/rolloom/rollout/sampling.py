"""Repeatable sampling: the draw for a token depends on its request's seed and its position only."""

from __future__ import annotations

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the increment of splitmix64, as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniform(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Counter-based uniforms in [0, 1): splitmix64 (Steele et al., OOPSLA 2014) of seed and position.

    Args:
        seeds: int64 `[n]`.
        positions: int64 `[n]`.

    Returns:
        float64 `[n]`.
    """
    x = seeds + (positions + 1) * _GOLDEN
    for _ in range(2):
        x = (x ^ _shift(x, 30)) * _MIX_1
        x = (x ^ _shift(x, 27)) * _MIX_2
        x = x ^ _shift(x, 31)
    return _shift(x, 11).double() * 2.0**-53


def draw(logp: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Draw one token a row by inverse transform.

    Args:
        logp: log-probabilities, `[n, V]`; -inf is never drawn.
        draws: of [0, 1), float64 `[n]`.

    Returns:
        int64 `[n]`.
    """
    cumulative = logp.double().exp().cumsum(-1)
    goals = draws[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, goals, right=True).squeeze(1).clamp(max=logp.shape[1] - 1)


def sample(
    logits: torch.Tensor, seeds: torch.Tensor, positions: torch.Tensor, temperatures: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token a row by inverse transform of softmax(logits / temperature); 0 takes the best.

    Args:
        logits: fp32 `[n, V]`.
        seeds: int64 `[n]`.
        positions: index of the token within its completion, int64 `[n]`.
        temperatures: `[n]`.

    Returns:
        Tokens int64 `[n]` and their log-probabilities under the distribution drawn from (temperature 1 for
        greedy rows), fp32 `[n]`.
    """
    greedy = temperatures == 0
    scaled = logits / torch.where(greedy, 1.0, temperatures)[:, None]
    logp = torch.log_softmax(scaled, -1)
    tokens = draw(logp, uniform(seeds, positions).to(logits.device))
    tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, logp.gather(1, tokens[:, None]).squeeze(1)
