"""Holds a plain tree against the schema: finds every unknown key and wrong type, and fills in the rest."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rolloom.configs.checks import Problem
from rolloom.configs.schema import RunConfig
from rolloom.configs.sources import Parts, dotted
from rolloom.errors import nearest

TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def fields_of(cls: type, parts: Parts = ()) -> dict[Parts, Any]:
    """Return the type of every field below a section; a list's entries stand at position 0."""
    found: dict[Parts, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        path = (*parts, name)
        found[path] = hint
        if dataclasses.is_dataclass(hint):
            found.update(fields_of(typing.cast(type, hint), path))
        elif (item := _list_item(hint)) is not None:
            found.update(fields_of(item, (*path, 0)))
    return found


def build(values: dict[Any, Any]) -> tuple[RunConfig, list[tuple[Parts, Problem]]]:
    """Fill the schema with a tree's values.

    Args:
        values: nested mappings and lists, interpolations resolved.

    Returns:
        The configuration, with the default wherever a value could not be used, and the problems.
    """
    problems: list[tuple[Parts, Problem]] = []
    return _section(RunConfig, values, (), problems), problems


def _list_item(hint: Any) -> type | None:
    """Return the section type of a list of sections, else None."""
    if typing.get_origin(hint) is not list:
        return None
    (item,) = typing.get_args(hint)
    return item if dataclasses.is_dataclass(item) and isinstance(item, type) else None


def _section(cls: Any, values: Any, parts: Parts, problems: list[tuple[Parts, Problem]]) -> Any:
    section = cls()
    if not isinstance(values, dict):
        _report(problems, parts, f"expected a section of fields, got {values!r}")
        return section
    hints = typing.get_type_hints(cls)
    node = OmegaConf.structured(cls)
    for name, value in values.items():
        path = (*parts, str(name))
        if name not in hints:
            _report(problems, path, f"no such field{_suggestion(cls, path)}")
            continue
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            setattr(section, name, _section(hint, value, path, problems))
        elif (item := _list_item(hint)) is None:
            _leaf(section, node, name, hint, value, path, problems)
        elif isinstance(value, list):
            entries = [_section(item, entry, (*path, index), problems) for index, entry in enumerate(value)]
            setattr(section, name, entries)
        else:
            _report(problems, path, f"expected a list of sections, got {value!r}")
    return section


def _leaf(
    section: Any,
    node: Any,
    name: str,
    hint: Any,
    value: Any,
    path: Parts,
    problems: list[tuple[Parts, Problem]],
) -> None:
    """Store a value, converted the way OmegaConf does ("3e-4" is a number, 3 may stand for "3").

    Args:
        section: dataclass that is filled.
        node: its structured OmegaConf twin, which converts.
        name: field.
        hint: the field's type.
        value: as written.
        path: the field's path.
        problems: added to when the value does not convert; the field then keeps its default.
    """
    try:
        OmegaConf.update(node, name, value)
        converted = node[name]
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError):
        mapping = typing.get_origin(hint) is dict
        expected = "a mapping with string keys" if mapping else TYPE_NAMES.get(hint, str(hint))
        _report(problems, path, f"expected {expected}, got {value!r}")
        return
    setattr(section, name, OmegaConf.to_container(converted) if OmegaConf.is_config(converted) else converted)


def _suggestion(cls: type, path: Parts) -> str:
    """Return the nearest valid field, among the siblings first, then anywhere; failing that the siblings."""
    name, siblings = str(path[-1]), list(typing.get_type_hints(cls))
    near = nearest(name, siblings)
    if near is not None:
        return f". Did you mean '{dotted((*path[:-1], near))}'?"
    elsewhere = {str(parts[-1]): parts for parts in reversed(fields_of(RunConfig))}
    near = nearest(name, elsewhere)
    if near is not None:
        return f". Did you mean '{dotted(elsewhere[near])}'?"
    return f"; expected one of {', '.join(siblings)}"


def _report(problems: list[tuple[Parts, Problem]], path: Parts, message: str) -> None:
    problems.append((path, Problem(dotted(path), message)))
