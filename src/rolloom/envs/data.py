"""Rows of a data set: a JSONL, JSON, CSV or Parquet file, a name on a hub, or a list; read by `datasets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rolloom.envs.errors import EnvError

READERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


class DatasetRows:
    """Rows by index; read from disk as they are needed, so a large file costs little memory.

    Args:
        rows: anything with `len` and integer indexing that gives mappings.
        name: where they are from, for messages.
    """

    def __init__(self, rows: Any, name: str) -> None:
        if not len(rows):
            raise EnvError(f"{name}: expected at least one row, got none")
        self._rows, self.name = rows, name

    @classmethod
    def load(
        cls, source: str | Path | Sequence[Mapping[str, Any]], folder: Path | None = None
    ) -> DatasetRows:
        """Read a source.

        Args:
            source: rows; a file; or `name[:split]` of a hub's data set (`train` without a split).
            folder: relative files are looked for here first, then in the working directory.

        Raises:
            EnvError: there is no such file, it cannot be read, or it has no rows.
        """
        if not isinstance(source, str | Path):
            return cls(list(source), "the rows given")
        for candidate in (*((folder / source,) if folder else ()), Path(source)):
            if candidate.is_file():
                return cls(_read_file(str(candidate.resolve()), candidate.stat().st_mtime_ns), str(source))
        if Path(source).suffix in READERS:
            raise EnvError(
                f"data: expected a file, found none at {str(source)!r} (seen from {folder or Path.cwd()})"
            )
        return cls(_read_hub(str(source)), str(source))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one row; columns without a value in it are left out."""
        return {name: value for name, value in dict(self._rows[index]).items() if value is not None}


@cache
def _read_file(path: str, modified: int) -> Any:
    import datasets  # takes seconds to import

    reader = READERS.get(Path(path).suffix)
    if reader is None:
        raise EnvError(f"{path}: expected a file of type {', '.join(READERS)}")
    builder = {"json": datasets.Dataset.from_json, "csv": datasets.Dataset.from_csv}
    try:
        return builder.get(reader, datasets.Dataset.from_parquet)(path)
    except Exception as error:  # the library raises errors of many kinds
        raise EnvError(f"{path}: cannot be read as {reader}: {error}") from error


@cache
def _read_hub(source: str) -> Any:
    import datasets

    name, _, split = source.partition(":")
    try:
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise EnvError(
            f"data set {source!r} cannot be loaded ({type(error).__name__}: {error}). Expected a file "
            f"({', '.join(READERS)}) or a name that `datasets.load_dataset` finds"
        ) from error
