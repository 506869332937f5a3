"""What a job for the shell is, and where its parts are drawn from; `templates.py` has the jobs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fern", "grove", "hazel", "iris", "jade", "kelp", "lotus"),
    *(
        "maple",
        "nova",
        "olive",
        "pearl",
        "quill",
        "reed",
        "sage",
        "thorn",
        "umber",
        "violet",
        "willow",
        "yew",
    ),
)
CITIES = ("oslo", "paris", "rome", "cairo", "lima", "quito", "delhi", "seoul")
LEVELS = ("INFO", "DEBUG", "WARN", "ERROR")


@dataclass(slots=True)
class Job:
    """One job.

    Attributes:
        files: what it starts with, path -> text.
        after: what must be there afterwards.
        request: what is asked for.
        commands: what the gold agent runs, in the job's folder.
        why: its reason.
        answer: what has to be told ("" for nothing).
        script: a script to be written: `{"path", "cases": [[files, arguments, output], ...]}`.
    """

    files: dict[str, str]
    after: dict[str, str]
    request: str
    commands: list[str]
    why: str
    answer: str = ""
    script: dict[str, Any] = field(default_factory=dict)


class Draw:
    """Where a job draws from.

    Attributes:
        chance: the source of chance.
        folder: the job's own folder.
        size: roughly how many files or lines.
        odd: file names may have spaces in them.
    """

    def __init__(self, chance: Random, folder: str, size: int, odd: bool) -> None:
        self.chance, self.folder, self.size, self.odd = chance, folder, size, odd
        self._names: set[str] = set()

    def name(self, ending: str = "") -> str:
        """Return a new file name."""
        while True:
            a, b = self.chance.choice(WORDS), self.chance.choice(WORDS)
            joint = " " if self.odd and self.chance.random() < 0.4 else "-"
            name = f"{a}{joint}{b}"
            if name not in self._names:
                self._names.add(name)
                return f"{name}{ending}"

    def place(self, depth: int = 2) -> str:
        """Return a random folder path below the job's, with a slash at the end, or nothing."""
        parts = [self.chance.choice(WORDS[:6]) for _ in range(self.chance.randrange(depth + 1))]
        return "".join(f"{part}/" for part in parts)

    def text(self, lines: int = 0) -> str:
        """Return some lines of words."""
        count = lines or self.chance.randrange(1, 6)
        return "".join(
            " ".join(self.chance.choices(WORDS, k=4)) + f" {self.chance.randrange(1000)}\n"
            for _ in range(count)
        )

    def tree(self, endings: tuple[str, ...]) -> dict[str, str]:
        """Return files with every ending at least twice, in nested folders."""
        count = max(self.size, 2 * len(endings))
        return {self.place() + self.name(endings[i % len(endings)]): self.text() for i in range(count)}

    def log(self) -> list[tuple[str, str, str, int]]:
        """Return lines of a log: time, level, service, number."""
        return [
            (
                f"2025-03-{1 + i // 12:02}T{self.chance.randrange(24):02}:{self.chance.randrange(60):02}:00",
                self.chance.choice(LEVELS),
                self.chance.choice(WORDS[:8]),
                self.chance.randrange(100, 1000),
            )
            for i in range(self.size * 4)
        ]

    def table(self) -> list[dict[str, Any]]:
        """Return rows of a table of sales."""
        return [
            {
                "id": 100 + i,
                "item": self.chance.choice(WORDS[:10]),
                "city": self.chance.choice(CITIES),
                "amount": self.chance.randrange(1, 500),
            }
            for i in range(self.size * 2)
        ]


TEMPLATES: dict[str, tuple[Callable[[Draw], Job], int]] = {}


def job(tier: int) -> Callable[[Callable[[Draw], Job]], Callable[[Draw], Job]]:
    """Register a template under its function's name; tiers are 1 (one command) to 4 (programs)."""

    def add(write: Callable[[Draw], Job]) -> Callable[[Draw], Job]:
        TEMPLATES[write.__name__] = (write, tier)
        return write

    return add


def csv_text(rows: list[dict[str, Any]], columns: list[str] | None = None) -> str:
    """Return rows as CSV with a header and plain line ends."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns or list(rows[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
