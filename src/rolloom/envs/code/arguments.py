"""Reads an argument that a policy wrote as JSON, and checks that it is of a function's input type."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rolloom.envs.code.answers import extract_code

MAX_CHARS, MAX_ITEMS, MAX_NUMBER, MAX_TEXT = 2_000, 60, 10**6, 200


class NotAnArgument(Exception):
    """The text is no JSON value of the type asked for, or too large."""


def read(content: str, kind: str) -> Any:
    """Return the argument in a turn's content (or in its fenced block).

    Raises:
        NotAnArgument: it is not JSON, of another type (see `routines.core.TYPE_WORDS`), or too large.
    """
    text = extract_code(content[: MAX_CHARS + 1]).strip()
    if len(text) > MAX_CHARS:
        raise NotAnArgument("too long")
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise NotAnArgument("not JSON") from error
    if not CHECKS[kind](value):
        raise NotAnArgument(f"not of type {kind}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _int(value: Any) -> bool:
    return type(value) is int and abs(value) <= MAX_NUMBER


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT and value.isprintable()


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and len(value) <= MAX_ITEMS and all(map(check, value))


def _grid(value: Any) -> bool:
    rows = _list_of(_list_of(_int))
    return rows(value) and len({len(row) for row in value}) <= 1 and all(value)


def _spans(value: Any) -> bool:
    return _list_of(_list_of(_int))(value) and all(len(span) == 2 and span[0] <= span[1] for span in value)


def _table(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) <= MAX_ITEMS
        and all(_text(k) and _int(v) for k, v in value.items())
    )


CHECKS: dict[str, Callable[[Any], bool]] = {
    "int": _int,
    "str": _text,
    "Ints": _list_of(_int),
    "Words": _list_of(_text),
    "Table": _table,
    "Grid": _grid,
    "Spans": _spans,
}

PANEL: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, -1, 2, 5, 7, 10, 12, 42, 99, 100, 123, 1000, -17),
    "str": ("", "a", "abc", "aaa", "hello", "hello world", "abcabc", "racecar", "The quick brown fox",
            "aabbcc"),
    "Ints": ([], [0], [1], [1, 2, 3], [3, 1, 2], [5, 5, 5], [-1, -2, -3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
             [10, -3, 7, 0, 7, 2], [4, 8, 15, 16, 23, 42], [100, 1, 50, 2]),
    "Words": ([], [""], ["a"], ["a", "b", "c"], ["hello", "world"], ["abc", "abc"],
              ["apple", "banana", "cherry"]),
    "Table": ({}, {"a": 0}, {"a": 1}, {"a": 1, "b": 2}, {"a": 5, "b": 5, "c": -1}, {"apple": 3, "banana": 7}),
    "Grid": ([], [[0]], [[1]], [[1, 2], [3, 4]], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "Spans": ([], [[0, 0]], [[0, 1]], [[1, 3], [2, 6]], [[1, 2], [3, 4]], [[0, 10], [2, 3], [15, 18]]),
}  # fmt: skip
"""Arguments anyone would try without reading the program; they must not solve a problem."""
