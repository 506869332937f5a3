"""Length-control formulas: the term each adds to the scores of one group's valid rollouts.

A formula maps a `Group` and its configuration to `[V]` length terms. What keeps a correct answer above a
wrong one is not here but in `rolloom.rewards.efficiency`, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rolloom.configs.schema import RewardConfig

KEEP = 0.1
"""Share of the gap between two scores that no length term may eat."""
LOG_CLIP = 1.0
"""`sign_safe` tells lengths apart up to a factor e around the correct rollouts' geometric mean."""
QUALITY_QUANTILE = 0.8
"""`grlc` pays its bonus to the shortest only where the score reaches this quantile of the group."""


@dataclass(frozen=True, slots=True)
class Group:
    """The valid rollouts of one task.

    Attributes:
        scores_V: `[V]` scores in [0, 1].
        solved_V: `[V]` booleans, full marks.
        tokens_V: `[V]` sampled tokens of the whole episode, reasoning and answer, all turns.
        think_V: `[V]` those of them inside think tags, or None when the two are not told apart.
        truncated_V: `[V]` booleans, the rollout ran into its token limit, so its length is a lower bound.
    """

    scores_V: np.ndarray
    solved_V: np.ndarray
    tokens_V: np.ndarray
    think_V: np.ndarray | None
    truncated_V: np.ndarray

    @property
    def solve_rate(self) -> float:
        """Share of the group that is solved."""
        return float(self.solved_V.mean())


Formula = Callable[[Group, RewardConfig], np.ndarray]


def gate(solve_rate: float, gate_low: float) -> float:
    """Return g(p): 0 up to `gate_low`, then linear to 1 at a solve rate of 1."""
    if gate_low >= 1.0:
        return float(solve_rate >= 1.0)
    return float(np.clip((solve_rate - gate_low) / (1.0 - gate_low), 0.0, 1.0))


def none(group: Group, config: RewardConfig) -> np.ndarray:
    """Return zeros: the score alone."""
    del config
    return np.zeros(len(group.scores_V))


def sign_safe(group: Group, config: RewardConfig) -> np.ndarray:
    """Return lambda * g(p) * d * c, rolloom's own default (docs/guide/efficiency.md).

    c is 1 for a solved rollout, p the solve rate, g the gate, d = mean log l - log l over the solved
    rollouts, clipped to [-1, 1] and centred again: percentages count, not tokens, and only against other
    correct answers. Wrong answers get nothing, however short.

    The strength s = lambda * g is capped at 1 - KEEP of the gap between a solved score and the best unsolved
    one, in all-correct groups too. With a leave-one-out baseline a shorter style of solve rate a then pays
    only if a > Q / (1 + s), Q being the others' rate: what it may cost in accuracy is bounded whatever lambda
    is, and as the gate closes at `gate_low`, no trade is made below that rate.
    """
    terms = np.zeros(len(group.scores_V))
    solved = group.solved_V
    if solved.sum() < 2:
        return terms
    log_tokens = np.log(np.maximum(group.tokens_V[solved], 1.0))
    saving = np.clip(log_tokens.mean() - log_tokens, -LOG_CLIP, LOG_CLIP)
    saving -= saving.mean()
    saving /= max(1.0, float(np.abs(saving).max()))
    cap = (1 - KEEP) * (1 - float(group.scores_V[~solved].max(initial=0.0)))
    strength = min(config.coefficient * gate(group.solve_rate, config.gate_low), cap)
    terms[solved] = strength * saving
    return terms


def grlc(group: Group, config: RewardConfig) -> np.ndarray:
    """Return Group Relative Length Control (Nemotron 3 Nano report, arXiv 2512.20848, Eq. 2-6).

    Separately for the think and the answer part: w_i = 1 - (l_i - l_min) / (l_max - l_min), 0 where all are
    equally long; the term is lambda_think * (w_i - mean w) + lambda_answer * (w_i - mean w), plus a bonus for
    the shortest part where the score reaches the group's 80th percentile. Lengths are tokens, NeMo Gym's are
    characters. Both lambdas and both bonuses are `reward.coefficient` (0.5 each in the report), so that 0
    turns everything off. Where think and answer are not told apart there is one part, the whole.
    """
    whole = group.tokens_V
    parts = [whole] if group.think_V is None else [group.think_V, whole - group.think_V]
    good_enough = group.scores_V >= np.quantile(group.scores_V, QUALITY_QUANTILE)
    terms = np.zeros(len(group.scores_V))
    for part in parts:
        spread = part.max() - part.min()
        if spread <= 0:
            continue
        weight = 1.0 - (part - part.min()) / spread
        shortest = part == part.min()
        terms += config.coefficient * (weight - weight.mean() + (shortest & good_enough))
    return terms


def linear(group: Group, config: RewardConfig) -> np.ndarray:
    """Return -lambda * c * l / l_max, with l_max the longest solved rollout: c * (1 - lambda * l / l_max).

    The plain length penalty on correct answers that many papers start from (for one, Arora and Zanette, arXiv
    2502.04463, squash the same ratio with a sigmoid). It has no gate: it also shortens what is rarely solved.
    """
    terms = np.zeros(len(group.scores_V))
    solved = group.solved_V
    if solved.any():
        longest = max(float(group.tokens_V[solved].max()), 1.0)
        terms[solved] = -config.coefficient * group.tokens_V[solved] / longest
    return terms


def overlong(group: Group, config: RewardConfig) -> np.ndarray:
    """Return lambda times DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13).

    0 up to L_max - L_cache, falling linearly to -1 at L_max, then -1; L_max is `reward.overlong_tokens`,
    L_cache `reward.overlong_cache`. A truncated rollout gets -1 whatever it counts: how long it wanted to be
    is unknown.
    """
    soft_start = config.overlong_tokens - config.overlong_cache
    over = (group.tokens_V - soft_start) / max(config.overlong_cache, 1)
    return -config.coefficient * np.where(group.truncated_V, 1.0, np.clip(over, 0.0, 1.0))


FORMULAS: dict[str, Formula] = {
    "none": none,
    "sign_safe": sign_safe,
    "grlc": grlc,
    "linear": linear,
    "overlong": overlong,
}
"""`reward.efficiency` -> formula."""
