"""Strict check of a call's arguments against the small part of JSON schema that tool specs here use.

Arguments come from the policy: messages never repeat them unless they are short plain words, so that a call
cannot make a tool message forge chat tokens, carry lone surrogates or grow without bound.
"""

from __future__ import annotations

from typing import Any

from rolloom.envs.errors import EnvError
from rolloom.envs.types import ToolSpec

MAX_INTEGER = 10**18
MAX_STRING = 4096
MAX_ECHO = 32
KEYWORDS = frozenset({"type", "description", "enum", "minimum", "maximum", "maxLength"})


def arguments_schema(**types: str) -> dict[str, Any]:
    """Return the schema of an object whose every property is required: `arguments_schema(a="integer")`."""
    properties = {name: {"type": wanted} for name, wanted in types.items()}
    return {"type": "object", "properties": properties, "required": list(types)}


def check_arguments(spec: ToolSpec, arguments: dict[str, Any]) -> str | None:
    """Check a call's arguments; properties that the schema does not list are refused.

    Args:
        spec: the tool; properties may be string, integer, number or boolean, with `enum`, `minimum`,
            `maximum` and `maxLength`. Unless these say otherwise, numbers lie within 10^18 and strings have
            at most 4,096 characters.
        arguments: the call's arguments, as parsed from JSON.

    Returns:
        What is wrong, in one short line for the policy, or None.

    Raises:
        EnvError: the tool's own schema uses something this checker would not enforce.
    """
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    expected = ", ".join(properties) or "no arguments"
    for name in spec.parameters.get("required", ()):
        if name not in arguments:
            return f"{spec.name} needs {name}, expected {expected}"
    for name, value in arguments.items():
        if name not in properties:
            return f"{spec.name} has no argument {plain(name)}, expected {expected}"
        problem = _check_value(spec.name, name, properties[name], value)
        if problem is not None:
            return f"{name} {problem}"
    return None


def plain(text: str) -> str:
    """Return untrusted text when it is a short run of ASCII letters, digits and `_ -`, else `?`."""
    word = text[: MAX_ECHO + 1]
    safe = len(word) <= MAX_ECHO and word.isascii() and all(c.isalnum() or c in "_- " for c in word)
    return word if safe and word else "?"


def type_name(value: Any) -> str:
    """Return the JSON type of a parsed value: `true` is a boolean, never an integer."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _check_value(tool: str, name: str, schema: dict[str, Any], value: Any) -> str | None:
    wanted = schema.get("type")
    if wanted not in ("string", "integer", "number", "boolean") or not schema.keys() <= KEYWORDS:
        raise EnvError(
            f"tool {tool}, argument {name}: schema {schema!r} is not one this checker enforces; use a type "
            f"of string, integer, number or boolean and the keywords {sorted(KEYWORDS)}"
        )
    got = type_name(value)
    if got != wanted and not (wanted == "number" and got == "integer"):
        return f"must be {wanted}, got {got}"
    if got == "string":
        longest = schema.get("maxLength", MAX_STRING)
        if len(value) > longest:
            return f"must have at most {longest} characters"
    elif got in ("integer", "number"):
        low, high = schema.get("minimum", -MAX_INTEGER), schema.get("maximum", MAX_INTEGER)
        if not low <= value <= high:  # also refuses NaN
            return f"must lie between {low} and {high}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(map(str, schema['enum']))}"
    return None
