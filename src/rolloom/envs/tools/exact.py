"""Exact arithmetic for a calculator that strangers use: whole numbers of bounded size, no `eval`."""

from __future__ import annotations

import math
from fractions import Fraction

from rolloom.envs.errors import ToolError

MAX_DIGITS = 400
MAX_BITS = int(MAX_DIGITS * 3.3219281) + 1
MAX_EXPRESSION = 500
MAX_DEPTH = 20

UNITS: dict[str, tuple[str, Fraction]] = {
    "millimetre": ("length", Fraction(1)),
    "centimetre": ("length", Fraction(10)),
    "metre": ("length", Fraction(1_000)),
    "kilometre": ("length", Fraction(1_000_000)),
    "inch": ("length", Fraction(254, 10)),
    "foot": ("length", Fraction(3_048, 10)),
    "yard": ("length", Fraction(9_144, 10)),
    "mile": ("length", Fraction(1_609_344)),
    "milligram": ("mass", Fraction(1)),
    "gram": ("mass", Fraction(1_000)),
    "kilogram": ("mass", Fraction(1_000_000)),
    "tonne": ("mass", Fraction(1_000_000_000)),
    "second": ("time", Fraction(1)),
    "minute": ("time", Fraction(60)),
    "hour": ("time", Fraction(3_600)),
    "day": ("time", Fraction(86_400)),
    "week": ("time", Fraction(604_800)),
    "byte": ("data", Fraction(1)),
    "kibibyte": ("data", Fraction(1 << 10)),
    "mebibyte": ("data", Fraction(1 << 20)),
    "gibibyte": ("data", Fraction(1 << 30)),
}
"""Unit -> what it measures, and its size in the smallest unit of that."""


def whole(text: str) -> int:
    """Return the number that a string of ASCII digits says, with `-` before it or not.

    Raises:
        ToolError: it says none, or one of more than `MAX_DIGITS` digits.
    """
    digits = text.strip().removeprefix("-")
    if not digits or not digits.isascii() or not digits.isdigit():
        raise ToolError("expected a whole number in digits, e.g. '-1234'")
    if len(digits) > MAX_DIGITS:
        raise ToolError(f"a number may have at most {MAX_DIGITS} digits")
    return -int(digits) if text.strip().startswith("-") else int(digits)


def bounded(value: int) -> int:
    """Return a number that is not too large.

    Raises:
        ToolError: it is.
    """
    if value.bit_length() > MAX_BITS:
        raise ToolError(f"the result has more than {MAX_DIGITS} digits")
    return value


def power(base: int, exponent: int) -> int:
    """Return a power, without computing one that is too large.

    Raises:
        ToolError: the result would be too large, or no whole number.
    """
    if exponent < 0:
        raise ToolError("an exponent must be at least 0")
    if abs(base) > 1 and (abs(base).bit_length() - 1) * exponent > MAX_BITS:
        raise ToolError(f"the result has more than {MAX_DIGITS} digits")
    if abs(base) <= 1:
        exponent = min(exponent, 2 + exponent % 2)
    return bounded(base**exponent)


def divide(a: int, b: int) -> tuple[int, int]:
    """Return quotient (rounded down) and remainder.

    Raises:
        ToolError: division by zero.
    """
    if b == 0:
        raise ToolError("division by zero")
    return divmod(a, b)


def convert(value: int, source: str, target: str) -> int:
    """Return a quantity in another unit.

    Raises:
        ToolError: the units measure different things, or the result is no whole number.
    """
    (kind, size), (other, target_size) = UNITS[source], UNITS[target]
    if kind != other:
        raise ToolError(f"{source} measures {kind}, {target} measures {other}")
    result = value * size / target_size
    if result.denominator != 1:
        raise ToolError(f"this is no whole number of {target} units; take a smaller unit")
    return bounded(result.numerator)


def evaluate(text: str) -> int:
    """Return the value of an expression of whole numbers, `+ - * // % **` and brackets.

    Raises:
        ToolError: it is malformed, too long, too deep, or some result is too large.
    """
    if len(text) > MAX_EXPRESSION:
        raise ToolError(f"an expression may have at most {MAX_EXPRESSION} characters")
    return _Expression(text).value()


class _Expression:
    """A recursive descent: sum > product > sign > power > atom."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def value(self) -> int:
        result = self._sum()
        if self._at < len(self._tokens):
            raise ToolError(f"expected an operator at item {self._at + 1} of the expression")
        return result

    def _take(self, *wanted: str) -> str:
        if self._at < len(self._tokens) and self._tokens[self._at] in wanted:
            self._at += 1
            return self._tokens[self._at - 1]
        return ""

    def _sum(self) -> int:
        result = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            result = bounded(result + other if sign == "+" else result - other)
        return result

    def _product(self) -> int:
        result = self._signed()
        while sign := self._take("*", "//", "%"):
            other = self._signed()
            result = bounded(result * other) if sign == "*" else divide(result, other)[sign == "%"]
        return result

    def _signed(self) -> int:
        self._deeper(1)
        negative = bool(self._take("-"))
        result = -self._signed() if negative else self._power()
        self._deeper(-1)
        return result

    def _power(self) -> int:
        base = self._atom()
        return power(base, self._signed()) if self._take("**") else base

    def _atom(self) -> int:
        if self._take("("):
            result = self._sum()
            if not self._take(")"):
                raise ToolError("a bracket was not closed")
            return result
        if self._at >= len(self._tokens) or not self._tokens[self._at].isdigit():
            raise ToolError(f"expected a number at item {self._at + 1} of the expression")
        self._at += 1
        return whole(self._tokens[self._at - 1])

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > MAX_DEPTH:
            raise ToolError(f"an expression may be at most {MAX_DEPTH} levels deep")


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    digits = ""
    for place, character in enumerate([*text, " "]):
        if character in "0123456789":
            digits += character
            continue
        if digits:
            tokens.append(digits)
            digits = ""
        if character in "*/" and tokens[-1:] == [character] and text[place - 1] == character:
            tokens[-1] += character
        elif character in "+-*/%()":
            tokens.append(character)
        elif character != " ":
            raise ToolError("an expression has digits, + - * // % ** and brackets only")
    return tokens


def gcd(a: int, b: int) -> int:
    """Return the greatest common divisor."""
    return math.gcd(a, b)
