"""Who may import whom. The rules are the table below; the import statements of every file are held to it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "src" / "rolloom"

ROOMS = {
    # room: (other rooms, third-party packages)
    "configs": (set(), {"omegaconf", "yaml"}),
    "envs": (
        set(),
        {
            *("gymnasium", "datasets", "numpy", "pydantic", "jsonschema", "aiohttp", "math_verify", "sympy"),
            *("mcp", "reasoning_gym", "verifiers", "openenv"),
        },
    ),
    "rewards": ({"envs", "configs"}, {"numpy"}),
    "kernels": (set(), {"torch", "triton"}),
    "policy": (
        {"kernels", "configs"},
        {"torch", "safetensors", "tokenizers", "jinja2", "numpy"},
    ),
    "rollout": (
        {"configs", "envs", "rewards", "kernels", "policy"},
        {"torch", "numpy", "ray", "vllm", "rich", "tensorboard", "safetensors", "omegaconf", "yaml"},
    ),
    "": ({"envs"}, set()),
}
"""`rolloom.errors` and `rolloom` itself stand above the rooms (room ""): stdlib only, open to all.

`rolloom` names what authors of environments need, and loads it when it is asked for.
"""


def imports(source: str) -> Iterator[tuple[int, str, int]]:
    """Yield line, module and relative level of every import statement, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "rolloom":
                yield from ((node.lineno, f"rolloom.{alias.name}", 0) for alias in node.names)
            else:
                yield node.lineno, node.module or "", node.level


def violations(room: str, source: str) -> list[str]:
    """Return what one file of a room imports and may not."""
    rooms, packages = ROOMS[room]
    found: list[str] = []
    for line, module, level in imports(source):
        top, _, rest = module.partition(".")
        target = rest.partition(".")[0]
        if level:
            found.append(f"{line}: relative import; a class would get two identities")
        elif top in ROOMS:
            found.append(f"{line}: {module} is reached through a root link; write rolloom.{module}")
        elif top == "rolloom":
            if target in ROOMS and target and target != room and target not in rooms:
                found.append(f"{line}: {room or 'the top'} may not import {module}")
        elif top not in sys.stdlib_module_names and top not in packages:
            found.append(f"{line}: {room or 'the top'} may not import {module}")
    return found


def files() -> list[tuple[str, Path]]:
    """Return every file of the house with its room."""
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).parts
        found.append((parts[0] if len(parts) > 1 else "", path))
    return found


def test_every_folder_of_the_house_is_a_room_of_the_table() -> None:
    folders = {path.name for path in HOUSE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == set(ROOMS) - {""}
    assert len(files()) > 20


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_import_only_what_they_may(room: str) -> None:
    bad = [
        f"{path.relative_to(ROOT)}:{problem}"
        for owner, path in files()
        if owner == room
        for problem in violations(room, path.read_text())
    ]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("configs", "import torch"),
        ("envs", "def f():\n    import ray"),
        ("envs", "from rolloom.policy.model import HybridLM"),
        ("policy", "from rolloom.envs.types import Task"),
        ("policy", "from rolloom import rewards"),
        ("kernels", "from rolloom.policy import model"),
        ("rewards", "import torch.nn"),
        ("rewards", "import rolloom.rollout.types"),
        ("policy", "from . import model"),
        ("rollout", "from envs.types import Task"),
        ("", "import omegaconf"),
        ("", "from rolloom.rollout import cli"),
    ],
)
def test_the_rules_catch(room: str, source: str) -> None:
    assert len(violations(room, source)) == 1


def test_kernels_is_a_namespace_portion() -> None:
    """A root link named `kernels` with an `__init__.py` would shadow the package transformers looks for."""
    assert not (HOUSE / "kernels" / "__init__.py").exists()
    others = [path for path in HOUSE.rglob("*.py") if "kernels" not in path.parts]
    assert all((path.parent / "__init__.py").is_file() for path in others)


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {""}))
def test_root_links_point_into_the_house(room: str) -> None:
    link = ROOT / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"src/rolloom/{room}"
    assert link.is_dir()


LIGHT = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    try:
        {statement}
    except SystemExit as stop:
        assert not stop.code, stop.code
print(json.dumps([name for name in ("torch", "ray", "vllm", "transformers") if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import rolloom",
        "from rolloom.rollout.cli import main; main(['--help'])",
        "from rolloom.rollout.cli import main; assert main(['envs', 'list']) == 0",
        "from rolloom.configs.load import load_run_config; load_run_config('quickstart')",
    ],
)
def test_heavy_packages_stay_out_of_light_commands(statement: str, tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", LIGHT.format(statement=statement)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == []


def test_every_data_file_of_the_house_is_packaged() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / "src").joinpath(*package.split(".")).glob(pattern)
    }
    tracked = subprocess.run(
        ["git", "ls-files", "--others", "--cached", "--exclude-standard", "src"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = {ROOT / line for line in tracked.stdout.splitlines() if not line.endswith(".py")}
    assert files and files <= packaged


def test_the_table_names_only_declared_dependencies() -> None:
    """A package that comes only along with another one would vanish with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[^\w-]", word)[0]
        for word in [*project["dependencies"], *(word for extra in extras.values() for word in extra)]
    }
    named = {"yaml": "pyyaml", "openenv": "openenv-core"}
    used = {package for _, packages in ROOMS.values() for package in packages}
    assert {named.get(package, package.replace("_", "-")) for package in used} <= declared


def test_no_two_modules_of_the_tests_share_a_name() -> None:
    """pytest imports them by their file name alone: of two with one name the second is an error."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert names and [name for name, count in names.items() if count > 1] == []
