"""What the code environments share: run a program's function on hidden tests, compare here, and pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from rolloom.envs.base import TextEnv
from rolloom.envs.code import cheats
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.hidden_tests import Tests
from rolloom.envs.errors import EnvError, did_you_mean
from rolloom.envs.sandbox import Case, run_function, same_value
from rolloom.envs.types import AssistantTurn, Reply

Scoring = Literal["all_pass", "per_test"]
CPU_S, TIMEOUT_S, MEMORY_MB = 2, 10.0, 512
BUDGET_S = 45.0
"""Wall-clock seconds that all tests of a program may take together; the rest count as failed."""

RUN_DEADLINE_S, TESTS_DEADLINE_S = 60.0, BUDGET_S + 45.0
"""Deadlines of a step that runs a program once, and once a test.

Longer than any program may take: one that sleeps until it is killed has failed, it must not become an
environment's timeout and so leave the baseline.
"""

NOTHING = {"tests_passed": 0.0, "all_passed": 0.0, "ran": 0.0}


def check_scoring(scoring: str) -> None:
    """Refuse an unknown kind of scoring.

    Raises:
        EnvError: it is none of `Scoring`.
    """
    if scoring not in get_args(Scoring):
        known = get_args(Scoring)
        raise EnvError(f"scoring: expected one of {known}, got {scoring!r}.{did_you_mean(scoring, known)}")


def in_time(index: int, case: Case) -> bool:
    """Return whether to go on after a test: a program that ran out of time once will do so again."""
    return case.status != "timeout"


def within_budget(go_on: Callable[[int, Case], bool]) -> Callable[[int, Case], bool]:
    """Return a `go_on` that also ends the tests when they have taken `BUDGET_S` together."""
    spent = 0.0

    def ask(index: int, case: Case) -> bool:
        nonlocal spent
        spent += case.seconds
        return go_on(index, case) and spent < BUDGET_S

    return ask


def pay(verdicts: Sequence[bool], scoring: str, blind: float = 0.0) -> float:
    """Return the reward of a program's verdicts.

    Args:
        verdicts: one for each hidden test; at least one.
        scoring: `all_pass` pays 1.0 when every test passes, else nothing. `per_test` pays the share of tests
            passed beyond `blind`, scaled so that all of them are 1.0.
        blind: share that a program passes which does not solve the problem.
    """
    share = sum(verdicts) / len(verdicts)
    if scoring == "all_pass" or share == 1.0:
        return float(share == 1.0)
    return max(0.0, (share - blind) / (1.0 - blind))


class FunctionEnv(TextEnv):
    """Base of the environments whose answer is a function of one argument, called on hidden inputs.

    Args:
        scoring: `all_pass` (the default) or `per_test`; see `pay`.
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.

    Attributes:
        tests: the problem's tests, set by `begin`.
    """

    function = "f"
    step_deadline_s = RUN_DEADLINE_S

    def __init__(self, scoring: Scoring = "all_pass", isolation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_scoring(scoring)
        self.scoring, self.isolation = scoring, isolation
        self.tests = Tests()

    def blind(self) -> float:
        """Return the share of hidden tests that a program passes which does not solve the problem."""
        return self.tests.blind

    def respond(self, turn: AssistantTurn) -> Reply:
        """Run the program on the hidden tests.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the program.
        """
        source = extract_code(turn.content)
        if not source.strip() or turn.tool_calls:
            return Reply(done=True, components=dict(NOTHING))
        outcome = run_function(
            source, self.function, self.tests.inputs,
            timeout_s=TIMEOUT_S, cpu_s=CPU_S, memory_mb=MEMORY_MB, isolation=self.isolation,
        )  # fmt: skip
        verdicts = [
            call.error is None and same_value(call.value, right)
            for call, right in zip(outcome.calls, self.tests.expected, strict=True)
        ]
        components = {
            "tests_passed": sum(verdicts) / len(verdicts),
            "all_passed": float(all(verdicts)),
            "ran": float(any(call.error is None for call in outcome.calls)),
            "isolated": float(outcome.isolation != "none"),
        }
        return Reply(reward=pay(verdicts, self.scoring, self.blind()), done=True, components=components)

    def attacks(self) -> dict[str, str]:
        """Return programs that cheat; see `cheats`."""
        public = [([given], right) for given, right in self.tests.public]
        return cheats.function_cheats(self.function, len(self.tests.inputs), public)
