"""One registry of environments: ids `namespace/name-vN`, entry-point strings, loaded on first use.

Three ways in: the built-in table below; `register(...)` in a program (the launcher ships such specs to every
worker); and other installed packages through the entry-point group `rolloom.envs`, whose entries name a
function that calls `register`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass, field
from typing import Any

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvRegistrationError, UnknownEnvError, did_you_mean

ENTRY_POINT_GROUP = "rolloom.envs"


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """A registered environment.

    Attributes:
        id: `namespace/name-vN`.
        entry_point: `package.module:ClassName`, imported when first made.
        kind: math, code, tools, agent or another word used to group environments in tables.
        description: one line for `rolloom envs list`.
        kwargs: default keyword arguments of the class.
    """

    id: str
    entry_point: str
    kind: str = "other"
    description: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)


_specs: dict[str, EnvSpec] = {}
_plugins_loaded = False


def register(
    id: str, entry_point: str, *, kind: str = "other", description: str = "", **kwargs: Any
) -> EnvSpec:
    """Register an environment under an id; registering the same thing twice is allowed.

    Raises:
        EnvRegistrationError: malformed id or entry point, or the id names a different environment already.
    """
    spec = EnvSpec(id, entry_point, kind, description, kwargs)
    register_spec(spec)
    return spec


def register_spec(spec: EnvSpec) -> None:
    """Register a ready-made spec, as workers do with the specs the launcher ships."""
    namespace, slash, rest = spec.id.partition("/")
    name, dash, version = rest.rpartition("-v")
    if not (namespace and slash and name and dash and version.isdecimal()):
        raise EnvRegistrationError(f"environment id must look like 'namespace/name-v0', got {spec.id!r}")
    if spec.entry_point.count(":") != 1:
        raise EnvRegistrationError(
            f"{spec.id}: entry point must look like 'pkg.module:Class', got {spec.entry_point!r}"
        )
    present = _specs.get(spec.id)
    if present is not None and present != spec:
        raise EnvRegistrationError(
            f"{spec.id} is already registered as {present.entry_point}; raise the version"
        )
    _specs[spec.id] = spec


def _load_plugins() -> None:
    global _plugins_loaded
    if _plugins_loaded:
        return
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()()
        except Exception as error:
            raise EnvRegistrationError(f"entry point {entry.name} = {entry.value} failed: {error}") from error
    _plugins_loaded = True


def all_specs() -> list[EnvSpec]:
    """Return every registered spec, sorted by id."""
    _load_plugins()
    return sorted(_specs.values(), key=lambda spec: spec.id)


def spec(id: str) -> EnvSpec:
    """Return the spec of an id.

    Raises:
        UnknownEnvError: nothing has that id; the message names the nearest one.
    """
    if id not in _specs:
        _load_plugins()
    if id not in _specs:
        raise UnknownEnvError(f"no environment is registered as {id!r}.{did_you_mean(id, _specs)}")
    return _specs[id]


def make(id: str, **kwargs: Any) -> TextEnv:
    """Make an environment.

    Raises:
        UnknownEnvError: nothing has that id.
        EnvRegistrationError: its entry point cannot be imported or is not a `TextEnv`.
    """
    found = spec(id)
    module_name, _, attribute = found.entry_point.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise EnvRegistrationError(
            f"{id}: entry point {found.entry_point} cannot be loaded: {error}"
        ) from error
    env = cls(**{**found.kwargs, **kwargs})
    if not isinstance(env, TextEnv):
        raise EnvRegistrationError(
            f"{id}: {found.entry_point} made a {type(env).__name__}, expected a TextEnv"
        )
    return env


for _id, _entry, _kind, _text in (
    (
        "math/affine_chain-v0",
        "rolloom.envs.math.affine_chain:AffineChain",
        "math",
        "follow a chain of affine maps modulo m with a scratchpad",
    ),
    (
        "code/int_function-v0",
        "rolloom.envs.code.int_function:IntFunction",
        "code",
        "write a Python function that passes hidden tests, run in the sandbox",
    ),
    (
        "tools/lookup-v0",
        "rolloom.envs.tools.lookup:Lookup",
        "tools",
        "answer by chained JSON-schema function calls over several turns",
    ),
    (
        "agent/workplace-v0",
        "rolloom.envs.agents.workplace:Workplace",
        "agent",
        "change a small SQLite workplace; scored by its final state",
    ),
):
    register(_id, _entry, kind=_kind, description=_text)
