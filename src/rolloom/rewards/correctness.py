"""When a rollout counts as solved. Scores are graded in [0, 1]; accuracy counts only full marks."""

from __future__ import annotations

SOLVED_AT = 1.0 - 1e-6
"""Lowest score that is a correct answer: full marks, up to the rounding of a sum of turn rewards."""


def is_solved(score: float | None) -> bool:
    """Return True for full marks; a failed rollout (None or NaN) is never solved."""
    return score is not None and score >= SOLVED_AT
