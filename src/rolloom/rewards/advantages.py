"""Advantages of one group: each reward against a baseline made of the group's own rewards.

Axis suffix: G = rollouts of one task. A failed rollout (None or NaN) has no reward: it enters no baseline and
gets advantage 0, so the machinery's failures never move the policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rolloom.errors import did_you_mean
from rolloom.rewards.errors import RewardError

BASELINES = ("leave_one_out", "group_mean")
_SAME = 1e-6
"""Below this spread the rewards of a group are equal and dividing by it would only amplify rounding."""


def valid_mask(rewards_G: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """Return `[G]` booleans: True where a rollout has a finite reward."""
    return np.isfinite(as_floats(rewards_G))


def as_floats(rewards_G: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """Return `[G]` float64 with None as NaN."""
    return np.array([np.nan if reward is None else reward for reward in rewards_G], dtype=np.float64)


def group_advantages(
    rewards_G: Sequence[float | None] | np.ndarray,
    baseline: str = "leave_one_out",
    std_normalization: bool = False,
    std_of_G: Sequence[float | None] | np.ndarray | None = None,
) -> np.ndarray:
    """Return the advantage of every rollout of a group.

    `group_mean` is GRPO's r_i - mean(r) (DeepSeekMath, arXiv 2402.03300); `leave_one_out` subtracts the mean
    of the *other* rewards (RLOO, arXiv 2402.14740), which is group_mean times V / (V - 1) for V valid
    rollouts. Both sum to zero. Without std normalisation it is Dr. GRPO's advantage (arXiv 2503.20783).

    Args:
        rewards_G: rewards; None, NaN or infinite marks a failed rollout.
        baseline: `leave_one_out` or `group_mean`.
        std_normalization: divide by the population standard deviation over the valid rollouts.
        std_of_G: the values whose standard deviation divides, the rewards themselves by default. Length
            shaping passes the plain scores: dividing by the shaped rewards' own deviation would cancel the
            length coefficient in groups that are all correct.

    Returns:
        `[G]` float64, finite; all zero when fewer than two rollouts are valid.

    Raises:
        RewardError: on an unknown baseline.
    """
    if baseline not in BASELINES:
        raise RewardError(
            f"trainer.baseline is {baseline!r}; expected one of {', '.join(BASELINES)}."
            + did_you_mean(str(baseline), BASELINES)
        )
    rewards = as_floats(rewards_G)
    valid = np.isfinite(rewards)
    count = int(valid.sum())
    advantages = np.zeros(len(rewards))
    if count < 2:
        return advantages
    centred = rewards[valid] - rewards[valid].mean()
    # A second pass removes what rounding left of the mean, so that a long group still sums to zero.
    centred -= centred.mean()
    if baseline == "leave_one_out":
        centred *= count / (count - 1)
    if std_normalization:
        spread = float(np.std(rewards[valid] if std_of_G is None else as_floats(std_of_G)[valid]))
        if spread > _SAME:
            centred /= spread
    advantages[valid] = centred
    return advantages
