"""Demonstrations for the code environment: how long-windedly to think before the same right program.

Every part of the verbose style that is not needed is drawn on its own, so that RL can drop the parts one
by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rolloom.envs.types import Style

START, CHECK, CHECK_AGAIN, SLIP, TEST, REVIEW = 0.9, 0.65, 0.12, 0.1, 0.65, 0.7
"""Chances of restating the task, a check of a step, another one, a slip, an example run, a last review."""

FINAL_ONLY, FENCED = 0.5, 0.6
"""Chances that a compact thought holds the result (else nothing), and that verbose code has a fence."""

Steps = Sequence[tuple[str, str]]


def think(task: str, steps: Steps, run: Steps, style: Style, rng: np.random.Generator) -> str:
    """Return the thought of an expert.

    Args:
        task: the specification in words.
        steps: `(what is asked, how it is written)`, in order.
        run: `(left side, result)` of each step of an example run.
        style: verbose narrates, checks and runs the example; medium states the steps; compact at most
        the last.
        rng: decides which optional parts a verbose thought has.
    """
    if style == "compact":
        return steps[-1][1] if len(steps) < 4 and rng.random() < FINAL_ONLY else ""
    if style == "medium":
        return " ".join(f"{asked}: {written}." for asked, written in steps)
    parts = [f"we start with {task}."] if rng.random() < START else []
    parts += _narrate([(f"now {asked}: ", f"{asked} is ", written) for asked, written in steps], rng)
    if run and rng.random() < TEST:
        parts.append("let me test.")
        parts += _narrate(
            [("now ", f"{left}=", f"{left}={right}") for left, right in run], rng, run_example=True
        )
    if rng.random() < REVIEW:
        parts.append(f"let me check all: {steps[-1][1]}. that is right.")
    parts.append(f"so {steps[-1][1]}.")
    return " ".join(parts)


def _narrate(
    steps: list[tuple[str, str, str]], rng: np.random.Generator, run_example: bool = False
) -> list[str]:
    """Return sentences for `(opening, opening of a check, statement)` steps; every slip is caught at once."""
    parts = []
    for index, (opening, check, statement) in enumerate(steps):
        proof = statement if run_example else f"{check}{statement}"
        wrong = _slip(steps, index, rng) if rng.random() < SLIP else statement
        if wrong != statement:
            parts.append(f"{opening}{wrong}. wait, let me check: no, {proof}.")
            continue
        parts.append(f"{opening}{statement}.")
        if rng.random() < CHECK:
            parts.append(f"wait, let me check: {proof}. that is right.")
        if rng.random() < CHECK_AGAIN:
            parts.append(f"check again: {proof}. that is right.")
    return parts


def _slip(steps: list[tuple[str, str, str]], index: int, rng: np.random.Generator) -> str:
    """Return a wrong form of a step: a wrong last digit or sign, or the step before."""
    statement = steps[index][2]
    last = statement[-1]
    if last.isdecimal():
        return f"{statement[:-1]}{(int(last) + int(rng.integers(1, 10))) % 10}"
    return steps[index - 1][2] if index else statement


def write(parameters: list[str], body: list[str], style: Style, rng: np.random.Generator) -> str:
    """Return the program, in one line where its body is one; a verbose one may stand in a fence."""
    head = f"def f({', '.join(parameters)}):"
    program = f"{head} {body[0]}" if len(body) == 1 else "\n    ".join([head, *body])
    if style == "verbose" and rng.random() < FENCED:
        return f"```python\n{program}\n```"
    return program
