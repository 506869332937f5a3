"""Facts that point to each other across a long text: follow each chain to the number at its end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from rolloom.envs.knowledge.words import as_ints, coined
from rolloom.envs.longcontext.haystack import Haystack

HOPS = (2, 2, 3, 3, 4, 4, 5, 6, 7, 8)
"""Links from a chain's start to its end at each level."""

ASKED = (2, 2, 2, 2, 2, 2, 3, 3, 4, 4)
"""Chains that are asked for."""

OTHERS = (3, 4, 5, 6, 8, 12, 20, 40, 80, 120)
"""Chains that are not; they look the same."""


class MultiHop(Haystack):
    """Follow linked facts through a long text.

    A link reads `In the drawer blimort lies a note: see the drawer fasok.`
    The links of all chains are shuffled over the whole text. The reward is 1.0 when the numbers at the ends
    of the chains asked for are given in order and nothing else.

    | level | tokens of the prompt | links to follow | chains asked for | other chains |
    |---|---|---|---|---|
    | 1 | 1,000 | 2 | 2 | 3 |
    | 4 | 8,000 | 3 | 2 | 6 |
    | 7 | 64,000 | 5 | 3 | 20 |
    | 10 | 1,000,000 | 8 | 4 | 120 |

    Args:
        tokens: approximate tokens of the prompt, whatever the level.
    """

    def hide(self, rng: np.random.Generator, level: int) -> None:
        """Draw chains of made-up drawers with a number at the end of each."""
        hops, asked = HOPS[level - 1], ASKED[level - 1]
        chains = asked + OTHERS[level - 1]
        words = coined(rng, chains * (hops + 1))
        values = as_ints(rng.choice(900_000, size=chains, replace=False) + 100_000)
        starts = []
        for index in range(chains):
            chain = words[index * (hops + 1) : (index + 1) * (hops + 1)]
            links = [f"In the drawer {a} lies a note: see the drawer {b}." for a, b in pairwise(chain)]
            end = f"In the drawer {chain[-1]} lies a note with the number {values[index]}."
            self.facts += [*links, end]
            if index < asked:
                starts.append(chain[0])
                self.answers.append(str(values[index]))
                self.steps += [
                    [f"{a} -> {b}", link] for (a, b), link in zip(pairwise(chain), links, strict=True)
                ]
                self.steps.append([f"{chain[-1]}: {values[index]}", end])
        asked_for = ", and from the drawer ".join(starts)
        self.question = (
            f"Follow the notes from the drawer {asked_for}. Which number do you find at the end"
            f"{' of each' if asked > 1 else ''}?"
        )
