"""The root of every rolloom error and the environment room's own; all picklable, so Ray can carry them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RolloomError(Exception):
    """Root of every error raised on purpose. The message says what was expected, what was got, what to do."""


class EnvError(RolloomError):
    """An environment failed: its rollout is recorded as `env_error` and stays out of every baseline."""


class UnknownEnvError(EnvError):
    """No environment is registered under the id asked for."""


class EnvRegistrationError(EnvError):
    """An environment id or entry point is malformed, or an id is taken by something else."""


class SandboxError(RolloomError):
    """The sandbox itself failed (not the program in it); never a verdict about the program."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
