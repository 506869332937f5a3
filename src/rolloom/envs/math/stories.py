"""How a word problem is told: names, things, amounts drawn for a level, and the table of templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from rolloom.envs.math.single import Step

NAMES = (
    "Ada", "Amir", "Bea", "Chen", "Dora", "Elif", "Emil", "Fatou", "Grace", "Hana", "Hugo", "Ines", "Ivan",
    "Jonas", "Kofi", "Lena", "Luis", "Maya", "Milo", "Nadia", "Noor", "Omar", "Pia", "Quinn", "Rosa", "Samir",
    "Tala", "Uma", "Viktor", "Wanda", "Yara", "Zeno",
)  # fmt: skip
THINGS = (
    "pens", "notebooks", "apples", "candles", "mugs", "stickers", "postcards", "buttons", "plants", "magnets",
    "oranges", "batteries", "brushes", "ribbons", "marbles", "envelopes", "tiles", "badges", "lamps",
    "puzzles",
)  # fmt: skip


@dataclass(slots=True)
class Told:
    """A word problem as told.

    Attributes:
        text: the question.
        answer: the right answer with its unit.
        steps: worked steps.
    """

    text: str
    answer: str
    steps: list[Step]


@dataclass(slots=True)
class Draw:
    """Chance for one problem; what is drawn under a name is kept.

    Attributes:
        rng: the only source of chance.
        level: difficulty.
        values: numbers drawn, by name.
    """

    rng: np.random.Generator
    level: int
    values: dict[str, int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)

    def number(self, name: str, low: int, high: int, step: int = 1, grows: bool = True) -> int:
        """Return a multiple of `step` from `low` to about `high`, which grows with the level."""
        top = int(high * (1 + 0.35 * (self.level - 1))) if grows else high
        self.values[name] = int(self.rng.integers(-(-low // step), top // step + 1)) * step
        return self.values[name]

    def one_of(self, name: str, choices: tuple[int, ...]) -> int:
        """Return one of some numbers."""
        self.values[name] = int(self.rng.choice(choices))
        return self.values[name]

    def name(self) -> str:
        """Return a name that this problem does not have yet."""
        return self._fresh(NAMES)

    def things(self) -> str:
        """Return a kind of things that this problem does not have yet."""
        return self._fresh(THINGS)

    def _fresh(self, pool: tuple[str, ...]) -> str:
        left = [word for word in pool if word not in self._names]
        word = str(self.rng.choice(left))
        self._names.append(word)
        return word


Template = Callable[[Draw], Told | None]
"""Draws and tells one problem; None when the numbers drawn do not fit together."""

TEMPLATES: dict[str, tuple[tuple[int, int], Template]] = {}
"""First and last level, and the function, of each template."""


def template(first: int, last: int) -> Callable[[Template], Template]:
    """Register a template under its function's name, for a range of levels."""

    def add(function: Template) -> Template:
        TEMPLATES[getattr(function, "__name__", "")] = ((first, last), function)
        return function

    return add


def money(amount: Fraction | int) -> str:
    """Return an amount in dollars, `$12` or `$12.50`."""
    amount = Fraction(amount)
    return f"${amount}" if amount.denominator == 1 else f"${float(amount):.2f}"


def whole_cents(amount: Fraction) -> bool:
    """Return True when an amount in dollars has no part of a cent."""
    return (amount * 100).denominator == 1


def plain(value: Any) -> str:
    """Return a number as an integer or reduced fraction."""
    return str(Fraction(value))
