"""What a routine is: one step of a specification, written once as a Python function.

The function is the reference that hidden tests are computed with, its source is the gold program, and its
words are the specification. So that programs made of routines can also be interpreted and mutated, routines
keep to the subset of Python that `rolloom.envs.code.minipy` knows.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

Ints = list[int]
Words = list[str]
Table = dict[str, int]
Grid = list[list[int]]
Spans = list[list[int]]

TYPE_WORDS = {
    "int": "an integer",
    "bool": "True or False",
    "str": "a string",
    "Ints": "a list of integers",
    "Words": "a list of strings",
    "Table": "a dictionary from strings to integers",
    "Grid": "a list of equally long lists of integers (the rows of a grid)",
    "Spans": "a list of intervals, each a list [start, end] of two integers with start <= end",
}


@dataclass(frozen=True, slots=True)
class Routine:
    """One step.

    Attributes:
        name: the function's name.
        words: what it does, an imperative clause with `{parameter}` in it.
        takes: type of its first argument, a key of `TYPE_WORDS`.
        gives: type of its result.
        level: from which level on it is drawn.
        choices: values each further parameter may take.
        function: the reference.
        big: a naive way is too slow on the large inputs of `big_input`; the reference is not.
    """

    name: str
    words: str
    takes: str
    gives: str
    level: int
    choices: dict[str, tuple[Any, ...]]
    function: Callable[..., Any]
    big: bool = False


ROUTINES: dict[str, Routine] = {}


def routine(words: str, level: int, big: bool = False, **choices: Any) -> Callable[[Any], Any]:
    """Register the decorated function as a routine; see `Routine`."""

    def add(function: Any) -> Any:
        annotations = function.__annotations__
        first = next(iter(annotations))
        made = Routine(
            function.__name__,
            words,
            annotations[first],
            annotations["return"],
            level,
            {name: tuple(choices[name]) for name in annotations if name in choices},
            function,
            big,
        )
        assert made.name not in ROUTINES and gives_parameters_in_order(made, annotations), made.name
        ROUTINES[made.name] = made
        return function

    return add


def gives_parameters_in_order(made: Routine, annotations: dict[str, Any]) -> bool:
    """Return whether a routine has choices for each parameter after its first."""
    return list(annotations)[1:-1] == list(made.choices)


@cache
def source_of(name: str) -> str:
    """Return the source of a routine as a policy would write it: no decorator, docstring or annotations."""
    tree = ast.parse(inspect.getsource(ROUTINES[name].function))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list, definition.returns = [], None
    for argument in definition.args.args:
        argument.annotation = None
    if ast.get_docstring(definition) is not None:
        definition.body = definition.body[1:]
    return ast.unparse(definition)
