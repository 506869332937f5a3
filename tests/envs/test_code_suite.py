"""The code environments: gold and hostile programs, tests that tell right from wrong, scoring."""

import ast
import itertools
import json
from typing import Any

import numpy as np
import pytest

from rolloom.envs.code import hidden_tests, minipy, pipeline, synthesis
from rolloom.envs.code.families import FAMILIES
from rolloom.envs.code.judging import pay
from rolloom.envs.code.outputs import same_output, same_result
from rolloom.envs.code.routines import ROUTINES, TYPE_WORDS
from rolloom.envs.code.stdio import draw_tests, task_text
from rolloom.envs.errors import EnvError
from rolloom.envs.registry import make

DRAWN = ("synthesis", "stdio", "repair", "output_prediction", "input_prediction", "test_writing")
SCORED = ("synthesis", "stdio", "repair")


def env_of(name, **kwargs) -> Any:
    return make(f"code/{name}-v0", **kwargs)


def score(env, answer, seed, level):
    env.reset(seed=seed, options={"level": level})
    text = answer(env) if callable(answer) else answer
    _, reward, done, _, info = env.step(text)
    assert done
    return reward, info["components"]


@pytest.mark.parametrize("name", DRAWN)
def test_gold_is_paid_at_low_middle_and_high_levels(name):
    env = env_of(name)
    for level, style in zip((1, 4, 7), ("verbose", "medium", "compact"), strict=True):
        for seed in range(2):
            rng = np.random.default_rng(seed)
            assert score(env, lambda e, s=style, r=rng: e.expert(s, r), seed, level)[0] == 1.0


@pytest.mark.parametrize("name", (*DRAWN, "problems"))
def test_no_attack_is_paid(name):
    env = env_of(name)
    env.reset(seed=1, options={"level": 1})
    attacks = {what: text for what, text in env.attacks().items() if "endless" not in what}
    assert len(attacks) >= 6
    for what, text in attacks.items():
        assert score(env, text, 1, 1)[0] == 0.0, what


@pytest.mark.slow
@pytest.mark.parametrize("name", (*SCORED, "problems"))
@pytest.mark.parametrize("scoring", ("all_pass", "per_test"))
def test_no_attack_is_paid_under_either_scoring(name, scoring):
    env = env_of(name, scoring=scoring)
    for seed, level in itertools.product(range(2), (1, env.levels[1])):
        env.reset(seed=seed, options={"level": level})
        for what, text in env.attacks().items():
            assert score(env, text, seed, level)[0] == 0.0, (what, seed, level)


@pytest.mark.parametrize("name", SCORED)
def test_per_test_pays_a_share_and_all_pass_does_not(name):
    """A right program that fails on every third call is worth something per test, nothing all in all."""
    spoil = "\n_f = f\ndef f(x):\n    return None if len(repr(x)) % 3 == 0 else _f(x)\n"
    rewards = {}
    for scoring in ("all_pass", "per_test"):
        env = env_of(name, scoring=scoring)
        got = []
        for seed in range(6):
            env.reset(seed=seed, options={"level": 1})
            program = env.gold().removeprefix("```python\n").removesuffix("\n```")
            if name == "stdio" and "answer = f(x)" not in program:
                continue
            head, mark, tail = program.partition("\n\n\nx = ") if name == "stdio" else (program, "", "")
            got.append(env.step(f"```python\n{head}\n{spoil}{mark}{tail}\n```")[1])
        rewards[scoring] = got
    assert any(0.0 < reward < 1.0 for reward in rewards["per_test"])
    assert all(reward in (0.0, 1.0) for reward in rewards["all_pass"]) and 0.0 in rewards["all_pass"]


def test_scoring_that_is_not_known_is_named():
    with pytest.raises(EnvError, match=r"per_tests.*Did you mean 'per_test'"):
        env_of("synthesis", scoring="per_tests")


@pytest.mark.parametrize(
    "verdicts, scoring, blind, paid",
    [
        ([True, True], "all_pass", 0.0, 1.0),
        ([True, False], "all_pass", 0.0, 0.0),
        ([True, False], "per_test", 0.0, 0.5),
        ([True, False], "per_test", 0.5, 0.0),
        ([True, True, True, False], "per_test", 0.5, 0.5),
        ([True, True], "per_test", 1.0, 1.0),
        ([False, False], "per_test", 0.5, 0.0),
    ],
)
def test_pay(verdicts, scoring, blind, paid):
    assert pay(verdicts, scoring, blind) == paid


def test_routines_know_their_types_and_words_name_every_choice():
    assert len(ROUTINES) >= 100
    for routine in ROUTINES.values():
        assert routine.takes in TYPE_WORDS and routine.gives in TYPE_WORDS
        for name in routine.choices:
            assert "{" + name + "}" in routine.words, routine.name


