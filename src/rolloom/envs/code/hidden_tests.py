"""Tests of a function that follow from its specification alone, and whether they tell right from wrong."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rolloom.envs.code import inputs as drawing
from rolloom.envs.code import pipeline
from rolloom.envs.types import content_key

HIDDEN, BIG_TESTS = 14, 2
MIN_DISTINCT, MAX_COMMON = 4, 0.4


@dataclass(frozen=True, slots=True)
class Tests:
    """Arguments and expected results of a function.

    Attributes:
        public: pairs shown in the prompt; none of them is a hidden test.
        inputs: arguments of each hidden test.
        expected: what each should return.
    """

    public: list[tuple[Any, Any]] = field(default_factory=list)
    inputs: list[list[Any]] = field(default_factory=list)
    expected: list[Any] = field(default_factory=list)

    @property
    def blind(self) -> float:
        """Share of hidden tests that the best constant, or the identity, passes."""
        texts = [json.dumps(value, sort_keys=True) for value in self.expected]
        same = sum(given == [value] for given, value in zip(self.inputs, self.expected, strict=True))
        return max(Counter(texts).most_common(1)[0][1], same) / len(texts)


def draw(spec: dict[str, Any]) -> Tests:
    """Return a specification's tests: `examples` public ones, edge cases if `edges`, long ones if `big`."""
    kind, steps = spec["input"], spec["steps"]
    rng = np.random.default_rng(int(content_key(pipeline.task_words(spec))[:16], 16))
    sizes = (6, 9, 14)
    found: dict[str, Any] = {}
    public = int(spec.get("examples", 2))
    for attempt in range(60):
        value = drawing.draw(kind, rng, sizes[attempt % 3] if len(found) >= public else 6)
        found.setdefault(json.dumps(value, sort_keys=True), value)
        if len(found) == public + HIDDEN:
            break
    values = list(found.values())
    shown, hidden = values[:public], values[public:]
    if spec.get("edges"):
        hidden += [edge for edge in drawing.EDGES[kind] if edge not in shown and edge not in hidden]
    if spec.get("big"):
        hidden += [drawing.big_numbers(rng) for _ in range(BIG_TESTS)]
    return Tests(
        [(value, pipeline.evaluate(steps, value)) for value in shown],
        [[value] for value in hidden],
        [pipeline.evaluate(steps, value) for value in hidden],
    )


def telling(spec: dict[str, Any], tests: Tests) -> bool:
    """Return whether no constant, no identity, and no chain with a step or a branch less passes the tests."""
    if not all(map(pipeline.reasonable, tests.expected)) or tests.blind > MAX_COMMON:
        return False
    if len({json.dumps(value, sort_keys=True) for value in tests.expected}) < MIN_DISTINCT:
        return False
    pairs = list(zip(tests.inputs, tests.expected, strict=True))
    return all(
        any(pipeline.evaluate(other, given[0]) != right for given, right in pairs)
        for other in _lesser(spec["steps"])
    )


def _lesser(steps: list[Any]) -> list[list[Any]]:
    """Return the chains with a step left out, where types allow it, or a branch always or never taken."""
    found = []
    for i, step in enumerate(steps):
        if step[0] == "branch":
            found += [[*steps[:i], step[1][part], *steps[i + 1 :]] for part in ("then", "else")]
        elif pipeline.ROUTINES[step[0]].takes == pipeline.gives(step):
            found.append([*steps[:i], *steps[i + 1 :]])
    return found
