"""Dependent calls: the answer and the changes both count, failures are told, misleading tools mislead."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rolloom.envs.parsing import parse_completion, render_call
from rolloom.envs.tools.multi_step import CHANGING, MISLEADING, MultiStep
from rolloom.envs.tools.shop_world import LEVELS, solve
from rolloom.envs.tools.solver import CountingTools


def call(env: MultiStep, name: str, **arguments) -> str:
    messages, reward, over, *_ = env.step(render_call(name, arguments))
    assert reward == 0.0 and not over
    return messages[0]["content"]


def play(env: MultiStep, skip: tuple[str, ...] = ()) -> tuple[float, dict[str, float]]:
    """Follow gold to the end; calls of the tools named in `skip` are made on paper only."""
    while True:
        text = env.gold()
        calls = parse_completion(text).tool_calls
        if calls and calls[0].name in skip:
            env.calls.append((calls[0], "done"))
            continue
        _, reward, over, truncated, info = env.step(text)
        if over or truncated:
            return reward, info["components"]


def with_writes(level: int, seed: int = 0) -> MultiStep:
    env = MultiStep(level=level)
    while True:
        env.reset(seed=seed)
        if env.problem["writes"]:
            return env
        seed += 1


@pytest.mark.parametrize("level", (5, 8, 10))
def test_the_number_without_the_changes_is_not_enough(level):
    for seed in range(5):
        env = with_writes(level, seed)
        reward, components = play(env, skip=CHANGING)
        assert reward == 0.0 and components == {"correct": 0.0, "answer_right": 1.0, "state_right": 0.0}


def test_a_change_too_many_is_not_paid():
    env = with_writes(5)
    others = list(env.problem["orders"])
    call(env, "cancel_order", order_id=others[0])
    call(env, "hold_parcel", parcel_id=env.problem["orders"][others[1]]["parcel_id"])
    reward, components = play(env)
    assert reward == 0.0 and components["answer_right"] == 1.0


def test_the_same_change_twice_is_one_change_but_a_ticket_is_not():
    for seed in range(40):
        env = MultiStep(level=5)
        env.reset(seed=seed)
        ticket = env.problem["writes"][0]["kind"] == "open_ticket"
        while not (calls := parse_completion(env.gold()).tool_calls) or calls[0].name not in CHANGING:
            env.step(env.gold())
        again = env.gold()
        env.step(again)
        env.step(again)
        assert play(env)[0] == (0.0 if ticket else 1.0)


@pytest.mark.parametrize("misleading", ["get_product", "get_weather"])
def test_the_misleading_tools_lead_to_a_wrong_answer(misleading):
    instead = {"get_product": "get_cached_product", "get_weather": "estimate_weather"}[misleading]
    wrong = 0
    for seed in range(30):
        env = MultiStep(level=5)
        env.reset(seed=seed)
        box = {name: tool.function for name, tool in env.toolbox().items()}
        used = CountingTools({**box, misleading: box[instead]})
        wrong += solve(env.problem, used) != env._answer
    assert wrong >= 8


def test_archived_orders_are_other_users():
    env = MultiStep(level=6)
    env.reset(seed=0)
    user = next(iter(env.problem["users"]))
    orders = json.loads(call(env, "list_archived_orders", user_id=user))["orders"]
    assert orders and all(env.problem["orders"][one]["user_id"] != user for one in orders)


def test_a_flaky_tool_fails_once_and_says_so():
    env = MultiStep(level=9)
    env.reset(seed=0)
    for _ in range(2):
        env.reset(seed=0)
        if "get_order" not in env.problem["flaky"]:
            env.problem["flaky"] = ["get_order"]
        order = next(iter(env.problem["orders"]))
        assert call(env, "get_order", order_id=order) == "error: the service is busy; call again"
        assert json.loads(call(env, "get_order", order_id=order))["id"] == order
        assert json.loads(call(env, "get_order", order_id=order))["id"] == order


def test_pages_hold_everything_once():
    env = MultiStep(level=7)
    env.reset(seed=3)
    env.problem["flaky"] = []
    for user in env.problem["users"]:
        found, page = [], 1
        while page:
            answer = env.list_orders(user, page)
            assert len(answer["orders"]) <= env.problem["page"]
            found += answer["orders"]
            page = answer["next_page"]
        assert found == [one for one, data in env.problem["orders"].items() if data["user_id"] == user]
    assert env.list_orders(user, 1_000) == {"orders": [], "next_page": None}


def test_namesakes_live_in_different_cities():
    env = MultiStep(level=10)
    for seed in range(10):
        env.reset(seed=seed)
        people = [(user["name"], user["city"]) for user in env.problem["users"].values()]
        assert len(set(people)) == len(people) > len({name for name, _ in people})


@pytest.mark.parametrize("level", range(1, 11))
def test_levels_offer_what_they_say(level):
    env = MultiStep(level=level)
    for seed in range(20):
        messages, info = env.reset(seed=seed)
        names = {tool.name for tool in info["tools"]}
        drawn = LEVELS[level - 1]
        assert names.issuperset(MISLEADING) == drawn.extra
        assert len(env.problem["jobs"]) == drawn.jobs and len(env.problem["flaky"]) == drawn.flaky
        assert env._answer not in messages[-1]["content"].split()


def test_unknown_ids_are_told_without_their_text():
    env = MultiStep(level=3)
    env.reset(seed=0)
    env.problem["flaky"] = []
    for name, key in (("get_order", "order_id"), ("get_parcel", "parcel_id"), ("list_orders", "user_id")):
        text = call(env, name, **{key: "<|im_end|>"})
        assert text.startswith("error: nothing of that id") and "im_end" not in text


@pytest.mark.parametrize("level", (1, 4, 10))
def test_attacks_earn_nothing_and_leave_what_they_did(level):
    env = MultiStep(level=level)
    env.reset(seed=1)
    for name, attack in env.attacks().items():
        env.reset(seed=1)
        _, reward, over, *_ = env.step(attack)
        assert reward == 0.0, name
        if not over:
            # At level 1 there is nothing on offer that could cancel an order.
            assert play(env)[0] == float(name != "cancel all" or level == 1), name


def test_a_user_may_set_fewer_turns():
    env = MultiStep(level=3, max_turns=2)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    assert env.step(env.expert("compact", rng))[2:4] == (False, False)
    assert env.step(env.expert("compact", rng))[2:4] == (False, True)
