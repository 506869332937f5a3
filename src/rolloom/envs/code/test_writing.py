"""Write an input that tells a program with a bug from the right one. See `TestWriting`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import arguments, expert, minipy, mutate, pipeline, repair, synthesis
from rolloom.envs.code import inputs as drawing
from rolloom.envs.code.judging import RUN_DEADLINE_S
from rolloom.envs.code.routines import TYPE_WORDS
from rolloom.envs.errors import EnvError
from rolloom.envs.sandbox import run_function, same_value
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, content_key

COUNTS, HIGHEST = (2, 2, 2, 3, 3, 3, 4, 4, 5, 6), (4, 5, 6, 5, 6, 7, 6, 7, 7, 7)
"""Number of steps and highest level of a step, by level; one step is conditional."""

KINDS = ("boundary", "wrong function", "wrong start")
"""Bugs that often show on few inputs only."""

CPU_S, TIMEOUT_S = 1, 5.0
TRIES, SEARCHES, PATIENCE = 1_000, 30, 4


@lru_cache(maxsize=8192)
def find_bug(spec_json: str) -> tuple[str, Any] | None:
    """Return `(program with a bug, argument that shows it)` for a specification; always the same.

    The bug does not show on the panel of usual arguments nor on edge cases. None if no such bug is found.
    """
    spec = json.loads(spec_json)
    kind, right = spec["input"], repair.reference(spec)
    rng = np.random.default_rng(int(content_key(spec_json)[:16], 16))
    panel = [*arguments.PANEL[kind], *drawing.EDGES[kind]]
    expected = [pipeline.evaluate(spec["steps"], value) for value in panel]
    trials = [drawing.draw(kind, rng, (6, 9, 12)[i % 3]) for i in range(SEARCHES)]
    wanted = [pipeline.evaluate(spec["steps"], value) for value in trials]
    tried: set[str] = set()
    for _ in range(PATIENCE):
        injected = mutate.inject(right, rng, kinds=KINDS)
        if injected is None or injected[1] in tried:
            continue
        tried.add(injected[1])
        program = minipy.Program(injected[1], repair.MAX_STEPS)
        if all(_gives(program, value) == result for value, result in zip(panel, expected, strict=True)):
            for value, result in zip(trials, wanted, strict=True):
                ours = _gives(program, value)
                if ours is EXHAUSTED:
                    break
                if ours != result and arguments.CHECKS[kind](value):
                    return injected[1], value
    return None


EXHAUSTED = object()


def _gives(program: minipy.Program, value: Any) -> Any:
    try:
        return program.call(pipeline.FUNCTION, value)
    except minipy.Exhausted:
        return EXHAUSTED
    except Exception:  # a bug may raise anything
        return repair.FAILED


class TestWriting(TextEnv):
    """Write an input on which a program with a bug differs from the right program.

    Both programs are shown, as A and B, in an order drawn at random. The bug is one that does not show on a
    panel of usual inputs (empty, one item, 1 to 10, repeated, ...), so the policy has to find the boundary
    where it does. The answer is checked by running both programs on it in the sandbox and comparing their
    results here: reward 1.0 when the right one returns a value and the other another value or an exception,
    else 0.0. An input of another type earns nothing.

    | level | adds |
    |---|---|
    | 1 to 3 | programs of two steps, one of them conditional |
    | 4 to 6 | three steps |
    | 7 to 10 | four to six steps, more of them algorithms |

    Args:
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.
    """

    step_deadline_s = RUN_DEADLINE_S

    __test__ = False  # its name makes pytest look for tests in it

    def __init__(self, isolation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.isolation = isolation

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"spec", "buggy", "argument", "right_first"}`."""
        for _ in range(TRIES):
            spec = synthesis.draw_chain(rng, count=COUNTS[level - 1], high=HIGHEST[level - 1], branches=1)
            found = find_bug(json.dumps(spec, sort_keys=True))
            if found is not None:
                return {
                    "spec": spec,
                    "buggy": found[0],
                    "argument": found[1],
                    "right_first": bool(rng.integers(2)),
                }
        raise EnvError(f"no bug that is hard to see in {TRIES} programs of level {level}")

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return what the programs are about; the bug follows from it."""
        return pipeline.task_words(problem["spec"])

    def prompt(self) -> Messages:
        """Return both programs as one user message."""
        right, buggy = self._programs()
        first, second = (right, buggy) if self.problem["right_first"] else (buggy, right)
        text = (
            f"Program A:\n```python\n{first}\n```\nProgram B:\n```python\n{second}\n```\nFind x, "
            f"{TYPE_WORDS[self.problem['spec']['input']]}, for which {pipeline.FUNCTION}(x) differs between"
            " A and B. Answer with x as JSON only."
        )
        return (Message(role="user", content=text),)

    def _programs(self) -> tuple[str, str]:
        return repair.reference(self.problem["spec"]), self.problem["buggy"]

    def respond(self, turn: AssistantTurn) -> Reply:
        """Run both programs on the answer in the sandbox, compare here.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the answer.
        """
        try:
            if turn.tool_calls:
                raise arguments.NotAnArgument("a tool call")
            given = arguments.read(turn.content, self.problem["spec"]["input"])
        except arguments.NotAnArgument:
            return Reply(done=True, components={"correct": 0.0, "valid": 0.0})
        right, buggy = (
            run_function(
                source, pipeline.FUNCTION, [[given]],
                timeout_s=TIMEOUT_S, cpu_s=CPU_S, isolation=self.isolation,
            )
            for source in self._programs()
        )  # fmt: skip
        ours, other = right.calls[0], buggy.calls[0]
        # A run that was cut off says nothing of what the program would have returned.
        found = (
            right.status == buggy.status == "finished"
            and ours.error is None
            and (other.error is not None or not same_value(ours.value, other.value))
        )
        return Reply(reward=float(found), done=True, components={"correct": float(found), "valid": 1.0})

    def gold(self) -> str:
        """Return an argument on which the programs differ."""
        return json.dumps(self.problem["argument"])

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return where the programs differ, and what they give."""
        right, buggy = self._programs()
        steps = [
            (f"one says {ours.strip()}, the other", theirs.strip())
            for ours, theirs in zip(right.split("\n"), buggy.split("\n"), strict=False)
            if ours != theirs
        ][:3]
        value = pipeline.evaluate(self.problem["spec"]["steps"], self.problem["argument"])
        steps.append((f"for x = {self.gold()} one returns", repr(value)))
        return "" if style == "compact" else expert.think("the two programs", steps, [], style, rng)

    def attacks(self) -> dict[str, str]:
        """Return usual inputs, inputs of another type, and code in the place of an input."""
        kind = self.problem["spec"]["input"]
        others = {
            f"a {other}": json.dumps(arguments.PANEL[other][3]) for other in arguments.PANEL if other != kind
        }
        return {
            **{f"usual input {i}": json.dumps(value) for i, value in enumerate(arguments.PANEL[kind])},
            **others,
            "null": "null",
            "mixed types": '[1, "a", null, [2]]',
            "code": "```python\n__import__('os')._exit(0)\n```",
            "deep": "[" * 900 + "]" * 900,
            "huge number": "9" * 1_500,
            "long list": json.dumps([7] * 500),
        }