@pytest.mark.parametrize("level", range(1, 11))
def test_programs_mean_what_the_reference_says(level):
    """The written program, run by CPython and by our interpreter, gives what the routines give."""
    for seed in range(8):
        spec = synthesis.draw(np.random.default_rng([seed, level]), level)
        tests = hidden_tests.draw({**spec, "big": False})
        source = pipeline.program(spec, anonymous=bool(seed % 2))
        namespace = {}
        exec(source, namespace)
        ours = minipy.Program(source, 200_000)
        for (value,), right in zip(tests.inputs, tests.expected, strict=True):
            text = json.dumps(value)
            assert namespace["f"](json.loads(text)) == right
            assert ours.call("f", json.loads(text)) == right
            assert pipeline.evaluate(spec["steps"], value) == right and json.dumps(value) == text


@pytest.mark.parametrize("level", (1, 5, 8))
def test_hidden_tests_share_nothing_with_the_examples_and_catch_a_step_left_out(level):
    for seed in range(10):
        spec = synthesis.draw(np.random.default_rng([seed, level]), level)
        tests = hidden_tests.draw({**spec, "big": False})
        assert not [value for value, _ in tests.public if [value] in tests.inputs]
        assert tests.blind <= 0.4
        for index in range(len(spec["steps"])):
            step = spec["steps"][index]
            if step[0] == "branch" or ROUTINES[step[0]].takes != pipeline.gives(step):
                continue
            rest = [*spec["steps"][:index], *spec["steps"][index + 1 :]]
            assert any(
                pipeline.evaluate(rest, value) != right
                for (value,), right in zip(tests.inputs, tests.expected, strict=True)
            )


def test_quadratic_programs_run_out_of_time_where_lists_are_long():
    spec = {"input": "Ints", "steps": [["pairs_with_sum", {"k": 7}]], "examples": 1, "edges": True}
    slow = "def f(x):\n    return sum(x[i] + x[j] == 7 for j in range(len(x)) for i in range(j))"
    env = env_of("synthesis")
    for big, paid in ((False, 1.0), (True, 0.0)):
        env.reset(seed=0)
        env.problem = {**spec, "big": big}
        env.begin()
        assert env.step(slow)[1] == paid
    env.reset(seed=0)
    env.problem = {**spec, "big": True}
    env.begin()
    assert env.step(env.gold())[1] == 1.0


def test_families_are_many_and_their_programs_can_be_read():
    assert len(FAMILIES) >= 25
    env = env_of("stdio")
    names = set()
    for seed in range(60):
        env.reset(seed=seed, options={"level": 1 + seed % 10})
        ast.parse(env.gold().strip("`").removeprefix("python"))
        names.add(env.problem["family"])
        assert env.hidden and not {given for given, _ in env.public} & {given for given, _ in env.hidden}
    assert len(names) > 15


def test_the_same_task_has_the_same_tests():
    env = env_of("stdio")
    for seed in range(5):
        env.reset(seed=seed, options={"level": 5})
        again = json.loads(json.dumps(env.problem, sort_keys=True))
        assert task_text(again) == task_text(env.problem)
        assert draw_tests(again) == [*env.public, *env.hidden]


@pytest.mark.parametrize(
    "actual, expected, tolerance, same",
    [
        ("1 2\n", "1\n2", None, True),
        ("1  2 \n\n", "1 2", None, True),
        ("12", "1 2", None, False),
        ("1 2 3", "1 2", None, False),
        ("", "0", None, False),
        ("1.0", "1", None, False),
        ("1.0", "1", 1e-6, True),
        ("0.3333334", "0.333333", 1e-6, True),
        ("0.34", "0.333333", 1e-6, False),
        ("nan", "1", 1e6, False),
        ("inf", "1", 1e6, False),
        ("1_0", "10", 1e-6, False),
        ("\u0661", "1", 1e-6, False),
        ("9" * 5_000, "1", 1e-6, False),
    ],
)
def test_outputs_are_compared_token_by_token(actual, expected, tolerance, same):
    assert same_output(actual, expected, tolerance) is same


@pytest.mark.parametrize(
    "actual, expected, tolerance, same",
    [
        (2.0, 2, None, True),
        (True, 1, None, False),
        (1, True, None, False),
        (None, 0, None, False),
        ([1, [2]], [1, [2]], None, True),
        ([1], [1, 2], None, False),
        ("1", 1, None, False),
        (0.1 + 0.2, 0.3, None, False),
        (0.1 + 0.2, 0.3, 1e-9, True),
        ({"a": 1.0}, {"a": 1}, None, True),
        ({"a": 1}, {"b": 1}, None, False),
        (10**400, 1.5, 1e-6, False),
    ],
)
def test_results_are_compared_as_json(actual, expected, tolerance, same):
    assert same_result(actual, expected, tolerance) is same


def test_a_wrong_answer_ends_the_run_early():
    env = env_of("stdio")
    env.reset(seed=0)
    components = env.step("print('no')")[4]["components"]
    assert components["tests_passed"] == 0.0 and components["ran"] == 1.0
