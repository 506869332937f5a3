"""Base of the single-turn environments that ask for one short answer with exactly one right form."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.knowledge.words import tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

MAX_ANSWER_CHARS = 4_000


class ShortAnswer(TextEnv):
    """A problem of `{"text", "answer", "steps"}`: the content has to be the answer.

    Steps are `[short, full]` sentences of a worked solution; see `words.tell`.
    """

    max_turns = 1

    def prompt(self) -> Messages:
        """Return the problem's text as one user message."""
        return (Message(role="user", content=self.problem["text"]),)

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the text: two problems that read the same are the same task."""
        return problem["text"]

    def right(self, content: str) -> bool:
        r"""Return True when the content is the answer; a `\boxed{}` or bold around it is allowed."""
        return bare(content) == self.problem["answer"]

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 for the right answer, else 0.0."""
        fit = turn.malformed is None and not turn.tool_calls
        paid = float(fit and self.right(turn.content))
        return Reply(reward=paid, done=True, components={"correct": paid})

    def gold(self) -> str:
        """Return the answer."""
        return self.problem["answer"]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the worked solution."""
        return tell(self.problem["steps"], style, rng)


def bare(content: str) -> str:
    r"""Return a short answer without `Answer:`, `\boxed{}`, bold or a full stop around it; "" if too long."""
    if len(content) > MAX_ANSWER_CHARS:
        return ""
    text = content.strip()
    text = text.removeprefix("Answer:").strip()
    if text.startswith("\\boxed{") and text.endswith("}"):
        text = text[len("\\boxed{") : -1].strip()
    return text.strip("*` \n").removesuffix(".")
