"""Thoughts of the agents' experts: the same reasons told at three lengths.

The parts of the verbose style that are not needed are drawn one by one, so that RL can drop each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rolloom.envs.types import Style

START, CHECK, AGAIN, SO = 0.9, 0.6, 0.2, 0.7
"""Chances of restating the task, checking a reason, checking it again, and a closing line."""


def narrate(reasons: Sequence[str], style: Style, rng: np.random.Generator, task: str = "") -> str:
    """Return a thought.

    Args:
        reasons: why the next turn is what it is, as clauses without a full stop.
        style: verbose narrates and checks, medium states, compact says nothing.
        rng: decides which optional parts a verbose thought has.
        task: the request, given with the first turn only.
    """
    told = [reason for reason in reasons if reason]
    if style == "compact" or not told:
        return ""
    if style == "medium":
        return " ".join(f"{reason}." for reason in told)
    parts = [f"The task is: {task}"] if task and rng.random() < START else []
    for index, reason in enumerate(told):
        parts.append(f"{'Then' if index else 'Now'} {reason}.")
        if rng.random() < CHECK:
            parts.append(f"Wait, let me check: {reason}. That is right.")
        if rng.random() < AGAIN:
            parts.append(f"Check again: {reason}. That is right.")
    if rng.random() < SO:
        parts.append(f"So {told[-1]}.")
    return " ".join(parts)
