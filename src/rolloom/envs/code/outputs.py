"""Compares what a program printed with what was expected; here, never where the program ran.

Policy: the outputs are split at whitespace (so line breaks, trailing spaces and a missing last newline do
not count) and must have the same tokens in the same order. Tokens are equal as text. Where a tolerance is
given, two tokens that are both decimal numbers are also equal within it, relatively or absolutely.
"""

from __future__ import annotations

import math
from typing import Any

MAX_NUMBER_CHARS = 64


def same_output(actual: str, expected: str, tolerance: float | None = None) -> bool:
    """Return whether a program's output is the expected one; see the module."""
    ours, right = actual.split(), expected.split()
    if len(ours) != len(right):
        return False
    return all(
        a == b or (tolerance is not None and close(a, b, tolerance)) for a, b in zip(ours, right, strict=True)
    )


def close(first: str, second: str, tolerance: float) -> bool:
    """Return whether two tokens are numbers that differ by at most `tolerance`, relatively or absolutely."""
    a, b = number(first), number(second)
    return a is not None and b is not None and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def number(text: str) -> float | None:
    """Return the finite number that a token of plain ASCII writes, or None."""
    if len(text) > MAX_NUMBER_CHARS or not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def same_result(actual: Any, expected: Any, tolerance: float | None = None) -> bool:
    """Return whether a function's JSON result is the expected one: 2.0 is 2, `True` is not 1.

    Floats may be off by `tolerance` where it is given, relatively or absolutely.
    """
    if isinstance(expected, bool) or isinstance(actual, bool):
        return type(actual) is type(expected) and actual == expected
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        if actual == expected:
            return True
        try:
            return tolerance is not None and math.isclose(
                actual, expected, rel_tol=tolerance, abs_tol=tolerance
            )
        except OverflowError:
            return False
    if isinstance(expected, list) and isinstance(actual, list):
        pairs = zip(actual, expected, strict=False)
        return len(actual) == len(expected) and all(same_result(a, b, tolerance) for a, b in pairs)
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = actual.keys() == expected.keys()
        return keys and all(same_result(actual[key], expected[key], tolerance) for key in expected)
    return type(actual) is type(expected) and actual == expected
