"""Solve linear equations: one unknown at first, systems of four with rational solutions at the end.

A problem is its integer coefficients; the solution is found by elimination with fractions, independent of how
the problem was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math.single import QuestionEnv, Step

NAMES = ("x", "y", "z", "w")
MAX_TRIES = 1_000


@dataclass(frozen=True, slots=True)
class Level:
    """Knobs of one level.

    Attributes:
        unknowns: number of unknowns and of equations.
        largest: largest coefficient.
        solution: largest numerator of a solution.
        denominators: largest denominator of a solution.
        terms: products a*(b*x + c) on each side of an equation in one unknown.
        scattered: terms stand on both sides.
    """

    unknowns: int
    largest: int
    solution: int
    denominators: int = 1
    terms: tuple[int, int] = (1, 0)
    scattered: bool = False


LEVELS = (
    Level(1, 9, 60),
    Level(1, 12, 80, terms=(1, 1)),
    Level(1, 9, 30, 6, terms=(2, 1)),
    Level(2, 6, 15),
    Level(2, 9, 20, 4, scattered=True),
    Level(3, 5, 12),
    Level(3, 9, 20, 5, scattered=True),
    Level(4, 4, 10),
    Level(4, 7, 15, 4, scattered=True),
    Level(4, 15, 40, 9, scattered=True),
)


class LinearEquations(QuestionEnv):
    """Single-turn linear systems; reward 1.0 when every unknown is right, else 0.0.

    | level | unknowns | solutions | adds |
    |---|---|---|---|
    | 1 | 1 | integers to 60 | `a*x + b = c` |
    | 2-3 | 1 | integers, then fractions | both sides, brackets |
    | 4-5 | 2 | integers, then fractions | systems; terms on both sides |
    | 6-7 | 3 | integers, then fractions | |
    | 8-10 | 4 | integers, then fractions | larger coefficients |

    Values may be written as integers, fractions or exact decimals; a system's as an ordered tuple or as
    `x = ..., y = ...`.

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"rows": [[coefficient, ..., constant], ...], "left": [...], "right": [...]}`.

        Raises:
            EnvError: the level's bounds left nothing to draw.
        """
        knobs = LEVELS[level - 1]
        for _ in range(MAX_TRIES):
            problem = _draw_one(rng, knobs) if knobs.unknowns == 1 else _draw_system(rng, knobs)
            if problem and solve(problem["rows"])[0]:
                return problem
        raise EnvError(f"no system of level {level} in {MAX_TRIES} draws")

    def question(self) -> str:
        """Return the equations, one a line."""
        if len(self.problem["rows"]) == 1:
            left, right = (_side(self.problem[name]) for name in ("left", "right"))
            return f"Solve for x: {left} = {right}"
        lines = [
            _equation(row, moved)
            for row, moved in zip(self.problem["rows"], self.problem["moved"], strict=True)
        ]
        return "Solve the system:\n" + "\n".join(lines)

    def form(self) -> str:
        """Return the form of the answer."""
        names = NAMES[: len(self.problem["rows"])]
        what = "the value of x" if len(names) == 1 else f"the solution as a tuple ({', '.join(names)})"
        return f"Finish with {what} alone, exact (integers or fractions a/b), or put it in \\boxed{{}}."

    def gold(self) -> str:
        """Return the solution: a number, or a tuple."""
        solution, _ = solve(self.problem["rows"])
        return str(solution[0]) if len(solution) == 1 else f"({', '.join(str(value) for value in solution)})"

    def steps(self) -> list[Step]:
        """Return the elimination, equation by equation."""
        rows = self.problem["rows"]
        collected = [("terms in x to the left, numbers to the right", f"[{linear(rows[0])}]")]
        return (collected if len(rows) == 1 else []) + solve(rows)[1]

    def attacks(self) -> dict[str, str]:
        """Return the system itself, and answers that leave the unknowns in."""
        names = NAMES[: len(self.problem["rows"])]
        return {
            "question": self.question(),
            "unknowns": f"({', '.join(names)})" if len(names) > 1 else "x",
            "tautology": ", ".join(f"{name}={name}" for name in names),
        }


def _draw_one(rng: np.random.Generator, knobs: Level) -> dict[str, Any] | None:
    """Return an equation in x: products a*(b*x + c) and a constant on either side."""
    x = _rational(rng, knobs)
    sides: list[list[list[int]]] = []
    for count in knobs.terms:
        side = []
        for _ in range(count):
            outer = 1 if knobs.terms == (1, 0) or rng.random() < 0.3 else _coefficient(rng, 5)
            side.append([outer, _coefficient(rng, knobs.largest), _coefficient(rng, 2 * knobs.largest)])
        sides.append(side)
    left, right = sides
    value = sum(a * (b * x + c) for a, b, c in left) - sum(a * (b * x + c) for a, b, c in right)
    slope = sum(a * b for a, b, _ in left) - sum(a * b for a, b, _ in right)
    value = Fraction(value)
    if slope == 0 or value.denominator != 1:
        return None
    right = [*right, [1, 0, value.numerator]]
    constant = sum(a * c for a, _, c in right) - sum(a * c for a, _, c in left)
    return {"rows": [[slope, constant]], "left": left, "right": right}


def _draw_system(rng: np.random.Generator, knobs: Level) -> dict[str, Any] | None:
    """Return equations that a random point solves, coefficients and constants integers."""
    point = [_rational(rng, knobs) for _ in range(knobs.unknowns)]
    rows, moved = [], []
    for _ in range(knobs.unknowns):
        row = [_coefficient(rng, knobs.largest) for _ in point]
        constant = sum((a * value for a, value in zip(row, point, strict=True)), Fraction(0))
        row = [a * constant.denominator for a in row] + [constant.numerator]
        if max(map(abs, row)) > 1_000 * knobs.largest:
            return None
        rows.append(row)
        # Which unknowns, and how much of the constant, stand on the other side.
        over = [int(knobs.scattered and rng.random() < 0.35) for _ in point]
        moved.append([*over, _coefficient(rng, 9) if knobs.scattered else 0])
    return {"rows": rows, "moved": moved}


def _rational(rng: np.random.Generator, knobs: Level) -> Fraction:
    size = int(rng.integers(1, knobs.solution + 1)) * int(rng.choice([-1, 1]))
    return Fraction(size, int(rng.integers(1, knobs.denominators + 1)))


def _coefficient(rng: np.random.Generator, largest: int) -> int:
    return int(rng.integers(1, largest + 1)) * int(rng.choice([-1, 1]))


def solve(rows: list[list[int]]) -> tuple[list[Fraction], list[Step]]:
    """Return the solution of a system and the steps of Gauss-Jordan elimination.

    Args:
        rows: coefficients and constant of each equation.

    Returns:
        The solution ([] when there is not exactly one), and each step as text.
    """
    count = len(rows)
    table = [list(map(Fraction, row)) for row in rows]
    steps: list[Step] = []
    for column in range(count):
        pivot = next((r for r in range(column, count) if table[r][column] != 0), None)
        if pivot is None:
            return [], steps
        table[column], table[pivot] = table[pivot], table[column]
        lead = table[column][column]
        if lead != 1:
            table[column] = [value / lead for value in table[column]]
            steps.append((f"equation {column + 1} / ({lead})", linear(table[column])))
        for r in range(count):
            factor = table[r][column]
            if r != column and factor != 0:
                table[r] = [a - factor * b for a, b in zip(table[r], table[column], strict=True)]
                steps.append((f"equation {r + 1} - ({factor}) * equation {column + 1}", linear(table[r])))
    return [row[-1] for row in table], [(left, f"[{right}]") for left, right in steps]


def linear(row: list[Fraction] | list[int]) -> str:
    """Return an equation of a table, `2x - y = 3`."""
    return f"{_sum([(a, name) for a, name in zip(row, NAMES, strict=False)][: len(row) - 1])} = {row[-1]}"


def _equation(row: list[int], moved: list[int]) -> str:
    """Return an equation with some of its terms on the other side."""
    *coefficients, constant = row
    *over, shift = moved
    left: list[tuple[int, str]] = [
        (a, n) for a, n, o in zip(coefficients, NAMES, over, strict=False) if not o
    ]
    right: list[tuple[int, str]] = [(-a, n) for a, n, o in zip(coefficients, NAMES, over, strict=False) if o]
    if shift:
        left.append((shift, ""))
    return f"{_sum(left)} = {_sum([*right, (constant + shift, '')])}"


def _side(terms: list[list[int]]) -> str:
    """Return a side of an equation in one unknown: products a*(b*x + c)."""
    text = ""
    for a, b, c in terms:
        inner = _sum([(b, "x"), (c, "")])
        if a == 1:
            text += inner if not text or inner == "0" else f" {_signed(inner)}"
        else:
            times = "" if abs(a) == 1 else str(abs(a))
            sign = "-" if a < 0 else "+"
            text += f"{sign.strip('+')}{times}({inner})" if not text else f" {sign} {times}({inner})"
    return text or "0"


def _signed(text: str) -> str:
    return f"- {text[1:]}" if text.startswith("-") else f"+ {text}"


def _sum(terms: list[tuple[Any, str]]) -> str:
    """Return a sum of terms, `2x - y + 3`; zero terms are left out."""
    text = ""
    for a, name in terms:
        if a == 0:
            continue
        size = abs(a)
        body = (
            name if name and size == 1 else (f"({size})" if name and "/" in str(size) else str(size)) + name
        )
        sign = "-" if a < 0 else "+"
        text += (f"-{body}" if a < 0 else body) if not text else f" {sign} {body}"
    return text or "0"
