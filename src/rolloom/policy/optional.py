"""Packages that only some policies need: imported at need, named with their extra when missing."""

from __future__ import annotations

import importlib
from typing import Any

from rolloom.policy.config import PolicyError


def need(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: dotted name.
        extra: of this distribution, which installs it.
        purpose: what it is needed for, for the message.

    Raises:
        PolicyError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = module.partition(".")[0]
        raise PolicyError(
            f"{purpose} needs {missing}, which is not installed: pip install 'rolloom[{extra}]'"
        ) from error
