"""Function calling: what counts as the same call, what the requests ask for, and what must not be paid."""

from __future__ import annotations

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.parsing import render_call
from rolloom.envs.tools.call_functions import FUNCTIONS
from rolloom.envs.tools.call_kinds import minutes
from rolloom.envs.tools.call_match import MAX_CHARS, same_calls, same_value
from rolloom.envs.tools.function_call import BY_NAME, LEVELS, NONE_FITS, NONE_RATE, FunctionCall

TABLE = {
    name: BY_NAME[name].schema() for name in ("book_table", "tag_file", "set_temperature", "place_order")
}
DINNER = {"restaurant": "Casa Verde", "people": 4, "date": "2026-05-03", "time": "19:30"}
LINES = [{"article": "A-12345", "quantity": 2}, {"article": "A-54321", "quantity": 7}]
HOME = {"house": 7, "street": "Mill Road", "city": "Oslo"}


def score(env: FunctionCall, completion: str) -> float:
    return env.step(completion)[1]


def problem_with(level: int, wanted, seeds: int = 400) -> FunctionCall:
    env = FunctionCall(level=level)
    for seed in range(seeds):
        env.reset(seed=seed)
        if wanted(env.problem):
            return env
    raise AssertionError("no such problem among the seeds")


def test_the_functions_are_many_distinct_and_valid():
    assert len(FUNCTIONS) >= 40 and len({function.name for function in FUNCTIONS}) == len(FUNCTIONS)
    for function in FUNCTIONS:
        jsonschema.Draft202012Validator.check_schema(function.schema())
        assert function.name.isidentifier() and function.parameters
    nested = [f for f in FUNCTIONS if any(p.kind.nested for p in f.parameters)]
    enums = [f for f in FUNCTIONS if any("enum" in p.kind.schema for p in f.parameters)]
    defaults = [f for f in FUNCTIONS if any("default" in s for s in f.schema()["properties"].values())]
    assert min(map(len, (nested, enums, defaults))) >= 10


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_drawn_arguments_fit_the_schema_and_equal_themselves_alone(function):
    rng = np.random.default_rng(0)
    validator = jsonschema.Draft202012Validator(function.schema())
    drawn = [function.draw(rng, True, 0.7, True)[0] for _ in range(30)]
    for arguments in drawn:
        validator.validate(arguments)
        assert same_value(function.schema(), arguments, arguments)
    different = [other for other in drawn if other != drawn[0]]
    loose = sum(same_value(function.schema(), drawn[0], other) for other in different)
    assert loose <= len(different) / 2


@pytest.mark.parametrize(
    ("name", "wanted", "got", "same"),
    [
        ("book_table", DINNER, {**DINNER, "restaurant": " casa  verde."}, True),
        ("book_table", DINNER, {**DINNER, "people": 4.0}, True),
        ("book_table", DINNER, {**DINNER, "people": "4"}, False),
        ("book_table", DINNER, {**DINNER, "people": True}, False),
        ("book_table", DINNER, {**DINNER, "note": "window seat"}, False),
        ("book_table", DINNER, {**DINNER, "note": None}, False),
        ("book_table", DINNER, {k: v for k, v in DINNER.items() if k != "time"}, False),
        ("book_table", DINNER, {**DINNER, "tables": 1}, False),
        (
            "tag_file",
            {"file": "DOC-1", "tags": ["tax", "legal"]},
            {"file": "DOC-1", "tags": ["legal", "tax"]},
            True,
        ),
        (
            "tag_file",
            {"file": "DOC-1", "tags": ["tax", "legal"]},
            {"file": "DOC-1", "tags": ["tax", "tax"]},
            False,
        ),
        ("tag_file", {"file": "DOC-1", "tags": ["tax"]}, {"file": "DOC-1", "tags": "tax"}, False),
        ("place_order", {"lines": LINES, "ship_to": HOME}, {"lines": LINES[::-1], "ship_to": HOME}, True),
        (
            "place_order",
            {"lines": LINES, "ship_to": HOME},
            {"lines": LINES, "ship_to": HOME, "speed": "standard"},
            True,
        ),
        (
            "place_order",
            {"lines": LINES, "ship_to": HOME},
            {"lines": LINES, "ship_to": HOME, "speed": "Standard"},
            False,
        ),
        (
            "place_order",
            {"lines": LINES, "ship_to": HOME},
            {"lines": LINES, "ship_to": {**HOME, "floor": 2}},
            False,
        ),
        ("set_temperature", {"room": "office", "celsius": 21.5}, {"room": "office", "celsius": 21.50}, True),
        (
            "set_temperature",
            {"room": "office", "celsius": 21.5},
            {"room": "office", "celsius": float("inf")},
            False,
        ),
        (
            "set_temperature",
            {"room": "office", "celsius": 21.5},
            {"room": "x" * (MAX_CHARS + 1), "celsius": 21.5},
            False,
        ),
        ("set_temperature", {"room": "office", "celsius": 21.5}, [], False),
    ],
)
def test_worked_examples_of_equivalence(name, wanted, got, same):
    assert same_calls(TABLE, [(name, wanted)], [(name, got)]) is same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


