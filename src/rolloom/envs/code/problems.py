"""Problems of a data set in LiveCodeBench's form, judged by its own hidden tests. See `CodeProblems`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import cheats, rows
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.judging import (
    NOTHING,
    TESTS_DEADLINE_S,
    Scoring,
    check_scoring,
    in_time,
    pay,
    within_budget,
)
from rolloom.envs.code.outputs import same_output, same_result
from rolloom.envs.data import DatasetRows
from rolloom.envs.errors import EnvError
from rolloom.envs.sandbox import Case, run_function, run_program
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Split, content_key, split_of

OWN = Path(__file__).with_name("problems.jsonl")
ENTRY = "__rolloom_entry"
PRELUDE = (
    "from typing import *\nimport math, heapq, bisect, string, re, random\n"
    "import itertools, functools, collections\n"
    "from collections import *\nfrom itertools import *\nfrom functools import *\nfrom heapq import *\n"
    "from bisect import *\n"
)
"""What rows with a starter expect to be there, as on the sites they are from."""

WRAPPER = """

def {entry}(*arguments):
    def flat(value):
        if type(value) in (list, tuple):
            return [flat(item) for item in value]
        return value
    target = globals().get("Solution")
    return flat(getattr(target(), {name!r})(*arguments) if target else globals()[{name!r}](*arguments))
