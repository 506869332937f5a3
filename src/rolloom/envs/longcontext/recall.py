"""Needles in a haystack: key-value facts among filler, some of which are asked for."""

from __future__ import annotations

import numpy as np

from rolloom.envs.knowledge.words import CITIES, NAMES, as_ints, pick
from rolloom.envs.longcontext.haystack import Haystack

NEEDLES = (6, 8, 10, 14, 20, 40, 80, 160, 400, 800)
"""Facts in the text at each level."""

ASKED = (2, 2, 2, 2, 3, 3, 4, 4, 5, 6)
"""Facts that are asked for."""

KEYS = ("locker", "badge", "account", "parcel", "ticket")


class Recall(Haystack):
    """Recall numbers from a long text.

    A fact reads `The badge of Ada in Lima has the number 482913.`

    Facts look alike (the same name in another city, the same city with another name), stand anywhere; only
    some are asked for. The reward is 1.0 when all numbers asked for are given in order and nothing else.

    | level | tokens of the prompt | facts | asked for |
    |---|---|---|---|
    | 1 | 1,000 | 6 | 2 |
    | 4 | 8,000 | 14 | 2 |
    | 7 | 64,000 | 80 | 4 |
    | 9 | 512,000 | 400 | 5 |
    | 10 | 1,000,000 | 800 | 6 |

    Args:
        tokens: approximate tokens of the prompt, whatever the level.
    """

    def hide(self, rng: np.random.Generator, level: int) -> None:
        """Draw keys that share their parts, and their numbers."""
        count = NEEDLES[level - 1]
        # Few names and cities, so that a part of a key fits several facts.
        side = max(2, int(1 + count**0.5))
        names, towns = pick(rng, NAMES, min(side, len(NAMES))), pick(rng, CITIES, min(side, len(CITIES)))
        keys = [f"the {key} of {name} in {town}" for key in KEYS for name in names for town in towns]
        chosen = pick(rng, keys, count)
        values = as_ints(rng.choice(900_000, size=count, replace=False) + 100_000)
        self.facts = [
            f"T{key[1:]} has the number {value}." for key, value in zip(chosen, values, strict=True)
        ]
        asked = as_ints(rng.permutation(count)[: ASKED[level - 1]])
        self.answers = [str(values[index]) for index in asked]
        self.question = f"Which number has {', and which has '.join(chosen[index] for index in asked)}?"
        self.steps = [[str(values[index]), f"The text says: {self.facts[index]}"] for index in asked]
