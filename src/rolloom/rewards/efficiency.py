"""Token efficiency: scores and lengths of one group in, final advantages out.

    score -> + length term (a formula) -> rank projection -> baseline -> advantages

The rank projection is what every formula has in common: within a group, an answer that scores higher never
ends up below one that scores lower. Where a formula's terms would break that, they are all multiplied by the
largest factor at which each pair keeps at least `KEEP` of its score gap. One factor for the group, so that
the order the formula gives to equally good answers survives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rolloom.configs.schema import RewardConfig
from rolloom.errors import did_you_mean
from rolloom.rewards.advantages import as_floats, group_advantages
from rolloom.rewards.correctness import SOLVED_AT
from rolloom.rewards.errors import RewardError
from rolloom.rewards.formulas import FORMULAS, KEEP, Group

_TIE = 1e-6
"""Scores closer than this are the same score."""
_MOST = 1e6
"""Largest coefficient: beyond it a shared offset of the terms would swallow the scores in rounding."""


@dataclass(frozen=True, slots=True)
class ShapedGroup:
    """What the learner and the metrics need of one group.

    Attributes:
        advantages_G: `[G]` final advantages; 0 for failed rollouts.
        rewards_G: `[G]` shaped rewards, score plus length term; NaN for failed rollouts.
        valid_G: `[G]` booleans, False for failed rollouts: leave them out of the batch.
        components: means over the valid rollouts: `score`, `solve_rate`, `length_term` (signed),
            `length_weight` (mean absolute term, how loud the length speaks), `projection` (factor of the rank
            projection; 1 when nothing had to be held back). Empty when no rollout is valid.
    """

    advantages_G: np.ndarray
    rewards_G: np.ndarray
    valid_G: np.ndarray
    components: dict[str, float]


def check_reward(config: RewardConfig) -> None:
    """Check the reward section of a configuration.

    Raises:
        RewardError: naming the field, its value and what was expected.
    """
    if config.efficiency not in FORMULAS:
        known = ", ".join(FORMULAS)
        hint = did_you_mean(str(config.efficiency), FORMULAS)
        raise RewardError(f"reward.efficiency is {config.efficiency!r}; expected one of {known}.{hint}")
    if not 0 <= config.coefficient <= _MOST:
        raise RewardError(
            f"reward.coefficient is {config.coefficient!r}; expected a number from 0 to {_MOST:g}."
        )
    if not 0 <= config.gate_low <= 1:
        raise RewardError(f"reward.gate_low is {config.gate_low!r}; expected a solve rate from 0 to 1.")
    if config.overlong_cache < 1:
        raise RewardError(f"reward.overlong_cache is {config.overlong_cache!r}; expected at least 1 token.")
    if config.overlong_tokens < config.overlong_cache:
        raise RewardError(
            f"reward.overlong_tokens is {config.overlong_tokens!r}; expected at least reward.overlong_cache "
            f"({config.overlong_cache} tokens): the soft zone lies below the limit."
        )


def rank_factor(scores_V: np.ndarray, terms_V: np.ndarray) -> float:
    """Return the largest factor in (0, 1] at which the terms leave every pair of scores in order.

    Each pair with s_i > s_j keeps (s_i + f t_i) - (s_j + f t_j) >= KEEP * (s_i - s_j).
    """
    gaps = scores_V[:, None] - scores_V[None, :]
    pulls = terms_V[None, :] - terms_V[:, None]
    room = (1.0 - KEEP) * gaps
    broken = (gaps > _TIE) & (pulls > room)
    return float((room[broken] / pulls[broken]).min(initial=1.0))


def shape_group(
    config: RewardConfig,
    scores_G: Sequence[float | None] | np.ndarray,
    tokens_G: Sequence[float] | np.ndarray,
    *,
    think_tokens_G: Sequence[float] | np.ndarray | None = None,
    truncated_G: Sequence[bool] | np.ndarray | None = None,
    failed_G: Sequence[bool] | np.ndarray | None = None,
    baseline: str = "leave_one_out",
    std_normalization: bool = False,
) -> ShapedGroup:
    """Turn the scores and lengths of one group into advantages.

    For every configuration `check_reward` admits, in every group: a higher score never gets a lower
    advantage; among equally scored answers of a formula's kind a longer one never gets a higher advantage
    than a shorter one; advantages are finite, sum to zero over the valid rollouts and do not depend on the
    order of the group.

    With `std_normalization` the standard deviation is that of the plain scores (1 where they are all equal).

    Args:
        config: the reward section of the run.
        scores_G: scores in [0, 1]; None or NaN marks a failed rollout.
        tokens_G: sampled tokens of the whole episode.
        think_tokens_G: those of them inside think tags, when known.
        truncated_G: whether a rollout ran into a token limit.
        failed_G: whether the machinery failed (`StopReason.is_failure`); its score is ignored.
        baseline: `leave_one_out` or `group_mean`.
        std_normalization: divide by the standard deviation.

    Raises:
        RewardError: on lists of different lengths, a score outside [0, 1], a negative or non-finite length,
            more think tokens than tokens, or a configuration `check_reward` refuses.
    """
    check_reward(config)
    scores = as_floats(scores_G)
    size = len(scores)
    tokens = _column("tokens_G", tokens_G, size)
    think = None if think_tokens_G is None else _column("think_tokens_G", think_tokens_G, size)
    truncated = _column("truncated_G", np.zeros(size) if truncated_G is None else truncated_G, size).astype(
        bool
    )
    failed = _column("failed_G", np.zeros(size) if failed_G is None else failed_G, size).astype(bool)
    valid = ~np.isnan(scores) & ~failed
    _check_group(scores[valid], tokens[valid], None if think is None else think[valid])

    rewards = np.full(size, np.nan)
    if not valid.any():
        return ShapedGroup(np.zeros(size), rewards, valid, {})
    group = Group(
        scores_V=scores[valid],
        solved_V=scores[valid] >= SOLVED_AT,
        tokens_V=tokens[valid],
        think_V=None if think is None else think[valid],
        truncated_V=truncated[valid],
    )
    terms = FORMULAS[config.efficiency](group, config)
    factor = rank_factor(group.scores_V, terms)
    rewards[valid] = group.scores_V + factor * terms
    components = {
        "score": float(group.scores_V.mean()),
        "solve_rate": group.solve_rate,
        "length_term": float(factor * terms.mean()),
        "length_weight": float(factor * np.abs(terms).mean()),
        "projection": factor,
    }
    plain = np.where(valid, scores, np.nan)
    advantages = group_advantages(rewards, baseline, std_normalization, std_of_G=plain)
    return ShapedGroup(advantages, rewards, valid, components)


def _column(name: str, values: Sequence[float] | Sequence[bool] | np.ndarray, size: int) -> np.ndarray:
    column = as_floats(values)
    if len(column) != size:
        raise RewardError(
            f"{name} has {len(column)} entries; expected {size}, one for each score of the group."
        )
    return column


def _check_group(scores_V: np.ndarray, tokens_V: np.ndarray, think_V: np.ndarray | None) -> None:
    if scores_V.size and not (scores_V.min() >= -_TIE and scores_V.max() <= 1 + _TIE):
        raise RewardError(f"scores_G spans {scores_V.min()} to {scores_V.max()}; expected scores in [0, 1].")
    for name, lengths in (("tokens_G", tokens_V), ("think_tokens_G", think_V)):
        if lengths is not None and not (np.isfinite(lengths).all() and (lengths >= 0).all()):
            raise RewardError(f"{name} is {lengths.tolist()}; expected finite lengths of 0 or more tokens.")
    if think_V is not None and (think_V > tokens_V).any():
        raise RewardError("think_tokens_G exceeds tokens_G; expected the think part to be part of the whole.")
