"""The accuracy floor: an environment's length term fades while its accuracy stands below its best."""

from __future__ import annotations

from collections.abc import Sequence

from rolloom.rewards.errors import RewardError


def length_scale(accuracies: Sequence[float], margin: float, memory: float = 0.85) -> float:
    """Return the factor in [0, 1] on an environment's length term for the next step.

    The accuracies are smoothed exponentially; the factor falls linearly from 1 at the best smoothed value so
    far to 0 at `margin` below it. A pure function of the record, so a resumed run controls as the unbroken
    one would.

    Args:
        accuracies: shares of solved rollouts so far, oldest first; a held-out measurement before training
            may stand
            first and is then the first best.
        margin: width of the fade, in accuracy; 0 switches the controller off.
        memory: weight of the past in the smoothing, in [0, 1).

    Raises:
        RewardError: margin or memory out of range.
    """
    if not 0 <= margin <= 1:
        raise RewardError(f"reward.accuracy_margin: expected a number from 0 to 1, got {margin!r}")
    if not 0 <= memory < 1:
        raise RewardError(f"memory: expected a number from 0 to below 1, got {memory!r}")
    if margin == 0 or not accuracies:
        return 1.0
    smooth = best = accuracies[0]
    for accuracy in accuracies[1:]:
        smooth = memory * smooth + (1 - memory) * accuracy
        best = max(best, smooth)
    return min(1.0, max(0.0, 1 - (best - smooth) / margin))
