"""From a YAML file and `key=value` words to a checked `RunConfig`, and back to a file.

Everything wrong is reported at once, each with the field, where it was set, what was expected and the nearest
valid name. Nothing heavy is imported, so a typing error costs well under a second.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rolloom.configs.checks import check_field, combinations
from rolloom.configs.errors import ConfigError
from rolloom.configs.schema import RunConfig
from rolloom.configs.sources import PACKAGED, Parts, Tree, dotted, merge, read_yaml
from rolloom.configs.typed import build
from rolloom.errors import did_you_mean


def load_run_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read, complete and check a run's configuration.

    Args:
        path: a YAML file, or the bare name of a packaged one (`quickstart`).
        overrides: `key=value` words laid over the file, in order.

    Returns:
        The configuration with every field set and every interpolation resolved.

    Raises:
        ConfigError: with every problem found.
    """
    tree = read_yaml(find_config(path))
    problems = [problem for problem in map(tree.override, overrides) if problem is not None]
    config, wrong = build(_resolve(tree))
    bad = [parts for parts, _ in wrong]
    for parts, problem in wrong:
        problems.append(f"{problem.path}: {problem.message}{tree.origin(parts)}")
    for parts, value in _leaves(config):
        message = None if _touches(parts, bad) else check_field(dotted(parts), value)
        if message is not None:
            bad.append(parts)
            problems.append(f"{dotted(parts)}: {message}{tree.origin(parts)}")
    names = {dotted(parts): parts for parts in [("envs",), *(parts for parts, _ in _leaves(config))]}
    for problem in combinations(config):
        if not any(_touches(names[path], bad) for path in (problem.path, *problem.beside)):
            problems.append(f"{problem.path}: {problem.message}{tree.origin(names[problem.path])}")
    if problems:
        raise ConfigError(problems)
    return config


def find_config(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path or a bare name means.

    Raises:
        ConfigError: there is none; the message names the nearest one.
    """
    given = Path(path)
    if given.is_file():
        return given
    bare = given.name == str(path) and not given.suffix
    if bare and (packaged := PACKAGED / f"{path}.yaml").is_file():
        return packaged
    if given.is_dir():
        inside = ", ".join(sorted(file.name for file in given.glob("*.yaml"))) or "no .yaml file"
        raise ConfigError(
            [f"config: expected a YAML file, got the directory {str(path)!r}, which has {inside}"]
        )
    folder = PACKAGED if bare else given.parent
    known = {file.name: file for file in folder.glob("*.yaml")}
    hint = did_you_mean(given.stem, [Path(name).stem for name in known] if bare else map(str, known.values()))
    if not hint and known:
        hint = f" There are: {', '.join(sorted(known))}."
    raise ConfigError(
        [f"config: expected a YAML file or a packaged name, but there is no {str(path)!r}.{hint}"]
    )


def save_run_config(config: RunConfig, path: str | os.PathLike[str]) -> None:
    """Write a configuration as YAML that `load_run_config` reads; the file appears whole or not at all."""
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    part.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")
    part.replace(target)


def describe(config: RunConfig) -> str:
    """Return one `field = value` line a field, with a star before those that differ from the default."""
    defaults = dict(_leaves(RunConfig()))
    lines = [
        f"{' ' if parts in defaults and defaults[parts] == value else '*'} {dotted(parts)} = {value}"
        for parts, value in _leaves(config)
    ]
    return "\n".join(lines)


def _resolve(tree: Tree) -> dict[Any, Any]:
    """Return the tree's values laid over the defaults, with `${...}` filled in."""
    values = dataclasses.asdict(RunConfig())
    merge(values, tree.values)
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(values), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        field = getattr(error, "full_key", None) or "config"
        raise ConfigError(
            [f"{field}: expected a value that can be resolved: {str(error).splitlines()[0]}"]
        ) from error
    assert isinstance(resolved, dict)
    return resolved


def _leaves(section: Any, parts: Parts = ()) -> Iterator[tuple[Parts, Any]]:
    """Yield the path and value of every field that is not a section itself."""
    for field in dataclasses.fields(section):
        value, path = getattr(section, field.name), (*parts, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, path)
        elif isinstance(value, list) and value and all(map(dataclasses.is_dataclass, value)):
            for index, item in enumerate(value):
                yield from _leaves(item, (*path, index))
        else:
            yield path, value


def _touches(parts: Parts, bad: Sequence[Parts]) -> bool:
    """Return True when a path lies at or below one that is known to be wrong."""
    return any(parts[: len(path)] == path for path in bad)
