"""Predict what a program prints. See `OutputPrediction`."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import expert, minipy, pipeline, random_programs, synthesis
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.hidden_tests import draw as draw_tests
from rolloom.envs.code.random_programs import Shape
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

PLAIN = ("assign", "augment")
SHAPES: dict[int, Shape] = {
    1: Shape(2, PLAIN),
    2: Shape(4, (*PLAIN, "choose")),
    3: Shape(4, (*PLAIN, "choose", "loop"), turns=3),
    4: Shape(5, (*PLAIN, "choose", "loop", "list"), turns=4),
    5: Shape(6, (*PLAIN, "choose", "loop", "list", "text"), turns=4, prints=2),
    6: Shape(7, (*PLAIN, "choose", "loop", "while", "list", "text", "function"), turns=5, prints=2),
    7: Shape(8, (*PLAIN, "choose", "loop", "while", "list", "text", "table", "function"), 2, 5, 2),
    8: Shape(10, (*PLAIN, "choose", "loop", "while", "list", "text", "table", "function"), 2, 6, 3),
    9: Shape(13, (*PLAIN, "choose", "loop", "while", "list", "text", "table", "function"), 3, 7, 3),
    10: Shape(16, (*PLAIN, "choose", "loop", "while", "list", "text", "table", "function"), 3, 8, 4),
}
ALGORITHMS_FROM, ALGORITHM_SHARE = 5, 0.4
"""From this level on, this share of the programs are those of `code/synthesis-v0`, run on one input."""

SLACK = 1_000


class OutputPrediction(TextEnv):
    """Say what a Python program prints.

    Programs are drawn at random, or, from level 5 on, are those of `code/synthesis-v0` with names that do
    not tell what they do, called on one input. The right output is computed by an interpreter of our own.
    The reward is 1.0 for all lines of the output in order, spaces aside, else 0.0; outputs that stand in
    the program or are short numbers are not drawn, so guessing earns nothing.

    | level | adds |
    |---|---|
    | 1, 2 | a few assignments, conditionals |
    | 3, 4 | loops, lists |
    | 5, 6 | strings, while loops, functions, algorithms; two lines of output |
    | 7 to 10 | dictionaries, nesting, up to 16 statements and four lines |

    Attributes:
        expected: the lines the program prints.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.expected: list[str] = []

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"program": source}`."""
        if level >= ALGORITHMS_FROM and rng.random() < ALGORITHM_SHARE:
            return {"program": _algorithm(rng, level)}
        return {"program": random_programs.draw(rng, SHAPES[level])}

    def begin(self) -> None:
        """Interpret the program."""
        self.expected = "\n".join(minipy.Program(self.problem["program"]).run()).split("\n")

    def prompt(self) -> Messages:
        """Return the program as one user message."""
        text = f"What does this Python program print?\n```python\n{self.problem['program']}\n```\n"
        return (Message(role="user", content=text + "Answer with the printed output only."),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: the content, or its fenced block, must be the output, spaces aside."""
        content = turn.content[: sum(map(len, self.expected)) * 2 + SLACK]
        lines = ["".join(line.split()) for line in extract_code(content).strip().split("\n")]
        wanted = ["".join(line.split()) for line in self.expected]
        right = not turn.tool_calls and lines == wanted
        same = sum(a == b for a, b in zip(lines, wanted, strict=False)) / len(wanted)
        return Reply(reward=float(right), done=True, components={"correct": float(right), "lines": same})

    def gold(self) -> str:
        """Return the output."""
        return "\n".join(self.expected)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the variables after each statement at the top."""
        steps = trace(self.problem["program"])
        if style == "compact":
            return "; ".join(value for _, value in steps[-1:])
        if style == "medium":
            return " ".join(f"{what}: {value}." for what, value in steps)
        return expert.think(
            "the first line", [(f"after {what}", value) for what, value in steps], [], style, rng
        )

    def attacks(self) -> dict[str, str]:
        """Return answers that could be paid by a careless comparison."""
        return {
            "the program": f"```python\n{self.problem['program']}\n```",
            "code that prints it": "```python\nprint(eval(open(0).read()))\n```",
            "many numbers": "\n".join(map(str, range(-100, 1_000))),
            "numbers on one line": " ".join(map(str, range(-100, 1_000))),
            "nothing": "```\n```",
            "a wild card": "*",
            "the output amid others": "0\n" + "\n".join(self.expected) + "\n0",
        }


def trace(source: str) -> list[tuple[str, str]]:
    """Return `(first line of the statement, variables that it changed)` of each statement at the top."""
    program = minipy.Program(source)
    heads = [line for line in source.split("\n") if line and line[0] not in " #" and line != "else:"]
    seen: dict[str, str] = {}
    found: list[tuple[str, str]] = []
    printed = 0

    def note(index: int, scope: dict[str, Any]) -> None:
        nonlocal printed
        now = {name: repr(value) for name, value in scope.items() if not callable(value)}
        changed = [f"{name}={value}" for name, value in now.items() if seen.get(name) != value]
        changed += [f"prints {line}" for line in program.printed[printed:]]
        printed = len(program.printed)
        seen.update(now)
        if changed:
            found.append((heads[index], ", ".join(changed)))

    program.run(after=note)
    return found


def _algorithm(rng: np.random.Generator, level: int) -> str:
    """Return a program of `code/synthesis-v0` with meaningless names and a call."""
    while True:
        spec = synthesis.draw(rng, min(level - 1, 8))
        body = pipeline.program(spec, anonymous=True)
        tests = draw_tests(spec)
        for (value,), right in zip(tests.inputs, tests.expected, strict=True):
            source = f"{body}\n\n\nprint({pipeline.FUNCTION}({value!r}))"
            printed = random_programs.output(source)
            if printed == str(right) and len(repr(value)) < 200 and random_programs.telling(source, printed):
                return source
