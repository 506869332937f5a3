"""The rewards room's error."""

from __future__ import annotations

from rolloom.errors import RolloomError


class RewardError(RolloomError):
    """A group of rollouts, or a reward configuration, that no reward can be computed from."""
