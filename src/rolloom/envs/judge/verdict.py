"""The policy is the judge: which of several worked solutions to a question are right?"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.judge.solutions import draw_question, write_solution
from rolloom.envs.knowledge.words import tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

SOLUTIONS = (6, 6, 6, 7, 7, 7, 8, 8, 8, 8)
"""Solutions to judge at each level."""

MAX_ANSWER_CHARS = 4_000
WORDS = {True: "RIGHT", False: "WRONG"}


class Verdict(TextEnv):
    """Judge six to eight worked solutions of one question, each `RIGHT` or `WRONG` (training of a judge).

    A solution is right when its final number is. Wrong ones slip in a step and carry the slip on, take a
    wrong number from the question, leave a step out, or end with another number than they reached; from
    level 4 some right ones first slip and then correct themselves, and some solutions praise themselves or
    address the judge, whether they are right or not. The reward is 1.0 when all verdicts are right; `share`
    says how many are. Each solution is right with probability one half, so a guess pays 1/64 at level 1.

    | level | adds |
    |---|---|
    | 1 | six solutions of 3 steps with small numbers |
    | 3 | mistakes that several solutions share |
    | 4 | seven, corrected slips, claims of their own |
    | 7 | eight, 8 steps, numbers to 300 |
    | 10 | eight, 12 steps, numbers to 3,000 |
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"question", "answer", "solutions": [{"text", "right", "why"}, ...]}`."""
        question = draw_question(rng, level)
        # Mistakes that many make: the number that most solutions reach need not be the right one.
        shared = int(rng.integers(2**31))
        drawn = []
        for _ in range(SOLUTIONS[level - 1]):
            right = bool(rng.integers(2))
            common = level >= 3 and rng.random() < 0.7
            text, why = write_solution(rng, question, right, level, shared if common else None)
            drawn.append({"text": text, "right": right, "why": why})
        return {"question": question.text, "answer": question.answer, "solutions": drawn}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return question and solutions."""
        return "\n".join([problem["question"], *(solution["text"] for solution in problem["solutions"])])

    def prompt(self) -> Messages:
        """Return question and solutions as one user message."""
        listed = [
            f"Solution {number}:\n{solution['text']}"
            for number, solution in enumerate(self.problem["solutions"], 1)
        ]
        form = (
            "Judge each solution by its final number. Write one line for each and nothing else: its "
            "number, a colon, "
            "and RIGHT or WRONG."
        )
        return (
            Message(
                role="user", content="\n\n".join([f"Question: {self.problem['question']}", *listed, form])
            ),
        )

    def chance(self, level: int) -> float:
        """Return the chance that a guess is right about all."""
        return 0.5 ** SOLUTIONS[level - 1]

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 when every verdict is right."""
        wanted = [f"{n}:{WORDS[s['right']]}" for n, s in enumerate(self.problem["solutions"], 1)]
        fit = turn.malformed is None and not turn.tool_calls and len(turn.content) <= MAX_ANSWER_CHARS
        given = ["".join(line.split()) for line in turn.content.split("\n") if line.strip()] if fit else []
        paid = float(given == wanted)
        agree = sum(a == b for a, b in zip(given, wanted, strict=False)) if len(given) == len(wanted) else 0
        return Reply(reward=paid, done=True, components={"correct": paid, "share": agree / len(wanted)})

    def gold(self) -> str:
        """Return the right verdicts."""
        return "\n".join(f"{n}: {WORDS[s['right']]}" for n, s in enumerate(self.problem["solutions"], 1))

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the right number, and what each solution does."""
        steps = [[str(self.problem["answer"]), f"The right number is {self.problem['answer']}."]]
        for number, solution in enumerate(self.problem["solutions"], 1):
            word = WORDS[solution["right"]].lower()
            steps.append([f"{number} {word}", f"Solution {number} {solution['why']}: {word}."])
        return tell(steps, style, rng)

    def attacks(self) -> dict[str, str]:
        """Return answers that say both of each solution, or nothing of some."""
        every = range(1, len(self.problem["solutions"]) + 1)
        return {
            "both words": "\n".join(f"{number}: RIGHT WRONG" for number in every),
            "both lines": "\n".join(f"{number}: {word}" for number in every for word in WORDS.values()),
            "gold twice": self.gold() + "\n" + self.gold(),
            "all but the last": "\n".join(self.gold().split("\n")[:-1]),
            "no numbers": self.gold().replace(":", ""),
        }
