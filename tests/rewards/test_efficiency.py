from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rolloom.configs.schema import RewardConfig
from rolloom.rewards.advantages import BASELINES
from rolloom.rewards.efficiency import check_reward, shape_group
from rolloom.rewards.errors import RewardError
from rolloom.rewards.formulas import FORMULAS, KEEP, gate

SCORES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.none())


@st.composite
def configs(draw: st.DrawFn) -> RewardConfig:
    cache = draw(st.integers(1, 300))
    config = RewardConfig(
        efficiency=draw(st.sampled_from(sorted(FORMULAS))),
        coefficient=draw(st.one_of(st.floats(0, 2), st.floats(0, 1e6))),
        gate_low=draw(st.floats(0, 1)),
        overlong_tokens=cache + draw(st.integers(0, 600)),
        overlong_cache=cache,
    )
    check_reward(config)
    return config


@st.composite
def groups(draw: st.DrawFn, scores: st.SearchStrategy = SCORES) -> dict:
    size = draw(st.integers(0, 10))
    answer = draw(st.lists(st.integers(0, 500), min_size=size, max_size=size))
    think = draw(st.lists(st.integers(0, 10_000), min_size=size, max_size=size))
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    return {
        "scores_G": draw(st.lists(scores, min_size=size, max_size=size)),
        "tokens_G": [a + t for a, t in zip(answer, think, strict=True)],
        "think_tokens_G": think if draw(st.booleans()) else None,
        "truncated_G": draw(flags),
        "failed_G": draw(flags),
    }


modes = {"baseline": st.sampled_from(BASELINES), "std_normalization": st.booleans()}


@settings(max_examples=400)
@given(configs(), groups(), st.fixed_dictionaries(modes))
def test_a_better_answer_never_ranks_below_a_worse_one(config: RewardConfig, group: dict, mode: dict) -> None:
    shaped = shape_group(config, **group, **mode)
    valid = np.flatnonzero(shaped.valid_G)
    for i in valid:
        for j in valid:
            gap = group["scores_G"][i] - group["scores_G"][j]
            if gap > 1e-6:
                assert shaped.advantages_G[i] > shaped.advantages_G[j]
                assert shaped.rewards_G[i] - shaped.rewards_G[j] >= 0.99 * KEEP * gap


@settings(max_examples=200)
@given(configs(), groups(), st.fixed_dictionaries(modes))
def test_zero_sum_finite_and_failures_masked(config: RewardConfig, group: dict, mode: dict) -> None:
    shaped = shape_group(config, **group, **mode)
    expected = [s is not None and not f for s, f in zip(group["scores_G"], group["failed_G"], strict=True)]
    assert shaped.valid_G.tolist() == expected
    assert np.isfinite(shaped.advantages_G).all()
    assert np.isfinite(shaped.rewards_G[shaped.valid_G]).all()
    assert np.isnan(shaped.rewards_G[~shaped.valid_G]).all()
    assert (shaped.advantages_G[~shaped.valid_G] == 0).all()
    assert abs(shaped.advantages_G.sum()) < 1e-8 * max(1.0, np.abs(shaped.advantages_G).sum())
    assert all(math.isfinite(value) for value in shaped.components.values())
    if sum(expected) < 2:
        assert not shaped.advantages_G.any()


@settings(max_examples=200)
@given(configs(), groups(), st.fixed_dictionaries(modes), st.randoms())
def test_permutation_equivariant(config: RewardConfig, group: dict, mode: dict, random) -> None:
    order = list(range(len(group["scores_G"])))
    random.shuffle(order)
    moved = {key: None if column is None else [column[i] for i in order] for key, column in group.items()}
    left = shape_group(config, **group, **mode).advantages_G[order]
    np.testing.assert_allclose(shape_group(config, **moved, **mode).advantages_G, left, rtol=1e-6, atol=1e-7)


@settings(max_examples=200)
@given(configs(), groups(), st.fixed_dictionaries(modes))
def test_failed_rollouts_leave_the_group_as_if_absent(config: RewardConfig, group: dict, mode: dict) -> None:
    shaped = shape_group(config, **group, **mode)
    kept = np.flatnonzero(shaped.valid_G)
    present = {key: None if column is None else [column[i] for i in kept] for key, column in group.items()}
    alone = shape_group(config, **present, **mode)
    np.testing.assert_allclose(shaped.advantages_G[kept], alone.advantages_G, rtol=1e-9, atol=1e-12)
    assert shaped.components == pytest.approx(alone.components)


