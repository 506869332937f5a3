"""Multiple-choice questions with ten options, generated: all that is needed stands in the question."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError, did_you_mean
from rolloom.envs.knowledge.letters import LETTERS, read_letter
from rolloom.envs.knowledge.topics import TOPICS
from rolloom.envs.knowledge.words import one, tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

SIZES = (3, 4, 5, 6, 8, 10, 13, 16, 20, 26)
"""Size of a topic's facts at each level."""

OPTIONS = 10


class MultipleChoice(TextEnv):
    r"""Choose one of ten options (A to J) that the facts in the question decide.

    Topics: people ordered by comparisons, kinds that contain kinds, lamps that switch each other on, made-up
    units, dates moved by days and weeks, table reading, and sums over boxes of balls.

    The reward is 1.0 when the answer names the right option and no other: the letter alone, `\boxed{C}` or
    `Answer: C`. The right option's place is uniform, so a guess pays 0.1.

    | level | adds |
    |---|---|
    | 1 | three or four facts, one or two steps |
    | 4 | six facts, irrelevant ones among them |
    | 7 | a dozen facts, more columns and hops |
    | 10 | twenty-six people, fourteen steps |

    Args:
        topics: names of the topics to draw from; all by default.
    """

    def __init__(self, topics: list[str] | tuple[str, ...] = (), **kwargs: Any) -> None:
        for name in topics:
            if name not in TOPICS:
                raise EnvError(
                    f"topics: no topic {name!r}; expected {', '.join(TOPICS)}.{did_you_mean(name, TOPICS)}"
                )
        self.topics = tuple(topics) or tuple(TOPICS)
        super().__init__(**kwargs)

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"topic", "facts", "question", "options", "answer": index, "steps"}`."""
        topic = one(rng, self.topics)
        drawn = TOPICS[topic](rng, SIZES[level - 1])
        options = list(drawn.wrong)
        answer = int(rng.integers(OPTIONS))
        options.insert(answer, drawn.right)
        return {
            **{"topic": topic, "facts": drawn.facts, "question": drawn.question},
            **{"options": options, "answer": answer, "steps": drawn.steps},
        }

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return facts and question: other options make no new task."""
        return f"{problem['facts']}\n{problem['question']}"

    def prompt(self) -> Messages:
        """Return facts, question and options as one user message."""
        return (Message(role="user", content=ask(self.problem)),)

    def chance(self, level: int) -> float:
        """Return 0.1: one option in ten."""
        return 1 / OPTIONS

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 for the right letter."""
        chosen = read_letter(turn.content, OPTIONS)
        fit = turn.malformed is None and not turn.tool_calls
        paid = float(fit and chosen == self.problem["answer"])
        return Reply(
            reward=paid, done=True, components={"correct": paid, "parsed": float(chosen is not None)}
        )

    def gold(self) -> str:
        """Return the right letter."""
        return LETTERS[self.problem["answer"]]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the steps and the letter that they lead to."""
        letter, option = self.gold(), self.problem["options"][self.problem["answer"]]
        steps = [*self.problem["steps"], [f"{letter}) {option}", f"That is option {letter}."]]
        return tell(steps, style, rng)

    def attacks(self) -> dict[str, str]:
        """Return answers that name every letter in one way or another."""
        letters = LETTERS[:OPTIONS]
        return {
            "all letters": " ".join(letters),
            "all boxed": " ".join(f"\\boxed{{{letter}}}" for letter in letters),
            "all answers": "\n".join(f"Answer: {letter}" for letter in letters),
            "letters in one box": f"\\boxed{{{','.join(letters)}}}",
            "letters run together": f"Answer: {letters}",
            "every option": "\n".join(self.problem["options"]),
            "either": "Answer: A or B\nAnswer: C",
        }


def ask(problem: dict[str, Any]) -> str:
    """Return facts, question and lettered options in text."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, problem["options"], strict=False)]
    start = f"{problem['facts']}\n\n" if problem.get("facts") else ""
    return f"{start}{problem['question']}\n" + "\n".join(lines) + "\n\nAnswer with one letter."
