"""Specifications that chain routines: drawn, put into words, computed, and written as a program.

A specification is `{"input": type, "steps": [step, ...], ...}`; a step is `[routine, parameters]`, or
`["branch", {"if": step, "then": step, "else": step}]` whose branches have the same type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from rolloom.envs.code.routines import ROUTINES, TYPE_WORDS, Routine, source_of

FUNCTION = "f"
MAX_NUMBER = 10**15
MAX_PARTS = 400
Step = list[Any]
Spec = dict[str, Any]
STARTS = ("Ints", "Ints", "Ints", "str", "str", "Words", "Table", "Grid", "Spans", "int")
MAPS = ("add_each", "subtract_from", "reverse_list", "differences", "drop_multiples", "swap_neighbours",
        "add_positions", "remainders", "keep_above")  # fmt: skip
"""Steps that keep a long list long and varied."""


@cache
def _available(kind: str, wanted: str, low: int, high: int) -> tuple[Routine, ...]:
    """Return the routines on a type within levels; `wanted` "" is any type except a condition's."""
    return tuple(
        r
        for r in ROUTINES.values()
        if r.takes == kind and low <= r.level <= high and (r.gives == wanted if wanted else r.gives != "bool")
    )


def _pick(rng: np.random.Generator, routines: Sequence[Routine]) -> Step:
    chosen = routines[int(rng.integers(len(routines)))]
    parameters = {name: values[int(rng.integers(len(values)))] for name, values in chosen.choices.items()}
    return [chosen.name, parameters]


def gives(step: Step) -> str:
    """Return the type of a step's result."""
    return gives(step[1]["then"]) if step[0] == "branch" else ROUTINES[step[0]].gives


def _branch(rng: np.random.Generator, kind: str, high: int) -> Step | None:
    conditions = _available(kind, "bool", 0, 9)
    bodies = _available(kind, kind, 0, high)
    if not conditions or len(bodies) < 2:
        return None
    first, second = _pick(rng, bodies), _pick(rng, bodies)
    return ["branch", {"if": _pick(rng, conditions), "then": first, "else": second}]


def draw_steps(
    rng: np.random.Generator,
    count: int,
    high: int,
    hard: int = 0,
    branches: int = 0,
    starts: Sequence[str] = STARTS,
) -> Spec:
    """Draw a chain.

    Args:
        rng: source of chance.
        count: number of steps.
        high: highest level of a routine.
        hard: one step has at least this level.
        branches: this many of the steps choose between two, where the type allows it.
        starts: types of the input.
    """
    while True:
        kind = start = starts[int(rng.integers(len(starts)))]
        hard_at = int(rng.integers(count)) if hard else -1
        branch_at = set(rng.permutation(count)[:branches].tolist())
        steps: list[Step] = []
        for index in range(count):
            low = hard if index == hard_at else 0
            options = _available(kind, "", low, high)
            step = _branch(rng, kind, high) if index in branch_at and index != hard_at else None
            if step is None and options:
                step = _pick(rng, options)
            if step is None or (steps and step[0] == steps[-1][0]):
                break
            steps.append(step)
            kind = gives(step)
        if len(steps) == count:
            return {"input": start, "steps": steps}


def draw_big(rng: np.random.Generator, before: int, after: int, branches: int = 0) -> Spec:
    """Draw a chain on a list that needs an algorithm faster than quadratic, amid other steps."""
    big = [r for r in ROUTINES.values() if r.big]
    steps = [_pick(rng, [ROUTINES[name]]) for name in rng.permutation(MAPS)[:before].tolist()]
    steps.append(_pick(rng, big))
    tail = draw_steps(rng, after, 3, 0, branches, ("int",))["steps"] if after else []
    return {"input": "Ints", "steps": steps + tail}


# -- words ---------------------------------------------------------------------------------------------------


def words(step: Step) -> str:
    """Return a step in words."""
    if step[0] == "branch":
        parts = step[1]
        return f"if {words(parts['if'])}, {words(parts['then'])}; otherwise {words(parts['else'])}"
    return ROUTINES[step[0]].words.format(**step[1])


def task_words(spec: Spec) -> str:
    """Return the task without examples: what reads the same is the same task."""
    kind = spec["input"]
    steps = "\n".join(f"{i}. {words(step)}" for i, step in enumerate(spec["steps"], 1))
    result = TYPE_WORDS[gives(spec["steps"][-1])]
    return (
        f"{FUNCTION}(x) takes x, {TYPE_WORDS[kind]}, and carries out these steps in order, each on the result"
        f" of the one before:\n{steps}\nIt returns the last result, {result}."
    )


# -- meaning -------------------------------------------------------------------------------------------------


def apply(step: Step, value: Any) -> Any:
    """Return the result of a step."""
    if step[0] == "branch":
        parts = step[1]
        return apply(parts["then" if apply(parts["if"], value) else "else"], value)
    return ROUTINES[step[0]].function(value, **step[1])


def evaluate(steps: Sequence[Step], value: Any) -> Any:
    """Return the result of a chain."""
    for step in steps:
        value = apply(step, value)
    return value


def reasonable(value: Any) -> bool:
    """Return whether a result is small enough to be shown and to cross the sandbox."""
    if isinstance(value, str):
        return len(value) <= MAX_PARTS
    if isinstance(value, list):
        return len(value) <= MAX_PARTS and all(map(reasonable, value))
    if isinstance(value, dict):
        return len(value) <= MAX_PARTS and all(map(reasonable, value.values()))
    return abs(value) <= MAX_NUMBER


# -- program -------------------------------------------------------------------------------------------------


def _helpers(step: Step) -> list[str]:
    if step[0] == "branch":
        return [name for part in ("if", "then", "else") for name in _helpers(step[1][part])]
    return [step[0]]


def call(step: Step, variable: str = "x") -> str:
    """Return a step as a Python expression on a variable."""
    if step[0] == "branch":
        parts = {name: call(part, variable) for name, part in step[1].items()}
        return f"{parts['then']} if {parts['if']} else {parts['else']}"
    arguments = "".join(f", {step[1][name]!r}" for name in ROUTINES[step[0]].choices)
    return f"{step[0]}({variable}{arguments})"


def program(spec: Spec, anonymous: bool = False) -> str:
    """Return a right program: a helper for every routine, and the function that chains them.

    Args:
        spec: the specification.
        anonymous: call the helpers g1, g2, ..., so that names do not tell what they do.
    """
    helpers = list(dict.fromkeys(name for step in spec["steps"] for name in _helpers(step)))
    body = [f"    x = {call(step)}" for step in spec["steps"]]
    body[-1] = body[-1].replace("    x = ", "    return ", 1)
    text = "\n\n\n".join([*map(source_of, helpers), "\n".join([f"def {FUNCTION}(x):", *body])])
    if "bisect_left" in text:
        text = f"from bisect import bisect_left\n\n\n{text}"
    for number, name in enumerate(helpers if anonymous else (), 1):
        text = re.sub(rf"\b{name}\b", f"g{number}", text)
    return text
