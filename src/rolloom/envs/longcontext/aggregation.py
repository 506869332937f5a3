"""Counting across a long text: how often does each of some entries occur?"""

from __future__ import annotations

import numpy as np

from rolloom.envs.knowledge.words import COLOURS, as_ints, pick
from rolloom.envs.longcontext.haystack import Haystack

KINDS = (4, 5, 6, 8, 10, 12, 14, 16, 20, 24)
"""Different entries at each level."""

MOST = (6, 8, 10, 13, 17, 22, 30, 40, 70, 100)
"""Occurrences of an entry at most."""

ASKED = (3, 3, 3, 4, 4, 4, 5, 5, 6, 6)
"""Entries that are asked for."""


class Aggregation(Haystack):
    """Count entries spread over a long text.

    An entry reads `Logged at the gate: one azure van.`
    Every kind occurs once or more, and three or more kinds are asked for. The reward is 1.0 when all counts
    are given in order and nothing else.

    | level | tokens of the prompt | kinds of entries | occurrences of each | asked for |
    |---|---|---|---|---|
    | 1 | 1,000 | 4 | 1-6 | 3 |
    | 4 | 8,000 | 8 | 1-13 | 4 |
    | 7 | 64,000 | 14 | 1-30 | 5 |
    | 10 | 1,000,000 | 24 | 1-100 | 6 |

    Args:
        tokens: approximate tokens of the prompt, whatever the level.
    """

    def hide(self, rng: np.random.Generator, level: int) -> None:
        """Draw entries and how often each occurs."""
        count = KINDS[level - 1]
        vans = [f"{colour} {kind}" for colour in COLOURS for kind in ("van", "truck", "tram")]
        kinds = pick(rng, vans, count)
        counts = as_ints(rng.integers(1, MOST[level - 1] + 1, size=count))
        for kind, times in zip(kinds, counts, strict=True):
            self.facts += [f"Logged at the gate: one {kind}."] * times
        asked = as_ints(rng.permutation(count)[: ASKED[level - 1]])
        self.answers = [str(counts[index]) for index in asked]
        names = [f"one {kinds[index]}" for index in asked]
        self.question = f"How often was each of these logged at the gate: {', '.join(names)}?"
        self.steps = [
            [f"{kinds[index]}: {counts[index]}", f"I count {counts[index]} entries of one {kinds[index]}."]
            for index in asked
        ]
