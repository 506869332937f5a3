"""Find an argument for which a function returns a given value. See `InputPrediction`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import arguments, expert, hidden_tests, pipeline, synthesis
from rolloom.envs.code import inputs as drawing
from rolloom.envs.code.judging import RUN_DEADLINE_S
from rolloom.envs.code.routines import TYPE_WORDS
from rolloom.envs.sandbox import run_function, same_value
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

SPEC_LEVELS = (1, 2, 3, 3, 4, 4, 5, 6, 7, 8)
MAX_SHOWN = 300
CPU_S, TIMEOUT_S = 1, 5.0


class InputPrediction(TextEnv):
    """Find an argument for which a Python function returns a given value; any such argument counts.

    The functions are the programs of `code/synthesis-v0`, with names that do not tell what they do. The
    argument is written as JSON; it is checked by calling the function on it in the sandbox and comparing
    the result here. Values that an argument from a panel of usual guesses, the value itself or one of 14
    random arguments also gives are not asked for, so guessing earns nothing.

    | level | adds |
    |---|---|
    | 1, 2 | two easy steps on numbers, strings, lists, then on every type |
    | 3 to 6 | three steps; dictionaries, grids, intervals |
    | 7 to 10 | four to six steps with algorithms and conditional steps |

    Args:
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.
    """

    step_deadline_s = RUN_DEADLINE_S

    def __init__(self, isolation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.isolation = isolation

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"spec", "argument", "value"}`."""
        while True:
            spec = synthesis.draw(rng, SPEC_LEVELS[level - 1])
            kind = spec["input"]
            argument = drawing.draw(kind, rng, int(rng.integers(6, 10)))
            value = pipeline.evaluate(spec["steps"], argument)
            others = [*arguments.PANEL[kind], *drawing.EDGES[kind]]
            others += [given for (given,) in hidden_tests.draw({**spec, "edges": False}).inputs]
            others += [value] if arguments.CHECKS[kind](value) else []
            if (
                argument not in others
                and 1 < len(json.dumps(value)) <= MAX_SHOWN
                and arguments.CHECKS[kind](argument)
                and pipeline.evaluate(spec["steps"], argument) == value
                and all(pipeline.evaluate(spec["steps"], other) != value for other in others)
            ):
                return {"spec": spec, "argument": argument, "value": value}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the function and the value."""
        return f"{pipeline.task_words(problem['spec'])}\n{json.dumps(problem['value'], sort_keys=True)}"

    def _program(self) -> str:
        return pipeline.program(self.problem["spec"], anonymous=True)

    def prompt(self) -> Messages:
        """Return the function and the value as one user message."""
        kind, value = TYPE_WORDS[self.problem["spec"]["input"]], self.problem["value"]
        text = (
            f"```python\n{self._program()}\n```\nFind x, {kind}, such that {pipeline.FUNCTION}(x) =="
            f" {value!r}. Answer with x as JSON only."
        )
        return (Message(role="user", content=text),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Call the function on the answer in the sandbox, compare here.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the answer.
        """
        try:
            if turn.tool_calls:
                raise arguments.NotAnArgument("a tool call")
            given = arguments.read(turn.content, self.problem["spec"]["input"])
        except arguments.NotAnArgument:
            return Reply(done=True, components={"correct": 0.0, "valid": 0.0})
        outcome = run_function(
            self._program(), pipeline.FUNCTION, [[given]],
            timeout_s=TIMEOUT_S, cpu_s=CPU_S, isolation=self.isolation,
        )  # fmt: skip
        (call,) = outcome.calls
        right = call.error is None and same_value(call.value, self.problem["value"])
        return Reply(reward=float(right), done=True, components={"correct": float(right), "valid": 1.0})

    def gold(self) -> str:
        """Return the argument that the value was computed from; others may be right too."""
        return json.dumps(self.problem["argument"])

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the values that the steps give for the argument."""
        value, steps = self.problem["argument"], []
        for number, step in enumerate(self.problem["spec"]["steps"], 1):
            value = pipeline.apply(step, value)
            steps.append(
                (f"step {number} of x = {self.gold()}" if number == 1 else f"step {number}", repr(value))
            )
        if style == "compact":
            return ""
        return expert.think(f"the value {self.problem['value']!r}", steps, [], style, rng)

    def attacks(self) -> dict[str, str]:
        """Return answers that do not solve the problem, and code in the place of a value."""
        guesses = {
            f"guess {i}": json.dumps(v) for i, v in enumerate(arguments.PANEL[self.problem["spec"]["input"]])
        }
        return {
            **guesses,
            "the value itself": json.dumps(self.problem["value"]),
            "code": "```python\n__import__('os')._exit(0)\n```",
            "not a number": "[NaN, Infinity]",
            "many values": "[1]\n[2]\n[3]",
            "deep": "[" * 900 + "]" * 900,
            "huge number": "9" * 1_500,
        }
