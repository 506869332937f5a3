"""The warehouse: plans are the cheapest there are, budgets need them, and missed demand stays missed."""

import itertools
from random import Random
from typing import Any

import numpy as np
import pytest

from rolloom.envs.agents.inventory import LEVELS, Inventory, _at_once, _day_by_day, _least
from rolloom.envs.parsing import render_call


def start(seed=0, level=1, env=None) -> Any:
    env = env or Inventory()
    env.reset(seed=seed, options={"level": level, "split": "heldout"})
    return env


def follow(env):
    total = 0.0
    while True:
        _, reward, done, truncated, info = env.step(env.expert("compact", np.random.default_rng(0)))
        total += reward
        if done or truncated:
            return total, info["components"]


def brute(row):
    """Return the least cost by trying every order of every day."""
    lead, days = row["lead"], len(row["demand"])
    best = float("inf")
    total = sum(row["demand"])
    choices = [
        range(total + 1) if row["prices"][d] is not None and d + lead < days else (0,) for d in range(days)
    ]
    for orders in itertools.product(*choices):
        cost, stock = 0, row["stock"]
        for day in range(days):
            if orders[day]:
                cost += row["fixed"] + row["prices"][day] * orders[day]
            stock += orders[day - lead] if day >= lead else 0
            stock -= row["demand"][day]
            if not 0 <= stock <= row["shelf"]:
                break
            cost += stock * row["night"]
        else:
            best = min(best, cost)
    return best


def test_plans_are_as_cheap_as_trying_everything():
    chance, found = Random(5), 0
    for _ in range(60):
        days, lead = 4, chance.randrange(3)
        demand = [chance.randrange(4) for _ in range(days)]
        row = {
            **{
                "demand": demand,
                "lead": lead,
                "night": chance.randrange(1, 4),
                "fixed": chance.randrange(12),
            },
            "prices": [chance.choice((None, 2, 3, 5)) for _ in range(days)],
            **{"shelf": chance.randrange(2, 8), "stock": sum(demand[:lead])},
        }
        assert _least(row) == brute(row), row
        found += _least(row) < float("inf")
    assert found >= 20


@pytest.mark.parametrize("level", range(1, 11))
def test_gold_costs_the_least_and_plain_habits_cost_too_much(level):
    env = Inventory()
    for seed in range(2):
        start(seed, level, env)
        problem = env.problem
        rows = problem["products"].values()
        assert len(rows) == LEVELS[level - 1].products and problem["days"] == LEVELS[level - 1].days
        for habit in (_day_by_day, _at_once):
            assert sum(map(habit, rows)) > problem["budget"] >= problem["least"]
        reward, parts = follow(env)
        assert reward == 1.0 and parts["cost_ratio"] == 1.0


def test_gold_goes_on_from_what_another_policy_ordered():
    done = 0
    for seed in range(10):
        env = start(seed, 3)
        name = next(iter(env.stock))
        env.step(render_call("order", {"product": name, "quantity": 3}) + render_call("next_day", {}))
        reward, parts = follow(env)
        assert parts["all_days"] == 1.0 and (reward == 1.0) == (
            min(parts["nothing_missed"], parts["within_budget"]) == 1
        )
        done += parts["nothing_missed"]
    assert done >= 3


def test_missing_demand_is_never_made_good():
    env = start(1, 1)
    env.step(render_call("next_day", {"days": 5}))
    assert env.failures and env.step("Done.")[1] == 0.0


def test_stopping_early_pays_nothing():
    for seed in range(5):
        env = start(seed, 2)
        assert env.step("All days are over.")[1] == 0.0


def test_a_shelf_holds_what_it_holds():
    env = start(2, 6)
    name = next(iter(env.stock))
    row = env.problem["products"][name]
    env.step(render_call("order", {"product": name, "quantity": row["shelf"] + 500}))
    while not env._over():
        env.next_day(days=1)
    assert any("overflowed" in failure for failure in env.failures)


@pytest.mark.parametrize(
    "call",
    [
        ("order", {"product": "gold", "quantity": 1}),
        ("order", {"product": "", "quantity": 1}),
        ("order", {"product": None, "quantity": 1}),
        ("order", {"quantity": 1}),
        ("next_day", {"days": 0}),
        ("next_day", {"days": -1}),
        ("next_day", {"days": 10**9}),
        ("next_day", {"days": True}),
        ("forecast", {"product": "\ud800"}),
        ("terms", {"product": "x" * 5000}),
    ],
)
def test_bad_calls_are_told_and_change_nothing(call):
    env = start(0, 4)
    before = env.overview()
    messages, reward, done, _, _ = env.step(render_call(*call))
    assert messages[0]["content"].startswith("error") and reward == 0.0 and not done
    assert env.overview() == before


@pytest.mark.parametrize("quantity", [0, -5, 10**6, 1.5, "3"])
def test_bad_quantities_are_told(quantity):
    env = start(0, 1)
    name = next(iter(env.stock))
    text = env.step(render_call("order", {"product": name, "quantity": quantity}))[0][0]["content"]
    assert text.startswith("error") and env.cost == 0


def test_episodes_side_by_side_share_nothing():
    envs = [start(0, 2) for _ in range(3)]
    envs[1].step(render_call("next_day", {"days": 6}))
    assert envs[0].overview() == envs[2].overview() and envs[0].day == 1
    assert [follow(env)[0] for env in envs] == [1.0, 0.0, 1.0]
