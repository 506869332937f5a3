"""Safetensors files of a checkpoint: which there are, what their headers say, and sharded writing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from rolloom.policy.config import PolicyError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint as its header says.

    Attributes:
        file: it is in.
        shape: its dimensions.
        dtype: safetensors' name, e.g. `BF16`.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """Number of its elements."""
        return prod(self.shape)


def weight_files(directory: Path) -> list[Path]:
    """Return the files of a checkpoint, sharded or not.

    Raises:
        PolicyError: a file is missing, or the index is malformed.
    """
    files = [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        try:
            index = json.loads((directory / INDEX).read_text())
            files = sorted({directory / name for name in index["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"{directory / INDEX} is malformed: {error!r}") from error
    for file in files:
        if not file.is_file():
            raise PolicyError(f"expected weights at {file}, found none")
    return files


def open_file(file: Path) -> Any:
    """Return a safetensors file, mapped into memory; a context manager.

    Raises:
        PolicyError: it is damaged.
    """
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise PolicyError(f"{file} is not a readable safetensors file: {error}") from error


def stored_tensors(directory: Path) -> dict[str, Stored]:
    """Read the headers of a checkpoint.

    Raises:
        PolicyError: no weights, a damaged file, or a tensor that is in two files.
    """
    found: dict[str, Stored] = {}
    for file in weight_files(directory):
        with open_file(file) as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                if name in found:
                    raise PolicyError(f"{name} is in both {found[name].file} and {file}")
                part = opened.get_slice(name)
                found[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())
    return found


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a checkpoint at once, sharded or not.

    Raises:
        PolicyError: no weights, or a file that is damaged.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(directory):
        try:
            tensors.update(load_file(str(file)))
        except SafetensorError as error:
            raise PolicyError(f"{file} is not a readable safetensors file: {error}") from error
    return tensors


Entry = tuple[str, int, Callable[[], torch.Tensor]]
"""Name, bytes, and what makes the tensor when its shard is written."""


def write_shards(entries: Iterable[Entry], directory: Path, limit: int) -> list[Path]:
    """Write tensors into files of at most `limit` bytes (a larger tensor has a file of its own).

    One file is `model.safetensors`; several have an index. Only one shard is in memory at a time.
    """
    shards: list[list[Entry]] = [[]]
    sizes = [0]
    for entry in entries:
        if shards[-1] and sizes[-1] + entry[1] > limit:
            shards.append([])
            sizes.append(0)
        shards[-1].append(entry)
        sizes[-1] += entry[1]
    count = len(shards)
    names = [f"model-{index:05d}-of-{count:05d}.safetensors" for index in range(1, count + 1)]
    files = [directory / name for name in (names if count > 1 else [WEIGHTS])]
    for file, shard in zip(files, shards, strict=True):
        save_file({name: make() for name, _, make in shard}, str(file), metadata={"format": "pt"})
    (directory / INDEX).unlink(missing_ok=True)
    if count > 1:
        weight_map = {
            name: file.name for file, shard in zip(files, shards, strict=True) for name, _, _ in shard
        }
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return files
