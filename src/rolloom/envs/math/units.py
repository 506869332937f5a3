"""Quantities: an exact number with a unit, read from a normal form and compared by value."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from rolloom.envs.math.notation import MAX_DIGITS, MAX_WORD

_SIZES: dict[str, dict[str, str | int]] = {
    "length": {
        "mm millimeter millimetre": "1/1000", "cm centimeter centimetre": "1/100", "dm decimeter": "1/10",
        "m meter metre": 1, "km kilometer kilometre": 1000, "inch inches in": "254/10000",
        "ft foot feet": "3048/10000", "yd yard": "9144/10000", "mi mile": "1609344/1000",
    },
    "mass": {
        "mg milligram": "1/1000000", "g gram": "1/1000", "kg kilogram kilo": 1, "tonne ton": 1000,
        "lb pounds": "45359237/100000000", "oz ounce": "28349523125/1000000000000",
    },
    "time": {
        "ms millisecond": "1/1000", "s sec second": 1, "min minute": 60, "h hr hour": 3600, "day": 86400,
        "week": 604800,
    },
    "calendar": {"month": 1, "year yr": 12},
    "volume": {
        "ml milliliter millilitre": "1/1000", "cl centiliter": "1/100", "l liter litre": 1,
        "cm^3 cubiccentimeter": "1/1000", "dm^3": 1, "m^3 cubicmeter": 1000,
    },
    "area": {
        "mm^2 squaremillimeter": "1/1000000", "cm^2 squarecentimeter squarecentimetre": "1/10000",
        "m^2 squaremeter squaremetre": 1, "ha hectare": 10000, "km^2 squarekilometer": 1000000,
        "ft^2 squarefoot squarefeet": "9290304/100000000",
    },
    "speed": {"km/h kmh kph": "1000/3600", "m/s": 1, "mi/h mph": "1609344/3600000", "m/min": "1/60"},
    "angle": {"deg degree": 1},
    "ratio": {"% percent": "1/100"},
    "dollar": {"$ dollar usd": 1, "cent": "1/100"},
    "euro": {"euro eur": 1},
    "pound": {"pound gbp": 1},
}  # fmt: skip
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(size))
    for dimension, sizes in _SIZES.items()
    for names, size in sizes.items()
    for name in names.split()
}
_LONG = {
    "kilometersperhour": "km/h", "kilometerperhour": "km/h", "kilometresperhour": "km/h", "km/hour": "km/h",
    "km/hr": "km/h", "meterspersecond": "m/s", "metrespersecond": "m/s", "meters/second": "m/s",
    "milesperhour": "mph", "meterpersecond": "m/s", "miles/hour": "mph", "metersperminute": "m/min",
}  # fmt: skip
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(_PLAIN)
_POWER_OF_TEN = re.compile(rf"({_PLAIN}) ?(?:\\cdot ?10\^\{{(-?[0-9]{{1,3}})\}}|[eE]([+-]?[0-9]{{1,3}}))")
_RATIO = re.compile(
    rf"(?:([0-9]+) ?)?\\frac ?\{{ ?(-?)({_PLAIN}) ?\}} ?\{{ ?({_PLAIN}) ?\}}"
    rf"|(?:([0-9]+) )?({_PLAIN}) ?/ ?({_PLAIN})"
)
_UNIT = re.compile(r" ?(%|[A-Za-z]+(?: [A-Za-z]+){0,2}(?:\^\{?[23]\}?)?(?: ?/ ?[A-Za-z]+)?)")
MAX_UNIT = 40
MAX_EXPONENT = 100


def number(text: str) -> Fraction | None:
    """Return the exact value of a numeral in normal form, or None.

    A numeral is an integer (`1,000` too), a decimal, a fraction, a mixed number or a number in scientific
    notation, with a sign. `2+3` and `2^{10}` are computations, not numerals.
    """
    text = text.strip()
    sign = 1
    for _ in range(3):
        if text[:1] in ("+", "-"):
            sign, text = (-sign if text[0] == "-" else sign), text[1:].lstrip()
        elif text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            text = text[1:-1].strip()
        else:
            break
    value = _unsigned(text) if len(text) <= 2 * MAX_DIGITS else None
    return None if value is None else sign * value


def _unsigned(text: str) -> Fraction | None:
    if _NUMBER.fullmatch(text):
        return _decimal(text)
    if match := _POWER_OF_TEN.fullmatch(text):
        exponent = int(match[2] or match[3])
        return _decimal(match[1]) * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    whole, minus, upper, lower = (match[1], match[2], match[3], match[4]) if match[4] else (
        match[5], "", match[6], match[7]
    )  # fmt: skip
    over, under = _decimal(upper), _decimal(lower)
    if under == 0 or (whole and (minus or over >= under)):
        return None
    value = over / under
    return int(whole) + value if whole else (-value if minus else value)


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit.

    Attributes:
        value: the number as written.
        unit: its name as looked up, or "" for none; a word that is no known unit is kept as it stands.
    """

    value: Fraction
    unit: str = ""

    def answers(self, expected: Quantity) -> bool:
        """Return True when this is the expected quantity.

        Units are converted. Without a unit a number is read in the expected one. A unit that was not
        expected does not matter, but a percent sign does: it stands for a hundredth.
        """
        if not self.unit and expected.unit and self.value == expected.value:
            return True
        mine, theirs = _UNITS.get(self.unit), _UNITS.get(expected.unit)
        if self.unit and expected.unit:
            if mine and theirs:
                return mine[0] == theirs[0] and self.value * mine[1] == expected.value * theirs[1]
            return self.unit == expected.unit and self.value == expected.value
        if expected.unit:
            return expected.unit == "%" and self.value == expected.value / 100
        share = Fraction(1, 100) if mine and mine[0] == "ratio" else 1
        return (not self.unit or mine is not None) and self.value * share == expected.value


