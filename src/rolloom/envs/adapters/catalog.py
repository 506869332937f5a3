"""What the room `adapters` has, for the registry; nothing is imported before it is made.

Adapters that need an argument to be made (a Gymnasium id, a server's address, a file) are no entries here:
register them with `register(id, entry_point, **kwargs)`; their class docstrings show how.
"""

from __future__ import annotations

from rolloom.envs.adapters.reasoning_gym_names import LEVELS
from rolloom.envs.spec import EnvSpec

_GYMNASIUM = (
    ("frozen_lake", "toy_text:FrozenLake", "walk over a drawn frozen lake without falling into a hole"),
    (
        "cliff_walking",
        "toy_text:CliffWalking",
        "walk along a cliff to the target, moves told by drawn letters",
    ),
    ("taxi", "toy_text:Taxi", "fetch a passenger and drive them to their destination"),
    ("blackjack", "blackjack:Blackjack", "win every hand of a session of blackjack"),
)

SPECS: tuple[EnvSpec, ...] = (
    *(
        EnvSpec(f"gymnasium/{name}-v0", f"rolloom.envs.adapters.{where}", "game", description)
        for name, where, description in _GYMNASIUM
    ),
    *(
        EnvSpec(
            f"reasoning_gym/{name}-v0",
            "rolloom.envs.adapters.reasoning_gym_env:ReasoningGymEnv",
            "reasoning",
            f"reasoning-gym: {name.replace('_', ' ')}",
            {"name": name},
            ("reasoning_gym:reasoning-gym",),
        )
        for name in sorted(LEVELS)
    ),
)
