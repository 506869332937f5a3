"""Evaluate an arithmetic expression: `Evaluate 3*(4 - 9) + 14/2.` -> `-8`.

The expression is a random tree, evaluated exactly with fractions; what is asked is its value, so the
expression itself, or half of it worked out, is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math.single import QuestionEnv, Step

Tree = Any
"""`["+", left, right]`, `["neg", inner]`, an integer, or a fraction `[numerator, denominator]`."""


@dataclass(frozen=True, slots=True)
class Level:
    """Knobs of one level.

    Attributes:
        operators: fewest and most operators.
        largest: largest number written.
        kinds: operators drawn from; doubled ones are drawn twice as often.
        brackets: chance that the second operand of an operator is an expression of its own.
        negatives: chance that a number is negative.
        fractions: chance that a number is a fraction; above 0, divisions need not come out even.
        digits: bound on numerator and denominator of every value on the way.
    """

    operators: tuple[int, int]
    largest: int
    kinds: str = "+-*"
    brackets: float = 0.0
    negatives: float = 0.0
    fractions: float = 0.0
    digits: int = 10**6


LEVELS = (
    Level((2, 2), 20),
    Level((2, 3), 30, "++--*/"),
    Level((3, 4), 30, "++--**/", 0.3),
    Level((4, 5), 50, "++--**/", 0.4, 0.1),
    Level((5, 6), 60, "++--**/", 0.5, 0.15),
    Level((6, 8), 99, "++--**/", 0.5, 0.2, digits=10**8),
    Level((4, 6), 12, "++--*/", 0.5, 0.1, 0.4),
    Level((6, 8), 15, "++--*/", 0.5, 0.15, 0.4, 10**7),
    Level((9, 12), 30, "++--**/", 0.5, 0.2, 0.4, 10**9),
    Level((14, 18), 99, "++--**/", 0.5, 0.2, 0.35, 10**14),
)
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3}
MAX_TRIES = 1_000


class Arithmetic(QuestionEnv):
    """Single-turn arithmetic; reward 1.0 for the exact value, else 0.0.

    The value may be an integer, a fraction (not necessarily reduced), a mixed number or an exact decimal.

    | level | operators | numbers to | adds |
    |---|---|---|---|
    | 1 | 2 | 20 | +, -, * |
    | 2 | 2-3 | 30 | exact division |
    | 3 | 3-4 | 30 | brackets |
    | 4-6 | 4-8 | 50-99 | negative numbers, more nesting |
    | 7-8 | 4-8 | 12-15 | fractions, results are fractions |
    | 9-10 | 9-18 | 30-99 | all of it |

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"tree": ...}`, an expression whose value is not simply one of its numbers.

        Raises:
            EnvError: the level's bounds left nothing to draw.
        """
        knobs = LEVELS[level - 1]
        for _ in range(MAX_TRIES):
            count = int(rng.integers(knobs.operators[0], knobs.operators[1] + 1))
            tree = _draw(rng, knobs, count)
            try:
                values = [value for _, _, value in evaluation(tree)]
            except ZeroDivisionError:
                continue
            small = all(max(abs(v.numerator), v.denominator) <= knobs.digits for v in values)
            even = knobs.fractions > 0 or all(v.denominator == 1 for v in values)
            if small and even and values[-1] not in (0, 1):
                return {"tree": tree}
        raise EnvError(f"no expression of level {level} in {MAX_TRIES} draws")

    def question(self) -> str:
        """Return the expression in words."""
        return f"Evaluate {render(self.problem['tree'])}."

    def form(self) -> str:
        """Return the form of the answer."""
        return "Finish with the exact value alone, as an integer or a fraction a/b, or put it in \\boxed{}."

    def gold(self) -> str:
        """Return the value: an integer, or a reduced fraction."""
        return str(evaluation(self.problem["tree"])[-1][2])

    def steps(self) -> list[Step]:
        """Return the operators in the order they are worked out."""
        return [(written, str(value)) for _, written, value in evaluation(self.problem["tree"])]

    def attacks(self) -> dict[str, str]:
        """Return the expression itself in three spellings."""
        text = render(self.problem["tree"])
        return {
            "expression": text,
            "boxed expression": f"\\boxed{{{text}}}",
            "nearly": f"\\boxed{{0 + {text}}}",
        }


def _draw(rng: np.random.Generator, knobs: Level, count: int) -> Tree:
    """Return a random tree with `count` operators."""
    if count == 0:
        return _leaf(rng, knobs)
    kind = str(rng.choice(list(knobs.kinds)))
    if kind == "/" and knobs.fractions == 0:
        # A quotient that comes out even has to be built from its result.
        divisor = int(rng.integers(2, 13))
        left: Tree = ["/", divisor * int(rng.integers(2, max(3, knobs.largest // 2))), divisor]
        return left if count == 1 else _join(rng, knobs, left, count - 1)
    right_count = int(rng.integers(count)) if count > 1 and rng.random() < knobs.brackets else 0
    return [kind, _draw(rng, knobs, count - 1 - right_count), _draw(rng, knobs, right_count)]


def _join(rng: np.random.Generator, knobs: Level, tree: Tree, count: int) -> Tree:
    kind = str(rng.choice(list(knobs.kinds.replace("/", ""))))
    other = _draw(rng, knobs, count - 1)
    return [kind, tree, other] if rng.random() < 0.5 else [kind, other, tree]


def _leaf(rng: np.random.Generator, knobs: Level) -> Tree:
    sign = -1 if rng.random() < knobs.negatives else 1
    if rng.random() < knobs.fractions:
        value = Fraction(
            int(rng.integers(1, knobs.largest + 1)), int(rng.integers(2, min(13, knobs.largest)))
        )
        if value.denominator > 1:
            return [sign * value.numerator, value.denominator]
    return sign * int(rng.integers(2, knobs.largest + 1))


def evaluation(tree: Tree) -> list[tuple[Tree, str, Fraction]]:
    """Return (subtree, what is computed, value) of every operator, innermost first.

    Raises:
        ZeroDivisionError: something is divided by zero.
    """
    done: list[tuple[Tree, str, Fraction]] = []
    _value(tree, done)
    return done


def _value(tree: Tree, done: list[tuple[Tree, str, Fraction]]) -> Fraction:
    if isinstance(tree, int):
        return Fraction(tree)
    if isinstance(tree[0], int):
        return Fraction(tree[0], tree[1])
    kind = tree[0]
    left, right = _value(tree[1], done), _value(tree[2], done)
    value = {"+": left + right, "-": left - right, "*": left * right}.get(kind)
    value = left / right if value is None else value
    done.append((tree, f"{_operand(left)} {kind} {_operand(right)}", value))
    return value


def _operand(value: Fraction) -> str:
    return f"({value})" if value < 0 or value.denominator > 1 else str(value)


def render(tree: Tree) -> str:
    """Return a tree as text, with the brackets that precedence asks for."""
    if isinstance(tree, int):
        return str(tree) if tree >= 0 else f"({tree})"
    if isinstance(tree[0], int):
        return f"({tree[0]}/{tree[1]})"
    kind, left, right = tree[0], render(tree[1]), render(tree[2])
    if _binding(tree[1]) < _PRECEDENCE[kind]:
        left = f"({left})"
    # a - (b + c) and a / (b * c) need brackets although both sides bind alike.
    if _binding(tree[2]) < _PRECEDENCE[kind] or (_binding(tree[2]) == _PRECEDENCE[kind]):
        right = f"({right})"
    return f"{left} {kind} {right}"


def _binding(tree: Tree) -> int:
    return 9 if isinstance(tree, int) or isinstance(tree[0], int) else _PRECEDENCE[tree[0]]
