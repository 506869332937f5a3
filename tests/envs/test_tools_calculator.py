"""The calculator: exact against Python's own integers, bounded against abuse, solvable from the prompt."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tools import exact
from rolloom.envs.tools.calculator import Calculator

NUMBERS = st.integers(-(10**60), 10**60)


@st.composite
def expressions(draw, depth=3):
    if depth == 0 or draw(st.booleans()):
        return str(draw(st.integers(0, 10**12)))
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    op = draw(st.sampled_from(["+", "-", "*", "//", "%", " + ", " * "]))
    form = draw(st.sampled_from(["{}{}{}", "({}{}{})", "-({}{}{})", "-{}{}{}"]))
    return form.format(left, op, right)


@given(expressions())
def test_expressions_are_pythons(text):
    try:
        wanted = eval(text, {"__builtins__": {}})
    except ZeroDivisionError:
        with pytest.raises(ToolError, match="zero"):
            exact.evaluate(text)
        return
    assert exact.evaluate(text) == wanted


@pytest.mark.parametrize(
    ("text", "value"), [("2**3**2", 512), ("-2**2", -4), ("2 ** -0", 1), ("7 // -2", -4), ("(-7) % 3", 2)]
)
def test_powers_and_signs_bind_as_in_python(text, value):
    assert exact.evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "1 +",
            "* 2",
            "(1",
            "1)",
            "1 2",
            "1 * * 2",
            "1 / 2",
            "2 ^ 3",
            "1.5",
            "abs(1)",
            "\u0661 + 1",
        ),
        *("__import__('os')", "9**9**9**9", "9**99999", "2**-1", "1//0", "5 % 0", "9" * 401, "1" * 501),
        *("(" * 100 + "1" + ")" * 100, "-" * 200 + "1", "1e9", "0x10", "1_000", "1\n+1"),
    ],
)
def test_bad_expressions_are_refused_at_once(text):
    start = time.thread_time()
    with pytest.raises(ToolError) as caught:
        exact.evaluate(text)
    assert time.thread_time() - start < 2
    assert text == "" or len(str(caught.value)) < 200


@given(NUMBERS, NUMBERS)
def test_the_tools_are_exact(a, b):
    env = Calculator()
    for name, wanted in (("add", a + b), ("subtract", a - b), ("multiply", a * b)):
        assert getattr(env, name)(str(a), str(b)) == str(wanted)
    if b:
        assert env.divide(str(a), str(b)) == {"quotient": str(a // b), "remainder": str(a % b)}


def test_powers_stop_before_they_are_computed():
    # No machine holds these numbers.
    for base, exponent in ((10**399, 10**18), (2, 10**18), (-3, 10**9)):
        with pytest.raises(ToolError, match="digits"):
            exact.power(base, exponent)
    assert [exact.power(base, 10**18 + 1) for base in (0, 1, -1)] == [0, 1, -1]
    assert [exact.power(base, 0) for base in (0, 1, -1, 7)] == [1, 1, 1, 1]
    assert [exact.power(base, 10**18) for base in (0, 1, -1)] == [0, 1, 1]
    assert exact.power(-1, 1) == -1 and exact.power(0, 1) == 0


def test_units_convert_exactly_or_not_at_all():
    assert exact.convert(3, "mile", "inch") == 3 * 63_360
    assert exact.convert(127, "centimetre", "inch") == 50
    with pytest.raises(ToolError, match="whole"):
        exact.convert(1, "metre", "yard")
    with pytest.raises(ToolError, match="mass"):
        exact.convert(1, "metre", "gram")


def solve(env: Calculator, prompt: str) -> str:
    """Work out a prompt with Python, from its words alone."""
    lines = dict(line.split(" = ", 1) for line in prompt.splitlines() if " = " in line)
    known: dict[str, int] = {}
    units = {"feet": "foot", "inches": "inch"}

    def number(word: str) -> int:
        return known[word] if word in known else int(word)

    while len(known) < len(lines):
        for name, text in lines.items():
            words = text.replace(",", "").split()
            if name in known or any(w in lines and w not in known for w in words):
                continue
            if text.startswith("greatest"):
                known[name] = int(np.gcd.reduce(np.array([number(words[4]), number(words[6])], dtype=object)))
            elif text.startswith("remainder"):
                known[name] = number(words[2]) % number(words[4])
            elif "rounded" in words:
                known[name] = number(words[0]) // number(words[2])
            elif words[2] == "in":
                source, target = (units.get(w, w.removesuffix("s")) for w in (words[1], words[3]))
                known[name] = exact.convert(number(words[0]), source, target)
            else:
                a, b = number(words[0]), number(words[2])
                known[name] = a**b if words[1] == "^" else {"+": a + b, "-": a - b, "*": a * b}[words[1]]
    return str(known[prompt.rpartition("What is ")[2].partition("?")[0]])


@pytest.mark.parametrize("level", range(1, 11))
def test_the_prompt_says_all_that_the_answer_needs(level):
    env = Calculator(level=level)
    for seed in range(25):
        messages, info = env.reset(seed=seed)
        names = [tool.name for tool in info["tools"]]
        assert ("evaluate" in names) != ("multiply" in names)
        assert env.step(solve(env, messages[-1]["content"]))[1] == 1.0


@pytest.mark.parametrize("level", (1, 5, 10))
def test_attacks_earn_nothing_and_are_answered_quickly(level):
    env = Calculator(level=level)
    env.reset(seed=1)
    for name, attack in env.attacks().items():
        env.reset(seed=1)
        start = time.process_time()
        assert env.step(attack)[1] == 0.0, name
        assert time.process_time() - start < 2


def test_a_mistake_is_told_and_the_episode_goes_on():
    env = Calculator(level=2)
    for seed in range(20):
        env.reset(seed=seed)
        if env.problem["tools"] == "functions":
            break
    (message,), reward, over, *_ = env.step(render_call("add", {"a": "12a", "b": "1"}))
    assert message["content"].startswith("error: expected a whole number") and not reward and not over
    assert env.step(render_call("add", {"a": "12", "b": "1"}))[0][0]["content"] == "13"
