from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.rewards.errors import RewardError
from rolloom.rewards.statistics import (
    mean_interval,
    paired_difference,
    paired_log_ratio,
    pass_at_k,
    tokens_per_correct,
    wilson_interval,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_contains_the_estimate_and_is_symmetric(count: tuple[int, int]) -> None:
    successes, trials = count
    left = wilson_interval(successes, trials)
    right = wilson_interval(trials - successes, trials)
    assert 0 <= left.low <= left.estimate <= left.high <= 1
    assert left.high - left.low > 0
    assert left.low == pytest.approx(1 - right.high, abs=1e-12)


def test_wilson_worked_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    interval = wilson_interval(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    assert round(wilson_interval(0, 20).high, 4) == 0.1611


def test_wilson_covers() -> None:
    generator = np.random.default_rng(0)
    draws = generator.binomial(256, 0.9, size=2000)
    hits = [wilson_interval(int(k), 256) for k in draws]
    assert 0.93 < np.mean([hit.low <= 0.9 <= hit.high for hit in hits]) < 0.97


def test_empty_sides_are_not_numbers() -> None:
    assert math.isnan(wilson_interval(0, 0).estimate)
    assert math.isnan(paired_difference([], []).estimate)
    assert math.isnan(paired_log_ratio([], []).low)
    assert math.isnan(mean_interval([]).high)


def test_paired_difference_covers_and_beats_the_unpaired_width() -> None:
    generator = np.random.default_rng(1)
    covered, widths = 0, []
    for seed in range(200):
        difficulty = generator.normal(0, 10, 100)
        before = difficulty + generator.normal(0, 1, 100)
        after = difficulty + 0.5 + generator.normal(0, 1, 100)
        interval = paired_difference(before, after, resamples=400, seed=seed)
        covered += interval.low <= 0.5 <= interval.high
        widths.append(interval.high - interval.low)
    assert 180 <= covered <= 199
    assert np.mean(widths) < 0.7  # unpaired: 2 * 1.96 * sqrt(2 * 101 / 100) = 5.6


def test_paired_log_ratio_of_a_constant_factor_is_exact() -> None:
    before = np.arange(1, 200)
    interval = paired_log_ratio(before, before / 3)
    assert interval.estimate == pytest.approx(-math.log(3))
    assert interval.low == pytest.approx(interval.high)


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=2, max_size=40))
def test_swapping_sides_negates(pairs: list[tuple[float, float]]) -> None:
    before, after = zip(*pairs, strict=True)
    for function in (paired_difference, paired_log_ratio):
        there, back = function(before, after, resamples=50), function(after, before, resamples=50)
        assert there.estimate == pytest.approx(-back.estimate, abs=1e-9)
        assert there.low == pytest.approx(-back.high, abs=1e-6)


def test_same_seed_same_interval_in_blocks() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_subsets(case: tuple[int, int, int]) -> None:
    attempts, correct, k = case
    outcomes = [True] * correct + [False] * (attempts - correct)
    subsets = list(itertools.combinations(outcomes, k))
    assert pass_at_k(attempts, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_tokens_per_correct_counts_wrong_attempts_but_no_failures() -> None:
    assert tokens_per_correct([1, 0, None, 1, math.nan], [10, 30, 999, 20, 999]) == 30
    assert tokens_per_correct([0, 0.5], [10, 10]) == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval(3, 2),
        lambda: pass_at_k(4, 5, 1),
        lambda: pass_at_k(4, 2, 5),
        lambda: paired_difference([1], [1, 2]),
        lambda: paired_log_ratio([0], [1]),
        lambda: tokens_per_correct([1], []),
    ],
)
def test_impossible_input_is_refused(call) -> None:
    with pytest.raises(RewardError, match="expected"):
        call()
