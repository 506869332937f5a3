"""What goes wrong with a judge."""

from __future__ import annotations

from rolloom.envs.errors import EnvError


class JudgeError(EnvError):
    """A judge gave no verdict that could be read: the rollout failed, which is no reward of 0."""
