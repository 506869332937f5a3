"""Exact arithmetic on numbers too large for the head, with a calculator: `c = a * 48213; d = c % 9973`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import Tool, tool
from rolloom.envs.tools import exact
from rolloom.envs.tools.solver import SolvedEnv, Tools
from rolloom.envs.types import AssistantTurn, Message, Messages

Unit = Literal[
    "millimetre", "centimetre", "metre", "kilometre", "inch", "foot", "yard", "mile",
    "milligram", "gram", "kilogram", "tonne", "second", "minute", "hour", "day", "week",
    "byte", "kibibyte", "mebibyte", "gibibyte",
]  # fmt: skip
SMALLER = (
    *(("kilometre", "millimetre"), ("mile", "inch"), ("mile", "yard"), ("tonne", "gram")),
    *(("week", "second"), ("day", "minute"), ("gibibyte", "byte"), ("yard", "inch")),
)
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "quotient": "//", "remainder": "%", "power": "**"}
EASY = ("add", "subtract", "multiply")
SOME = (*EASY, "power", "quotient")
MOST = (*SOME, "remainder", "convert", "gcd")
# Of each level: steps (fewest, most), digits of the numbers given (fewest, most), operations, lines shuffled.
LEVELS = (
    ((1, 1), (4, 5), ("multiply",), False),
    ((1, 2), (5, 7), EASY, False),
    ((2, 2), (6, 9), EASY, False),
    ((2, 3), (8, 12), SOME, False),
    ((3, 4), (10, 15), MOST, False),
    ((4, 5), (12, 18), MOST, False),
    ((5, 6), (15, 24), MOST, False),
    ((6, 8), (20, 30), MOST, True),
    ((8, 10), (30, 40), MOST, True),
    ((10, 14), (40, 60), MOST, True),
)
LEAST = 1_000
"""Answers of fewer than four digits are too easily guessed."""

MAX_BITS = 680
MAX_EXPRESSION = 450
"""Numbers of the lines have at most 205 digits: an expression has room for two, not for a whole problem."""

FUNCTIONS = ("add", "subtract", "multiply", "divide", "power")
Line = dict[str, Any]


class Calculator(SolvedEnv):
    """Multi-turn arithmetic with a calculator; reward 1.0 for exactly the right digits, else 0.0.

    Numbers travel as strings, since many do not fit a JSON integer. Half of the problems offer a function for
    each operation, half one `evaluate` for expressions of at most 450 characters; all offer `convert` and
    `gcd`. No tool sees more than 400 digits.

    | level | what it adds |
    |---|---|
    | 1-3 | one or two steps on numbers of 4-9 digits |
    | 4 | powers and quotients |
    | 5-7 | 3-6 steps with remainders, units and common divisors, numbers of 10-24 digits |
    | 8-10 | 6-14 steps whose lines stand in any order, numbers of up to 60 digits |
    """

    max_turns = 20

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"lines", "asked", "tools"}`; a line is `{"name", "op", "args"}`, its numbers in digits."""
        steps, digits, operations, shuffled = LEVELS[level - 1]
        while True:
            lines = self._lines(rng, int(rng.integers(steps[0], steps[1] + 1)), digits, operations)
            if abs(_values(lines)[lines[-1]["name"]]) >= LEAST:
                break
        asked = lines[-1]["name"]
        if shuffled:
            lines = [lines[int(i)] for i in rng.permutation(len(lines))]
        return {"lines": lines, "asked": asked, "tools": "evaluate" if rng.random() < 0.5 else "functions"}

    @staticmethod
    def _lines(
        rng: np.random.Generator, steps: int, digits: tuple[int, int], operations: tuple[str, ...]
    ) -> list[Line]:
        lines: list[Line] = []
        values: dict[str, int] = {}
        for step in range(steps):
            name = "abcdefghijklmnopqrstuvwxyz"[step]
            earlier = list(values)
            # The last result is always used, so that no step is idle.
            first = earlier[-1] if earlier else _digits(rng, digits)
            second = (
                str(rng.choice(earlier)) if len(earlier) > 1 and rng.random() < 0.3 else _digits(rng, digits)
            )
            op = str(rng.choice(operations))
            if op == "power":
                args = [first, str(int(rng.integers(2, 5)))]
            elif op == "convert":
                args = [first, *SMALLER[int(rng.integers(len(SMALLER)))]]
            elif op == "quotient":
                args = [first, _digits(rng, (2, 3))]
            else:
                args = [first, second]
            line = {"name": name, "op": op, "args": args}
            dull = op in ("quotient", "remainder", "gcd") and (_zero(args[1], values) or step == 0)
            if dull or not _fits(line, values):
                line = {
                    "name": name,
                    "op": "remainder" if step else "add",
                    "args": [first, _digits(rng, digits)],
                }
            lines.append(line)
            values[name] = _apply(line, values)
        return lines

    def prompt(self) -> Messages:
        """Return the lines and what is asked for."""
        lines = "\n".join(f"{line['name']} = {_told(line)}" for line in self.problem["lines"])
        order = ", each line once those that it names are known" if len(self.problem["lines"]) > 1 else ""
        question = f"What is {self.problem['asked']}? Digits only."
        text = f"Work this out exactly with the tools{order}:\n{lines}\n{question}"
        return (Message(role="user", content=text),)

    def begin(self) -> None:
        """Allow a turn a line, and some to spare."""
        self.limit_turns(len(self.problem["lines"]))
        self._answer = str(_values(self.problem["lines"])[self.problem["asked"]])

    def toolbox(self) -> dict[str, Tool]:
        """Return the tools of the problem's kind."""
        left_out = FUNCTIONS if self.problem["tools"] == "evaluate" else ("evaluate",)
        return {name: made for name, made in super().toolbox().items() if name not in left_out}

    def answer(self, turn: AssistantTurn) -> float:
        """Return 1.0 for the right digits."""
        return float(turn.content == self._answer)

    @tool
    def add(self, a: str, b: str) -> str:
        """Return a + b; numbers are strings of digits."""
        return str(exact.bounded(exact.whole(a) + exact.whole(b)))

    @tool
    def subtract(self, a: str, b: str) -> str:
        """Return a - b; numbers are strings of digits."""
        return str(exact.bounded(exact.whole(a) - exact.whole(b)))

    @tool
    def multiply(self, a: str, b: str) -> str:
        """Return a * b; numbers are strings of digits."""
        return str(exact.bounded(exact.whole(a) * exact.whole(b)))

    @tool
    def divide(self, a: str, b: str) -> dict:
        """Return quotient (rounded down) and remainder of a / b; numbers are strings of digits."""
        quotient, remainder = exact.divide(exact.whole(a), exact.whole(b))
        return {"quotient": str(quotient), "remainder": str(remainder)}

    @tool
    def power(self, base: str, exponent: int) -> str:
        """Return base to the power of exponent; the base is a string of digits."""
        return str(exact.power(exact.whole(base), exponent))

    @tool
    def evaluate(self, expression: str) -> str:
        """Return the value of an expression of whole numbers with + - * // % ** and brackets."""
        if len(expression) > MAX_EXPRESSION:
            raise ToolError(f"an expression may have at most {MAX_EXPRESSION} characters")
        return str(exact.evaluate(expression))

    @tool
    def gcd(self, a: str, b: str) -> str:
        """Return the greatest common divisor of a and b; numbers are strings of digits."""
        return str(exact.gcd(exact.whole(a), exact.whole(b)))

    @tool
    def convert(self, value: str, source: Unit, target: Unit) -> str:
        """Return a quantity in another unit; the value is a string of digits."""
        return str(exact.convert(exact.whole(value), source, target))

    def solution(self, tools: Tools) -> str:
        """Work out the lines, each once what it names is known."""
        known: dict[str, str] = {}
        left: list[Line] = list(self.problem["lines"])
        while left:
            line = next(one for one in left if all(a in known or not _is_name(a) for a in one["args"][:2]))
            left.remove(line)
            args = [known[a] if a in known else str(a) for a in line["args"]]
            why = f"{line['name']} = {_told(line)}."
            known[line["name"]] = self._worked(tools, why, line["op"], args)
        return known[self.problem["asked"]]

    def _worked(self, tools: Tools, why: str, op: str, args: list[str]) -> str:
        if op == "convert":
            return tools.call("convert", why, value=args[0], source=args[1], target=args[2])
        if op == "gcd":
            return tools.call("gcd", why, a=args[0], b=args[1])
        first, second = args
        expression = f"{_bracketed(first)} {SIGNS[op]} {_bracketed(second)}"
        if self.problem["tools"] == "evaluate":
            return tools.call("evaluate", why, expression=expression)
        if op == "power":
            return tools.call("power", why, base=first, exponent=int(second))
        if op in ("quotient", "remainder"):
            return tools.call("divide", why, a=first, b=second)[op]
        return tools.call(op, why, a=first, b=second)

    def attacks(self) -> dict[str, str]:
        """Return expressions that run code or take for ever, and answers in other forms."""
        name = "evaluate" if self.problem["tools"] == "evaluate" else "add"
        bad = ("9**9**9**9", "__import__('os').system('id')", "(" * 4_000, "1" + "+1" * 2_000, "9" * 4_000)
        key = {"evaluate": lambda text: {"expression": text}, "add": lambda text: {"a": text, "b": "1"}}[name]
        return {
            **{f"expression {i}": render_call(name, key(text)) for i, text in enumerate(bad)},
            "great power": render_call("power", {"base": "9" * 300, "exponent": 10**18}),
            "an expression as the answer": _told(self.problem["lines"][-1]),
            "infinite": "inf",
        }


