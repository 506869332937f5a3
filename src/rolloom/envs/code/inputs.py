"""Draws arguments for functions by the type of the argument; see `routines.core.TYPE_WORDS`."""

from __future__ import annotations

from typing import Any

import numpy as np

WORDS = (
    "apple", "river", "stone", "cat", "tac", "act", "listen", "silent", "moon", "noon", "tree", "bee", "lamp",
    "palm", "level", "rotor", "sun", "nus", "ocean", "canoe", "dusty", "study", "night", "thing", "a", "bb",
    "area", "eerie", "queue", "banana", "mississippi", "radar", "pepper", "otter", "state", "taste", "tests",
)  # fmt: skip
EDGES: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, -1, 97, -360),
    "str": ("", "a", "aaa", "zz top"),
    "Ints": ([], [7], [5, 5, 5, 5], [-3, -8, -1], [0]),
    "Words": ([], [""], ["a"], ["same", "same"]),
    "Table": ({}, {"a": 0}, {"b": 4, "a": 4}),
    "Grid": ([], [[5]], [[1, 2, 3, 4]], [[1], [2], [3]]),
    "Spans": ([], [[2, 2]], [[0, 9], [1, 2]], [[0, 4], [4, 8]]),
}
BIG = 20_000


def draw(kind: str, rng: np.random.Generator, size: int) -> Any:
    """Return a random argument of a type with about `size` parts."""
    if kind == "int":
        return int(rng.integers(-10 * size, 60 * size))
    if kind == "Ints":
        return _numbers(rng, int(rng.integers(max(1, size // 2), size + 1)))
    if kind == "str":
        return _text(rng, size)
    if kind == "Words":
        return [WORDS[i] for i in rng.integers(len(WORDS), size=max(1, size - 2))]
    if kind == "Table":
        names = [WORDS[i] for i in rng.permutation(len(WORDS))[: max(1, size - 2)]]
        return dict(zip(names, rng.integers(-2, 12, size=len(names)).tolist(), strict=True))
    if kind == "Grid":
        rows, columns = (int(n) for n in rng.integers(2, max(3, size // 2) + 1, size=2))
        return rng.integers(-5, 10, size=(rows, columns)).tolist()
    starts = rng.integers(-6, 25, size=max(1, size - 3))
    return [[start, start + length] for start, length in zip(
        starts.tolist(), rng.integers(0, 9, size=len(starts)).tolist(), strict=True)]  # fmt: skip


def _numbers(rng: np.random.Generator, count: int) -> list[int]:
    low, high = ((-20, 31), (0, 7), (-9, 10), (1, 100))[int(rng.integers(4))]
    return rng.integers(low, high, size=count).tolist()


def _text(rng: np.random.Generator, size: int) -> str:
    if rng.random() < 0.6:
        return " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=max(1, size // 3)))
    letters = rng.integers(0, 6, size=size).tolist()
    return "".join("abrces"[i] for i in letters)


def big_numbers(rng: np.random.Generator) -> list[int]:
    """Return a list so long that a quadratic program runs out of time."""
    return rng.integers(-1_000, 1_001, size=BIG).tolist()
