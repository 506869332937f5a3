from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.rewards.advantages import BASELINES, group_advantages
from rolloom.rewards.errors import RewardError

rewards = st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=0, max_size=12)
baselines = st.sampled_from(BASELINES)


@given(rewards, baselines, st.booleans())
def test_zero_sum_finite_and_failures_at_zero(group: list[float | None], baseline: str, std: bool) -> None:
    advantages = group_advantages(group, baseline, std)
    assert advantages.shape == (len(group),)
    assert np.isfinite(advantages).all()
    assert abs(advantages.sum()) < 1e-9 * max(1.0, np.abs(advantages).sum())
    assert all(advantages[i] == 0 for i, reward in enumerate(group) if reward is None)


@given(rewards, baselines, st.booleans())
def test_failures_do_not_move_the_others(group: list[float | None], baseline: str, std: bool) -> None:
    present = [reward for reward in group if reward is not None]
    alone = group_advantages(present, baseline, std)
    mixed = group_advantages(group, baseline, std)
    kept = [i for i, reward in enumerate(group) if reward is not None]
    np.testing.assert_allclose(mixed[kept], alone, atol=1e-12)


@given(rewards, baselines, st.booleans(), st.randoms())
def test_permutation_equivariant(group: list[float | None], baseline: str, std: bool, random) -> None:
    order = list(range(len(group)))
    random.shuffle(order)
    shuffled = group_advantages([group[i] for i in order], baseline, std)
    np.testing.assert_allclose(shuffled, group_advantages(group, baseline, std)[order], atol=1e-6)


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=12), baselines)
def test_order_of_rewards_is_kept(group: list[float], baseline: str) -> None:
    advantages = group_advantages(group, baseline)
    for i, left in enumerate(group):
        for j, right in enumerate(group):
            if left - right > 1e-9:
                assert advantages[i] > advantages[j]


def test_worked_example() -> None:
    np.testing.assert_allclose(group_advantages([1, 0, 0, 1], "group_mean"), [0.5, -0.5, -0.5, 0.5])
    np.testing.assert_allclose(
        group_advantages([1, 0, 0, 1], "leave_one_out"), [2 / 3, -2 / 3, -2 / 3, 2 / 3]
    )
    np.testing.assert_allclose(group_advantages([1, 0, 0, 1], "group_mean", True), [1, -1, -1, 1])


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    group = [0.3, 0.9, 0.1, 0.5]
    others = [np.mean(group[:i] + group[i + 1 :]) for i in range(4)]
    np.testing.assert_allclose(group_advantages(group), np.array(group) - others)


@pytest.mark.parametrize("group", [[], [1.0], [None, 1.0, math.nan], [0.1] * 3, [0.7] * 8])
@pytest.mark.parametrize("std", [False, True])
def test_nothing_to_compare_gives_nothing(group: list[float | None], std: bool) -> None:
    np.testing.assert_allclose(group_advantages(group, std_normalization=std), 0, atol=1e-15)


def test_unknown_baseline_names_the_nearest() -> None:
    with pytest.raises(RewardError, match=r"trainer\.baseline is 'leave_one'.*Did you mean 'leave_one_out'"):
        group_advantages([1, 0], "leave_one")
