"""Which tasks a step draws: exact shares, no memory, and held-out tasks that training never sees."""

from __future__ import annotations

import fault_envs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.configs.schema import EnvConfig
from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.rollout.mixture import draw_tasks, heldout_tasks, shares

WEIGHTS = st.lists(st.integers(0, 40).map(lambda n: n / 10), min_size=1, max_size=7).filter(any)
ENVS = [
    EnvConfig(id="math/affine_chain-v0", weight=2.0, min_level=1, max_level=3),
    EnvConfig(id="tools/lookup-v0", weight=1.0),
    EnvConfig(id=fault_envs.PARITY, weight=0.5),
]


@given(WEIGHTS, st.integers(1, 20), st.integers(1, 200))
def test_shares_are_whole_and_sum_to_the_step(weights: list[float], per_step: int, step: int) -> None:
    counts = shares(weights, per_step, step)
    assert sum(counts) == per_step
    assert all(count >= 0 for count in counts)
    assert all(count == 0 for count, weight in zip(counts, weights, strict=True) if weight == 0)


@given(WEIGHTS, st.integers(1, 9))
def test_totals_never_stray_a_whole_prompt_from_the_weights(weights: list[float], per_step: int) -> None:
    totals = [0] * len(weights)
    for step in range(1, 41):
        totals = [a + b for a, b in zip(totals, shares(weights, per_step, step), strict=True)]
        due = [weight / sum(weights) * per_step * step for weight in weights]
        assert all(abs(got - want) < 1 for got, want in zip(totals, due, strict=True)), (step, totals, due)


def test_one_prompt_a_step_reaches_every_environment() -> None:
    drawn = [shares([1, 1, 1], 1, step).index(1) for step in range(1, 10)]
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == sorted(drawn[6:]) == [0, 1, 2]


def test_unhandy_weights_cost_neither_exactness_nor_time() -> None:
    weights = [0.123456789, 3.1415926535, 2.718281828, 1e-3]
    counts = shares(weights, 10_000, 10_000)
    assert sum(counts) == 10_000
    assert all(abs(c / 10_000 - w / sum(weights)) < 3e-4 for c, w in zip(counts, weights, strict=True))


def test_a_step_draws_the_same_tasks_whatever_was_drawn_before() -> None:
    alone = draw_tasks(ENVS, 14, 9, seed=3)
    for step in range(1, 9):
        draw_tasks(ENVS, 14, step, seed=3)
    assert draw_tasks(ENVS, 14, 9, seed=3) == alone
    assert [sum(task.env_id == env.id for task in alone) for env in ENVS] == [8, 4, 2]
    assert {task.level for task in alone if task.env_id == ENVS[0].id} <= {1, 2, 3}
    assert {task.split for task in alone} == {"train"}


def test_steps_and_seeds_draw_different_tasks() -> None:
    drawn = [task for seed in (1, 2) for step in range(1, 21) for task in draw_tasks(ENVS, 14, step, seed)]
    assert len({(task.env_id, task.level, task.seed) for task in drawn}) == len(drawn)
    levels = [task.level for task in drawn if task.env_id == ENVS[0].id]
    assert all(levels.count(level) > len(levels) / 5 for level in (1, 2, 3))


def test_heldout_tasks_are_distinct_and_never_drawn_in_training() -> None:
    tasks = heldout_tasks(ENVS, 40, seed=0)
    assert [sum(task.env_id == env.id for task in tasks) for env in ENVS] == [40, 40, 40]
    keys = {(task.env_id, task.key) for task in tasks}
    assert len(keys) == len(tasks)
    assert tasks == heldout_tasks(ENVS, 40, seed=0)
    trained = set()
    for step in range(1, 11):
        for task in draw_tasks(ENVS, 14, step, seed=0):
            env = registry.make(task.env_id)
            trained.add((task.env_id, env.reset(seed=task.seed, options={"level": task.level})[1]["key"]))
    assert trained
    assert not trained & keys


def test_heldout_tasks_reproduce_from_their_fields() -> None:
    for task in heldout_tasks(ENVS, 5, seed=7):
        env = registry.make(task.env_id)
        _, info = env.reset(seed=task.seed, options={"split": "heldout", "level": task.level})
        assert info["key"] == task.key


def test_an_environment_that_cannot_make_its_heldout_tasks_is_named() -> None:
    broken = EnvConfig(id=fault_envs.FAULT, kwargs={"how": "raises_in_reset"})
    with pytest.raises(
        EnvError, match="test/fault-v0: its held-out problem of level 1, seed 0 cannot be made"
    ):
        heldout_tasks([broken], 2, seed=0)
