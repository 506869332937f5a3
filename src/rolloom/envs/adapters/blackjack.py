"""Gymnasium's Blackjack as a session of hands, each of which basic play wins and blind play loses.

Dealt at random, the best play wins 43 hands in 100, and a policy that always sticks nearly as many: such a
reward measures luck. The hands of a session are chosen by their seeds instead, so that reading the cards
decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.adapters.gymnasium_env import GymnasiumEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, Reply, Style

STICK, HIT = 0, 1
Seen = tuple[int, int, bool]
"""The player's sum, the dealer's card (an ace is 1), whether the player has a usable ace."""


def basic_play(seen: Seen) -> int:
    """Return what basic strategy without doubling and splitting does (Thorp, Beat the Dealer, 1966)."""
    total, dealer, usable_ace = seen
    if usable_ace:
        return STICK if total >= 19 or (total == 18 and dealer not in (1, 9, 10)) else HIT
    if total >= 17:
        return STICK
    if total >= 13:
        return STICK if 2 <= dealer <= 6 else HIT
    return STICK if total == 12 and 4 <= dealer <= 6 else HIT


class Blackjack(GymnasiumEnv):
    """A session of blackjack hands; reward 1.0 when every hand is won, else 0.0.

    Each answer is `stick` or `hit`. A hand that is won leads to the next, one that is not won ends the
    session. Every hand is one that basic strategy wins. In each session the hands differ in how many cards
    have to be drawn, and a hand is lost by drawing one card fewer or one more than basic strategy does, so
    neither always sticking, always hitting nor any other fixed number of cards wins a session.

    Level L has 3 + L hands.
    """

    levels = (1, 10)
    answer_in_prompt = True  # stick or hit is asked in the prompt

    def __init__(self, **kwargs: Any) -> None:
        instruction = (
            "Play blackjack: come closer to 21 than the dealer without going over it. The dealer sticks on "
            "17. Every hand has to be won."
        )
        given = {
            "env_id": "Blackjack-v1",
            "actions": ("stick", "hit"),
            "instruction": instruction,
            "max_turns": 100,
        }
        super().__init__(**{**given, **kwargs})
        self.hand = 0

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"seeds", "deals"}`: the hands' seeds, and what each shows at first."""
        hands = 3 + level
        wanted = [0, 1, *(int(count) for count in rng.integers(0, 3, size=hands - 2))]
        wanted = [wanted[index] for index in rng.permutation(hands)]
        drawn = [self._deal(rng, cards) for cards in wanted]
        return {"seeds": [seed for seed, _ in drawn], "deals": [deal for _, deal in drawn]}

    def _deal(self, rng: np.random.Generator, cards: int) -> tuple[int, list[Any]]:
        """Return the seed of a hand that is won by drawing exactly so many cards, and its first look."""
        table: Any = self.inner.unwrapped  # the wrappers would check every one of these steps
        for _ in range(20_000):
            seed = int(rng.integers(2**31))
            if _cards_drawn(table, seed) == cards and not any(
                _wins(table, seed, other) for other in (cards - 1, cards + 1) if other >= 0
            ):
                (total, dealer, usable_ace), _ = table.reset(seed=seed)
                return seed, [int(total), int(dealer), bool(usable_ace)]
        raise EnvError(f"no hand that takes {cards} cards was found")

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the seeds: hands that look alike at first go on differently."""
        return str(problem["seeds"])

    def begin(self) -> None:
        """Deal the first hand, and allow twelve turns a hand."""
        self.rewards, self.hand = [], 0
        self.max_turns = 12 * len(self.problem["seeds"])
        self._next_hand()
        self.opening = self.scene()

    def _next_hand(self) -> None:
        self.observation, _ = self.inner.reset(seed=self.problem["seeds"][self.hand])

    def scene(self) -> str:
        """Return what is seen of the present hand."""
        total, dealer, usable_ace = self.observation
        ace = "with a usable ace" if usable_ace else "without a usable ace"
        shown = "an ace" if dealer == 1 else str(int(dealer))
        hands = len(self.problem["seeds"])
        return f"Hand {self.hand + 1} of {hands}: you have {int(total)} {ace}, the dealer shows {shown}."

    def act(self, action: Any) -> Reply:
        """Draw a card or let the dealer play; go on to the next hand when this one is won."""
        self.observation, reward, over, _, _ = self.inner.step(action)
        if not over:
            return Reply((Message(role="user", content=self.scene()),))
        hands = len(self.problem["seeds"])
        won = float(reward) >= 1
        if won and self.hand + 1 < hands:
            self.hand += 1
            self._next_hand()
            return Reply((Message(role="user", content="Won. " + self.scene()),))
        share = (self.hand + won) / hands
        return Reply(reward=float(won), done=True, components={"correct": float(won), "hands_won": share})

    def gold(self) -> str:
        """Return what basic strategy does."""
        return self.labels()[basic_play(self.observation)]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return what is looked at: everything, the two numbers, or nothing but the choice."""
        total, dealer, usable_ace = self.observation
        word = self.gold()
        if style == "compact":
            return f"{word}\n"
        if style == "medium":
            return f"{total} against {dealer}: {word}.\n"
        soft = "an ace counts 11, so one card cannot bust me" if usable_ace else "no ace counts 11"
        weak = "weak" if 2 <= dealer <= 6 else "strong"
        told = f"I have {total}; {soft}. The dealer shows {dealer}, which is {weak}."
        return f"{told} Let me think again: {word}.\n"


def _cards_drawn(inner: Any, seed: int) -> int:
    """Return how many cards basic play draws in a hand that it wins, -1 in any other."""
    seen, _ = inner.reset(seed=seed)
    for cards in range(12):
        action = basic_play(seen)
        seen, reward, over, _, _ = inner.step(action)
        if over:
            return cards if action == STICK and reward >= 1 else -1
    return -1


def _wins(inner: Any, seed: int, cards: int) -> bool:
    """Return whether a hand is won by drawing so many cards and then sticking."""
    inner.reset(seed=seed)
    for _ in range(cards):
        if inner.step(HIT)[2]:
            return False
    return float(inner.step(STICK)[1]) >= 1
