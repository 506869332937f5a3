"""Errors of the environment room; picklable, so that Ray can carry them."""

from __future__ import annotations

from rolloom.errors import RolloomError, did_you_mean

__all__ = [
    "EnvError",
    "EnvRegistrationError",
    "RolloomError",
    "SandboxError",
    "ToolError",
    "UnknownEnvError",
    "did_you_mean",
]


class EnvError(RolloomError):
    """An environment failed: its rollout is recorded as `env_error` and stays out of every baseline."""


class UnknownEnvError(EnvError):
    """No environment is registered under the id asked for."""


class EnvRegistrationError(EnvError):
    """An environment id or entry point is malformed, or an id is taken by something else."""


class ToolError(RolloomError):
    """A tool was used wrongly: the policy is told the message, and the episode goes on."""


class SandboxError(RolloomError):
    """The sandbox itself failed (not the program in it); never a verdict about the program."""
