"""Write a message that a judge compares with a reference answer, in both orders."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from rolloom.envs.judge.judged import Judged
from rolloom.envs.judge.models import Item
from rolloom.envs.judge.notes import compose


class Pairwise(Judged):
    """Write a message from notes that is better than a reference, as a judge sees it (GenRM).

    The reference leaves out one fact and is otherwise fine. The judge compares twice, with the policy's
    answer first and with it second: a win counts 1, a tie a half, a loss 0, and the reward is the mean, so
    a judge that always prefers the same place gives a half to everyone. Components: `first`, `second`
    (points of each order) and `consistent` (both orders agree).

    Levels and the other keyword arguments are those of `judge/rubric-v0`.

    Args:
        judge: `rules`; `openai:URL#MODEL` (`&key=VARIABLE` names the variable with the API key); or
            `python:MODULE:NAME` of a coroutine function `(messages, seed) -> text` around any engine.
        votes: times a model is asked; the majority counts.
        temperature: of the judge's model; by default 0, and 0.7 with several votes.
        max_tokens: tokens that a verdict may take.
        judge_deadline_s: seconds for each question to the model.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return notes, and a message that leaves one of them out as `reference`."""
        notes = super().generate(rng, level)
        return {**notes, "reference": compose(notes, int(rng.integers(len(notes["facts"]))))}

    async def verdict(self, items: list[Item], answer: str) -> tuple[float, dict[str, float]]:
        """Return the mean of both orders."""
        task, reference = self.prompt()[0]["content"], self.problem["reference"]
        forth, back = await asyncio.gather(
            self.judge.better(task, items, answer, reference),
            self.judge.better(task, items, reference, answer),
        )
        first = {"1": 1.0, "TIE": 0.5, "2": 0.0}[forth]
        second = {"2": 1.0, "TIE": 0.5, "1": 0.0}[back]
        return (first + second) / 2, {"first": first, "second": second, "consistent": float(first == second)}
