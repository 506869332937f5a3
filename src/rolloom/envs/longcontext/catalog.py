"""What the room `longcontext` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "longcontext/recall-v0",
        "rolloom.envs.longcontext.recall:Recall",
        "longcontext",
        "recall key-value facts from prompts of 1K to 1M tokens",
    ),
    EnvSpec(
        "longcontext/multi_hop-v0",
        "rolloom.envs.longcontext.multi_hop:MultiHop",
        "longcontext",
        "follow chains of linked facts through prompts of 1K to 1M tokens",
    ),
    EnvSpec(
        "longcontext/aggregation-v0",
        "rolloom.envs.longcontext.aggregation:Aggregation",
        "longcontext",
        "count entries spread over prompts of 1K to 1M tokens",
    ),
)
