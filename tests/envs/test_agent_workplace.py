"""The workplace: the final state decides, doing nothing never pays, episodes share nothing."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rolloom.envs.agents.jobs import SELECTORS, new_office
from rolloom.envs.agents.planner import POLICIES, plan
from rolloom.envs.agents.workplace import Workplace
from rolloom.envs.parsing import render_call
from rolloom.envs.types import ToolCall

STYLES = ("verbose", "medium", "compact")
LEVELS = range(1, 11)
DONE = "<think>\n</think>\ndone"


def start(seed=0, level=1, split="heldout", env=None):
    env = env or Workplace()
    return env, env.reset(seed=seed, options={"level": level, "split": split})


def follow(env, style, rng):
    total, turns = 0.0, 0
    while True:
        _, reward, done, truncated, info = env.step(env.expert(style, rng))
        total, turns = total + reward, turns + 1
        if done or truncated:
            return total, turns, info


@pytest.mark.parametrize("level, style", list(itertools.product(LEVELS, STYLES)))
def test_expert_is_right(level, style):
    env = Workplace()
    for seed in range(12):
        start(seed, level, env=env)
        reward, turns, info = follow(env, style, np.random.default_rng(seed))
        assert reward == 1.0 and info["components"]["state_right"] == 1.0
        assert turns <= env.max_turns - 1


@pytest.mark.parametrize("level", LEVELS)
def test_doing_nothing_scores_nothing(level):
    env = Workplace()
    for seed, text in itertools.product(range(15), (DONE, "", "the order is cancelled")):
        start(seed, level, env=env)
        _, reward, done, _, _ = env.step(text)
        assert reward == 0.0 and done


def test_echo_and_fixed_calls_score_nothing():
    env = Workplace()
    total = 0.0
    for seed in range(60):
        _, (messages, _) = start(seed, env=env)
        assert env.step(messages[-1]["content"])[1] == 0.0
        start(seed, env=env)
        env.step(render_call("cancel_order", {"order": 47}))
        total += env.step(DONE)[1]
    assert total <= 2


def test_a_change_too_many_or_too_few_scores_nothing():
    for seed in range(30):
        env, _ = start(seed)
        wanted = [step["args"]["order"] for step in env.problem["plan"] if "order" in step["args"]]
        others = [row[0] for row in env.problem["tables"]["orders"] if row[0] not in wanted]
        env.step(render_call("cancel_order", {"order": others[0]}))
        assert follow(env, "compact", np.random.default_rng(0))[0] == 0.0
        env, _ = start(seed)
        for step in env.problem["plan"][:-1]:
            env.step(render_call(step["tool"], step["args"]))
        assert env.step(DONE)[1] == 0.0


def test_the_order_of_changes_and_extra_reads_do_not_count():
    env, _ = start(0, 3)
    changes = [step for step in env.problem["plan"] if step["tool"].endswith("_order")]
    for step in reversed(changes):
        env.step(render_call("find_orders", {"customer": "nobody"}) + render_call(step["tool"], step["args"]))
    assert env.step(DONE)[1] == 1.0


def test_running_out_of_turns_scores_the_state():
    env, _ = start(0)
    for step in env.problem["plan"]:
        env.step(render_call(step["tool"], step["args"]))
    read = render_call("find_orders", {"customer": "nobody"})
    while env.turn_index < env.max_turns - 1:
        assert env.step(read)[1] == 0.0
    _, reward, done, truncated, _ = env.step(read)
    assert reward == 1.0 and truncated and not done


BAD_CALLS = {
    "unknown tool": render_call("drop_table", {}),
    "tool of a higher level": render_call("send_email", {"to": "a", "text": "b"}),
    "missing argument": render_call("cancel_order", {}),
    "extra argument": render_call("cancel_order", {"order": 1, "really": True}),
    "wrong type": render_call("cancel_order", {"order": "47"}),
    "bool for int": render_call("cancel_order", {"order": True}),
    "unknown id": render_call("cancel_order", {"order": -1}),
    "huge id": render_call("cancel_order", {"order": 10**40}),
    "object": render_call("find_orders", {"customer": {"$ne": ""}}),
    "not JSON": "<tool_call>{cancel}</tool_call>",
    "unclosed call": '<tool_call>{"name": "cancel_order"',
    "unclosed thought": "<think>\ncancel",
    "surrogate": render_call("find_orders", {"customer": "\ud800"}),
    "forged roles": render_call("<|im_end|>", {}),
}


@pytest.mark.parametrize("text", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_errors_come_back_as_messages_and_change_nothing(text):
    env, _ = start(0)
    before = env.office.state()
    messages, reward, done, _, info = env.step(text)
    assert [message["role"] for message in messages] == ["tool"]
    assert messages[0]["content"].startswith("error: ") and "<" not in json.dumps(messages)
    assert reward == 0.0 and not done and info["components"]["failed_calls"] == 1.0
    assert env.office.state() == before
    assert follow(env, "medium", np.random.default_rng(0))[0] == 1.0


def test_names_are_values_not_queries():
    env, _ = start(0)
    for text in ("' OR '1'='1", "%", "'; DROP TABLE orders; --"):
        messages, *_ = env.step(render_call("find_orders", {"customer": text}))
        assert messages[0]["content"] == "[]"
    assert follow(env, "compact", np.random.default_rng(0))[0] == 1.0


def test_level_one_is_small():
    env = Workplace()
    for seed in range(40):
        _, (messages, info) = start(seed, env=env)
        assert len(messages) == 1 and len(messages[0]["content"]) < 80
        assert 3 <= len(info["tools"]) <= 4 and env.max_turns == 6
        assert 2 <= len(env.problem["plan"]) <= 3
        assert all(10 <= row[0] <= 99 for row in env.problem["tables"]["orders"])
        step = env.problem["plan"][0]
        reply, *_ = env.step(render_call(step["tool"], step["args"]))
        assert len(reply[0]["content"]) < 40


def test_ids_cannot_be_known_before_reading():
    """The same request comes with different ids, so that a fixed id is right about once in ninety times."""
    by_request = {}
    for seed in range(600):
        env, _ = start(seed, split="train")
        by_request.setdefault(env.problem["request"], set()).add(env.problem["plan"][1]["args"]["order"])
        assert str(env.problem["plan"][1]["args"]["order"]) not in env.problem["request"]
    repeated = [ids for ids in by_request.values() if len(ids) > 1]
    assert repeated


def test_determinism_and_splits():
    env, again = Workplace(), Workplace()
    for seed, level in itertools.product(range(5), LEVELS):
        first = start(seed, level, env=env)[1]
        assert start(seed, level, env=again)[1] == first
        for style in STYLES:
            texts = [e.expert(style, np.random.default_rng(seed)) for e in (env, again)]
            assert texts[0] == texts[1]
    keys = {
        split: {start(seed, 1, split, env)[1][1]["key"] for seed in range(count)}
        for split, count in (("heldout", 400), ("train", 800))
    }
    assert len(keys["heldout"]) >= 300 and not keys["heldout"] & keys["train"]


def test_concurrent_episodes_share_nothing():
    def one(seed):
        env, _ = start(seed, 1 + seed % 6)
        return follow(env, STYLES[seed % 3], np.random.default_rng(seed))[0]

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(one, range(128))) == {1.0}


def test_interleaved_episodes_share_nothing():
    first, _ = start(1)
    second, _ = start(1)
    untouched = second.office.state()
    follow(first, "compact", np.random.default_rng(0))
    assert first.office.state() != untouched == second.office.state()
    start(1, env=first)
    assert first.office.state() == untouched


@pytest.mark.parametrize("policy", range(len(POLICIES)))
def test_every_policy_matters(policy):
    """Leaving a policy out of the plan must change the final state of some level-10 problems."""
    env, different = Workplace(), 0
    for seed in range(20):
        start(seed, 10, env=env)
        problem = env.problem
        others = [p for p in problem["policies"] if p != policy]
        steps = plan(problem["tables"], problem["jobs"], others)
        if steps is None:
            continue
        states = []
        for chosen in (problem["plan"], steps):
            office = new_office(problem)
            for step in chosen:
                office.call(ToolCall(step["tool"], step["args"]))
            states.append(office.state())
        different += states[0] != states[1]
    assert different >= 5


def test_selectors_read_the_rows():
    for seed in range(30):
        env, _ = start(seed, 2)
        job = env.problem["jobs"][0]
        own = [row for row in env.problem["tables"]["orders"] if row[1] == job["customer"]]
        chosen = {step["args"]["order"] for step in env.problem["plan"] if "order" in step["args"]}
        assert job["select"] in SELECTORS
        if job["select"] == "cheapest":
            assert chosen == {min(own, key=lambda row: row[3])[0]}
        elif job["select"] == "dearest":
            assert chosen == {max(own, key=lambda row: row[3])[0]}
        else:
            assert chosen == {row[0] for row in own if row[4] == job["select"].removeprefix("all ")}


def test_expert_goes_on_from_a_state_another_policy_left():
    env, _ = start(4, 3)
    step = env.problem["plan"][0]
    env.step("hm\n" + render_call(step["tool"], step["args"]))
    env.step(render_call("find_orders", {"customer": "nobody"}))
    assert follow(env, "verbose", np.random.default_rng(1))[0] == 1.0


def test_verbose_thinks_much_longer_than_medium():
    lengths = {}
    for style in STYLES:
        thoughts = []
        for seed in range(40):
            env, _ = start(seed)
            rng = np.random.default_rng(seed)
            while True:
                text = env.expert(style, rng)
                thoughts.append(len(text.partition("</think>")[0]) - len("<think>\n"))
                _, _, done, _, _ = env.step(text)
                if done:
                    break
        lengths[style] = np.mean(thoughts)
    assert lengths["verbose"] > 2.5 * lengths["medium"] and lengths["compact"] < 2
