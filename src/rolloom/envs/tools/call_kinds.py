"""Kinds of arguments that functions take: a JSON schema, random values, and how a request says a value."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Said = tuple[Any, str]
"""A value, and the words for it in a request."""

REQUIRED = object()
SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What values an argument takes.

    Attributes:
        schema: JSON schema of a value.
        draw: returns a random value and its words; with `spoken`, the words differ from the value.
        nested: it is an object or an array.
    """

    schema: dict[str, Any]
    draw: Callable[[np.random.Generator, bool], Said]
    nested: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: its key in the arguments.
        kind: its values.
        note: its description.
        clause: how a request mentions it, with `{}` for the value's words.
        default: `REQUIRED`, the default value, or None for an optional parameter without any.
    """

    name: str
    kind: Kind
    note: str
    clause: str
    default: Any = REQUIRED


@dataclass(frozen=True, slots=True)
class Function:
    """A function on offer.

    Attributes:
        name: identifier.
        note: description.
        order: the beginning of a request for it, e.g. `Book a table`.
        parameters: in the order in which a request mentions them.
        family: functions of one family are near misses for each other.
    """

    name: str
    note: str
    order: str
    parameters: tuple[Parameter, ...]
    family: str = ""

    @property
    def plain(self) -> bool:
        """True when no required parameter is nested."""
        return not any(p.kind.nested and p.default is REQUIRED for p in self.parameters)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of its arguments."""
        properties = {}
        for p in self.parameters:
            default = {} if p.default is REQUIRED or p.default is None else {"default": p.default}
            properties[p.name] = {**p.kind.schema, "description": p.note, **default}
        needed = [p.name for p in self.parameters if p.default is REQUIRED]
        return {
            "type": "object",
            "properties": properties,
            "required": needed,
            "additionalProperties": False,
        }

    def draw(
        self, rng: np.random.Generator, spoken: bool, extras: float, nested: bool
    ) -> tuple[dict[str, Any], str]:
        """Return random arguments and the request for them.

        Args:
            rng: source of chance.
            spoken: words differ from values.
            extras: chance of each optional parameter.
            nested: objects and arrays may be among the optional ones.
        """
        arguments: dict[str, Any] = {}
        request = self.order
        for p in self.parameters:
            optional = p.default is not REQUIRED
            if optional and (rng.random() >= extras or (p.kind.nested and not nested)):
                continue
            value, words = p.kind.draw(rng, spoken)
            if optional and value == p.default:
                continue
            arguments[p.name] = value
            request += p.clause.format(words)
        return arguments, request + "."


def need(name: str, kind: Kind, note: str, clause: str) -> Parameter:
    """Return a required parameter."""
    return Parameter(name, kind, note, clause)


def may(default: Any, name: str, kind: Kind, note: str, clause: str) -> Parameter:
    """Return an optional parameter."""
    return Parameter(name, kind, note, clause, default)


# -- kinds ---------------------------------------------------------------------------------------------------


def one_of(pool: Sequence[str]) -> Kind:
    """Return the kind of free text that requests draw from a pool."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = pick(rng, pool)
        return value, value

    return Kind({"type": "string"}, draw)


def integer(low: int, high: int, step: int = 1) -> Kind:
    """Return a whole number; small ones may be spoken as words."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = low + step * int(rng.integers((high - low) // step + 1))
        return value, SMALL[value] if spoken and 0 <= value < len(SMALL) else str(value)

    return Kind({"type": "integer", "minimum": low, "maximum": high}, draw)


def number(low: int, high: int, decimals: int = 2) -> Kind:
    """Return a number with decimals."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        scaled = int(rng.integers(low * 10**decimals, high * 10**decimals))
        words = f"{scaled // 10**decimals}.{scaled % 10**decimals:0{decimals}d}"
        return float(words), words

    return Kind({"type": "number", "minimum": low, "maximum": high}, draw)


def choice(words: Mapping[str, str]) -> Kind:
    """Return an enum; spoken requests use the words given for each value."""
    values = list(words)

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = pick(rng, values)
        return value, words[value] if spoken else value

    return Kind({"type": "string", "enum": values}, draw)


def flag() -> Kind:
    """Return a switch that requests only ever mention to set it."""
    return Kind({"type": "boolean"}, lambda rng, spoken: (True, ""))


def date() -> Kind:
    """Return an ISO date, spoken like `3 May 2027`."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        day = datetime.date(2026, 1, 1) + datetime.timedelta(days=int(rng.integers(1_000)))
        words = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
        return day.isoformat(), words if spoken else day.isoformat()

    return Kind({"type": "string", "format": "date"}, draw)


