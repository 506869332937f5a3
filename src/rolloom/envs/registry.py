"""One registry of environments: ids `namespace/name-vN`, entry-point strings, loaded on first use.

Three ways in: the built-in table below; `register(...)` in a program (the launcher ships such specs to every
worker); and other installed packages through the entry-point group `rolloom.envs`, whose entries name a
module that registers environments when it is imported, or a function that does.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvRegistrationError, UnknownEnvError, did_you_mean
from rolloom.envs.spec import EnvSpec

__all__ = ["EnvSpec", "all_specs", "import_modules", "make", "register", "register_spec", "spec"]

ENTRY_POINT_GROUP = "rolloom.envs"
CATALOGS = (
    "math",
    "code",
    "tools",
    "agents",
    "knowledge",
    "form",
    "longcontext",
    "safety",
    "judge",
    "adapters",
)
"""Rooms of the built-in suite; `rolloom.envs.<room>.catalog.SPECS` lists what each has."""


_specs: dict[str, EnvSpec] = {}
_plugins_loaded = False
_files: dict[str, str] = {}
"""Files of the modules that were loaded from one, because they are not to be found by their name."""


def register(
    id: str, entry_point: str, /, *, kind: str = "other", description: str = "", **kwargs: Any
) -> EnvSpec:
    """Register an environment under an id; registering the same thing twice is allowed.

    What else is given by name, an `id` too, goes to the environment when it is made.

    Raises:
        EnvRegistrationError: malformed id or entry point, or the id names a different environment already.
    """
    file = _files.get(entry_point.partition(":")[0], "")
    spec = EnvSpec(id, entry_point, kind, description, kwargs, file=file)
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
            loaded = entry.load()
            # A module whose import registers its environments is as good as a function that does.
            if callable(loaded):
                loaded()
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
        raise UnknownEnvError(f"no environment is registered as {id!r}.{_hint(id)}")
    return _specs[id]


def _hint(id: str) -> str:
    """Return the nearest id, and how modules are named that nobody has imported, where that may be it."""
    near = did_you_mean(id, _specs)
    if any(known.partition("/")[0] == id.partition("/")[0] for known in _specs):
        return near
    return f"{near} A module of your own has to be named: `imports: [FILE.py]`, or `--import FILE.py`."


def make(id: str, /, **kwargs: Any) -> TextEnv:
    """Make an environment.

    Raises:
        UnknownEnvError: nothing has that id.
        EnvRegistrationError: something it requires is not installed, its entry point cannot be imported, or
            it is not a `TextEnv`, or it has no such keyword argument.
    """
    found = spec(id)
    if found.missing():
        raise EnvRegistrationError(f"{id} needs {', '.join(map(_in_words, found.missing()))}")
    module_name, _, attribute = found.entry_point.partition(":")
    try:
        target: Any = _module(module_name, found.file)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, OSError) as error:
        raise EnvRegistrationError(
            f"{id}: entry point {found.entry_point} cannot be loaded: {error}"
        ) from error
    try:
        env = target(**{**found.kwargs, **kwargs})
    except TypeError as error:
        wrong = _unexpected(error, {**found.kwargs, **kwargs})
        if not wrong:
            raise
        known = _arguments(target)
        raise EnvRegistrationError(
            f"{id}: no such keyword argument {wrong!r}, expected one of {', '.join(known)}."
            f"{did_you_mean(wrong, known)}"
        ) from error
    if not isinstance(env, TextEnv):
        raise EnvRegistrationError(
            f"{id}: {found.entry_point} made a {type(env).__name__}, expected a TextEnv"
        )
    return env


def _unexpected(error: TypeError, kwargs: dict[str, Any]) -> str:
    """Return which of the keyword arguments an error refuses, "" for any other error."""
    head, found, name = str(error).partition("got an unexpected keyword argument '")
    return name[:-1] if found and head and name[:-1] in kwargs else ""


def _arguments(target: Any) -> list[str]:
    """Return the keyword arguments of an environment, those of its bases included, its own first."""
    classes = target.__mro__ if inspect.isclass(target) else TextEnv.__mro__
    names: dict[str, None] = {}
    for cls in classes[: classes.index(TextEnv) + 1] if TextEnv in classes else classes:
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            names.update(
                (p.name, None) for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            )
    names.pop("self", None)
    return list(names)


def _in_words(requirement: str) -> str:
    module, _, extra = requirement.partition(":")
    return f"the package {module}: pip install 'rolloom[{extra}]'" if extra else f"the package {module}"


def import_modules(names: Iterable[str]) -> None:
    """Import modules that register environments.

    Args:
        names: module names, or paths of Python files.

    Raises:
        EnvRegistrationError: one cannot be imported.
    """
    for name in names:
        path = Path(name)
        is_file = path.suffix == ".py"
        if is_file and not path.is_file():
            hint = did_you_mean(path.name, [file.name for file in path.parent.glob("*.py")])
            raise EnvRegistrationError(f"imports: expected a Python file, found none at {name!r}.{hint}")
        try:
            _module(path.stem, str(path.resolve())) if is_file else importlib.import_module(name)
        except Exception as error:  # an author's module may fail in any way
            raise EnvRegistrationError(
                f"imports: {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error


def _module(name: str, file: str) -> ModuleType:
    """Return a module by name, or from its file where it has one and the name is not to be found."""
    present = sys.modules.get(name)
    if not file or (present is not None and _same_file(present, file)):
        return importlib.import_module(name)
    if present is None and _finds(name, file):
        return importlib.import_module(name)
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(found)
    before = sys.modules.get(name)
    sys.modules[name] = module
    _files[name] = file
    try:
        found.loader.exec_module(module)
    except BaseException:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise
    return module


def _same_file(module: ModuleType, file: str) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and Path(own).resolve() == Path(file)


def _finds(name: str, file: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).resolve() == Path(file)


def _register_builtin() -> None:
    for room in CATALOGS:
        for built_in in importlib.import_module(f"rolloom.envs.{room}.catalog").SPECS:
            register_spec(built_in)


_register_builtin()
