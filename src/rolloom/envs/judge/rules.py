"""Rules that rubric items stand for, checked by a program in linear time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rolloom.envs.errors import EnvError
from rolloom.envs.form.reading import Reading

_EDGES = " \t\n"


def holds(rule: dict[str, Any], answer: str) -> bool:
    """Return True when a rule holds for an answer.

    Rules: `{"has": text}`, `{"lacks": text}` (whole words, any case), `{"words": most}`, `{"first": word}`
    (in the first line), `{"last": text}` (the last line), `{"order": [text, ...]}`.

    Raises:
        EnvError: an unknown rule.
    """
    ((kind, value),) = rule.items()
    reading = Reading(answer)
    if kind == "has":
        return find(answer, value) >= 0
    if kind == "lacks":
        return find(answer, value) < 0
    if kind == "words":
        return 0 < len(reading.words) <= value
    if kind == "first":
        return bool(reading.lines) and find(reading.lines[0], value) >= 0
    if kind == "last":
        return bool(reading.lines) and reading.lines[-1].strip(".,- ") == value
    if kind == "order":
        places = [find(answer, text) for text in value]
        return min(places) >= 0 and places == sorted(places)
    raise EnvError(f"rubric: no rule {kind!r}")


def find(text: str, wanted: str) -> int:
    """Return where a text first has some words as whole words, whatever their case, or -1."""
    text, wanted = text.lower(), wanted.lower()
    at = text.find(wanted)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(wanted) : at + len(wanted) + 1]
        if not before.isalnum() and not after.isalnum():
            return at
        at = text.find(wanted, at + 1)
    return -1


def score(verdicts: Sequence[tuple[bool, float, bool]]) -> float:
    """Return the weighted share of `(held, weight, must)` that held, or 0 when a must did not."""
    if not all(held for held, _, must in verdicts if must):
        return 0.0
    total = sum(weight for _, weight, _ in verdicts)
    return sum(weight for held, weight, _ in verdicts if held) / total if total else 1.0
