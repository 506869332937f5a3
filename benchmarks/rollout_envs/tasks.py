"""The episodes that are timed: a sum a turn, one or more turns, with or without a slow tool."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply

SYNC, ASYNC = "bench/sums-v0", "bench/sums_async-v0"
ANSWER = "42"


def register() -> None:
    """Register both environments; once a process."""
    registry.register(SYNC, f"{__name__}:Sums", kind="bench")
    registry.register(ASYNC, f"{__name__}:AsyncSums", kind="bench")


def latency_s(seed: int, turn: int) -> float:
    """Return how long the tool takes in a turn, in seconds: 10 to 500 ms, uniform in the logarithm."""
    fraction = np.random.default_rng([seed, turn]).random()
    return 0.01 * 50.0**fraction


class Sums(TextEnv):
    """Add two numbers, turn after turn; each turn's answer is paid its share.

    Args:
        turns: turns of an episode.
        latency: seconds that a tool takes in every turn; 0 for none, -1 for `latency_s`.
    """

    def __init__(self, turns: int = 1, latency: float = 0.0, **kwargs: Any) -> None:
        super().__init__(max_turns=turns, **kwargs)
        self.latency = latency

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        return {"a": int(rng.integers(100_000)), "b": int(rng.integers(100_000))}

    def begin(self) -> None:
        self.pauses = [self.latency] * self.max_turns
        if self.latency < 0:
            seed = self.problem["a"] * 100_000 + self.problem["b"]
            self.pauses = [latency_s(seed, turn) for turn in range(self.max_turns)]

    def prompt(self) -> Messages:
        return (Message(role="user", content="What is {a} + {b}? Number only.".format(**self.problem)),)

    def respond(self, turn: AssistantTurn) -> Reply:
        if self.latency:
            time.sleep(self.pauses[self.turn_index])
        return self._paid(turn)

    def _paid(self, turn: AssistantTurn) -> Reply:
        right = turn.content == ANSWER
        over = self.turn_index + 1 == self.max_turns
        more = () if over else (Message(role="user", content=f"And plus {self.turn_index}?"),)
        return Reply(more, float(right) / self.max_turns, over)


class AsyncSums(Sums):
    """The same with a tool that is awaited."""

    asynchronous = True

    async def respond(self, turn: AssistantTurn) -> Reply:  # type: ignore[override]
        if self.latency:
            await asyncio.sleep(self.pauses[self.turn_index])
        return self._paid(turn)
