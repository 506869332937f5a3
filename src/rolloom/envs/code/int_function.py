"""Write a Python function that passes hidden tests: `python f(x): add 3, then multiply by 2. code only`.

The tests' inputs follow from the specification; expected values come from interpreting it here, never
from running text as code. The program runs in the sandbox, which never sees an expected value. Identity
and constant programs fail: problems that one of them solves are not drawn.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import arithmetic, expert, machine, sequences
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.judging import RUN_DEADLINE_S
from rolloom.envs.sandbox import run_function, same_value
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, content_key

FUNCTION = "f"
FAMILIES: dict[str, ModuleType] = {"arithmetic": arithmetic, "sequences": sequences, "machine": machine}
FAMILY_BY_LEVEL = ("arithmetic",) * 4 + ("sequences",) * 2 + ("machine",) * 4
MIN_DISTINCT = 3
CPU_S, TIMEOUT_S, MEMORY_MB = 1, 5.0, 256


class IntFunction(TextEnv):
    """Single-turn code; reward 1.0 when every hidden test passes, else 0.0.

    Args:
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.

    Attributes:
        inputs: arguments of each hidden test.
        expected: what each should return.
    """

    max_turns = 1
    step_deadline_s = RUN_DEADLINE_S

    def __init__(self, isolation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.isolation = isolation
        self.inputs: list[list[Any]] = []
        self.expected: list[Any] = []

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a specification that no constant and no identity fulfils; see the family's module."""
        family = FAMILIES[FAMILY_BY_LEVEL[level - 1]]
        while True:
            spec = family.generate(rng, level)
            inputs, expected = hidden_tests(spec)
            distinct = {repr(value) for value in expected}
            echoes = sum(value in arguments for value, arguments in zip(expected, inputs, strict=True))
            if len(distinct) >= MIN_DISTINCT and echoes < len(expected) - 1:
                return spec

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the specification in words: what reads the same is the same task."""
        return task_text(problem)

    def prompt(self) -> Messages:
        """Return the specification as one user message."""
        return (Message(role="user", content=task_text(self.problem)),)

    def begin(self) -> None:
        """Work out the hidden tests."""
        self.inputs, self.expected = hidden_tests(self.problem)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Run the program on the hidden tests.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the program.
        """
        source = extract_code(turn.content)
        if not source.strip() or turn.tool_calls:
            return Reply(done=True, components={"tests_passed": 0.0, "ran": 0.0})
        outcome = run_function(
            source,
            FUNCTION,
            self.inputs,
            timeout_s=TIMEOUT_S,
            cpu_s=CPU_S,
            memory_mb=MEMORY_MB,
            isolation=self.isolation,
        )
        verdicts = [
            call.error is None and same_value(call.value, expected)
            for call, expected in zip(outcome.calls, self.expected, strict=True)
        ]
        ran = any(call.error is None for call in outcome.calls)
        components = {
            "tests_passed": sum(verdicts) / len(verdicts),
            "ran": float(ran),
            "isolated": float(outcome.isolation != "none"),
        }
        return Reply(reward=float(all(verdicts)), done=True, components=components)

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return a right program after a thought of the style's length."""
        family = FAMILIES[self.problem["family"]]
        steps = family.steps(self.problem)
        run = example_run(self.problem, rng)
        thought = expert.think(family.describe(self.problem), steps, run, style, rng)
        content = expert.write(self.problem["params"], family.body(self.problem), style, rng)
        return f"<think>\n{thought}</think>\n{content}"


def task_text(spec: dict[str, Any]) -> str:
    """Return the prompt of a specification."""
    words = FAMILIES[spec["family"]].describe(spec)
    return f"python {FUNCTION}({', '.join(spec['params'])}): {words}. code only"


def hidden_tests(spec: dict[str, Any]) -> tuple[list[list[Any]], list[Any]]:
    """Return the inputs and expected values of a specification; the same words always have the same tests."""
    family = FAMILIES[spec["family"]]
    rng = np.random.default_rng(int(content_key(task_text(spec))[:16], 16))
    inputs = family.inputs(spec, rng)
    return inputs, [family.evaluate(spec, arguments) for arguments in inputs]


def example_run(spec: dict[str, Any], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return `(left side, result)` of each step of a run on a small example."""
    family = FAMILIES[spec["family"]]
    if spec["family"] != "arithmetic" or len(spec["branches"]) > 1:
        arguments = family.inputs(spec, rng)[2]
        shown = ", ".join(map(repr, arguments))
        return [(f"{FUNCTION}({shown})", repr(family.evaluate(spec, arguments)))]
    number = int(rng.integers(2, 6))
    run = []
    for operation in spec["branches"][0]["ops"]:
        result = arithmetic.apply(operation, number, {})
        left = arithmetic.expression([operation], str(number) if number >= 0 else f"({number})")
        run.append((left, str(result)))
        number = result
    return run