@settings(max_examples=300)
@given(configs(), groups(st.sampled_from([0.0, 0.5, 1.0])), st.fixed_dictionaries(modes))
def test_longer_is_never_better_among_correct_answers(config: RewardConfig, group: dict, mode: dict) -> None:
    shaped = shape_group(config, **group, **mode)
    think = group["think_tokens_G"] or group["tokens_G"]
    solved = [i for i in np.flatnonzero(shaped.valid_G) if group["scores_G"][i] == 1.0]
    for i in solved:
        for j in solved:
            answers = group["tokens_G"][i] - think[i], group["tokens_G"][j] - think[j]
            same_end = group["truncated_G"][i] == group["truncated_G"][j]
            if think[i] >= think[j] and answers[0] >= answers[1] and same_end:
                assert shaped.advantages_G[i] <= shaped.advantages_G[j] + 1e-9


@given(groups(st.just(0.0)), st.floats(0, 1e6))
@pytest.mark.parametrize("name", ["sign_safe", "linear"])
def test_wrong_answers_are_not_paid_for_brevity(name: str, group: dict, coefficient: float) -> None:
    shaped = shape_group(RewardConfig(name, coefficient), **group)
    np.testing.assert_array_equal(shaped.advantages_G, 0)


@settings(max_examples=50)
@given(groups(), st.sampled_from(sorted(FORMULAS)), st.fixed_dictionaries(modes))
def test_coefficient_zero_is_plain_grpo(group: dict, name: str, mode: dict) -> None:
    plain = shape_group(RewardConfig("none"), **group, **mode)
    off = shape_group(RewardConfig(name, 0.0), **group, **mode)
    np.testing.assert_allclose(off.advantages_G, plain.advantages_G, atol=1e-12)


def test_sign_safe_worked_example() -> None:
    # p = 3/4, g = (0.75 - 0.5)/0.5 = 0.5; lengths e^4, e^4.5, e^5: d = +0.5, 0, -0.5; A = (c - p) +
    # 0.4*0.5*d*c.
    tokens = [math.e**4, math.e**4.5, math.e**5, 3]
    shaped = shape_group(RewardConfig("sign_safe", 0.4), [1, 1, 1, 0], tokens, baseline="group_mean")
    np.testing.assert_allclose(shaped.advantages_G, [0.35, 0.25, 0.15, -0.75], atol=1e-12)
    assert shaped.components["length_term"] == pytest.approx(0)
    assert shaped.components["length_weight"] == pytest.approx(0.05)


