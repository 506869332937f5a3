"""Multiple-choice questions of a data set (MMLU and its kin, or your own), several to a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.data import DatasetRows
from rolloom.envs.errors import EnvError
from rolloom.envs.knowledge.letters import LETTERS, MAX_ANSWER_CHARS, read_letter
from rolloom.envs.knowledge.multiple_choice import ask
from rolloom.envs.knowledge.words import pick
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Split, Style, content_key, split_of

MAX_DRAWS = 1_000


class Questions(TextEnv):
    """Answer multiple-choice questions of a data set; every question of a prompt has to be right.

    Level L asks L + 1 questions at once, so that guessing pays next to nothing (0.01 at level 1 with the ten
    options of the packaged set); `per_prompt=1` asks one, as MMLU does. Options are shuffled for each task.
    Questions are divided into train and held-out by their own hash, so neither ever sees one of the other's.

    The reward is 1.0 when every answer names the right letter. One question is answered as in
    `knowledge/multiple_choice-v0`, several on a line each: `1: C`. The share of right answers is reported as
    the component `share`.

    The packaged set has 132 questions of general knowledge with ten options each.

    Args:
        data: a file (JSONL, JSON, CSV, Parquet), a data set name that `datasets` can load, or rows.
        question: column of the question's text.
        choices: column of the options: a list of 2 to 26 texts.
        answer: column of the right one: its index from 0, its letter, or its text.
        per_prompt: questions asked at once; the level plus one by default.
    """

    def __init__(
        self,
        data: str | Path | Sequence[Mapping[str, Any]] = "",
        question: str = "question",
        choices: str = "choices",
        answer: str = "answer",
        per_prompt: int | None = None,
        **kwargs: Any,
    ) -> None:
        if per_prompt is not None and not 1 <= per_prompt <= len(LETTERS):
            raise EnvError(f"per_prompt: expected 1 to {len(LETTERS)}, got {per_prompt!r}")
        self.rows = DatasetRows.load(data) if data else DatasetRows(_packaged(), "the packaged questions")
        self.columns, self.per_prompt = (question, choices, answer), per_prompt
        self._pools: dict[Split, list[int]] = {"train": [], "heldout": []}
        self._fewest = len(LETTERS)
        for index in range(len(self.rows)):
            text, options, _ = self._row(index)
            self._pools[split_of(content_key(text))].append(index)
            self._fewest = min(self._fewest, len(options))
        super().__init__(**kwargs)

    def _row(self, index: int) -> tuple[str, list[str], int]:
        """Return a row's question, options and the index of the right one."""
        row, (question, choices, answer) = self.rows[index], self.columns
        missing = [name for name in self.columns if name not in row]
        if missing:
            raise EnvError(
                f"{self.rows.name}, row {index}: no column {missing[0]!r}; it has {', '.join(row)}"
            )
        options, right = [str(option) for option in row[choices]], row[answer]
        if not 2 <= len(options) <= len(LETTERS) or len(set(options)) != len(options):
            raise EnvError(
                f"{self.rows.name}, row {index}: expected 2 to 26 different options, got {options!r:.200}"
            )
        if isinstance(right, str):
            letter = LETTERS.find(right.strip()) if len(right.strip()) == 1 else -1
            place = options.index(right) if right in options else letter
        else:
            place = int(right)
        if not 0 <= place < len(options):
            raise EnvError(
                f"{self.rows.name}, row {index}: answer {right!r:.80} is none of its {len(options)} options"
            )
        return str(row[question]), options, place

    def _count(self, level: int) -> int:
        return self.per_prompt or level + 1

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"questions": [{"question", "options", "answer"}]}`, all of one split."""
        count = self._count(level)
        pool: Split = "heldout" if rng.random() < 0.5 else "train"
        if len(self._pools[pool]) < count:
            pool = "train" if pool == "heldout" else "heldout"
        if len(self._pools[pool]) < count:
            raise EnvError(
                f"{self.rows.name}: too few rows ({len(self.rows)}) for {count} at once of one split"
            )
        for _ in range(MAX_DRAWS):
            questions = []
            for index in pick(rng, self._pools[pool], count):
                text, options, right = self._row(index)
                order = [int(place) for place in rng.permutation(len(options))]
                shuffled = [options[place] for place in order]
                questions.append({"question": text, "options": shuffled, "answer": order.index(right)})
            problem = {"questions": questions}
            if split_of(content_key(self.key_text(problem))) == pool:
                return problem
        raise EnvError(f"{self.rows.name}: no task of split {pool!r} could be drawn; give more rows")

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the questions with their options in order; a single question stands for itself."""
        questions = problem["questions"]
        if len(questions) == 1:
            return questions[0]["question"]
        return json.dumps([[asked["question"], asked["options"]] for asked in questions])

    def chance(self, level: int) -> float:
        """Return the chance that a guess is right on all questions."""
        return self._fewest ** -self._count(level)

    def prompt(self) -> Messages:
        """Return the questions as one user message."""
        questions = self.problem["questions"]
        if len(questions) == 1:
            return (Message(role="user", content=ask(questions[0])),)
        parts = []
        for number, asked in enumerate(questions, 1):
            options = zip(LETTERS, asked["options"], strict=False)
            parts.append(
                f"{number}. {asked['question']}\n" + "\n".join(f"{a}) {option}" for a, option in options)
            )
        form = "Answer every question on a line of its own, its number and one letter, such as\n1: C"
        return (Message(role="user", content="\n\n".join([*parts, form])),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 when every question is answered with the right letter."""
        questions = self.problem["questions"]
        fit = turn.malformed is None and not turn.tool_calls
        if len(questions) == 1:
            named = [read_letter(turn.content, len(questions[0]["options"]))]
        else:
            named = read_lines(turn.content, [len(asked["options"]) for asked in questions])
        hits = [given == asked["answer"] for given, asked in zip(named, questions, strict=True)]
        paid = float(fit and all(hits))
        share = sum(hits) / len(hits) if fit else 0.0
        return Reply(reward=paid, done=True, components={"correct": paid, "share": share})

    def gold(self) -> str:
        """Return the right letters."""
        letters = [LETTERS[asked["answer"]] for asked in self.problem["questions"]]
        if len(letters) == 1:
            return letters[0]
        return "\n".join(f"{number}: {letter}" for number, letter in enumerate(letters, 1))

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the right options; the verbose style rules others out."""
        parts = []
        for number, asked in enumerate(self.problem["questions"], 1):
            letter, option = LETTERS[asked["answer"]], asked["options"][asked["answer"]]
            if style == "compact":
                parts.append(f"{number} {letter}.")
                continue
            parts.append(f"Question {number}: it is {option}, option {letter}.")
            if style == "verbose":
                others = [text for text in asked["options"] if text != option]
                parts.append(f"It cannot be {' or '.join(pick(rng, others, 3))}.")
        return " ".join(parts)

    def attacks(self) -> dict[str, str]:
        """Return answers that name every letter of every question."""
        count = len(self.problem["questions"])
        both = "\n".join(f"{number}: {letter}" for number in range(1, count + 1) for letter in LETTERS[:10])
        return {
            "all letters": "\n".join(f"{number}: {LETTERS[:10]}" for number in range(1, count + 1)),
            "every line": both,
            "only the first": "1: A",
            "no numbers": "\n".join("A" * count),
        }


def read_lines(content: str, counts: list[int]) -> list[int | None]:
    """Return the option named for each question by lines like `1: C`; several different ones are none."""
    if len(content) > MAX_ANSWER_CHARS:
        return [None] * len(counts)
    named: list[set[int | None]] = [set() for _ in counts]
    for line in content.splitlines():
        head, _, tail = line.strip().replace(".", ":", 1).replace(")", ":", 1).partition(":")
        if head.isascii() and head.isdecimal() and len(head) < 4 and 1 <= int(head) <= len(counts):
            named[int(head) - 1].add(read_letter(tail, counts[int(head) - 1]))
    return [letters.pop() if len(letters) == 1 else None for letters in named]


def _packaged() -> list[dict[str, Any]]:
    text = resources.files("rolloom.envs.knowledge").joinpath("questions.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
