"""Mathematics problems of a data set (MATH, GSM8K and their kin, or your own), verified by math-verify."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs.data import DatasetRows
from rolloom.envs.errors import EnvError
from rolloom.envs.math.single import QuestionEnv
from rolloom.envs.math.verify import final_text, same_answer
from rolloom.envs.types import Split, Style, content_key, split_of

MAX_DRAWS = 10_000
Rows = str | Path | Sequence[Mapping[str, Any]]


class Problems(QuestionEnv):
    r"""Solve a problem of a data set; reward 1.0 when math-verify finds the final answer equal, else 0.0.

    The answer is the whole content or the last `\boxed{}`. Numbers, quantities, sets, tuples and intervals
    are compared exactly, expressions and equations by math-verify. The expected answer may stand in a longer
    text: after the last `####` (as in GSM8K) or in its last `\boxed{}` (as in MATH).

    Without arguments it has over 1,000 problems of its own, levels 1 to 4: geometry and probability at
    first, then functions and series, vectors and limits, calculus and trigonometric equations at the end.

        registry.make("math/problems-v0", data="train.jsonl", question="problem", answer="solution")

    Args:
        data: a file (JSONL, JSON, CSV, Parquet), a data set name that `datasets` can load, or rows.
        heldout: the same for held-out problems; without it, one row in five is held out by its hash.
        question: column of the problem's text.
        answer: column of the right answer.
        difficulty: column of the level, an integer; the environment has a single level where there is none.
        solution: column of a worked solution, shown as the expert's thought; none by default.
        kwargs: see `TextEnv`.
    """

    levels = (1, 1)

    def __init__(
        self,
        data: Rows | None = None,
        heldout: Rows | None = None,
        question: str = "question",
        answer: str = "answer",
        difficulty: str = "level",
        solution: str = "",
        **kwargs: Any,
    ) -> None:
        own = (
            DatasetRows.load(data) if data is not None else DatasetRows(_packaged(), "the packaged problems")
        )
        self.rows: dict[Split, DatasetRows] = {"train": own}
        if heldout is not None:
            self.rows["heldout"] = DatasetRows.load(heldout)
        self.columns = (question, answer, solution)
        self._by_level: dict[tuple[Split, int], list[int]] = {}
        if difficulty in self.rows["train"][0]:
            self._sort_by_level(difficulty)
        super().__init__(**kwargs)

    def _sort_by_level(self, column: str) -> None:
        """Find the rows of each level."""
        for split, rows in self.rows.items():
            for index in range(len(rows)):
                level = rows[index].get(column)
                if not isinstance(level, int) or isinstance(level, bool) or level < 1:
                    raise EnvError(f"{rows.name}, row {index}: expected a level from 1 on, got {level!r}")
                self._by_level.setdefault((split, level), []).append(index)
        found = sorted({level for _, level in self._by_level})
        if found != list(range(found[0], found[-1] + 1)):
            raise EnvError(f"{column}: expected levels without gaps, got {found}")
        self.levels = (found[0], found[-1])

    def _problem(self, split: Split, index: int) -> dict[str, Any]:
        row, rows = self.rows[split][index], self.rows[split]
        for name in self.columns:
            if name and name not in row:
                raise EnvError(f"{rows.name}, row {index}: no column {name!r}; it has {', '.join(row)}")
        question, answer, solution = self.columns
        problem = {"question": str(row[question]).strip(), "answer": expected(str(row[answer]))}
        if not problem["question"] or not problem["answer"]:
            raise EnvError(f"{rows.name}, row {index}: its question or its answer is empty")
        return problem | ({"solution": str(row[solution])} if solution else {})

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        own: Split = split if split in self.rows else "train"
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        indices = self._by_level.get((own, level))
        count = len(self.rows[own]) if indices is None else len(indices)
        for _ in range(MAX_DRAWS):
            index = int(rng.integers(count))
            self.problem = self._problem(own, index if indices is None else indices[index])
            key = content_key(self.key_text(self.problem))
            if "heldout" in self.rows or split_of(key) == split:
                return key
        raise EnvError(f"{self.rows[own].name}: no row of level {level} is in split {split!r}")

    def question(self) -> str:
        """Return the row's question."""
        return self.problem["question"]

    def gold(self) -> str:
        """Return the row's answer."""
        return self.problem["answer"]

    def right(self, answer: str) -> bool:
        """Return True when the answer is the expected one; see `verify.same_answer`."""
        return same_answer(answer, self.problem["answer"])

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the row's solution, where the data has one; the compact style does without."""
        solution = self.problem.get("solution", "")
        return f"{solution}\n" if solution and style != "compact" else ""


@cache
def _packaged() -> list[dict[str, Any]]:
    text = resources.files("rolloom.envs.math").joinpath("problems.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def expected(text: str) -> str:
    r"""Return the answer within a row's answer text: after `####`, in the last `\boxed{}`, or all of it."""
    _, mark, last = text.rpartition("####")
    if mark:
        return last.strip()
    return (final_text(text) or text).strip() if "\\boxed" in text else text.strip()
