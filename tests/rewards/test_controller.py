"""The accuracy floor: full strength at the best, nothing at the margin below it; a resume changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.rewards.controller import length_scale
from rolloom.rewards.errors import RewardError

accuracies = st.lists(st.floats(0, 1), max_size=30)


@given(accuracies, st.floats(0.001, 1))
def test_factor_is_between_zero_and_one(record: list[float], margin: float) -> None:
    assert 0 <= length_scale(record, margin) <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 1))
def test_a_lower_last_accuracy_never_raises_the_factor(record: list[float], margin: float) -> None:
    worse = [*record, 0.0]
    better = [*record, 1.0]
    assert length_scale(worse, margin) <= length_scale(better, margin) + 1e-12


def test_worked_example() -> None:
    # 0.8 smoothed by a step at 0.7 is 0.77: 0.03 below the best is 0.6 of a margin of 0.05.
    assert length_scale([0.8, 0.7], 0.05, memory=0.7) == pytest.approx(0.4)
    assert length_scale([0.8, 0.4], 0.05) == 0.0
    assert length_scale([0.5, 0.6, 0.9], 0.05) == 1.0


def test_it_recovers_when_accuracy_does() -> None:
    record = [0.9, 0.5, *[0.95] * 20]
    assert length_scale(record[:2], 0.05) == 0.0
    assert length_scale(record, 0.05) == 1.0


def test_off_and_empty() -> None:
    assert length_scale([0.9, 0.1], 0.0) == 1.0
    assert length_scale([], 0.05) == 1.0


@pytest.mark.parametrize("margin", [-0.1, 1.5])
def test_margin_out_of_range_is_named(margin: float) -> None:
    with pytest.raises(RewardError, match="accuracy_margin"):
        length_scale([0.5], margin)
