"""A bad answer is the policy's: it must be paid nothing, not become an environment's failure.

What fails an environment (an error, its deadline) leaves the baseline: a policy must not be able to cause it.
"""

from __future__ import annotations

import json

import pytest

from rolloom.configs.schema import RolloutConfig
from rolloom.envs import registry, serve
from rolloom.envs.code import judging
from rolloom.envs.parsing import MAX_CALL_DEPTH, MAX_CHARS, nesting, parse_completion, render_call
from rolloom.envs.sandbox import Case

RUN_ONCE = ("code/synthesis-v0", "code/repair-v0", "code/int_function-v0", "code/test_writing-v0")
RUN_EACH = ("code/stdio-v0", "code/problems-v0")


def call(inner: str) -> str:
    return f'<tool_call>{{"name": "a", "arguments": {{"x": {inner}}}}}</tool_call>'


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_calls_are_nested_up_to_a_bound(opening, closing):
    """A depth just below the interpreter's limit used to raise RecursionError where arguments are checked."""
    deep = MAX_CALL_DEPTH - 2
    assert parse_completion(call(opening * deep + "1" + closing * deep)).malformed is None
    for depth in (deep + 1, 980, 985, 5_000):
        turn = parse_completion(call(opening * depth + "1" + closing * depth))
        assert turn.malformed == f"tool call is nested deeper than {MAX_CALL_DEPTH}"


def test_brackets_within_strings_nest_nothing():
    assert parse_completion(render_call("a", {"x": '[{\\"' * 500})).malformed is None
    assert nesting('{"a": "[[\\"[["}', 9) == 1


def test_a_lone_surrogate_in_a_call_is_malformed():
    assert parse_completion(render_call("a", {"x": "\ud800"})).malformed
    assert parse_completion(render_call("a", {"x": "\U0001f600"})).tool_calls[0].arguments == {
        "x": "\U0001f600"
    }


def test_a_lone_surrogate_costs_the_mcp_server_nothing():
    env = registry.make("tools/mcp-v0")
    try:
        env.reset(seed=0)
        messages, reward, *_ = env.step(render_call("find_items", {"text": "\ud800"}))
        assert reward == 0 and messages[0]["content"].startswith("error: ")
    finally:
        env.close()


def test_programs_are_killed_before_the_deadline_of_their_step():
    for id in RUN_ONCE:
        assert (registry.make(id).step_deadline_s or 0) > 2 * judging.TIMEOUT_S
    for id in RUN_EACH:
        assert (registry.make(id).step_deadline_s or 0) > judging.BUDGET_S + judging.TIMEOUT_S
    assert RolloutConfig().episode_deadline_s > judging.BUDGET_S + judging.TIMEOUT_S


def test_tests_end_when_their_seconds_are_spent():
    go_on = judging.within_budget(lambda index, case: True)
    slow = Case(seconds=judging.BUDGET_S / 2 - 1)
    assert [go_on(index, slow) for index in range(3)] == [True, True, False]


def test_a_served_environment_takes_every_completion_that_is_read():
    longest = json.dumps({"action": "\U0001f600" * MAX_CHARS})
    assert len(longest) <= serve.MAX_BODY_BYTES
