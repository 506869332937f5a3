"""Intervals and summaries for before/after comparisons. Plain numbers in, plain numbers out; seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from rolloom.rewards.correctness import is_solved
from rolloom.rewards.errors import RewardError

_BLOCK = 2**21
"""Random indices drawn at once in a bootstrap: bounds its memory at about 16 MiB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and its confidence interval.

    Attributes:
        estimate: the point estimate.
        low: lower bound.
        high: upper bound.
    """

    estimate: float
    low: float
    high: float


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (1927): inside [0, 1], and never of width zero.

    Args:
        successes: from 0 to `trials`.
        trials: independent tasks; 0 gives the estimate NaN and the interval [0, 1].
        confidence: coverage, between 0 and 1.

    Raises:
        RewardError: when the counts are impossible.
    """
    if trials < 0 or not 0 <= successes <= trials:
        raise RewardError(f"{successes} successes of {trials} trials; expected 0 <= successes <= trials.")
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the bound equals the rate exactly; rounding must not leave the estimate outside its interval.
    return Interval(rate, max(0.0, min(middle - reach, rate)), min(1.0, max(middle + reach, rate)))


def mean_interval(values: Sequence[float] | np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the mean with its 95% percentile-bootstrap interval; all NaN when there are no values."""
    column = np.asarray(values, dtype=np.float64)
    if column.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    means = _bootstrap_means(column[None, :], resamples, seed)[0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(column.mean()), float(low), float(high))


def paired_difference(
    before_N: Sequence[float] | np.ndarray,
    after_N: Sequence[float] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return mean(after) - mean(before) over the same N tasks with its 95% paired-bootstrap interval.

    Tasks are resampled, each with both its values, so that how hard a task is cancels out. One entry a task:
    average several rollouts of a task first, or the interval comes out too narrow.

    Raises:
        RewardError: when the two sides differ in length.
    """
    before, after = _paired(before_N, after_N)
    if before.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    means = _bootstrap_means((after - before)[None, :], resamples, seed)[0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float((after - before).mean()), float(low), float(high))


def paired_log_ratio(
    before_N: Sequence[float] | np.ndarray,
    after_N: Sequence[float] | np.ndarray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return log(mean(after) / mean(before)) over the same N tasks with its 95% paired-bootstrap interval.

    The ratio of means is what a bill is made of; its logarithm is symmetric in shorter and longer.

    Raises:
        RewardError: when the two sides differ in length or a side's mean is not positive.
    """
    before, after = _paired(before_N, after_N)
    if before.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    if before.mean() <= 0 or after.mean() <= 0:
        raise RewardError(
            f"means are {before.mean()} before, {after.mean()} after; expected positive lengths for a ratio."
        )
    means = np.maximum(_bootstrap_means(np.stack([before, after]), resamples, seed), np.finfo(float).tiny)
    low, high = np.quantile(np.log(means[1]) - np.log(means[0]), (0.025, 0.975))
    return Interval(float(np.log(after.mean() / before.mean())), float(low), float(high))


def pass_at_k(attempts: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k, 1 - C(n - c, k) / C(n, k) (Codex, arXiv 2107.03374, Eq. 1).

    Args:
        attempts: n, rollouts of the task.
        correct: c, those that are correct.
        k: how many one may draw.

    Raises:
        RewardError: unless 0 <= correct <= attempts and 1 <= k <= attempts.
    """
    if not (0 <= correct <= attempts and 1 <= k <= attempts):
        raise RewardError(
            f"pass@{k} of {correct} correct in {attempts} attempts; expected 0 <= correct <= attempts and "
            "1 <= k <= attempts."
        )
    return 1.0 - math.comb(attempts - correct, k) / math.comb(attempts, k)


def tokens_per_correct(scores: Sequence[float | None], tokens: Sequence[float]) -> float:
    """Return all sampled tokens, wrong attempts included, per solved rollout; infinite when none is solved.

    Failed rollouts (None or NaN) count neither way.

    Raises:
        RewardError: when the two sides differ in length.
    """
    if len(scores) != len(tokens):
        raise RewardError(f"{len(scores)} scores for {len(tokens)} lengths; expected one length a score.")
    kept = [(score, length) for score, length in zip(scores, tokens, strict=True) if score is not None]
    kept = [(score, length) for score, length in kept if not math.isnan(score)]
    solved = sum(is_solved(score) for score, _ in kept)
    spent = float(sum(length for _, length in kept))
    return spent / solved if solved else math.inf


def _paired(
    before_N: Sequence[float] | np.ndarray, after_N: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    before = np.asarray(before_N, dtype=np.float64)
    after = np.asarray(after_N, dtype=np.float64)
    if before.shape != after.shape:
        raise RewardError(
            f"{before.size} values before, {after.size} after; expected the same tasks on both sides."
        )
    return before, after


def _bootstrap_means(columns_CN: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return `[C, resamples]` means, every column resampled with the same indices."""
    generator = np.random.default_rng(seed)
    size = columns_CN.shape[1]
    block = max(1, _BLOCK // size)
    parts = []
    for start in range(0, resamples, block):
        picks = generator.integers(0, size, size=(min(block, resamples - start), size))
        parts.append(columns_CN[:, picks].mean(axis=2))
    return np.concatenate(parts, axis=1)
