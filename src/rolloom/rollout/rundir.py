"""Where a run keeps its files. Every path of a run's directory is named here and nowhere else.

```
runs/<name>/
    config.yaml              the resolved configuration
    metrics.jsonl            one object a trained step (see rolloom.rollout.metrics)
    tensorboard/             TensorBoard events of the same numbers
    rollouts/step_000012.jsonl   every rollout of a step
    evaluation/before.jsonl  held-out rollouts of the initial policy, one object a task
    evaluation/after.jsonl   the same tasks with the trained policy
    checkpoints/             one directory a checkpoint
    report.html              the report for people
    summary.json             the same table for programs
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one run.

    Attributes:
        root: the run's directory.
    """

    root: Path

    @classmethod
    def create(cls, root: str | os.PathLike[str]) -> RunDir:
        """Make the directory and its fixed sub-directories (existing ones are kept) and return it."""
        run = cls(Path(root))
        for folder in (run.rollouts, run.evaluation, run.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        return run

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a trained step."""
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Directory of TensorBoard events."""
        return self.root / "tensorboard"

    @property
    def rollouts(self) -> Path:
        """Directory of the rollouts, one file a step."""
        return self.root / "rollouts"

    @property
    def evaluation(self) -> Path:
        """Directory of the held-out evaluations."""
        return self.root / "evaluation"

    @property
    def before(self) -> Path:
        """Held-out records of the initial policy."""
        return self.evaluation / "before.jsonl"

    @property
    def after(self) -> Path:
        """Held-out records of the trained policy."""
        return self.evaluation / "after.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.root / "checkpoints"

    @property
    def report(self) -> Path:
        """The report for people, one self-contained HTML file."""
        return self.root / "report.html"

    @property
    def summary(self) -> Path:
        """The before/after table for programs, JSON."""
        return self.root / "summary.json"

    def rollouts_of(self, step: int) -> Path:
        """Return the rollout file of a step (`rollouts/step_000012.jsonl`)."""
        return self.rollouts / f"step_{step:06d}.jsonl"


def json_ready(value: Any) -> Any:
    """Return `value` in JSON types: numpy and tuples become plain, non-finite floats become None.

    JSON has no NaN or infinity, and a file that only Python can read back is no record.
    """
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, Mapping):
        return {_encodable(str(key)): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(item) for item in value]
    return _encodable(str(value))


def _encodable(text: str) -> str:
    # A lone surrogate (half of a byte-level token) is no UTF-8, and would cost the whole line.
    return text.encode("utf-8", "replace").decode("utf-8")


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as one JSON object a line, atomically; return how many."""
    lines = [json.dumps(json_ready(row), ensure_ascii=False) + "\n" for row in rows]
    write_atomic(path, "".join(lines))
    return len(lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, skipping torn or foreign lines; nothing when the file is missing.

    A run that was killed while it wrote leaves at most one torn line.
    """
    if not path.is_file():
        return
    with path.open("rb") as handle:
        for line in handle:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
