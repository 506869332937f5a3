"""What the room `safety` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "safety/refusal-v0",
        "rolloom.envs.safety.refusal:Refusal",
        "safety",
        "refuse harmful requests and answer harmless look-alikes, both in one episode",
    ),
)
