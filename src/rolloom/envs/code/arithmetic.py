"""Specifications of integer functions, levels 1 to 4: operations, then branches, then a second argument.

A specification is `{"family": "arithmetic", "params", "branches": [{"if": condition or None, "ops":
[...]}]}`; the
first branch whose condition holds gives the result. Conditions and operations are shared with the other
families: `[kind, name, operand]` and `[kind, operand]`, an operand being an integer or the name of a
variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Operation = list[Any]
Condition = list[Any]
Values = Mapping[str, int]

ATOM, FACTOR, SUM = 3, 2, 1
PHRASES = {"add": "add {}", "subtract": "subtract {}", "multiply": "multiply by {}", "modulo": "modulo {}",
           "negate": "negate", "square": "square"}  # fmt: skip
CONDITIONS = {"even": "{0} is even", "negative": "{0} is negative", "over": "{0} is over {1}",
              "divides": "{0} divides by {1}"}  # fmt: skip
CONDITION_CODE = {"even": "{0}%2==0", "negative": "{0}<0", "over": "{0}>{1}", "divides": "{0}%{1}==0"}
KINDS_BY_LEVEL = {1: ("add", "subtract", "multiply")}
ALL_KINDS = (*KINDS_BY_LEVEL[1], "modulo", "negate", "square")
EDGE_INPUTS = (0, 1, -1, 2, -7, 10)
RANDOM_INPUTS = 8


def operand_value(operand: Any, values: Values) -> int:
    """Return an operand's number."""
    return values[operand] if isinstance(operand, str) else operand


def apply(operation: Operation, number: int, values: Values) -> int:
    """Return the result of one operation on a number; modulo is Python's."""
    kind = operation[0]
    if kind == "negate":
        return -number
    if kind == "square":
        return number * number
    operand = operand_value(operation[1], values)
    if kind == "add":
        return number + operand
    if kind == "subtract":
        return number - operand
    return number * operand if kind == "multiply" else number % operand


def holds(condition: Condition, values: Values) -> bool:
    """Return whether a condition holds."""
    kind, name, operand = condition
    number = values[name]
    if kind == "even":
        return number % 2 == 0
    if kind == "negative":
        return number < 0
    other = operand_value(operand, values)
    return number > other if kind == "over" else number % other == 0


def phrase(operation: Operation) -> str:
    """Return an operation in words: `add 3`."""
    return PHRASES[operation[0]].format(*operation[1:])


def condition_phrase(condition: Condition) -> str:
    """Return a condition in words: `x is over 3`."""
    return CONDITIONS[condition[0]].format(*condition[1:])


def condition_code(condition: Condition) -> str:
    """Return a condition as a Python expression."""
    return CONDITION_CODE[condition[0]].format(*condition[1:])


def expression(operations: list[Operation], start: str) -> str:
    """Return operations on `start` as one Python expression with no more parentheses than it needs."""
    text, strength = start, ATOM
    for operation in operations:
        text, strength = _extend(text, strength, operation)
    return text


def _extend(text: str, strength: int, operation: Operation) -> tuple[str, int]:
    kind = operation[0]
    if kind in ("add", "subtract"):
        return f"{text}{'+' if kind == 'add' else '-'}{operation[1]}", SUM
    needed = FACTOR if kind in ("multiply", "modulo") else ATOM
    inner = text if strength >= needed else f"({text})"
    if kind == "negate":
        return f"-{inner}", FACTOR
    if kind == "square":
        return f"{inner}**2", FACTOR
    return f"{inner}{'*' if kind == 'multiply' else '%'}{operation[1]}", FACTOR


