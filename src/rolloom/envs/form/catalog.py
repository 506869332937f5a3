"""What the room `form` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "form/instructions-v0",
        "rolloom.envs.form.instructions:Instructions",
        "form",
        "write a text under constraints that a program verifies (IFEval's kind, 38 types)",
    ),
    EnvSpec(
        "form/json_schema-v0",
        "rolloom.envs.form.json_schema:JsonSchema",
        "form",
        "extract the facts of a text into JSON that a generated schema allows",
    ),
)