def test_sign_safe_gate() -> None:
    assert [gate(p, 0.5) for p in (0.0, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0]
    assert [gate(p, 1.0) for p in (0.99, 1.0)] == [0.0, 1.0]
    half = shape_group(RewardConfig("sign_safe", 1.0), [1, 1, 0, 0], [5, 500, 5, 500])
    np.testing.assert_allclose(half.advantages_G, [2 / 3, 2 / 3, -2 / 3, -2 / 3])


def test_grlc_worked_example() -> None:
    # Nano report: think 10/20/30 -> w = 1, .5, 0, centred .5, 0, -.5; answers equal -> 0.
    # All score 1, so the shortest think also gets the bonus of 0.5.
    shaped = shape_group(
        RewardConfig("grlc", 0.5), [1, 1, 1], [15, 25, 35], think_tokens_G=[10, 20, 30], baseline="group_mean"
    )
    np.testing.assert_allclose(shaped.rewards_G, [1.75, 1.0, 0.75])
    np.testing.assert_allclose(shaped.advantages_G, np.array([1.75, 1.0, 0.75]) - 3.5 / 3)


def test_grlc_bonus_needs_quality() -> None:
    # The shortest is wrong: no bonus, and the projection keeps it below the correct ones.
    # w = 1, .5, .5, 0, centred .5, 0, 0, -.5: raw 0.25 against 0.75 for the longest; at lambda 2 it would
    # flip.
    shaped = shape_group(RewardConfig("grlc", 0.5), [0, 1, 1, 1], [10, 30, 30, 50])
    np.testing.assert_allclose(shaped.rewards_G, [0.25, 1.0, 1.0, 0.75])
    flipped = shape_group(RewardConfig("grlc", 2.0), [0, 1, 1, 1], [10, 30, 30, 50])
    np.testing.assert_allclose(flipped.rewards_G, [0.45, 1.0, 1.0, 0.55])
    assert flipped.components["projection"] == pytest.approx(0.45)


def test_linear_worked_example() -> None:
    shaped = shape_group(RewardConfig("linear", 0.5), [1, 1, 0], [50, 100, 10_000], baseline="group_mean")
    np.testing.assert_allclose(shaped.rewards_G, [0.75, 0.5, 0.0])


def test_overlong_worked_example() -> None:
    # DAPO Eq. 13 with L_max 200 and L_cache 100: 100 -> 0, 150 -> -0.5, 200 -> -1, 900 -> -1; truncated ->
    # -1.
    config = RewardConfig("overlong", 0.8, overlong_tokens=200, overlong_cache=100)
    shaped = shape_group(config, [1] * 5, [100, 150, 200, 900, 20], truncated_G=[False] * 4 + [True])
    np.testing.assert_allclose(shaped.rewards_G, [1.0, 0.6, 0.2, 0.2, 0.2])


def test_std_normalisation_does_not_cancel_the_coefficient() -> None:
    # Dividing by the shaped rewards' own deviation would make these two equal.
    weak, strong = (
        shape_group(
            RewardConfig("sign_safe", c), [1] * 4, [40, 60, 80, 90], std_normalization=True
        ).advantages_G
        for c in (0.02, 0.5)
    )
    np.testing.assert_allclose(strong, 25 * weak)
    assert strong[0] > 0


STYLES = {"verbose": (0.97, 80.0), "plain": (0.95, 40.0), "guess": (0.2, 4.0)}


def _train(config: RewardConfig, iterations: int = 600, group_size: int = 8) -> np.ndarray:
    """REINFORCE over three answering styles of known accuracy and length; returns their probabilities."""
    generator = np.random.default_rng(0)
    accuracy, length = (np.array(column) for column in zip(*STYLES.values(), strict=True))
    logits = np.log([0.8, 0.1, 0.1])
    for _ in range(iterations):
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        gradient = np.zeros(3)
        for _ in range(8):
            picks = generator.choice(3, size=group_size, p=probabilities)
            scores = (generator.random(group_size) < accuracy[picks]).astype(float)
            tokens = length[picks] * np.exp(0.1 * generator.standard_normal(group_size))
            advantages = shape_group(config, scores, tokens).advantages_G
            for pick, advantage in zip(picks, advantages, strict=True):
                gradient += advantage * (np.eye(3)[pick] - probabilities) / group_size
        logits += 0.2 * gradient
    return probabilities


@pytest.mark.parametrize("coefficient", [0.5, 4.0, 100.0])
def test_sign_safe_shortens_without_collapse(coefficient: float) -> None:
    final = dict(zip(STYLES, _train(RewardConfig("sign_safe", coefficient)), strict=True))
    assert final["plain"] > 0.8
    assert final["guess"] < 0.05


def test_the_bandit_tells_a_reward_that_ignores_length() -> None:
    final = dict(zip(STYLES, _train(RewardConfig("none")), strict=True))
    assert final["plain"] < 0.5 and final["verbose"] > 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"efficiency": "sign_save"}, "reward.efficiency is 'sign_save'.*Did you mean 'sign_safe'"),
        ({"coefficient": -0.1}, "reward.coefficient is -0.1"),
        ({"coefficient": 1e7}, "reward.coefficient is 10000000.0; expected a number from 0 to 1e"),
        ({"coefficient": math.nan}, "reward.coefficient is nan"),
        ({"gate_low": 1.5}, "reward.gate_low is 1.5"),
        ({"overlong_cache": 0}, "reward.overlong_cache is 0"),
        ({"overlong_tokens": 10}, "reward.overlong_tokens is 10"),
    ],
)
def test_bad_configuration_is_named(change: dict, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        shape_group(replace(RewardConfig(), **change), [1, 0], [3, 4])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"scores_G": [1, 2], "tokens_G": [3, 4]}, "scores in"),
        ({"scores_G": [1, math.inf], "tokens_G": [3, 4]}, "scores in"),
        ({"scores_G": [1, 0], "tokens_G": [3]}, "tokens_G has 1 entries; expected 2"),
        ({"scores_G": [1, 0], "tokens_G": [3, -1]}, "tokens_G is"),
        ({"scores_G": [1, 0], "tokens_G": [3, math.nan]}, "tokens_G is"),
        ({"scores_G": [1, 0], "tokens_G": [3, 4], "think_tokens_G": [3, 5]}, "think_tokens_G exceeds"),
    ],
)
def test_bad_groups_are_refused(group: dict, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        shape_group(RewardConfig(), **group)


def test_a_failed_rollout_may_have_any_numbers() -> None:
    shaped = shape_group(RewardConfig(), [1, 0, math.inf], [3, 4, math.nan], failed_G=[False, False, True])
    assert shaped.valid_G.tolist() == [True, True, False]


@given(configs())
def test_errors_survive_pickling(config: RewardConfig) -> None:
    import pickle

    assume(config.coefficient > 0)
    try:
        check_reward(replace(config, coefficient=-config.coefficient))
    except RewardError as error:
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    else:
        pytest.fail("a negative coefficient was accepted")