def quantity(text: str) -> Quantity | None:
    """Return the quantity that a normal form writes, or None."""
    text = text.strip()
    value = number(text)
    if value is not None:
        return Quantity(value)
    if "$" in text:
        sign = "-" if text.startswith("-") else ""
        text = text.removeprefix("-").strip()
        value = number(sign + text[1:]) if text.startswith("$") else None
        value = number(sign + text[:-1]) if value is None and text.endswith("$") else value
        return None if value is None else Quantity(value, "$")
    starts = (
        at
        for at, character in enumerate(text)
        if character == "%" or (character.isalpha() and text[at - 1 : at] in ("", " ", "}", *"0123456789."))
    )
    # The letter of `1.5e3` may come before the unit's; nothing else may.
    for start in itertools.islice(starts, 3):
        value = number(text[:start])
        match = _UNIT.fullmatch(text, start) if len(text) - start <= MAX_UNIT else None
        unit = _unit_name(match[1]) if match else ""
        # Two letters that are no unit are a product of symbols.
        if value is not None and match and (unit in _UNITS or len(match[1].strip()) > MAX_WORD):
            return Quantity(value, unit)
    return None


def without_unit(text: str) -> tuple[str, str]:
    """Return a normal form without the known unit that ends it, and that unit or ""."""
    text = text.strip()
    for start in range(max(0, len(text) - MAX_UNIT), len(text)):
        if text[start] in " %" and (match := _UNIT.fullmatch(text, start)):
            unit = _unit_name(match[1])
            if unit in _UNITS and text[:start].strip():
                return text[:start].strip(), unit
    return text, ""


def _unit_name(written: str) -> str:
    name = "".join(written.split()).replace("{", "").replace("}", "")
    name = _LONG.get(name.lower(), name)
    for candidate in (name, name.lower(), name.lower().removesuffix("s"), name.lower().removesuffix("es")):
        if candidate in _UNITS:
            return "%" if candidate == "percent" else candidate
    return name.lower().removesuffix("s")
