"""Errors of the environment room; picklable, so that Ray can carry them."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from rolloom.errors import RolloomError, did_you_mean

__all__ = [
    "EnvError",
    "EnvRegistrationError",
    "RolloomError",
    "SandboxError",
    "ToolError",
    "UnknownEnvError",
    "did_you_mean",
    "told",
]

_PACKAGE = str(Path(__file__).resolve().parents[1])
_OTHERS = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


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


def told(error: BaseException) -> str:
    """Return an error in one line: type, message, and where in the author's own code it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_PACKAGE)]
    own = [f for f in frames if f.filename[0] != "<" and not f.filename.startswith(_OTHERS)]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {str(error)[:300]}{place}"
