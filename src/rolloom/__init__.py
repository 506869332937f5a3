"""rolloom: RL post-training environments, rollouts and GRPO for hybrid reasoning policies.

What an author of environments needs is importable from here: `environment` and `tool` for a dozen lines,
`TextEnv` and `ToolEnv` for full control, `make` and `register` for the registry.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.authoring import environment
    from rolloom.envs.base import TextEnv
    from rolloom.envs.errors import EnvError, ToolError
    from rolloom.envs.parsing import render_call
    from rolloom.envs.registry import make, register
    from rolloom.envs.tool import ToolEnv, tool
    from rolloom.envs.types import AssistantTurn, Message, Reply

__all__ = [
    "AssistantTurn",
    "EnvError",
    "Message",
    "Reply",
    "TextEnv",
    "ToolEnv",
    "ToolError",
    "environment",
    "make",
    "register",
    "render_call",
    "tool",
]

try:
    __version__ = version("rolloom")
except PackageNotFoundError:
    __version__ = "0+unknown"

_HOMES = {
    "environment": "authoring",
    "TextEnv": "base",
    "EnvError": "errors",
    "ToolError": "errors",
    "render_call": "parsing",
    "make": "registry",
    "register": "registry",
    "ToolEnv": "tool",
    "tool": "tool",
    "AssistantTurn": "types",
    "Message": "types",
    "Reply": "types",
}


def __getattr__(name: str) -> Any:
    # Lazily: `import rolloom` and `rolloom --help` need none of it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"rolloom.envs.{_HOMES[name]}"), name)
