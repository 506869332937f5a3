"""What a family of stdin/stdout problems is: a solving function, how its input is laid out, how it is drawn.

The function is the reference that expected outputs are computed with, and its source is the heart of the gold
program. Around it, `reading` and `printing` lay out the input and the output.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator, int, dict[str, Any]], list[Any]]

LAYOUTS: dict[str, tuple[str, str]] = {
    "int": ("one line with an integer {0}", "{0} = int(input())"),
    "ints": (
        "one line with the number of items of the list {0}, and one line with its items, integers",
        "input()\n{0} = list(map(int, input().split()))",
    ),
    "text": ("one line of text {0}", "{0} = input()"),
    "lines": (
        "one line with a number, and as many lines of text, the list {0}",
        "{0} = [input() for _ in range(int(input()))]",
    ),
    "rows": (
        "one line with a number, and as many lines of integers separated by spaces, the list {0}",
        "{0} = [list(map(int, input().split())) for _ in range(int(input()))]",
    ),
}
"""Kinds of input: the layout in words, and the code that reads it, for a variable `{0}`."""

PRINTING = {
    "value": "print({0})",
    "ints": "print(*{0})",
    "lines": "for item in {0}:\n    print(item)",
    "float": 'print(f"{{{0}:.6f}}")',
}


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    Attributes:
        name: the function's name.
        words: the task, with `{parameter}` in it.
        reads: `{argument: layout}`, keys of `LAYOUTS`, in the order of the input.
        prints: key of `PRINTING`.
        level: from which level on it is drawn.
        choices: values each parameter may take.
        draw: `(rng, size, parameters) -> arguments`.
        function: the reference: arguments, then parameters.
    """

    name: str
    words: str
    reads: dict[str, str]
    prints: str
    level: int
    choices: dict[str, tuple[Any, ...]]
    draw: Draw
    function: Callable[..., Any]


FAMILIES: dict[str, Family] = {}


def family(
    words: str, level: int, draw: Draw, prints: str = "value", reads: str = "", **choices: Any
) -> Callable[[Any], Any]:
    """Register the decorated function as a family; `reads` is `argument:layout` separated by spaces."""

    def add(function: Any) -> Any:
        layout = dict(item.split(":") for item in reads.split())
        made = Family(
            function.__name__,
            words,
            layout,
            prints,
            level,
            {name: tuple(values) for name, values in choices.items()},
            draw,
            function,
        )
        names = list(inspect.signature(function).parameters)
        assert made.name not in FAMILIES and names == [*layout, *choices], made.name
        FAMILIES[made.name] = made
        return function

    return add


@cache
def source_of(name: str) -> str:
    """Return the source of a family's function without its decorator and annotations."""
    definition = ast.parse(inspect.getsource(FAMILIES[name].function)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list, definition.returns = [], None
    for argument in definition.args.args:
        argument.annotation = None
    return ast.unparse(definition)


def write_input(layout: str, value: Any) -> str:
    """Return the lines of an argument in the input."""
    if layout in ("int", "text"):
        return f"{value}\n"
    if layout == "ints":
        return f"{len(value)}\n{' '.join(map(str, value))}\n"
    rows = value if layout == "lines" else [" ".join(map(str, row)) for row in value]
    return "".join(f"{line}\n" for line in (len(value), *rows))


def write_output(prints: str, value: Any) -> str:
    """Return what a right program prints for a result."""
    if prints == "ints":
        return " ".join(map(str, value)) + "\n"
    if prints == "lines":
        return "".join(f"{item}\n" for item in value)
    return f"{value:.6f}\n" if prints == "float" else f"{value}\n"
