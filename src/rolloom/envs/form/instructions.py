"""Instruction following: a text under constraints that a program verifies, of the kind IFEval made known."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError, did_you_mean
from rolloom.envs.form.constraints import CONSTRAINTS, REQUEST, conflict, describe, keywords_hold
from rolloom.envs.form.draft import Draft
from rolloom.envs.form.reading import MAX_ANSWER_CHARS, Reading
from rolloom.envs.knowledge.words import COLOURS, THINGS, one, pick, tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

COUNTS = (1, 2, 2, 3, 3, 4, 5, 6, 7, 9)
"""Constraints of each level, beside the keywords."""

KEYWORDS = (2, 2, 3, 3, 3, 4, 4, 4, 5, 5)
"""Keywords of each level."""

TOPICS = (
    *(
        "a walk by the sea",
        "learning to cook",
        "an old library",
        "a rainy morning",
        "a small garden",
        "night trains",
    ),
    *(
        "a market day",
        "the first snow",
        "a lost letter",
        "a mountain village",
        "repairing a clock",
        "a long queue",
    ),
    *("a new neighbour", "music in the park", "a broken bicycle", "the harbour at dawn", "a school play"),
    *("a quiet office", "baking bread", "a family dinner"),
)
MAX_DRAWS = 500


class Instructions(TextEnv):
    """Write a short text that keeps to every rule of the request.

    Each request names keywords that have to be used once each, in the reverse of the order given, each in a
    sentence of its own of four words or more, so that no prepared text fits; and 1 to 9 of 38 kinds of
    constraints: counts of words, sentences, paragraphs, bullets, capitals, numbers, question marks; words and
    letters to use or avoid; case; fixed beginnings and endings; titles, placeholders, highlights, sections,
    postscripts; JSON and quotation marks; acrostics, alliteration, palindromes, sorted lists, line lengths,
    scripts.

    The reward is 1.0 when all hold, else 0.0; the share that holds is the component `share`. A word is what
    stands between blanks, without punctuation around it; a sentence ends with `.`, `!` or `?`.

    | level | rules beside the keywords | keywords |
    |---|---|---|
    | 1 | 1 | 2 |
    | 4 | 3 | 3 |
    | 7 | 5 | 4 |
    | 10 | 9 | 5 |

    Args:
        constraints: names of the kinds to draw from; all by default.
        count: rules of each request, whatever the level.
    """

    answer_in_prompt = True  # the rule `repeat_request` asks for words of the prompt

    def __init__(
        self, constraints: list[str] | tuple[str, ...] = (), count: int | None = None, **kwargs: Any
    ) -> None:
        for name in constraints:
            if name not in CONSTRAINTS:
                raise EnvError(f"constraints: no constraint {name!r}.{did_you_mean(name, CONSTRAINTS)}")
        self.kinds, self.count = tuple(constraints) or tuple(CONSTRAINTS), count
        super().__init__(**kwargs)

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"topic", "keywords", "rules": [[name, params, wording], ...], "gold"}`."""
        count = min(self.count or COUNTS[level - 1], len(self.kinds))
        for _ in range(MAX_DRAWS):
            topic = one(rng, TOPICS)
            keywords = pick(rng, [thing for thing in THINGS if thing not in COLOURS], KEYWORDS[level - 1])
            names: list[str] = []
            for name in pick(rng, self.kinds, len(self.kinds)):
                if len(names) < count and not any(conflict(name, other) for other in names):
                    names.append(name)
            if len(names) < count:
                continue
            rules = [[name, CONSTRAINTS[name].draw(rng, level), int(rng.integers(6))] for name in names]
            for name, params, _ in rules:
                if name == "repeat_request":
                    params["request"] = REQUEST.format(topic=topic)
            draft = Draft(keywords[::-1])
            for name, params, _ in rules:
                CONSTRAINTS[name].build(draft, params)
            problem = {"topic": topic, "keywords": keywords, "rules": rules, "gold": draft.render(rng)}
            if all(held for _, held in verdicts(problem, problem["gold"])):
                return problem
        raise EnvError(f"no {count} of the constraints {', '.join(self.kinds)} could be fulfilled together")

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the request."""
        return request(problem)

    def prompt(self) -> Messages:
        """Return the request as one user message."""
        return (Message(role="user", content=request(self.problem)),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 when every rule holds."""
        if turn.malformed is not None or turn.tool_calls or len(turn.content) > MAX_ANSWER_CHARS:
            return Reply(done=True, components={"correct": 0.0, "share": 0.0})
        held = verdicts(self.problem, turn.content)
        kept = [float(right) for _, right in held]
        paid = float(all(kept))
        return Reply(reward=paid, done=True, components={"correct": paid, "share": sum(kept) / len(kept)})

    def gold(self) -> str:
        """Return a text that keeps to every rule."""
        return self.problem["gold"]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the rules gone through one by one."""
        words = ", ".join(self.problem["keywords"][::-1])
        steps = [[words, f"I need the words {words}, in this order."]]
        for name, params, wording in self.problem["rules"]:
            steps.append([name.replace("_", " "), f"Rule: {describe(name, params, wording)}"])
        return tell(steps, style, rng)

    def attacks(self) -> dict[str, str]:
        """Return the keywords alone, in the order given, repeated, and the request itself."""
        words = self.problem["keywords"]
        return {
            "the request": request(self.problem),
            "keywords as given": ". ".join(words) + ".",
            "keywords many times": ". ".join(words * 50) + ".",
            "one sentence": " ".join(words[::-1]) + ".",
        }


def request(problem: dict[str, Any]) -> str:
    """Return what the policy is asked."""
    words = ", ".join(problem["keywords"])
    rules = [
        f"Use these words in the reverse of this order, each exactly once and in a sentence of its "
        f"own of four words or more: {words}.",
        *(describe(name, params, wording) for name, params, wording in problem["rules"]),
    ]
    return f"{REQUEST.format(topic=problem['topic'])} Keep to these rules:\n" + "\n".join(
        f"- {rule}" for rule in rules
    )


def verdicts(problem: dict[str, Any], text: str) -> list[tuple[str, bool]]:
    """Return for each rule of a problem whether a text keeps to it; the first is that of the keywords."""
    reading = Reading(text)
    held = [(name, bool(CONSTRAINTS[name].check(reading, params))) for name, params, _ in problem["rules"]]
    return [("keywords", keywords_hold(reading, problem["keywords"][::-1])), *held]