def draw_operations(
    rng: np.random.Generator, count: int, kinds: tuple[str, ...], most: int, names: tuple[str, ...] = ()
) -> list[Operation]:
    """Draw a chain of operations, never two of a kind in a row (they would be one).

    Args:
        rng: source of chance.
        count: number of operations.
        kinds: kinds to draw from.
        most: largest number added or subtracted; other operands are 2 to 9.
        names: variables that may stand in an operand's place (never after modulo, which could divide by
        zero).
    """
    operations: list[Operation] = []
    while len(operations) < count:
        kind = kinds[int(rng.integers(len(kinds)))]
        if operations and operations[-1][0] == kind:
            continue
        operation: Operation = [kind]
        if kind not in ("negate", "square"):
            if names and kind != "modulo" and rng.random() < 0.4:
                operation.append(names[int(rng.integers(len(names)))])
            else:
                small, large = (1, most) if kind in ("add", "subtract") else (2, 9)
                operation.append(int(rng.integers(small, large + 1)))
        # The same operand twice in a row may cancel out.
        if not (operations and operation[1:] and operations[-1][1:] == operation[1:]):
            operations.append(operation)
    return operations


def draw_condition(
    rng: np.random.Generator, names: tuple[str, ...], most: int, kinds: tuple[str, ...] = tuple(CONDITIONS)
) -> Condition:
    """Draw a condition on one of `names`, which may be compared with another of them."""
    name = names[int(rng.integers(len(names)))]
    kind = kinds[int(rng.integers(len(kinds)))]
    others = [other for other in names if other != name]
    if kind == "over" and others and rng.random() < 0.5:
        return [kind, name, others[int(rng.integers(len(others)))]]
    if kind == "divides":
        return [kind, name, int(rng.integers(2, 10))]
    return [kind, name, int(rng.integers(2, most + 1)) if kind == "over" else 0]


def generate(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Draw a specification of level 1 to 4."""
    params = ("x", "y") if level >= 4 else ("x",)
    kinds = KINDS_BY_LEVEL.get(level, ALL_KINDS)
    branch_count = {1: 1, 2: 1, 3: 2}.get(level, 3)
    fewest, most = {1: (2, 3), 2: (3, 4), 3: (1, 2)}.get(level, (2, 3))
    branches = []
    for index in range(branch_count):
        last = index == branch_count - 1
        operations = draw_operations(rng, int(rng.integers(fewest, most + 1)), kinds, 20, params[1:])
        branches.append({"if": None if last else draw_condition(rng, params, 9), "ops": operations})
    return {"family": "arithmetic", "params": list(params), "branches": branches}


def describe(spec: dict[str, Any]) -> str:
    """Return the specification in words."""
    parts = []
    for branch in spec["branches"]:
        words = ", then ".join(map(phrase, branch["ops"]))
        if branch["if"] is not None:
            words = f"if {condition_phrase(branch['if'])}, {words}"
        elif len(spec["branches"]) > 1:
            words = f"else {words}"
        parts.append(words)
    text = "; ".join(parts)
    return f"{text}. start with x" if len(spec["params"]) > 1 else text


def evaluate(spec: dict[str, Any], arguments: list[Any]) -> int:
    """Return what the specified function returns."""
    values = dict(zip(spec["params"], arguments, strict=True))
    branch = next(b for b in spec["branches"] if b["if"] is None or holds(b["if"], values))
    number = values["x"]
    for operation in branch["ops"]:
        number = apply(operation, number, values)
    return number


def body(spec: dict[str, Any]) -> list[str]:
    """Return the lines of a right function's body."""
    return [
        (f"if {condition_code(branch['if'])}: " if branch["if"] is not None else "")
        + f"return {expression(branch['ops'], 'x')}"
        for branch in spec["branches"]
    ]


def steps(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Return `(what is asked, how it is written)` for each operation, in order."""
    found = []
    for branch in spec["branches"]:
        if branch["if"] is not None:
            found.append((condition_phrase(branch["if"]), condition_code(branch["if"])))
        for i, operation in enumerate(branch["ops"]):
            found.append((phrase(operation), expression(branch["ops"][: i + 1], "x")))
    return found


def inputs(spec: dict[str, Any], rng: np.random.Generator) -> list[list[int]]:
    """Draw test inputs; the first ones are edge cases."""
    edges = [[number] * len(spec["params"]) for number in EDGE_INPUTS]
    randoms = [[int(rng.integers(-50, 51)) for _ in spec["params"]] for _ in range(RANDOM_INPUTS)]
    return edges + randoms
