"""Atomic, verified checkpoints: a directory appears complete or not at all, and lists its files' hashes.

Recipe: write into a hidden directory -> fsync files -> manifest with sizes and SHA-256 -> rename -> fsync
    the parent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolloom.errors import RolloomError

MANIFEST = "checkpoint.json"
PREFIX = "step_"


class CheckpointError(RolloomError):
    """A checkpoint is missing, incomplete or damaged."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: its directory, loadable by transformers as it is.
        step: training steps it contains.
        meta: what the writer stored beside it.
    """

    path: Path
    step: int
    meta: dict[str, Any]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_checkpoint(root: Path, step: int, fill: Callable[[Path], None], meta: dict[str, Any]) -> Path:
    """Write the checkpoint of a step; a sound one of the same step is left as it is, a damaged one replaced.

    Args:
        root: directory of a run's checkpoints.
        step: training steps it contains.
        fill: writes the files into the directory it is given, or into directories it makes there.
        meta: stored in the manifest.

    Returns:
        The checkpoint's directory.
    """
    target = root / f"{PREFIX}{step:06d}"
    if target.is_dir():
        try:
            return read_checkpoint(target).path
        except CheckpointError:
            shutil.rmtree(target)
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f".{target.name}.{os.getpid()}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        fill(draft)
        inside = sorted(draft.rglob("*"))
        files = [path for path in inside if path.is_file()]
        for path in inside:
            _sync(path)
        listing = {
            path.relative_to(draft).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in files
        }
        manifest = draft / MANIFEST
        manifest.write_text(json.dumps({"step": step, "meta": meta, "files": listing}, indent=2) + "\n")
        _sync(manifest)
        _sync(draft)
        draft.rename(target)
        _sync(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def read_checkpoint(path: Path) -> Checkpoint:
    """Verify a checkpoint directory against its manifest.

    Raises:
        CheckpointError: no manifest, or a file is missing or differs.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, expected in manifest["files"].items():
            file = path / name
            if (
                not file.is_file()
                or file.stat().st_size != expected["bytes"]
                or _sha256(file) != expected["sha256"]
            ):
                raise CheckpointError(f"{file} is missing or differs from {MANIFEST}")
        return Checkpoint(path, int(manifest["step"]), manifest["meta"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a complete checkpoint: {error}") from error


def _by_step(root: Path) -> list[Path]:
    named = [(path.name.removeprefix(PREFIX), path) for path in root.glob(f"{PREFIX}*")]
    return [path for _, path in sorted((int(step), path) for step, path in named if step.isdecimal())]


def latest_checkpoint(root: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, falling back past damaged ones; None without any."""
    for path in reversed(_by_step(root)):
        try:
            return read_checkpoint(path)
        except CheckpointError:
            continue
    return None


def prune(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and drafts that a kill left behind."""
    for path in root.glob(f".{PREFIX}*.draft"):
        shutil.rmtree(path, ignore_errors=True)
    for path in _by_step(root)[: -keep or None]:
        shutil.rmtree(path, ignore_errors=True)
