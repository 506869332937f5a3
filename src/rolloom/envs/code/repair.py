"""Find and fix the bug in a program; hidden tests decide. See `ProgramRepair`."""

from __future__ import annotations

import ast
import difflib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rolloom.envs.code import expert, hidden_tests, minipy, mutate, pipeline, synthesis
from rolloom.envs.code.cheats import fenced
from rolloom.envs.code.judging import FunctionEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, Messages, Style, content_key

SETTINGS: dict[int, dict[str, Any]] = {
    1: {"spec": 1, "bugs": 1, "failing": True},
    2: {"spec": 2, "bugs": 1, "failing": True},
    3: {"spec": 3, "bugs": 1, "failing": True},
    4: {"spec": 4, "bugs": 1, "failing": True},
    5: {"spec": 5, "bugs": 1, "failing": True},
    6: {"spec": 6, "bugs": 1, "failing": False},
    7: {"spec": 6, "bugs": 2, "failing": False},
    8: {"spec": 7, "bugs": 2, "failing": False, "passing": 0.2},
    9: {"spec": 7, "bugs": 3, "failing": False, "passing": 0.2},
    10: {"spec": 8, "bugs": 3, "failing": False, "passing": 0.3},
}
"""Level of the specification, number of bugs, whether to show a failing test, share of tests still passed."""

PUBLIC, MAX_STEPS, TRIES, PATIENCE = 5, 6_000, 300, 12
FAILED = "an exception"


@dataclass(frozen=True, slots=True)
class Broken:
    """A program with bugs.

    Attributes:
        source: its text.
        kinds: the bugs, in the order in which they were injected.
        share: share of the hidden tests that it passes.
        tests: hidden tests, and as the public one a test that it fails, where one is shown.
        returned: what it gives on that test, in words.
    """

    source: str
    kinds: tuple[str, ...]
    share: float
    tests: hidden_tests.Tests
    returned: str = ""


def results(
    source: str, inputs: list[list[Any]], expected: list[Any], least: float = 0.0
) -> list[Any] | None:
    """Return what a program of ours gives on inputs, `FAILED` for an exception.

    None when it is too slow, or as soon as less than a share `least` of it can be right.
    """
    try:
        program = minipy.Program(source, MAX_STEPS)
    except minipy.Unknown:
        return None
    found, wrong = [], 0
    for arguments, right in zip(inputs, expected, strict=True):
        try:
            found.append(program.call(pipeline.FUNCTION, *arguments))
        except minipy.Exhausted:
            return None
        except Exception:  # a bug may raise anything
            found.append(FAILED)
        wrong += found[-1] != right
        if wrong > (1.0 - least) * len(inputs):
            return None
    return found


@lru_cache(maxsize=1024)
def break_program(problem_json: str) -> Broken:
    """Return a problem's program with its bugs; the same problem always has the same.

    What is asked for in the problem gives way in the end: first that a share of the tests still passes, then
    the number of bugs above one.
    """
    problem = json.loads(problem_json)
    tests = hidden_tests.draw({**problem["spec"], "examples": PUBLIC})
    rng = np.random.default_rng(int(content_key(problem_json)[:16], 16))
    source, kinds, share = reference(problem["spec"]), (), 1.0
    passing = problem["passing"]
    for attempt in range(TRIES):
        least = passing if attempt < PATIENCE else 0.0
        injected = mutate.inject(source, rng, subtle=bool(least) and attempt % 2 == 0)
        if injected is None:
            continue
        found = results(injected[1], tests.inputs, tests.expected, least)
        if found is None:
            continue
        right = [ours == wanted for ours, wanted in zip(found, tests.expected, strict=True)]
        if sum(right) / len(right) < share:
            source, kinds, share = injected[1], (*kinds, injected[0]), sum(right) / len(right)
        if len(kinds) == problem["bugs"] or (kinds and attempt > 3 * PATIENCE) or (kinds and not share):
            break
    if not kinds:
        raise EnvError(f"no bug could be injected into: {source}")
    hidden = hidden_tests.Tests([], tests.inputs, tests.expected)
    if problem["failing"]:
        pairs = tests.public
        found = results(source, [[given] for given, _ in pairs], [right for _, right in pairs]) or []
        for ours, (given, right) in zip(found, pairs, strict=False):
            returned = FAILED if ours is FAILED else repr(ours)
            if ours != right and len(returned) + len(repr(given)) < 600:
                shown = hidden_tests.Tests([(given, right)], tests.inputs, tests.expected)
                return Broken(source, kinds, share, shown, returned)
    return Broken(source, kinds, share, hidden)


@lru_cache(maxsize=1024)
def _reference(spec_json: str) -> str:
    return mutate.tidy(ast.parse(pipeline.program(json.loads(spec_json))))