"""
FUTURE = "from __future__"


class CodeProblems(TextEnv):
    """Solve the programming problems of a data set in LiveCodeBench's form; its hidden tests decide.

    Without arguments it has 48 problems of its own. A row has:

    | column | |
    |---|---|
    | `question_content` or `question` | the problem |
    | `starter_code` | where given, the answer defines this function (or `class Solution` with this method) |
    | `public_test_cases` | JSON list of `{"input", "output", "testtype"}`; those on stdin are shown |
    | `private_test_cases` | the same, hidden; also packed: base64 of zlib of JSON or of a pickled string |
    | `metadata` | JSON with `func_name` for functions, optionally `tolerance` for floats |
    | `solution` | optional; a right program, the gold answer |

    `testtype` is `stdin` (a program; output compared token by token, whitespace aside) or `functional` (one
    JSON argument a line; results compared as JSON, tuples as lists, 2.0 equal to 2). The reward is 1.0 when
    every test, public and private, passes. Compressed tests are unpacked up to a limit; nothing is ever
    unpickled as an object.

    Args:
        data: a JSONL or Parquet file, the name of a hub's data set, or rows; the own problems by default.
        heldout: the same for held-out tasks; without it, one row in five is held out by its hash.
        scoring: `all_pass`, or `per_test`: the share of hidden tests passed beyond the best constant's.
        max_tests: at most this many hidden tests are run, the first ones.
        timeout_s: wall-clock seconds of a test (of all of a function's tests together).
        memory_mb: memory of the program in MiB.
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.
    """

    levels = (1, 1)
    step_deadline_s = TESTS_DEADLINE_S

    def __init__(
        self,
        data: Any = "",
        heldout: Any = "",
        scoring: Scoring = "all_pass",
        max_tests: int = 100,
        timeout_s: float = 6.0,
        memory_mb: int = 512,
        isolation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_scoring(scoring)
        if max_tests < 1:
            raise EnvError(f"max_tests: expected at least 1, got {max_tests}")
        self.scoring, self.max_tests, self.timeout_s = scoring, max_tests, timeout_s
        self.memory_mb, self.isolation = memory_mb, isolation
        own = not data
        self.rows: dict[Split, DatasetRows] = {
            "train": DatasetRows(rows.read_own(OWN), "the own problems") if own else DatasetRows.load(data)
        }
        if heldout:
            self.rows["heldout"] = DatasetRows.load(heldout)
        self.row: rows.Row | None = None

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        # Rows are data, not drawn problems: a seed is a place in the data set.
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        found = self.rows.get(split, self.rows["train"])
        if "heldout" in self.rows:
            self.problem = self._problem(found[int(rng.integers(len(found)))])
            return content_key(self.key_text(self.problem))
        for index in rng.permutation(len(found)):
            self.problem = self._problem(found[int(index)])
            key = content_key(self.key_text(self.problem))
            if split_of(key) == split:
                return key
        raise EnvError(f"{found.name}: none of {len(found)} rows is in split {split!r}; give heldout=")

    def _problem(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = {name: row[name] for name in rows.COLUMNS if row.get(name) not in (None, "")}
        return {
            name: value if isinstance(value, str | int | float) else rows.as_json(value)
            for name, value in kept.items()
        }

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the question and the starter code."""
        return f"{rows.question(problem)}\n{problem.get('starter_code', '')}"

    def begin(self) -> None:
        """Unpack the tests.

        Raises:
            EnvError: the row has no tests, or tests that cannot be read.
        """
        self.row = rows.read(self.problem, self.max_tests)

    def _row(self) -> rows.Row:
        if self.row is None:
            raise EnvError("no problem has been drawn; call reset() first")
        return self.row

    def prompt(self) -> Messages:
        """Return the problem with its public examples as one user message."""
        row = self._row()
        parts = [row.question]
        if row.function:
            starter = row.starter or f"def {row.function}(...):"
            parts.append(f"Complete this code:\n```python\n{starter}\n```")
        else:
            parts.append("Write a Python program that reads standard input and prints the answer.")
            parts += [
                f"Example input:\n{test.given}\nExample output:\n{test.right}" for test in row.public[:3]
            ]
        parts.append("Answer with the code only.")
        return (Message(role="user", content="\n\n".join(parts)),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Run the program on every test.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the program.
        """
        source = extract_code(turn.content)
        if not source.strip() or turn.tool_calls:
            return Reply(done=True, components=dict(NOTHING))
        row = self._row()
        verdicts, ran, isolation = (self._call if row.function else self._run)(row, source)
        components = {
            "tests_passed": sum(verdicts) / len(verdicts),
            "all_passed": float(all(verdicts)),
            "ran": float(ran),
            "isolated": float(isolation != "none"),
        }
        paid = verdicts if self.scoring == "all_pass" else verdicts[: row.hidden]
        return Reply(reward=pay(paid, self.scoring, row.blind), done=True, components=components)

    def _call(self, row: rows.Row, source: str) -> tuple[list[bool], bool, str]:
        head = "" if FUTURE in source else PRELUDE
        outcome = run_function(
            head + source + WRAPPER.format(entry=ENTRY, name=row.function), ENTRY,
            [test.arguments() for test in row.tests],
            timeout_s=self.timeout_s, cpu_s=max(1, int(self.timeout_s)), memory_mb=self.memory_mb,
            isolation=self.isolation,
        )  # fmt: skip
        verdicts = [
            call.error is None and same_result(call.value, test.result(), row.tolerance)
            for call, test in zip(outcome.calls, row.tests, strict=True)
        ]
        return verdicts, any(call.error is None for call in outcome.calls), outcome.isolation

    def _run(self, row: rows.Row, source: str) -> tuple[list[bool], bool, str]:
        def passes(index: int, case: Case) -> bool:
            return case.status == "finished" and same_output(
                case.stdout, row.tests[index].right, row.tolerance
            )

        outcome = run_program(
            source, [test.given for test in row.tests],
            timeout_s=self.timeout_s, cpu_s=max(1, int(self.timeout_s)), memory_mb=self.memory_mb,
            isolation=self.isolation, go_on=within_budget(passes if self.scoring == "all_pass" else in_time),
        )  # fmt: skip
        verdicts = [passes(index, case) for index, case in enumerate(outcome.cases)]
        return verdicts, any(case.status == "finished" for case in outcome.cases), outcome.isolation

    def gold(self) -> str:
        """Return the row's solution, where it has one."""
        if "solution" not in self.problem:
            raise NotImplementedError
        return cheats.fenced(self.problem["solution"])

    def attacks(self) -> dict[str, str]:
        """Return programs that cheat; see `cheats`."""
        row = self._row()
        if row.function:
            public = [(test.arguments(), test.result()) for test in row.public]
            return cheats.function_cheats(row.function, len(row.tests), public)
        return cheats.program_cheats([(test.given, test.right) for test in row.public])
