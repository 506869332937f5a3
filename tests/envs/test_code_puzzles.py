"""Repair, output and input prediction, test writing, and the interpreter and bugs they are made with."""

import ast
import json
from typing import Any

import numpy as np
import pytest

from rolloom.envs.code import arguments, minipy, mutate, pipeline, random_programs, repair, synthesis
from rolloom.envs.code.output_prediction import SHAPES, trace
from rolloom.envs.registry import make


def env_of(name, **kwargs) -> Any:
    return make(f"code/{name}-v0", **kwargs)


def cpython(source):
    lines = []
    exec(source, {"print": lambda *values: lines.append(" ".join(map(str, values)))})
    return "\n".join(lines)


@pytest.mark.parametrize("level", range(1, 11))
def test_the_interpreter_prints_what_cpython_prints(level):
    for seed in range(12):
        source = random_programs.draw(np.random.default_rng([seed, level]), SHAPES[level])
        printed = random_programs.output(source)
        assert printed == cpython(source)
        assert random_programs.telling(source, printed)


@pytest.mark.parametrize(
    "source",
    [
        "print([x * y for x in range(3) for y in range(x) if y])\nprint({k: len(k) for k in ['a', 'bb']})",
        "a, b = 1, 2\na, b = b, a\nprint(a, b)\nxs = [1, 2]\nys = xs\nys += [3]\nprint(xs)",
        "def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(10), -7 // 2, -7 % 3, not 3, 1 < 2 < 3)",
        "s = 'abc'\nprint(f'{s}-{len(s)}', s[::-1], s[1:], 'b' in s, s.upper())",
        "for i in range(5):\n    if i == 1:\n        continue\n    if i == 3:\n        break\n    print(i)",
        "d = {}\nfor c in 'hello':\n    d[c] = d.get(c, 0) + 1\nprint(sorted(d.items()), sum(d.values()))",
        "print(sorted([3, 1, 2], key=lambda x: -x), max([1, 5]), 0 or 7, [] and 1)",
        "x = 0\nwhile True:\n    x += 3\n    if x > 10:\n        break\nprint(x, bool(x), tuple([1, 2]))",
    ],
)
def test_the_interpreter_agrees_with_cpython(source):
    assert "\n".join(minipy.Program(source).run()) == cpython(source)


@pytest.mark.parametrize(
    "source",
    [
        "while True:\n    pass",
        "def f(n):\n    return f(n + 1)\nprint(f(0))",
        "x = 3\nfor i in range(1000):\n    x = x * x",
        "s = 'a'\nfor i in range(1000):\n    s = s + s",
        "xs = [0] * 10000000000",
        "print(sum(range(1000000000)))",
        "xs = [1]\nfor x in xs:\n    xs.append(x)",
        "print(len([1 for a in range(999) for b in range(999)]))",
    ],
)
def test_endless_and_growing_programs_are_stopped(source):
    with pytest.raises(minipy.Exhausted):
        minipy.Program(source).run()


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "class A: pass",
        "x = 2 ** 99999",
        "try:\n    pass\nexcept E:\n    pass",
        "print(*[1])",
        "del x",
    ],
)
def test_what_the_interpreter_does_not_know_it_refuses(source):
    with pytest.raises(minipy.Unknown):
        minipy.Program(source)


@pytest.mark.parametrize("text", ["().__class__", "[].__init__", "'a'.format", "open", "eval('1')"])
def test_nothing_leads_out_of_the_interpreter(text):
    with pytest.raises((minipy.Unknown, NameError, AttributeError)):
        minipy.Program(f"print({text})").run()
        minipy.Program(f"{text}()").run()


def test_bugs_are_of_many_kinds_and_always_python():
    kinds = set()
    for seed in range(120):
        rng = np.random.default_rng(seed)
        right = repair.reference(synthesis.draw(rng, 1 + seed % 8))
        found = mutate.inject(right, rng)
        assert found is not None and found[1] != right
        ast.parse(found[1])
        kinds.add(found[0])
    assert len(kinds) >= 12, kinds


@pytest.mark.parametrize("level", (1, 3, 6, 7))
def test_the_program_to_repair_fails_and_the_right_one_passes(level):
    env = env_of("repair")
    for seed in range(3):
        env.reset(seed=seed, options={"level": level})
        _, reward, _, _, info = env.step(f"```python\n{env.broken.source}\n```")
        passed = info["components"]["tests_passed"]
        assert reward == 0.0 and passed == pytest.approx(env.broken.share) and passed < 1.0
        env.reset(seed=seed, options={"level": level})
        assert env.step(env.gold())[1] == 1.0
        assert env.gold() not in env.prompt()[0]["content"]


def test_programs_without_a_number_or_a_comparison_can_be_broken():
    env = env_of("repair")
    env.reset(seed=0)
    env.problem = {
        **env.problem,
        "spec": {"input": "str", "steps": [["split_words", {}], ["word_lengths", {}]]},
    }
    env.begin()
    assert env.broken.kinds and env.broken.share < 1.0


def test_per_test_pays_nothing_for_the_unrepaired_program():
    env = env_of("repair", scoring="per_test")
    for seed in range(4):
        env.reset(seed=seed, options={"level": 8})
        assert env.step(f"```python\n{env.broken.source}\n```")[1] == 0.0


