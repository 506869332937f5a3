"""What the room `math` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "math/affine_chain-v0",
        "rolloom.envs.math.affine_chain:AffineChain",
        "math",
        "follow a chain of affine maps modulo m with a scratchpad",
    ),
)
