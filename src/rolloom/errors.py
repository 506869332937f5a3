"""The root of every rolloom error, importable from any room; picklable, so Ray can carry it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RolloomError(Exception):
    """Root of every error raised on purpose. The message says what was expected, what was got, what to do."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None when none is."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or an empty string."""
    near = nearest(name, known)
    return "" if near is None else f" Did you mean '{near}'?"