def reference(spec: dict[str, Any]) -> str:
    """Return the right program of a specification, laid out as broken ones are."""
    return _reference(json.dumps(spec, sort_keys=True))


class ProgramRepair(FunctionEnv):
    """Repair a Python program with injected bugs, given what it should do in words; hidden tests decide.

    The right programs are those of `code/synthesis-v0`; the bugs are slips such as a boundary, an operator,
    a variable, swapped arguments, a missing base case or a wrong start. Every bug fails a hidden test that
    the program passes without it. The answer is the whole repaired program; the reward is 1.0 when it
    passes every hidden test. The program as it stands scores 0, also with `per_test`, and so does one that
    only gets the test right that is shown.

    | level | adds |
    |---|---|
    | 1 to 5 | one bug in programs of two to four steps; a failing test is shown where one is short enough |
    | 6 | no failing test, conditional steps |
    | 7 | two bugs |
    | 8 to 10 | two or three bugs that leave some of the tests right |

    Args:
        scoring: `all_pass`, or `per_test`: the share of hidden tests passed beyond the unrepaired program's.
        show_failing: show a failing test; None leaves it to the level.
        kwargs: see `FunctionEnv`.
    """

    def __init__(self, show_failing: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.show_failing = show_failing
        self.broken = Broken("", (), 0.0, self.tests)

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a specification and what bugs are asked for; `begin` injects them."""
        settings = SETTINGS[level]
        failing = settings["failing"] if self.show_failing is None else self.show_failing
        return {
            "spec": synthesis.draw(rng, settings["spec"]),
            "bugs": settings["bugs"],
            "failing": failing,
            "passing": settings.get("passing", 0.0),
        }

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return what the program should do: it is the same task whatever the bug."""
        return pipeline.task_words(problem["spec"])

    def begin(self) -> None:
        """Inject the bugs."""
        self.broken = break_program(json.dumps(self.problem, sort_keys=True))
        self.tests = self.broken.tests

    def blind(self) -> float:
        """Return the share of hidden tests that the unrepaired program or the best constant passes."""
        return max(self.broken.share, self.tests.blind)

    def prompt(self) -> Messages:
        """Return what the program should do, the program, and a failing test where one is shown."""
        count = len(self.broken.kinds)
        bugs = "a bug" if count == 1 else f"{count} bugs"
        parts = [
            f"The program below has {bugs}. {pipeline.task_words(self.problem['spec'])}",
            f"The program:\n```python\n{self.broken.source}\n```",
        ]
        for given, right in self.tests.public:
            call = f"{pipeline.FUNCTION}({given!r})"
            parts.append(f"{call} should be {right!r}, but the program gives {self.broken.returned}.")
        parts.append("Answer with the whole repaired program only. It is tested on other inputs.")
        return (Message(role="user", content="\n".join(parts)),)

    def changes(self) -> list[tuple[str, str]]:
        """Return `(place, what should stand there)` of each difference to the right program."""
        wrong, right = self.broken.source.split("\n"), reference(self.problem["spec"]).split("\n")
        found = []
        for tag, i, j, k, m in difflib.SequenceMatcher(None, wrong, right, autojunk=False).get_opcodes():
            if tag != "equal":
                place = " / ".join(line.strip() for line in wrong[i:j])
                place = place or f"after {wrong[max(0, i - 1)].strip()}"
                found.append((place, " / ".join(line.strip() for line in right[k:m]) or "nothing"))
        return found

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return where the bugs are; verbose ones go through the steps first."""
        steps = [(f"where it says {wrong}, it must say", right) for wrong, right in self.changes()]
        if style == "verbose":
            chain = self.problem["spec"]["steps"]
            steps = [(pipeline.words(step), pipeline.call(step)) for step in chain] + steps
        run = [(f"{pipeline.FUNCTION}({given!r})", repr(right)) for given, right in self.tests.public]
        return expert.think("what the program should do", steps, run, style, rng)

    def gold(self) -> str:
        """Return the program without the bugs."""
        return fenced(reference(self.problem["spec"]))

    def attacks(self) -> dict[str, str]:
        """Return programs that cheat: unrepaired, repaired for the shown test only, and those of `cheats`."""
        buggy, name = self.broken.source, self.function
        made = {"unrepaired": fenced(buggy), "empty repair": fenced(f"def {name}(x): return None")}
        for given, right in self.tests.public:
            patch = f"_f = {name}\ndef {name}(x):\n    return {right!r} if x == {given!r} else _f(x)"
            made["repaired for the shown test"] = fenced(f"{buggy}\n\n\n{patch}")
        return {**made, **super().attacks()}
