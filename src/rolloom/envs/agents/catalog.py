"""What the room `agents` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "agent/workplace-v0",
        "rolloom.envs.agents.workplace:Workplace",
        "agent",
        "change a small SQLite workplace; scored by its final state",
    ),
)
