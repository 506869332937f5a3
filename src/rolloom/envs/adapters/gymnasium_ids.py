"""Every rolloom environment as `gymnasium.make("rolloom/<room>.<name>-v0")`.

    import gymnasium
    import rolloom.envs.adapters.gymnasium_ids

    env = gymnasium.make("rolloom/math.affine_chain-v0", level=3)

`gymnasium.make("rolloom.envs.adapters.gymnasium_ids:rolloom/math.affine_chain-v0")` does both in one line. A
Gymnasium id has one slash, so the other one becomes a dot. Gymnasium has taken no plugins by entry point
since 1.0: the import registers. It is repeated by `register_all` for environments that are registered later.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from rolloom.envs import registry
from rolloom.envs.base import TextEnv

NAMESPACE = "rolloom"


def gymnasium_id(id: str) -> str:
    """Return the Gymnasium id of a rolloom id: `math/affine_chain-v0` is `rolloom/math.affine_chain-v0`."""
    return f"{NAMESPACE}/{id.replace('/', '.')}"


def make(rolloom_id: str, **kwargs: Any) -> TextEnv:
    """Make an environment by its rolloom id; what Gymnasium calls."""
    return registry.make(rolloom_id, **kwargs)


def register_all() -> list[str]:
    """Register every known environment with Gymnasium that is not yet, and return their Gymnasium ids."""
    ids = []
    for spec in registry.all_specs():
        ids.append(gymnasium_id(spec.id))
        if ids[-1] not in gymnasium.registry:
            gymnasium.register(ids[-1], entry_point=f"{__name__}:make", kwargs={"rolloom_id": spec.id})
    return ids


register_all()
