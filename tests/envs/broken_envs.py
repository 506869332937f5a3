"""Environments that are wrong on purpose, each in one way, for the tests of the card."""

from __future__ import annotations

import itertools
import time

from rolloom.envs.authoring import environment
from rolloom.envs.base import TextEnv
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import tool
from rolloom.envs.types import Message, Reply


def _sum(rng, level):
    a, b = (int(n) for n in rng.integers(1_000, 10_000, size=2))
    return {"prompt": f"{a} + {b} = ? Number only.", "answer": a + b}


@environment("broken/sound-v0")
def sound(rng, level):
    """Nothing is wrong with this one."""
    return _sum(rng, level)


@environment("broken/gold-v0")
def gold(rng, level):
    row = _sum(rng, level)
    return {**row, "gold": row["answer"] + int(row["answer"] % 7 == 0)}


@environment("broken/leaks-v0")
def leaks(rng, level):
    row = _sum(rng, level)
    return {**row, "prompt": f"{row['prompt']} (Editors only: {row['answer']} is right.)"}


@environment("broken/constant-v0")
def constant(rng, level):
    a, b = (int(n) for n in rng.integers(1_000, 10_000, size=2))
    return {"prompt": f"Is {a} larger than {b}? Answer yes or no.", "answer": "yes" if a > b else "no"}


@environment("broken/generous-v0")
def generous(rng, level):
    return _sum(rng, level)


@generous.reward()
def contains(turn, row):
    """Pays an answer that is anywhere in the content: every number at once is paid as well."""
    return str(row["answer"] % 10) in turn.content


counter = itertools.count()


@environment("broken/random-v0")
def unseeded(rng, level):
    row = _sum(rng, level)
    return {**row, "prompt": f"[{next(counter)}] {row['prompt']}"}


@environment("broken/hash-v0")
def hashed(rng, level):
    row = _sum(rng, level)
    names = {f"name{rng.integers(1_000_000)}" for _ in range(8)}
    return {**row, "prompt": f"{', '.join(names)}: {row['prompt']}"}


@environment("broken/state-v0")
class Shared:
    notes: list[int] = []  # noqa: RUF012  # shared by every episode: that is what is wrong

    def reset(self, rng, level):
        row = _sum(rng, level)
        self.answer = row["answer"]
        self.notes.clear()
        return row["prompt"]

    @tool
    def note(self, number: int) -> list[int]:
        """Write a number down."""
        self.notes.append(number)
        return self.notes

    def step(self, turn):
        return turn.content == str(self.answer)

    def gold(self):
        return render_call("note", {"number": self.answer}) if len(self.notes) < 2 else str(self.answer)


class Raises(TextEnv):
    """Falls over an answer that is no number."""

    levels = (1, 1)

    def generate(self, rng, level):
        return _sum(rng, level)

    def prompt(self):
        return (Message(role="user", content=self.problem["prompt"]),)

    def respond(self, turn):
        return Reply(reward=float(int(turn.content) == self.problem["answer"]), done=True)

    def gold(self):
        return str(self.problem["answer"])


class Splits(Raises):
    """Keys that say more than the policy reads."""

    def generate(self, rng, level):
        return {"prompt": f"Say {rng.integers(5)}.", "answer": "x", "hidden": int(rng.integers(1_000_000))}

    def respond(self, turn):
        return Reply(reward=float(turn.content == "x"), done=True)


class Slow(Raises):
    """Takes a tenth of a second a step."""

    def respond(self, turn):
        time.sleep(0.1)
        return Reply(reward=float(turn.content == str(self.problem["answer"])), done=True)


class NoGold(Raises):
    """Cannot show that it can be solved."""

    def respond(self, turn):
        return Reply(reward=float(turn.content == str(self.problem["answer"])), done=True)

    def gold(self):
        raise NotImplementedError
