"""The structure of an answer: numbers and expressions within sets, tuples, lists, intervals and unions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from rolloom.envs.math import regions
from rolloom.envs.math.notation import split_top, tokens
from rolloom.envs.math.units import number

MAX_ITEMS = 64
Kind = Literal["scalar", "list", "set", "tuple", "union", "difference"]
_ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{[0-9A-Za-z]+\})?(?:\([A-Za-z]\))?) ?=(?!=)")
_MEMBER = re.compile(r"[A-Za-z] ?\\in ")
_CHAIN = re.compile(r"(<|>|\\le ?|\\ge ?)")
_SYMBOL = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Shape:
    """One structure.

    Attributes:
        kind: `scalar` (a number or expression), `list` (items without brackets), `set` (braces), `tuple`
            (items in round or square brackets: a tuple, or an interval when there are two), `union`,
            `difference`.
        text: the normal form it was read from.
        items: what it holds.
        brackets: the two brackets of a tuple.
    """

    kind: Kind
    text: str
    items: tuple[Shape, ...] = ()
    brackets: str = ""


def read(text: str) -> Shape:
    """Return the structure of a normal form."""
    text = text.strip()
    if member := _MEMBER.match(text):
        text = text[member.end() :].strip()
    for separator, kind in (("\\setminus", "difference"), ("\\cup", "union")):
        parts = split_top(text, separator)
        if len(parts) > 1:
            return Shape(kind, text, tuple(map(read, parts[:MAX_ITEMS])))  # type: ignore[arg-type]
    parts = split_top(text, ",", ";", "and", "or")
    if len(parts) > 1 and number(text) is None:
        # An Oxford comma leaves an empty part: `1, 2, and 3`.
        parts = [part for part in parts if part]
        return Shape("list", text, tuple(map(read, parts[: MAX_ITEMS + 1])))
    if text.count("\\pm") == 1 and "=" not in text.partition("\\pm")[2]:
        return Shape("list", text, tuple(read(text.replace("\\pm", sign)) for sign in "+-"))
    _, value = assigned(text)
    inner = _bracketed(value)
    if inner is None or (inner[0] != "\\{" and len(split_top(inner[1], ",", ";")) < 2):
        return Shape("scalar", text)
    opening, content, closing = inner
    parts = [part for part in split_top(content, ",", ";") if part]
    items = tuple(
        Shape("scalar", part) if opening != "\\{" else read(part) for part in parts[: MAX_ITEMS + 1]
    )
    return Shape("set" if opening == "\\{" else "tuple", text, items, opening[-1] + closing[-1])


def assigned(text: str) -> tuple[str, str]:
    """Return the symbol that a normal form says equals something, or "", and that something."""
    match = _ASSIGNMENT.match(text)
    return (match[1], text[match.end() :].strip()) if match else ("", text)


def _bracketed(text: str) -> tuple[str, str, str] | None:
    """Return opening bracket, content and closing bracket when one pair encloses the whole text."""
    found = list(tokens(text))
    if len(found) < 2 or found[0] not in ("(", "[", "\\{") or found[-1] not in (")", "]", "\\}"):
        return None
    depth = 0
    for index, token in enumerate(found):
        depth += (token in ("(", "[", "{", "\\{")) - (token in (")", "]", "}", "\\}"))
        if depth == 0 and index < len(found) - 1:
            return None
    return found[0], text[len(found[0]) : -len(found[-1])], found[-1]


def symbols(text: str) -> set[str]:
    """Return the runs of letters in a normal form that are no commands."""
    return {token for token in tokens(text) if token.isalpha()}


def end(text: str) -> regions.End | None:
    """Return a number or an infinity, or None."""
    text = text.replace(" ", "")
    if text in ("\\infty", "+\\infty"):
        return math.inf
    return -math.inf if text == "-\\infty" else number(text)


def region(shape: Shape) -> regions.Region | None:
    """Return the set of reals a structure stands for when all its ends are numbers, or None."""
    try:
        return _region(shape)
    except ValueError:
        return None


def _region(shape: Shape) -> regions.Region | None:
    if shape.kind in ("union", "difference"):
        parts = [_region(item) for item in shape.items]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return regions.union(*known) if shape.kind == "union" else regions.difference(
            known[0], regions.union(*known[1:])
        )  # fmt: skip
    if shape.kind == "set":
        values = [end(item.text) for item in shape.items]
        if any(value is None or abs(value) == math.inf for value in values):
            return None
        return regions.union([regions.point(value) for value in values if value is not None])
    if shape.kind == "tuple" and len(shape.items) == 2:
        low, high = (end(item.text) for item in shape.items)
        if low is None or high is None:
            return None
        return (regions.Piece(low, high, shape.brackets[0] == "[", shape.brackets[1] == "]"),)
    if shape.text in ("\\R", "\\emptyset"):
        return regions.REALS if shape.text == "\\R" else ()
    return _inequality(shape.text)


def _inequality(text: str) -> regions.Region | None:
    r"""Return the solutions of `x < 3` or `1 < x \le 3`, the symbol alone on its side."""
    parts = [part.strip() for part in _CHAIN.split(text)]
    if len(parts) not in (3, 5):
        return None
    sides, signs = parts[::2], parts[1::2]
    where = [index for index, side in enumerate(sides) if _SYMBOL.fullmatch(side)]
    if len(where) != 1 or (len(parts) == 5 and where != [1]):
        return None
    solutions = [regions.REALS]
    for index, sign in enumerate(signs):
        before = where[0] == index
        value = end(sides[index + 1] if before else sides[index])
        if value is None or abs(value) == math.inf:
            return None
        closed = sign in ("\\le", "\\ge")
        below = (sign in ("<", "\\le")) == before
        solutions.append(
            (regions.Piece(-math.inf, value, False, closed),)
            if below
            else (regions.Piece(value, math.inf, closed, False),)
        )
    return regions.intersection(*solutions)