def _digits(rng: np.random.Generator, digits: tuple[int, int]) -> str:
    count = int(rng.integers(digits[0], digits[1] + 1))
    first = int(rng.integers(1, 10))
    return str(first) + "".join(map(str, rng.integers(0, 10, size=count - 1)))


def _is_name(argument: str) -> bool:
    return len(argument) == 1 and argument.isalpha()


def _bracketed(number: str) -> str:
    return f"({number})" if number.startswith("-") else number


def _zero(argument: str, values: dict[str, int]) -> bool:
    return values.get(argument) == 0 or argument == "0"


def _fits(line: Line, values: dict[str, int]) -> bool:
    try:
        return _apply(line, values).bit_length() <= MAX_BITS
    except ToolError:
        return False


def _apply(line: Line, values: dict[str, int]) -> int:
    op, args = line["op"], line["args"]
    first = values[args[0]] if args[0] in values else int(args[0])
    if op == "convert":
        return exact.convert(first, args[1], args[2])
    second = values[args[1]] if args[1] in values else int(args[1])
    if op == "gcd":
        return exact.gcd(first, second)
    if op == "power":
        return exact.power(first, second)
    if op in ("quotient", "remainder"):
        return exact.divide(first, second)[op == "remainder"]
    return exact.bounded({"add": first + second, "subtract": first - second}.get(op, first * second))


def _values(lines: list[Line]) -> dict[str, int]:
    values: dict[str, int] = {}
    for line in sorted(lines, key=lambda one: one["name"]):
        values[line["name"]] = _apply(line, values)
    return values


def _plural(unit: str) -> str:
    return {"inch": "inches", "foot": "feet"}.get(unit, unit + "s")


def _told(line: Line) -> str:
    op, args = line["op"], line["args"]
    if op == "convert":
        return f"{args[0]} {_plural(args[1])} in {_plural(args[2])}"
    if op == "gcd":
        return f"greatest common divisor of {args[0]} and {args[1]}"
    if op == "quotient":
        return f"{args[0]} / {args[1]}, rounded down"
    if op == "remainder":
        return f"remainder of {args[0]} / {args[1]}"
    return f"{args[0]} {'^' if op == 'power' else SIGNS[op]} {args[1]}"
