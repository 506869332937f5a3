"""Draws small Python programs that print something: loops, conditionals, lists, strings, dictionaries.

They stay within what `minipy` interprets. Only programs with a telling output are kept; see `draw`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.code import minipy

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_VALUE, MAX_OUTPUT = 10**9, 200
FEATURES = ("assign", "augment", "choose", "loop", "while", "list", "text", "table", "function")


@dataclass(frozen=True, slots=True)
class Shape:
    """How large programs are.

    Attributes:
        statements: number of statements after the first values.
        features: kinds of statements, names of `FEATURES`.
        depth: how deep loops and conditionals nest.
        turns: most turns of a loop.
        prints: number of values printed at the end.
    """

    statements: int
    features: tuple[str, ...]
    depth: int = 1
    turns: int = 4
    prints: int = 1


class _Writer:
    """Writes one program."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self.rng, self.shape = rng, shape
        self.lines: list[str] = []
        self.numbers = ["a", "b", "c"][: 2 + int(rng.integers(2))]
        self.loops = 0
        self.helper = ""

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def add(self, text: str, depth: int) -> None:
        self.lines.append("    " * depth + text)

    def atom(self) -> str:
        names = [*self.numbers, *(("ijkl"[: self.loops]) if self.loops else ())]
        return self.pick(names) if self.rng.random() < 0.65 else str(self.number(2, 25))

    def expression(self) -> str:
        kind = self.number(0, 6)
        first, second = self.pick(self.numbers), self.atom()
        if kind == 0:
            return f"{first} % {self.number(3, 11)} + {second}"
        if kind == 1:
            return f"{first} // {self.number(2, 5)} - {second}"
        if kind == 2:
            return f"{first} * {self.number(2, 6)} - {second}"
        if kind == 3:
            return f"({first} - {second}) * {self.number(2, 4)}"
        return f"{first} {self.pick('+-')} {second}"

    def condition(self) -> str:
        name = self.pick(self.numbers)
        return self.pick(
            (
                f"{name} % {self.number(2, 4)} == {self.number(0, 1)}",
                f"{name} > {self.atom()}",
                f"{name} < {self.atom()}",
            )
        )

    def block(self, depth: int) -> None:
        for _ in range(self.number(1, 2)):
            self.statement(depth)

    def statement(self, depth: int) -> None:
        kinds = [
            f
            for f in self.shape.features
            if depth <= self.shape.depth or f not in ("choose", "loop", "while")
        ]
        getattr(self, f"_{self.pick([kind for kind in kinds if kind != 'function'])}")(depth)

    def _assign(self, depth: int) -> None:
        self.add(f"{self.pick(self.numbers)} = {self.expression()}", depth)

    def _augment(self, depth: int) -> None:
        if self.helper and self.rng.random() < 0.6:
            self.add(f"{self.pick(self.numbers)} += {self.helper}({self.atom()}, {self.atom()})", depth)
        else:
            self.add(f"{self.pick(self.numbers)} {self.pick('+-')}= {self.expression()}", depth)

    def _choose(self, depth: int) -> None:
        self.add(f"if {self.condition()}:", depth)
        self.block(depth + 1)
        if self.rng.random() < 0.6:
            self.add("else:", depth)
            self.block(depth + 1)

    def _loop(self, depth: int) -> None:
        name = "ijkl"[self.loops]
        start = self.number(0, 3)
        self.add(f"for {name} in range({start}, {start + self.number(2, self.shape.turns)}):", depth)
        self.loops += 1
        self.block(depth + 1)
        self.loops -= 1

    def _while(self, depth: int) -> None:
        name = self.pick(self.numbers)
        self.add(f"while abs({name}) > {self.number(10, 30)}:", depth)
        self.add(f"{name} = {name} // {self.number(2, 4)} + {self.number(1, 4)}", depth + 1)
        other = self.pick(self.numbers)
        if other != name:
            self.add(f"{other} += {self.atom()}", depth + 1)

    def _list(self, depth: int) -> None:
        k, m = self.number(2, 5), self.number(1, 9)
        self.add(
            self.pick(
                (
                    f"xs.append({self.expression()})",
                    f"xs[{self.pick(self.numbers)} % len(xs)] += {self.atom()}",
                    f"xs = xs[{self.number(1, 2)}:] + xs[:{self.number(1, 2)}]",
                    f"xs = [x + {m} for x in xs if x % {k} != 0] + [{self.atom()}]",
                    "xs = sorted(xs)",
                    "xs = xs[::-1]",
                    f"{self.pick(self.numbers)} += sum(xs[{self.number(0, 1)}::{self.number(1, 2)}])",
                    f"{self.pick(self.numbers)} = max(xs) - min(xs) + {m}",
                    f"xs = [x * {k} - {m} for x in xs[-3:]]",
                )
            ),
            depth,
        )

    def _text(self, depth: int) -> None:
        letter = LETTERS[self.number(0, 25)]
        self.add(
            self.pick(
                (
                    f"s += str({self.pick(self.numbers)})",
                    "s = s[::-1]",
                    f"s = s[{self.number(1, 2)}:] + s[:{self.number(1, 2)}]",
                    f"s = s.replace('{letter}', '{LETTERS[self.number(0, 25)]}') + '{letter}'",
                    f"{self.pick(self.numbers)} += len(s) * {self.number(2, 5)}",
                    f"s = s + s[{self.number(0, 2)}]",
                    f"s = s[-6:].upper() + '{letter}'",
                )
            ),
            depth,
        )

    def _table(self, depth: int) -> None:
        key = f"{self.pick(self.numbers)} % {self.number(2, 4)}"
        self.add(
            self.pick(
                (
                    f"d[{key}] = d.get({key}, 0) + {self.atom()}",
                    f"d[{key}] = {self.expression()}",
                    f"{self.pick(self.numbers)} += sum(d.values())",
                    f"{self.pick(self.numbers)} = len(d) * {self.number(2, 9)} + {self.atom()}",
                )
            ),
            depth,
        )

    def write(self) -> str:
        features = self.shape.features
        if "function" in features:
            self.helper = "g"
            self.add("def g(p, q):", 0)
            self.add(f"if p {self.pick('<>')} q:", 1)
            self.add(f"return p {self.pick('+-*')} {self.number(2, 9)}", 2)
            self.add(f"return q {self.pick('+-')} p % {self.number(2, 7)}", 1)
            self.add("", 0)
        for name in self.numbers:
            self.add(f"{name} = {self.number(2, 99)}", 0)
        if "list" in features:
            self.add(f"xs = {[self.number(1, 20) for _ in range(self.number(3, 5))]}", 0)
        if "text" in features:
            self.add(f"s = '{''.join(LETTERS[self.number(0, 25)] for _ in range(self.number(4, 6)))}'", 0)
        if "table" in features:
            self.add("d = {}", 0)
        for _ in range(self.shape.statements):
            self.statement(0)
        shown = list(self.numbers)
        shown += [name for name, kind in (("xs", "list"), ("s", "text"), ("d", "table")) if kind in features]
        chosen = [shown[i] for i in self.rng.permutation(len(shown))[: self.shape.prints]]
        if chosen[0] in self.numbers and self.shape.prints == 1 and self.shape.depth > 1:
            chosen = [" + ".join(self.numbers)]
        self.lines += [f"print({name})" for name in chosen]
        return "\n".join(self.lines)


def output(source: str) -> str | None:
    """Return what a program of ours prints, None if it fails or grows."""
    try:
        printed = "\n".join(minipy.Program(source, 4_000).run())
    except (minipy.Exhausted, ArithmeticError, LookupError, ValueError, TypeError):
        return None
    return printed if len(printed) <= MAX_OUTPUT else None


def telling(source: str, printed: str | None) -> bool:
    """Return whether an output cannot be guessed: at least two digits long, and no part of the program."""
    if printed is None or not printed.strip():
        return False
    lines = printed.split("\n")
    if any(line.lstrip("-") in source for line in lines) or max(map(len, lines)) < 2:
        return False
    numbers = [int(line) for line in lines if line.lstrip("-").isdigit()]
    return all(12 < abs(n) < MAX_VALUE and n != 42 and n != 100 for n in numbers)


def draw(rng: np.random.Generator, shape: Shape) -> str:
    """Return a program with a telling output in which no statement is idle by chance of a failed run."""
    while True:
        source = _Writer(rng, shape).write()
        if telling(source, output(source)):
            return source
