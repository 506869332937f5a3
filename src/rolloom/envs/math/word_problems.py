"""Word problems told from templates: `Ada buys 3 pens at $2 each ... How much does Ada pay?` -> `$17`.

The templates are in `stories_money`, `stories_motion` and `stories_counting`; each draws its numbers for a
level, tells the story and works it out with fractions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math import stories, stories_counting, stories_money, stories_motion
from rolloom.envs.math.notation import Unreadable, normal_form
from rolloom.envs.math.single import QuestionEnv, Step
from rolloom.envs.math.stories import TEMPLATES
from rolloom.envs.math.units import quantity

ROOMS = (stories_money, stories_motion, stories_counting)
ASIDES = (
    "{name}'s cousin is {number} years old.",
    "The shop around the corner has been there for {number} years.",
    "It is {number} degrees outside.",
    "{name} lives in house number {number}.",
    "Last week {name} read {number} pages.",
)
FIRST_ASIDE_LEVEL = 6


class WordProblems(QuestionEnv):
    """Single-turn word problems; reward 1.0 for the exact value, else 0.0.

    The answer is a number with its unit: the unit may be left out, and may be another of the same kind
    (`1500 m` for `1.5 km`), but not a wrong one.

    | level | adds |
    |---|---|
    | 1 | shopping, change, packing, distances, ages, areas |
    | 2-3 | recipes, timetables, discounts, interest, map scales, sums of rows, handshakes |
    | 4-5 | mixtures, average speeds, working together, ladders, committees, orders, probabilities |
    | 6-10 | dilution, leaking tanks, cylinders, dice; a sentence that has nothing to do with the question |

    The numbers grow with the level.

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"template", "values", "text", "answer", "steps"}`.

        Raises:
            EnvError: a template's numbers never fitted together.
        """
        names = sorted(name for name, (span, _) in TEMPLATES.items() if span[0] <= level <= span[1])
        name = str(rng.choice(names))
        for _ in range(1_000):
            draw = stories.Draw(rng, level)
            told = TEMPLATES[name][1](draw)
            if told is None:
                continue
            text = told.text
            if level >= FIRST_ASIDE_LEVEL:
                aside = str(rng.choice(ASIDES)).format(name=draw.name(), number=int(rng.integers(11, 99)))
                text = f"{aside} {text}"
            if not _gives_away(text, told.answer):
                steps = [list(step) for step in told.steps]
                return {
                    "template": name,
                    "values": draw.values,
                    "text": text,
                    "answer": told.answer,
                    "steps": steps,
                }
        raise EnvError(f"template {name} does not fit level {level}")

    def question(self) -> str:
        """Return the story."""
        return self.problem["text"]

    def form(self) -> str:
        """Return the form of the answer."""
        return "Finish with the exact answer and its unit alone, or put it in \\boxed{}."

    def gold(self) -> str:
        """Return the answer with its unit."""
        return self.problem["answer"]

    def steps(self) -> list[Step]:
        """Return the worked steps of the template."""
        return [(left, right) for left, right in self.problem["steps"]]


def _gives_away(text: str, answer: str) -> bool:
    """Return True when the answer's number stands in the text, or could be guessed: 0 or 1."""
    try:
        value = quantity(normal_form(answer))
    except Unreadable:
        return True
    if value is None:
        return False
    words = (word.strip("?.,:%$") for word in text.replace(":", " ").split())
    return value.value in (0, 1) or str(value.value) in words or answer.strip("$") in words
