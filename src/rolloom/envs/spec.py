"""What the registry knows of an environment before it is imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """A registered environment.

    Attributes:
        id: `namespace/name-vN`.
        entry_point: `package.module:Name` of a `TextEnv` class, or of anything that returns a `TextEnv` when
            called with the keyword arguments; imported when first made.
        kind: math, code, tools, agent or another word used to group environments in tables.
        description: one line for `rolloom envs list`.
        kwargs: default keyword arguments.
        requires: modules that must be importable, as `module` or `module:extra`; `extra` names the optional
            dependencies (`rolloom[extra]`) that bring it.
        file: Python file to load the module from where it cannot be imported by name ("" for packages).
    """

    id: str
    entry_point: str
    kind: str = "other"
    description: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    file: str = ""

    def missing(self) -> tuple[str, ...]:
        """Return the entries of `requires` that are not installed."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name.split(":")[0]) is None)
