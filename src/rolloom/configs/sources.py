"""Reads YAML files and `key=value` words into one plain tree that remembers where every value came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rolloom.configs.errors import ConfigError

BASE = "base"
"""Top-level key of a YAML file that names another one to start from: a file beside it, or a packaged name."""

PACKAGED = Path(__file__).parent / "train"
"""Folder of the configurations in the package, which are found by their bare names."""

Parts = tuple[str | int, ...]
"""A field's path taken apart: `envs[0].id` is `("envs", 0, "id")`."""


def dotted(parts: Parts) -> str:
    """Return the path in the form messages use: `envs[0].id`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def merge(below: dict[Any, Any], above: dict[Any, Any]) -> None:
    """Lay one tree over another in place: mappings are merged, everything else is replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merge(below[key], value)
        else:
            below[key] = value


@dataclass(slots=True)
class Tree:
    """Unchecked values of a run.

    Attributes:
        values: nested mappings and lists, as written.
        origins: path to where it was set: `quickstart.yaml:12` or `command line`.
    """

    values: dict[Any, Any] = field(default_factory=dict)
    origins: dict[Parts, str] = field(default_factory=dict)

    def origin(self, parts: Parts) -> str:
        """Return ` (file:line)` of a path or of the nearest part that holds it; empty for a default."""
        while parts and parts not in self.origins:
            parts = parts[:-1]
        return f" ({self.origins[parts]})" if parts else ""

    def update(self, other: Tree) -> None:
        """Lay another tree over this one, origins included."""
        merge(self.values, other.values)
        for parts in [path for path in other.origins if not isinstance(_find(other.values, path), dict)]:
            self._forget(parts)
        self.origins.update(other.origins)

    def override(self, text: str) -> str | None:
        """Apply one `key=value` word, the value in YAML; return what was wrong with it, or None.

        Keys are dotted; a position in a list is a number: `envs.0.weight=2` or `envs[0].weight=2`.
        """
        key, equals, raw = text.partition("=")
        names = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
        if not equals or not all(re.fullmatch(r"[\w-]+", name) for name in names):
            return f"{text!r}: expected an override like trainer.steps=10"
        try:
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={raw}"]), resolve=False)["value"]  # type: ignore[index,call-overload]
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            return f"{key}: expected a YAML value, got {raw!r}: {_first_line(error)}"
        return self._set(key, names, value)

    def _set(self, key: str, names: list[str], value: Any) -> str | None:
        parts: Parts = ()
        holder: Any = self.values
        for last, name in [(index == len(names) - 1, name) for index, name in enumerate(names)]:
            at = _position(holder, name)
            if at is None:
                return f"{key}: expected a position below {len(holder)} in {dotted(parts)}, got {name!r}"
            parts = (*parts, at)
            if last:
                holder[at] = value
            elif not isinstance(_find(holder, (at,)), dict | list):
                holder[at] = {}
                self.origins[parts] = "command line"
            holder = holder[at]
        self._forget(parts)
        self.origins[parts] = "command line"
        return None

    def _forget(self, parts: Parts) -> None:
        for path in [path for path in self.origins if path[: len(parts)] == parts]:
            del self.origins[path]


def read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> Tree:
    """Read a YAML file and the files it is based on.

    Raises:
        ConfigError: a file cannot be read, is not YAML, is not a mapping, or is based on itself.
    """
    if path.resolve() in seen:
        raise ConfigError([f"{path}: {BASE} leads back to the file itself; remove one of the two"])
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ConfigError([f"{path}: expected sections and fields (key: value), got a {root.id}"])
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if root is not None else {}
        lines = {parts: f"{path.name}:{line}" for parts, line in _lines(root, ())} if root is not None else {}
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError([f"{path}: expected YAML: {_first_line(error)}"]) from error
    assert isinstance(values, dict)
    base = values.pop(BASE, None)
    tree = Tree(values, lines)
    if base is None:
        return tree
    candidates = [path.parent / base, PACKAGED / f"{base}.yaml"] if isinstance(base, str) else []
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        names = ", ".join(sorted(file.stem for file in PACKAGED.glob("*.yaml")))
        raise ConfigError(
            [
                f"{BASE}: expected a file beside {path} or a packaged name ({names}), got {base!r}"
                f"{tree.origin((BASE,))}"
            ]
        )
    below = read_yaml(found, (*seen, path.resolve()))
    below.update(tree)
    return below


def _lines(node: Any, parts: Parts) -> list[tuple[Parts, int]]:
    """Return the line, from 1, on which every key and list entry of a YAML node starts."""
    children: list[tuple[Parts, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        children = [((*parts, str(key.value)), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [((*parts, index), value, value) for index, value in enumerate(node.value)]
    found: list[tuple[Parts, int]] = []
    for path, mark, value in children:
        found.append((path, mark.start_mark.line + 1))
        found.extend(_lines(value, path))
    return found


def _position(holder: Any, name: str) -> str | int | None:
    """Return where a name points in a mapping or list; None for what is no position of a list."""
    if not isinstance(holder, list):
        return name
    return int(name) if name.isdecimal() and int(name) < len(holder) else None


def _find(values: Any, parts: Parts) -> Any:
    for part in parts:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" at line {mark.line + 1}" if mark is not None else ""
    return (getattr(error, "problem", None) or str(error)).splitlines()[0] + where
