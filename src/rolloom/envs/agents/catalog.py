"""What the room `agents` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

_HERE = "rolloom.envs.agents"

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "agent/workplace-v0",
        f"{_HERE}.workplace:Workplace",
        "agent",
        "change a small SQLite workplace; scored by its final state",
    ),
    EnvSpec(
        "agent/office-v0",
        f"{_HERE}.company.env:Office",
        "agent",
        "mail, calendar, customers, orders, tasks and files behind 29 tools; scored by the final state",
    ),
    EnvSpec(
        "agent/shell-v0",
        f"{_HERE}.shell.env:Shell",
        "agent",
        "bring a directory into a state, with a shell in the sandbox; scored by the tree that is left",
    ),
    EnvSpec(
        "agent/retail-v0",
        f"{_HERE}.dialogue.retail:Retail",
        "agent",
        "serve a shop's customer by a policy; scored by the database, what was told and the rules",
    ),
    EnvSpec(
        "agent/banking-v0",
        f"{_HERE}.dialogue.banking:Banking",
        "agent",
        "serve a bank's customer by a policy; scored by the database, what was told and the rules",
    ),
    EnvSpec(
        "agent/inventory-v0",
        f"{_HERE}.inventory:Inventory",
        "agent",
        "run a warehouse for weeks within a budget that only planning ahead keeps",
    ),
    EnvSpec(
        "game/grid_world-v0",
        f"{_HERE}.games.grid_world:GridWorld",
        "game",
        "find the exit past pits and doors, or push boxes onto targets, on a grid in text",
    ),
    EnvSpec(
        "game/adventure-v0",
        f"{_HERE}.games.adventure:Adventure",
        "game",
        "a text adventure: explore rooms, find keys, bring things to their place",
    ),
)
