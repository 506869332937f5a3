"""Demonstrations for the workplace: what to think before a call, and before saying that all is done."""

from __future__ import annotations

import numpy as np

from rolloom.envs.agents.planner import Step
from rolloom.envs.types import Style

START, CHECK, CHECK_AGAIN, SLIP, SO, REVIEW = 0.9, 0.7, 0.25, 0.1, 0.8, 0.9
"""Chances of restating the request, checking a line, checking again, a slip, naming the call, a review."""

TOGETHER = {"verbose": 0.0, "medium": 0.25, "compact": 0.7}
"""Chance that all changes that follow from known results are asked for in one turn."""


def next_steps(pending: list[Step], style: Style, rng: np.random.Generator) -> list[Step]:
    """Return the steps to take in this turn: one, or all up to the next one that reads."""
    count = 1
    if _changes(pending[0]) and rng.random() < TOGETHER[style]:
        while count < len(pending) and _changes(pending[count]):
            count += 1
    return pending[:count]


def _changes(step: Step) -> bool:
    return not step["tool"].startswith(("find_", "list_"))


def think_before(steps: list[Step], request: str, first: bool, style: Style, rng: np.random.Generator) -> str:
    """Return the thought before the calls of `steps`.

    Args:
        steps: the steps taken in this turn.
        request: what the policy was asked for.
        first: no call has been made yet.
        style: verbose narrates and checks, medium states, compact says nothing.
        rng: decides which optional parts a verbose thought has.
    """
    if style == "compact":
        return ""
    if style == "medium":
        return " ".join(f"{step['fact'] or step['goal']}." for step in steps)
    parts = [f"we start with {request}."] if first and rng.random() < START else []
    for step in steps:
        if step["fact"]:
            parts += _state(step["fact"], step["slip"], rng)
            if rng.random() < SO:
                parts += _state(step["goal"], "", rng, opening="so")
        else:
            parts += _state(step["goal"], "", rng)
    return " ".join(parts)


def think_done(steps: list[Step], style: Style, rng: np.random.Generator) -> str:
    """Return the thought of the last turn."""
    if style != "verbose":
        return ""
    goals = ", ".join(step["goal"] for step in steps if _changes(step))
    parts = [f"now {goals} is done."] if rng.random() < START else []
    if rng.random() < REVIEW:
        parts.append(f"let me check all: {goals}. that is right.")
    if rng.random() < CHECK_AGAIN:
        parts.append(f"check again: {goals}. that is right.")
    return " ".join([*parts, "so all is done."])


def _state(statement: str, slip: str, rng: np.random.Generator, opening: str = "now") -> list[str]:
    """Return a statement with its checks; a slip is caught at once."""
    if slip and rng.random() < SLIP:
        return [f"now {slip}.", f"wait, let me check: no, {statement}."]
    parts = [f"{opening} {statement}."]
    if rng.random() < CHECK:
        parts.append(f"wait, let me check: {statement}. that is right.")
    if rng.random() < CHECK_AGAIN:
        parts.append(f"check again: {statement}. that is right.")
    return parts
