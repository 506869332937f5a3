"""Fields of generated records: each has a JSON schema, a value, and a sentence that states the value.

A field that no sentence states is free: its schema alone says what may stand there.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rolloom.envs.knowledge.topics import written
from rolloom.envs.knowledge.words import CITIES, COLOURS, NAMES, THINGS, one, pick

DATE = {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
HOBBIES = (
    "chess",
    "rowing",
    "painting",
    "cooking",
    "hiking",
    "singing",
    "sailing",
    "reading",
    "judo",
    "pottery",
)
PLANS = ("basic_monthly", "basic_yearly", "family_plus", "student_half", "trial_week")


@dataclass(frozen=True, slots=True)
class Field:
    """A drawn field.

    Attributes:
        name: property name.
        schema: its JSON schema.
        value: its right value, or one of those allowed.
        sentence: what the text says about it; "" for a free field.
        free: places within the value (`""` for all of it) that the text does not fix.
    """

    name: str
    schema: dict[str, Any]
    value: Any
    sentence: str = ""
    free: list[str] = field(default_factory=list)


Maker = Callable[[np.random.Generator, str], Field]


def _date(rng: np.random.Generator) -> datetime.date:
    return datetime.date(1950, 1, 1) + datetime.timedelta(int(rng.integers(26_000)))


def city(rng: np.random.Generator, who: str) -> Field:
    """A plain string."""
    town = one(rng, CITIES)
    return Field("city", {"type": "string", "minLength": 1}, town, f"{who} lives in {town}.")


def age(rng: np.random.Generator, who: str) -> Field:
    """An integer in a range."""
    years = int(rng.integers(18, 99))
    return Field(
        "age", {"type": "integer", "minimum": 0, "maximum": 150}, years, f"{who} is {years} years old."
    )


def birthday(rng: np.random.Generator, who: str) -> Field:
    """A date that the text writes in another form."""
    day = _date(rng)
    return Field("birthday", DATE, str(day), f"{who} was born on {written(day)}.")


def plan(rng: np.random.Generator, who: str) -> Field:
    """One of an enumeration, said in words."""
    value = one(rng, PLANS)
    return Field(
        "plan", {"enum": list(PLANS)}, value, f"{who} has chosen the {value.replace('_', ' ')} plan."
    )


def active(rng: np.random.Generator, who: str) -> Field:
    """A boolean, said in words."""
    yes = bool(rng.integers(2))
    said = "uses the account regularly" if yes else "has closed the account"
    return Field("active", {"type": "boolean"}, yes, f"{who} {said}.")


def balance(rng: np.random.Generator, who: str) -> Field:
    """A number with a fraction, sometimes below zero."""
    euros = int(rng.integers(-900, 5_000)) + 0.5
    said = f"owes {-euros:.2f} euros" if euros < 0 else f"has {euros:.2f} euros in credit"
    schema = {"type": "number", "multipleOf": 0.5, "description": "euros; negative for a debt"}
    return Field("balance", schema, euros, f"{who} {said}.")


def code(rng: np.random.Generator, who: str) -> Field:
    """A string with a pattern that the text writes with a blank."""
    letters = "".join(chr(65 + int(rng.integers(26))) for _ in range(2))
    digits = int(rng.integers(1_000, 10_000))
    schema = {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}
    return Field("code", schema, f"{letters}-{digits}", f"The member code of {who} is {letters} {digits}.")


def hobbies(rng: np.random.Generator, who: str) -> Field:
    """A list of strings."""
    chosen = pick(rng, HOBBIES, int(rng.integers(2, 5)))
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
    schema["description"] = "in the order of the text"
    return Field("hobbies", schema, chosen, f"{who} likes {', '.join(chosen[:-1])} and {chosen[-1]}.")


def sponsor(rng: np.random.Generator, who: str) -> Field:
    """A string or null."""
    name = one(rng, NAMES) if rng.random() < 0.5 else None
    said = f"was recommended by {name}" if name else "was recommended by nobody"
    return Field("sponsor", {"type": ["string", "null"]}, name, f"{who} {said}.")


def address(rng: np.random.Generator, who: str) -> Field:
    """A nested object."""
    street, number = f"{one(rng, THINGS).capitalize()} Street", int(rng.integers(1, 200))
    post = f"{int(rng.integers(10_000, 100_000))}"
    value = {"street": street, "number": number, "postcode": post}
    properties = {
        "street": {"type": "string"},
        "number": {"type": "integer", "exclusiveMinimum": 0},
        "postcode": {"type": "string", "pattern": "^[0-9]{5}$"},
    }
    return Field("address", closed(properties), value, f"Letters to {who} go to {number} {street}, {post}.")


def visits(rng: np.random.Generator, who: str) -> Field:
    """A list of objects."""
    made, said = [], []
    for _ in range(int(rng.integers(2, 4))):
        day, stars = _date(rng), int(rng.integers(1, 6))
        made.append({"date": str(day), "stars": stars})
        said.append(f"on {written(day)} ({stars} of 5 stars)")
    item = closed({"date": DATE, "stars": {"type": "integer", "minimum": 1, "maximum": 5}})
    schema = {"type": "array", "items": item, "minItems": 1, "description": "in the order of the text"}
    return Field("visits", schema, made, f"{who} came by {' and '.join(said)}.")


def position(rng: np.random.Generator, who: str) -> Field:
    """A pair of numbers as a tuple."""
    north, east = int(rng.integers(-80, 80)) + 0.25, int(rng.integers(-170, 170)) + 0.75
    schema = {
        "type": "array",
        "prefixItems": [{"type": "number", "minimum": -90, "maximum": 90}, {"type": "number"}],
        "items": False,
        "minItems": 2,
        "description": "latitude, longitude",
    }
    return Field(
        "position", schema, [north, east], f"{who} was last seen at longitude {east} and latitude {north}."
    )


def pet(rng: np.random.Generator, who: str) -> Field:
    """One of two forms of object."""
    name = one(rng, NAMES)
    dog = closed({"kind": {"const": "dog"}, "name": {"type": "string"}, "trained": {"type": "boolean"}})
    cat = closed({"kind": {"const": "cat"}, "name": {"type": "string"}, "kilos": {"type": "integer"}})
    if rng.random() < 0.5:
        trained = bool(rng.integers(2))
        value: dict[str, Any] = {"kind": "dog", "name": name, "trained": trained}
        said = f"a dog called {name}, which {'went' if trained else 'never went'} to a training school"
    else:
        kilos = int(rng.integers(2, 9))
        value, said = {"kind": "cat", "name": name, "kilos": kilos}, f"{name}, a cat of {kilos} kilos"
    return Field("pet", {"oneOf": [dog, cat]}, value, f"{who} owns {said}.")


def greeting(rng: np.random.Generator, who: str) -> Field:
    """Free text with a pattern."""
    low = int(rng.integers(15, 25))
    schema = {"type": "string", "pattern": f"^Dear {who}, ", "minLength": low, "maxLength": low + 25}
    schema["description"] = "a greeting of your own"
    return Field("greeting", schema, f"Dear {who}, welcome to our club!"[: low + 25], free=[""])


def tags(rng: np.random.Generator, who: str) -> Field:
    """A free choice of different words, one of them given."""
    words = pick(rng, COLOURS, 7)
    count = int(rng.integers(2, 5))
    schema = {
        "type": "array",
        "items": {"enum": words},
        "contains": {"const": words[3]},
        "minItems": count,
        "maxItems": count,
        "uniqueItems": True,
        "description": "your choice",
    }
    return Field("tags", schema, [words[3], *words[:3]][:count], free=[""])


def score(rng: np.random.Generator, who: str) -> Field:
    """A free number with bounds and a divisor."""
    step, low = int(rng.integers(3, 12)), int(rng.integers(20, 60))
    schema = {"type": "integer", "multipleOf": step, "exclusiveMinimum": low, "maximum": low + 2 * step}
    schema["description"] = "any that fits"
    return Field("score", schema, (low // step + 1) * step, free=[""])


def pin(rng: np.random.Generator, who: str) -> Field:
    """A free string with a pattern."""
    digits, letters = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    schema = {
        "type": "string",
        "pattern": f"^[0-9]{{{digits}}}[a-f]{{{letters}}}$",
        "description": "any that fits",
    }
    return Field("pin", schema, "1" * digits + "a" * letters, free=[""])


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STATED: tuple[tuple[int, Maker], ...] = (
    *((1, city), (1, age), (1, birthday), (1, plan), (1, active), (2, balance), (2, code), (3, hobbies)),
    *((3, sponsor), (4, address), (5, visits), (7, position), (8, pet)),
)
"""Makers of fields that the text states, with the level from which they appear."""

FREE: tuple[tuple[int, Maker], ...] = ((1, score), (2, pin), (3, greeting), (5, tags))
"""Makers of free fields, likewise."""
