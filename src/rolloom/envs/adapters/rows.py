"""Rows of other projects' data sets as problems: one row is one problem, and stays in its split for ever."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.types import Split, content_key, split_of

MAX_ROW_CHARS = 16_000_000


class Rows:
    """Rows by split.

    Args:
        rows: JSON objects.
        name: where they are from, for messages.
    """

    def __init__(self, rows: list[dict[str, Any]], name: str) -> None:
        if not rows:
            raise EnvError(f"{name}: expected at least one row, got none")
        self.rows, self.name = rows, name
        self.keys = [content_key(json.dumps(row, sort_keys=True, default=str)) for row in rows]
        self.by_split: dict[str, list[int]] = {"train": [], "heldout": []}
        for index, key in enumerate(self.keys):
            self.by_split[split_of(key)].append(index)

    def draw(self, rng: np.random.Generator, split: Split) -> int:
        """Return the index of a random row of a split.

        Raises:
            EnvError: no row is in the split.
        """
        indices = self.by_split[split]
        if not indices:
            raise EnvError(f"{self.name}: none of {len(self.rows)} rows is in split {split!r}")
        return indices[int(rng.integers(len(indices)))]


def read_rows(data: str | list[dict[str, Any]]) -> Rows:
    """Return the rows of a JSONL file, or of a list.

    Raises:
        EnvError: there is no such file, or a line is no JSON object.
    """
    if not isinstance(data, str):
        return Rows(data, "the rows given")
    path = Path(data)
    if not path.is_file():
        raise EnvError(f"data: expected a JSONL file, found none at {data!r}")
    return _read_file(str(path.resolve()), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_file(path: str, modified: int) -> Rows:
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise EnvError(f"{path}, line {number}: no JSON: {str(error)[:100]}") from None
            if not isinstance(row, dict):
                raise EnvError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
            rows.append(row)
    return Rows(rows, path)
