"""What the single-turn mathematics environments share: the form of the question, the reward, the thoughts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.math.verifier import QUEUE_S, WALL_S
from rolloom.envs.math.verify import ANSWER_FORM, final_answer, same_answer
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

Step = tuple[str, str]
"""One worked step: a computation and its result."""

SLIP = 0.1
"""Share of the verbose steps that are said to look wrong at first."""


class QuestionEnv(TextEnv):
    """Base of an environment that asks one question and checks the final answer."""

    max_turns = 1
    step_deadline_s = QUEUE_S + WALL_S

    def question(self) -> str:
        """Return the question of `self.problem`."""
        raise NotImplementedError

    def form(self) -> str:
        """Return what form the answer takes, one short sentence or more."""
        return ANSWER_FORM

    def steps(self) -> Sequence[Step]:
        """Return the worked steps of a right solution."""
        return ()

    def right(self, answer: str) -> bool:
        """Return True for a right final answer; `answer` is untrusted text."""
        return same_answer(answer, self.gold())

    def prompt(self) -> Messages:
        """Return question and form as one user message."""
        return (Message(role="user", content=f"{self.question()}\n{self.form()}"),)

    def key_text(self, problem: dict) -> str:
        """Return the question as the policy sees it: two problems that read the same are the same task."""
        self.problem = problem
        return self.question()

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode with 1.0 for a right final answer, else 0.0.

        Raises:
            EnvError: the machine is too busy to compare.
            SandboxError: the verifier does not work.
        """
        answer = final_answer(turn)
        right = answer is not None and self.right(answer)
        components = {"correct": float(right), "answered": float(answer is not None)}
        return Reply(reward=float(right), done=True, components=components)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the worked steps in a style."""
        return narrate(self.steps(), self.gold(), style, rng)


def narrate(steps: Sequence[Step], answer: str, style: Style, rng: np.random.Generator) -> str:
    """Return worked steps as a thought.

    The compact style has results only, the medium one each step once; the verbose one checks most steps again
    and goes over all results at the end, each part drawn independently, so that RL can drop each.
    """
    if style == "compact":
        return "; ".join(result for _, result in steps)
    if style == "medium":
        return "".join(f"{left} = {result}\n" for left, result in steps)
    parts = ["Let me work this out step by step."] if rng.random() < 0.9 else []
    for left, result in steps:
        if rng.random() < SLIP:
            parts.append(f"{left}, is that right? Once more: {left} = {result}.")
            continue
        parts.append(f"Now {left} = {result}.")
        if rng.random() < 0.6:
            parts.append(f"Wait, let me check: {left} = {result}. That is right.")
        if rng.random() < 0.12:
            parts.append(f"Check again: {left} = {result}. That is right.")
    if steps and rng.random() < 0.9:
        parts.append(f"Let me go over all: {'; '.join(result for _, result in steps)}. That is right.")
    parts.append(f"So the answer is {answer}.")
    return "\n".join(parts) + "\n"