def test_a_failing_test_is_shown_when_asked_for():
    shown, hidden = env_of("repair", show_failing=True), env_of("repair", show_failing=False)
    counts = 0
    for seed in range(6):
        shown.reset(seed=seed, options={"level": 2})
        for given, right in shown.tests.public:
            results = repair.results(shown.broken.source, [[given]], [right])
            assert results is not None
            (result,) = results
            assert result != right and f"should be {right!r}" in shown.prompt()[0]["content"]
            assert [given] not in shown.tests.inputs
            counts += 1
        hidden.reset(seed=seed, options={"level": 2})
        assert "should be" not in hidden.prompt()[0]["content"]
    assert counts >= 4


def test_outputs_are_not_in_the_program_and_rarely_alike():
    env = env_of("output_prediction")
    answers = []
    for seed in range(150):
        env.reset(seed=seed, options={"level": 1})
        answers.append(env.gold())
        assert env.gold() not in env.problem["program"]
    assert max(map(answers.count, answers)) <= 8


@pytest.mark.parametrize("wrap", ["{}", "```\n{}\n```", "  {}\n", "```python\n{}\n```"])
def test_output_may_be_fenced_or_padded(wrap):
    env = env_of("output_prediction")
    env.reset(seed=2, options={"level": 6})
    assert env.step(wrap.format(env.gold()))[1] == 1.0


def test_a_line_more_or_less_is_wrong_but_measured():
    env = env_of("output_prediction")
    seed = 0
    while len(set(env.expected)) < 2:
        seed += 1
        env.reset(seed=seed, options={"level": 8})
    for change in (lambda lines: lines[:1], lambda lines: [*lines, "1"], lambda lines: lines[::-1]):
        env.reset(seed=seed, options={"level": 8})
        _, reward, _, _, info = env.step("\n".join(change(env.expected)))
        assert reward == 0.0 and 0.0 <= info["components"]["lines"] <= 1.0


def test_a_trace_ends_with_what_is_printed():
    source = "a = 3\nfor i in range(2):\n    a += 20\nprint(a)"
    assert trace(source)[-1] == ("print(a)", "prints 43")
    assert ("for i in range(2):", "a=43, i=1") in trace(source)


def test_any_argument_that_gives_the_value_counts():
    env = env_of("input_prediction")
    env.reset(seed=0)
    env.problem = {
        "spec": {"input": "Ints", "steps": [["sum_all", {}], ["add_number", {"k": 5}]]},
        "argument": [100, 40],
        "value": 145,
    }
    for text, reward in (
        ("[140]", 1.0),
        ("[139]", 0.0),
        ("[140.0]", 0.0),
        ("[true, 139]", 0.0),
        ('"140"', 0.0),
    ):
        env._live, env._return = True, 0.0
        assert env.step(text)[1] == reward, text


def test_guesses_do_not_solve_input_prediction():
    env = env_of("input_prediction")
    for seed in range(25):
        env.reset(seed=seed, options={"level": 1 + seed % 6})
        steps, kind = env.problem["spec"]["steps"], env.problem["spec"]["input"]
        assert all(pipeline.evaluate(steps, guess) != env.problem["value"] for guess in arguments.PANEL[kind])
        assert env.gold() not in env.prompt()[0]["content"]


def test_usual_inputs_do_not_show_the_bug_of_test_writing():
    env = env_of("test_writing")
    for seed in range(6):
        env.reset(seed=seed, options={"level": 1 + seed % 5})
        steps, kind = env.problem["spec"]["steps"], env.problem["spec"]["input"]
        buggy = minipy.Program(env.problem["buggy"])
        panel = [value for value in arguments.PANEL[kind] if arguments.CHECKS[kind](value)]
        assert panel and all(buggy.call("f", value) == pipeline.evaluate(steps, value) for value in panel)
        try:
            shown = buggy.call("f", env.problem["argument"])
        except Exception:
            shown = repair.FAILED
        assert shown != pipeline.evaluate(steps, env.problem["argument"])


def test_an_input_on_which_both_fail_is_not_paid():
    env = env_of("test_writing")
    env.reset(seed=0)
    env.problem = {
        "spec": {"input": "Ints", "steps": [["add_each", {"k": 1}]]},
        "buggy": "def f(x):\n    return [y + 1 for y in x] if len(x) != 3 else 1 / 0",
        "argument": [1, 2, 3],
        "right_first": True,
    }
    for text, reward in (
        ("[5, 5, 5]", 1.0),
        ("[5, 5]", 0.0),
        ('["a", 1, 2]', 0.0),
        ("[1e9, 2, 3]", 0.0),
        ("{}", 0.0),
    ):
        env._live, env._return = True, 0.0
        assert env.step(text)[1] == reward, text


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        ("int", ["0", "-5"], ["1.0", "true", '"1"', "[1]", "null", "9" * 30]),
        ("str", ['""', '"ab c"'], ["1", '"\\u0000"', '"' + "a" * 300 + '"']),
        ("Ints", ["[]", "[1, -2]"], ["[1.5]", "[[1]]", "[true]", "{}", "[1" * 50, "[NaN]"]),
        ("Words", ["[]", '["a"]'], ["[1]", '"a"']),
        ("Table", ["{}", '{"a": 1}'], ["[]", '{"a": "b"}', '{"a": 1, "a": 2}']),
        ("Grid", ["[]", "[[1, 2], [3, 4]]"], ["[[]]", "[[1], [1, 2]]", "[1]"]),
        ("Spans", ["[]", "[[1, 1]]"], ["[[2, 1]]", "[[1]]", "[[1, 2, 3]]"]),
    ],
)
def test_arguments_are_checked(kind, good, bad):
    for text in good:
        assert arguments.read(text, kind) == json.loads(text)
    for text in (*bad, "", "x", "[" * 5_000, "1" * 5_000):
        with pytest.raises(arguments.NotAnArgument):
            arguments.read(text, kind)
