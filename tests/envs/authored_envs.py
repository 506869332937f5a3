"""Environments made by decorator, one of each form, for the tests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rolloom.envs.authoring import environment
from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import tool


@environment("authored/backwards-v0", kind="words", levels=(1, 5), system="Spell.")
def backwards(rng, level):
    """Spell a word backwards."""
    word = "".join(rng.choice(list("abcdefgh"), size=level + 4))
    return {"prompt": f"Spell {word} backwards.", "answer": word[::-1]}


@environment("authored/parts-v0")
def parts(rng, level):
    return {"prompt": f"Say {rng.integers(10**6)} and be short.", "answer": "x"}


@parts.reward(weight=3)
def said(turn, row):
    return "x" in turn.content


@parts.reward(weight=1)
async def short(turn, row):
    await asyncio.sleep(0)
    return max(0.0, 1 - len(turn.content) / 10)


@parts.reward(weight=0)
def length(turn, row):
    return min(1.0, len(turn.content) / 100)


ROWS = [{"a": a, "b": b, "sum": a + b} for a in range(30) for b in range(10)]


@environment("authored/rows-v0", data=ROWS, prompt="{a} + {b} = ?", answer="sum")
def right(turn, row):
    """Add two numbers."""
    return turn.content == str(row["answer"])


@environment(
    "authored/file-v0", data="train.jsonl", heldout="test.jsonl", prompt="{question}", answer="reply"
)
def matches(turn, row):
    return turn.content == row["answer"]


@dataclass
class Address:
    street: str
    number: int


@environment("authored/shop-v0", kind="tools", levels=(1, 3), max_turns=5)
class Shop:
    """Look prices up and add them."""

    def reset(self, rng, level):
        self.prices = {name: int(rng.integers(1, 10_000)) for name in ("apple", "pear", "plum")}
        self.key = self.prices
        self.asked = []
        return "What do apple and pear cost together? Number only."

    @tool
    async def price(self, item: str, currency: Literal["EUR", "USD"] = "EUR") -> int:
        """Price of an item.

        Longer words that the policy does not see.

        Args:
            item: its name,
                in the singular.
            currency: of the price.
        """
        await asyncio.sleep(0.001)
        self.asked.append(item)
        return self.prices[item]

    @tool
    def send(self, to: Address, gifts: list[str], count: Annotated[int, Field(ge=1, le=5)] = 1) -> dict:
        """Send gifts."""
        if not gifts:
            raise ToolError("nothing to send")
        return {"street": to.street, "number": to.number, "gifts": gifts, "count": count}

    @tool
    def fail(self) -> str:
        """Break down."""
        raise OSError("the disk is full")

    def step(self, turn):
        return turn.content == str(self.prices["apple"] + self.prices["pear"])

    def gold(self):
        for item in ("apple", "pear"):
            if item not in self.asked:
                return render_call("price", {"item": item})
        return str(self.prices["apple"] + self.prices["pear"])


@environment("authored/talk-v0", max_turns=3)
class Talk:
    """Answers in words and pays by turn."""

    def __init__(self, greeting="Hello"):
        self.greeting = greeting

    async def reset(self, rng, level):
        self.said = 0
        return [{"role": "user", "content": f"{self.greeting} {rng.integers(10**6)}"}]

    async def step(self, turn):
        self.said += 1
        if self.said == 3:
            return 0.5
        return "go on" if self.said == 1 else ("and on", 0.25)
