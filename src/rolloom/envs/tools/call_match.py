"""When two function calls are the same call: names, and arguments by their JSON schema.

- An optional argument may be given or left out when it has its default; any other must be as wanted.
- Numbers are equal when their values are (`3` and `3.0`), but `"3"` is no number and `true` is none.
- Free text is compared without regard to case, to runs of white space, and to white space or a full stop at
  its ends; values of an `enum` are compared exactly.
- Arrays marked `uniqueItems` are compared without order, others with it.
- Calls of one turn are compared without order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_CHARS = 4_096
_NONE = object()


def same_calls(
    schemas: Mapping[str, dict[str, Any]],
    wanted: Sequence[tuple[str, dict[str, Any]]],
    got: Sequence[tuple[str, Any]],
) -> bool:
    """Return True when two sets of calls are the same, whatever their order.

    Args:
        schemas: JSON schema of each function's arguments.
        wanted: names and arguments.
        got: names and arguments as the policy wrote them.
    """
    return _paired(wanted, got, lambda w, g: w[0] == g[0] and same_value(schemas[w[0]], w[1], g[1]))


def same_value(schema: dict[str, Any], wanted: Any, got: Any) -> bool:
    """Return True when a value is as wanted; only as deep as the schema goes."""
    kind = schema["type"]
    if kind == "object":
        return _same_object(schema, wanted, got)
    if kind == "array":
        if not isinstance(got, list):
            return False
        items = schema["items"]
        if schema.get("uniqueItems"):
            return _paired(wanted, got, lambda w, g: same_value(items, w, g))
        return len(wanted) == len(got) and all(
            same_value(items, w, g) for w, g in zip(wanted, got, strict=True)
        )
    if kind == "boolean":
        return got is wanted
    if kind in ("integer", "number"):
        return isinstance(got, int | float) and not isinstance(got, bool) and got == wanted
    if not isinstance(got, str) or len(got) > MAX_CHARS:
        return False
    return got == wanted if "enum" in schema else normal(got) == normal(wanted)


def normal(text: str) -> str:
    """Return free text in the form that is compared."""
    return " ".join(text.casefold().split()).strip(" .")


def _same_object(schema: dict[str, Any], wanted: dict[str, Any], got: Any) -> bool:
    properties = schema["properties"]
    if not isinstance(got, dict) or not got.keys() <= properties.keys():
        return False
    for name, inner in properties.items():
        default = inner.get("default", _NONE)
        w, g = wanted.get(name, default), got.get(name, default)
        if w is _NONE or g is _NONE:
            if w is not g:
                return False
        elif not same_value(inner, w, g):
            return False
    return True


def _paired(wanted: Sequence[Any], got: Sequence[Any], same: Callable[[Any, Any], bool]) -> bool:
    """Return True when each wanted thing has its own equal; enough as being the same is transitive."""
    if len(wanted) != len(got):
        return False
    left = list(got)
    for w in wanted:
        found = next((i for i, g in enumerate(left) if same(w, g)), None)
        if found is None:
            return False
        del left[found]
    return True
