"""Write a function from a specification in words; hidden tests decide. See `FunctionSynthesis`."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code import expert, hidden_tests, pipeline
from rolloom.envs.code.judging import FunctionEnv
from rolloom.envs.types import Message, Messages, Style

LEVELS: dict[int, dict[str, Any]] = {
    1: {"count": 2, "high": 1, "starts": ("Ints", "Ints", "str", "int"), "examples": 3},
    2: {"count": 2, "high": 2, "examples": 3},
    3: {"count": 3, "high": 3, "examples": 3, "edges": True},
    4: {"count": 3, "high": 4, "examples": 2, "edges": True},
    5: {"count": 4, "high": 5, "hard": 4, "examples": 2, "edges": True},
    6: {"count": 4, "high": 6, "hard": 5, "branches": 1, "examples": 2, "edges": True},
    7: {"count": 5, "high": 7, "hard": 5, "branches": 1, "examples": 1, "edges": True},
    8: {"count": 6, "high": 7, "hard": 6, "branches": 2, "examples": 1, "edges": True},
    9: {"before": 1, "after": 1, "examples": 1, "edges": True, "big": True},
    10: {"before": 2, "after": 2, "branches": 1, "examples": 1, "edges": True, "big": True},
}
TESTING = ("examples", "edges", "big")
MAX_SHOWN = 300


def draw_chain(rng: np.random.Generator, **shape: Any) -> dict[str, Any]:
    """Draw a chain as `pipeline.draw_steps` does, whose hidden tests tell right from wrong."""
    while True:
        spec = pipeline.draw_steps(rng, **shape)
        if hidden_tests.telling(spec, hidden_tests.draw(spec)):
            return spec


def draw(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Draw a specification of a level whose hidden tests tell right from wrong."""
    settings = LEVELS[level]
    shape = {name: value for name, value in settings.items() if name not in TESTING}
    testing = {name: settings[name] for name in TESTING if name in settings}
    while True:
        chain = pipeline.draw_big(rng, **shape) if settings.get("big") else pipeline.draw_steps(rng, **shape)
        spec = {**chain, **testing}
        # Long inputs are worth their time only once the problem is chosen.
        tests = hidden_tests.draw({**spec, "big": False})
        if hidden_tests.telling(spec, tests) and max(len(repr(pair)) for pair in tests.public) <= MAX_SHOWN:
            return spec


def describe(spec: dict[str, Any], tests: hidden_tests.Tests) -> str:
    """Return the task in words with its public examples."""
    text = pipeline.task_words(spec)
    if spec.get("big"):
        text += " It must be fast: lists have up to 20,000 items, and quadratic time is too slow."
    examples = "\n".join(f"{pipeline.FUNCTION}({given!r}) == {right!r}" for given, right in tests.public)
    return f"{text}\nExamples:\n{examples}" if examples else text


def narrate(spec: dict[str, Any], tests: hidden_tests.Tests, style: Style, rng: np.random.Generator) -> str:
    """Return the thought that leads to the program."""
    steps = [(pipeline.words(step), pipeline.call(step)) for step in spec["steps"]]
    value, run = tests.public[0][0] if tests.public else tests.inputs[0][0], []
    for step in spec["steps"]:
        before, value = value, pipeline.apply(step, value)
        run.append((pipeline.call(step, repr(before)), repr(value)))
    return expert.think(f"a function of x, {pipeline.TYPE_WORDS[spec['input']]}", steps, run, style, rng)


class FunctionSynthesis(FunctionEnv):
    """Write a Python function that carries out a specification in words; hidden tests decide.

    A specification chains two to six of 140 steps on integers, strings, lists, dictionaries, grids and
    intervals (filters, folds, run lengths, merging intervals, spirals, dynamic programs ...), most of them
    with parameters. The reward is 1.0 when the program passes every hidden test, run in the sandbox; none of
    the examples in the prompt is a hidden test, and specifications that a constant, the identity or a chain
    with one step less would fulfil are not drawn. The component `tests_passed` is the share of tests passed.

    | level | adds |
    |---|---|
    | 1, 2 | two easy steps on numbers, strings, lists, then on every type; three examples |
    | 3, 4 | three steps; dictionaries, grids, intervals; empty, one-item and repeated inputs tested |
    | 5 | four steps, one of them an algorithm (fewest coins, next greater, ...) |
    | 6 to 8 | four to six steps with conditional ones; fewer examples |
    | 9, 10 | lists of 20,000 items among the tests: quadratic programs run out of time |

    Args:
        scoring: `all_pass`, or `per_test`: the share of hidden tests passed beyond the best constant's.
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a specification."""
        return draw(rng, level)

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the task without examples, which follow from it."""
        return pipeline.task_words(problem)

    def begin(self) -> None:
        """Work out the tests."""
        self.tests = hidden_tests.draw(self.problem)

    def prompt(self) -> Messages:
        """Return the specification as one user message."""
        text = f"Write a Python function {self.function}(x). {describe(self.problem, self.tests)}\n"
        text += "It is tested on other inputs. Answer with the code only."
        return (Message(role="user", content=text),)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the steps as they are written, verbose ones with an example run."""
        return narrate(self.problem, self.tests, style, rng)

    def gold(self) -> str:
        """Return a right program."""
        return f"```python\n{pipeline.program(self.problem)}\n```"
