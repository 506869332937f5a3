"""Base of the long-context environments: facts hidden in filler, from a thousand tokens to a million.

A problem is a few numbers; the text is built from them when it is asked for, a million tokens in well under a
second. Positions of facts are uniform over the whole depth.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.form.draft import ADJECTIVES, ADVERBS, NOUNS, VERBS
from rolloom.envs.knowledge.words import THINGS, one, tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

TOKENS = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 512_000, 1_000_000)
"""Approximate tokens of the prompt at each level."""

CHARS_PER_TOKEN = 4.2
"""Characters of this English to a token of a tokenizer with some 100,000 entries."""

MAX_TOKENS = 1_500_000
MAX_ANSWER_CHARS = 4_000
SENTENCES = 4_000
PARAGRAPH = 8


class Haystack(TextEnv):
    """Base: `hide` draws facts, a question and its answers; the rest is here.

    Args:
        tokens: approximate tokens of the prompt, whatever the level.
    """

    answer_in_prompt = True  # finding it there is the task

    def __init__(self, tokens: int | None = None, **kwargs: Any) -> None:
        if tokens is not None and not 200 <= tokens <= MAX_TOKENS:
            raise EnvError(f"tokens: expected 200 to {MAX_TOKENS}, got {tokens!r}")
        self.tokens = tokens
        super().__init__(**kwargs)

    def hide(self, rng: np.random.Generator, level: int) -> None:
        """Draw `self.facts`, `self.question`, `self.answers` and `self.steps` of an episode."""
        raise NotImplementedError

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"seed", "level", "tokens"}`: everything else follows from it."""
        tokens = self.tokens or TOKENS[level - 1]
        return {"seed": int(rng.integers(2**53)), "level": level, "tokens": tokens}

    def begin(self) -> None:
        """Draw the facts; the text waits until it is asked for."""
        self.facts: list[str] = []
        self.question = ""
        self.answers: list[str] = []
        self.steps: list[list[str]] = []
        self._text: str | None = None
        self.hide(np.random.default_rng([self.problem["seed"], 1]), self.problem["level"])

    def text(self) -> str:
        """Return the filler with the facts in it."""
        rng = np.random.default_rng([self.problem["seed"], 2])
        bank, mean = filler()
        room = self.problem["tokens"] * CHARS_PER_TOKEN - sum(map(len, self.facts)) - len(self.question) - 200
        count = max(len(self.facts), int(room / mean))
        total = count + len(self.facts)
        sentences = [bank[index] for index in rng.integers(len(bank), size=total).tolist()]
        places = rng.permutation(total)[: len(self.facts)].tolist()
        for place, fact in zip(places, self.facts, strict=True):
            sentences[place] = fact
        return "\n\n".join(" ".join(sentences[at : at + PARAGRAPH]) for at in range(0, total, PARAGRAPH))

    def prompt(self) -> Messages:
        """Return the text with the question after it as one user message."""
        if self._text is None:
            form = (
                "Answer with the number only."
                if len(self.answers) == 1
                else (
                    f"Answer with the {len(self.answers)} numbers only, in this order, separated by commas."
                )
            )
            start = "Read this text; a question about it follows.\n\n"
            self._text = f"{start}{self.text()}\n\n{self.question} {form}"
        return (Message(role="user", content=self._text),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 when every answer is right and in order."""
        given = numbers(turn.content) if turn.malformed is None and not turn.tool_calls else []
        paid = float(given == self.answers)
        found = sum(a == b for a, b in zip(given, self.answers, strict=False))
        share = found / len(self.answers) if len(given) == len(self.answers) else 0.0
        return Reply(reward=paid, done=True, components={"correct": paid, "share": share})

    def gold(self) -> str:
        """Return the answers."""
        return ", ".join(self.answers)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return what the text says, fact by fact."""
        return tell(self.steps, style, rng)

    def attacks(self) -> dict[str, str]:
        """Return answers that hand the text back, or every number of it."""
        digits = [
            word.strip(".") for fact in self.facts for word in fact.split() if word.strip(".").isdecimal()
        ]
        return {
            "the text": self.prompt()[0]["content"][-3_000:],
            "all numbers": ", ".join(digits[:200]) + ", 0",
            "the last fact": self.facts[-1],
            "numbers in reverse": ", ".join(["0", *self.answers[::-1]]),
        }


def numbers(content: str) -> list[str]:
    """Return the numbers of an answer that has nothing else in it, else none."""
    if len(content) > MAX_ANSWER_CHARS:
        return []
    text = content.strip().removeprefix("Answer:").strip()
    if text.startswith("\\boxed{") and text.endswith("}"):
        text = text[len("\\boxed{") : -1]
    parts = [part.strip(" \n*`.") for part in text.replace(" and ", ",").split(",")]
    return parts if all(part.isascii() and part.isdecimal() for part in parts) else []


@cache
def filler() -> tuple[list[str], float]:
    """Return sentences without digits that no fact resembles, and their mean length with a blank."""
    rng = np.random.default_rng(20)
    made: dict[str, None] = {}
    while len(made) < SENTENCES:
        a, b = one(rng, ADJECTIVES), one(rng, ADJECTIVES)
        noun, verb, adverb, thing = one(rng, NOUNS), one(rng, VERBS), one(rng, ADVERBS), one(rng, THINGS)
        form = int(rng.integers(4))
        made[
            (
                f"The {a} {noun} {verb} {adverb} near the {b} {thing}.",
                f"Behind the {thing} a {noun} {verb}, {a} and {b} as always.",
                f"{adverb.capitalize()}, the {noun} {verb}.",
                f"Nobody knows why the {noun} {verb} so {adverb} beside that {a} {thing}.",
            )[form]
        ] = None
    return list(made), sum(map(len, made)) / len(made) + 1