WANTED = {name: BY_NAME[name].draw(np.random.default_rng(1), True, 1.0, True)[0] for name in TABLE}


@given(JSON)
def test_any_json_is_compared_without_an_error(value):
    for name, wanted in WANTED.items():
        assert not same_calls(TABLE, [(name, wanted)], [(name, value)])
        for argument in wanted:
            same_calls(TABLE, [(name, wanted)], [(name, {**wanted, argument: value})])


def test_a_deep_argument_is_no_danger():
    deep = "[" * 900 + "]" * 900
    env = FunctionCall()
    env.reset(seed=0)
    name, arguments = env.problem["calls"][0]
    first = next(iter(arguments))
    text = f'<tool_call>{{"name": "{name}", "arguments": {{"{first}": {deep}}}}}</tool_call>'
    assert score(env, text) == 0.0


def test_parallel_calls_count_without_order_and_as_often_as_asked():
    def fresh() -> FunctionCall:
        return problem_with(8, lambda problem: len(problem["calls"]) == 3)

    first, second, third = (render_call(name, arguments) for name, arguments in fresh().problem["calls"])
    assert score(fresh(), third + second + first) == 1.0
    assert score(fresh(), f"Of course!\n{first}\n{third}\n{second}") == 1.0
    for wrong in (first + second, first + second + third + first, first + first + second):
        assert score(fresh(), wrong) == 0.0


def test_a_refusal_is_right_only_where_nothing_fits_and_rarely():
    env = problem_with(7, lambda problem: not problem["calls"])
    assert NONE_FITS in env.prompt()[0]["content"]
    assert score(env, NONE_FITS) == 1.0
    env = problem_with(7, lambda problem: not problem["calls"])
    assert score(env, f"{NONE_FITS}\n{render_call(env.problem['functions'][0], {})}") == 0.0
    rewards = []
    for seed in range(400):
        env.reset(seed=seed, options={"level": 7})
        rewards.append(score(env, NONE_FITS))
    assert 0 < np.mean(rewards) <= 0.05 + 2 * (NONE_RATE / 400) ** 0.5


def test_a_refused_request_has_no_function_on_offer_for_it():
    for seed in range(400):
        env = FunctionCall(level=6)
        env.reset(seed=seed)
        offered = set(env.problem["functions"])
        assert len(offered) == len(env.problem["functions"])
        if env.problem["calls"]:
            assert {name for name, _ in env.problem["calls"]} <= offered
        else:
            orders = tuple(BY_NAME[name].order for name in offered)
            assert not any(env.problem["request"].startswith(f"{order} ") for order in orders if " " in order)


@pytest.mark.parametrize("level", range(1, 11))
def test_levels_offer_what_they_say(level):
    drawn, env = LEVELS[level - 1], FunctionCall(level=level)
    nested = 0
    for seed in range(60):
        env.reset(seed=seed)
        calls = env.problem["calls"]
        assert len(env.tools()) <= max(drawn.offered, 1)
        assert not calls or drawn.calls[0] <= len(calls) <= drawn.calls[1]
        nested += any(isinstance(v, list | dict) for _, arguments in calls for v in arguments.values())
    assert bool(nested) == drawn.nested


def test_the_request_says_every_value_in_the_form_of_low_levels():
    env = FunctionCall(level=2)
    for seed in range(100):
        env.reset(seed=seed)
        for _, arguments in env.problem["calls"]:
            for value in arguments.values():
                said = f"{value:.10g}" if isinstance(value, float) else str(value)
                assert value is True or said in env.problem["request"]


def test_durations_are_spoken_in_hours_and_meant_in_minutes():
    drawn = [minutes().draw(np.random.default_rng(seed), True) for seed in range(50)]
    for value, words in drawn:
        hours = int(words.split(" hour")[0]) if " hour" in words else 0
        rest = int(words.rpartition(" minutes")[0].split()[-1]) if "minutes" in words else 0
        assert value == 60 * hours + rest


@pytest.mark.parametrize("level", (1, 6, 10))
def test_attacks_earn_nothing(level):
    for seed in range(20):
        env = FunctionCall(level=level)
        env.reset(seed=seed)
        for name, attack in env.attacks().items():
            env.reset(seed=seed)
            assert score(env, attack) == 0.0, name