def clock() -> Kind:
    """Return a time `HH:MM`, spoken like `3:30 pm`."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        hour, minute = int(rng.integers(24)), 5 * int(rng.integers(12))
        value = f"{hour:02d}:{minute:02d}"
        return value, f"{(hour - 1) % 12 + 1}:{minute:02d} {'pm' if hour > 11 else 'am'}" if spoken else value

    return Kind({"type": "string"}, draw)


def minutes() -> Kind:
    """Return a duration in minutes, spoken like `2 hours and 15 minutes`."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = 5 * int(rng.integers(3, 60))
        hours, rest = divmod(value, 60)
        if not spoken or not hours:
            return value, f"{value} minutes"
        words = f"{hours} hour{'s' * (hours > 1)}" + (f" and {rest} minutes" if rest else "")
        return value, words

    return Kind({"type": "integer", "minimum": 1}, draw)


def code(prefix: str, digits: int = 4) -> Kind:
    """Return an identifier such as `INV-4821`."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = f"{prefix}-{int(rng.integers(10 ** (digits - 1), 10**digits))}"
        return value, value

    return Kind({"type": "string"}, draw)


def email() -> Kind:
    """Return an e-mail address."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = f"{pick(rng, FIRST).lower()}.{pick(rng, LAST).lower()}@{pick(rng, HOSTS)}"
        return value, value

    return Kind({"type": "string", "format": "email"}, draw)


def person() -> Kind:
    """Return a full name."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        value = f"{pick(rng, FIRST)} {pick(rng, LAST)}"
        return value, value

    return Kind({"type": "string"}, draw)


def several(kind: Kind, low: int, high: int) -> Kind:
    """Return an array of distinct values whose order does not matter."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        drawn: dict[str, Any] = {}
        count = int(rng.integers(low, high + 1))
        while len(drawn) < count:
            value, words = kind.draw(rng, spoken)
            drawn.setdefault(words, value)
        return list(drawn.values()), listed(list(drawn))

    return Kind({"type": "array", "items": kind.schema, "uniqueItems": True}, draw, nested=True)


def record(form: str, **fields: Kind) -> Kind:
    """Return an object; `form` says it, with one `{name}` for each field."""

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        drawn = {name: kind.draw(rng, spoken) for name, kind in fields.items()}
        words = form.format(**{name: said for name, (_, said) in drawn.items()})
        return {name: value for name, (value, _) in drawn.items()}, words

    schema = {
        "type": "object",
        "properties": {name: kind.schema for name, kind in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
    return Kind(schema, draw, nested=True)


def period() -> Kind:
    """Return an object of a first and a last day."""
    day = date()

    def draw(rng: np.random.Generator, spoken: bool) -> Said:
        (start, first), (end, last) = sorted(day.draw(rng, spoken) for _ in range(2))
        return {"start": start, "end": end}, f"from {first} to {last}"

    return Kind(record("", start=day, end=day).schema, draw, nested=True)


def pick(rng: np.random.Generator, pool: Sequence[str]) -> str:
    """Return one of a pool."""
    return pool[int(rng.integers(len(pool)))]


def listed(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
FIRST = (
    *("Ana", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi", "Lena"),
    *("Marta", "Nadia", "Omar", "Priya", "Rosa", "Samir", "Tomas", "Yuki"),
)
LAST = (
    *("Silva", "Berg", "Costa", "Dahl", "Evans", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Kumar"),
    *("Lopez", "Mensah", "Novak", "Okoye", "Petrov", "Rossi", "Sato", "Tanaka", "Weber"),
)
HOSTS = ("example.com", "example.org", "mail.example.net", "office.example.com")
CITIES = (
    *("Lisbon", "Oslo", "Kyoto", "Nairobi", "Lima", "Dublin", "Hanoi", "Quito", "Riga", "Porto", "Ghent"),
    *("Turin", "Leeds", "Osaka", "Accra", "Bergen", "Bogota", "Cusco", "Graz", "Malmo", "Tartu", "Varna"),
)
STREETS = (
    "Mill Road",
    "Station Street",
    "Park Lane",
    "Harbour Way",
    "Church Street",
    "Elm Avenue",
    "Quay Road",
)
