"""Words that problems are made of, seeded draws of them, and how a worked solution is told in a style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rolloom.envs.types import Style

T = TypeVar("T")

NAMES = (
    *("Ada", "Amir", "Anna", "Ben", "Bo", "Carla", "Chen", "Clara", "Dana", "David", "Edda", "Elif", "Emma"),
    *("Farid", "Finn", "Gita", "Greta", "Hana", "Hugo", "Ida", "Igor", "Ines", "Ivan", "Jana", "Jonas"),
    *("Karim", "Kira", "Lara", "Leo", "Lin", "Luca", "Maja", "Marco", "Mina", "Nadia", "Nils", "Nora"),
    *("Olga", "Omar", "Paul", "Pia", "Quinn", "Rosa", "Ruben", "Sami", "Selma", "Sven", "Tara", "Theo"),
    *("Ugo", "Uma", "Vera", "Viktor", "Wanda", "Xenia", "Yara", "Yusuf", "Zeno", "Zoe"),
)
CITIES = (
    *(
        "Accra",
        "Basel",
        "Cairo",
        "Dakar",
        "Dublin",
        "Florence",
        "Geneva",
        "Hanoi",
        "Izmir",
        "Jakarta",
        "Kyoto",
    ),
    *("Lagos", "Lima", "Lyon", "Malmo", "Nairobi", "Oslo", "Porto", "Quito", "Riga", "Seville", "Tunis"),
    *("Utrecht", "Vienna", "Warsaw", "Zagreb"),
)
COLOURS = (
    *("amber", "azure", "black", "blue", "bronze", "coral", "crimson", "gold", "green", "grey", "indigo"),
    *("ivory", "jade", "lilac", "maroon", "olive", "orange", "pink", "purple", "red", "silver", "teal"),
    *("violet", "white", "yellow"),
)
THINGS = (
    *(
        "anchor",
        "apple",
        "arrow",
        "basket",
        "bell",
        "bottle",
        "bridge",
        "brush",
        "bucket",
        "button",
        "cactus",
    ),
    *(
        "candle",
        "carpet",
        "chair",
        "cloud",
        "coat",
        "compass",
        "curtain",
        "desk",
        "drum",
        "engine",
        "feather",
    ),
    *("fence", "flute", "garden", "glove", "hammer", "harbor", "helmet", "island", "jacket", "kettle", "key"),
    *("ladder", "lamp", "lantern", "lemon", "letter", "magnet", "marble", "mirror", "needle", "orchard"),
    *("paddle", "parcel", "pencil", "pepper", "piano", "pillow", "pocket", "puzzle", "ribbon", "river"),
    *("rocket", "saddle", "scarf", "shovel", "spoon", "statue", "ticket", "tunnel", "umbrella", "valley"),
    *("violin", "wagon", "whistle", "window", "zipper"),
)
_ONSETS = (
    "b",
    "bl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("b", "ck", "g", "l", "m", "n", "p", "rt", "sk", "t", "x")


def pick(rng: np.random.Generator, items: Sequence[T], count: int) -> list[T]:
    """Return so many different items in random order."""
    return [items[int(index)] for index in rng.permutation(len(items))[:count]]


def one(rng: np.random.Generator, items: Sequence[T]) -> T:
    """Return one item."""
    return items[int(rng.integers(len(items)))]


def coined(rng: np.random.Generator, count: int) -> list[str]:
    """Return so many different made-up nouns of two syllables, such as `blimort`."""
    made: dict[str, None] = {}
    while len(made) < count:
        parts = (one(rng, _ONSETS), one(rng, _VOWELS), one(rng, _ONSETS), one(rng, _VOWELS), one(rng, _CODAS))
        made["".join(parts)] = None
    return list(made)


def tell(steps: Sequence[Sequence[str]], style: Style, rng: np.random.Generator) -> str:
    """Return a worked solution in a style.

    Args:
        steps: `(short, full)` forms of each step.
        style: `compact` tells the short forms, `medium` the full ones, `verbose` adds checks.
        rng: drawn from by the verbose style only.
    """
    if style == "compact":
        return "; ".join(short for short, _ in steps)
    if style == "medium":
        return " ".join(full for _, full in steps)
    parts = ["Let me go through this step by step."] if rng.random() < 0.9 else []
    for short, full in steps:
        parts.append(full)
        if rng.random() < 0.6:
            parts.append(f"Wait, let me check: {short}. That is right.")
        if rng.random() < 0.1:
            parts.append(f"Check again: {full}")
    if rng.random() < 0.9:
        parts.append("Let me check all of it: " + "; ".join(short for short, _ in steps) + ". That is right.")
    return " ".join(parts)


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th` ..."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def as_ints(values: Any) -> list[int]:
    """Return numpy integers as Python's, for JSON."""
    return [int(value) for value in values]
