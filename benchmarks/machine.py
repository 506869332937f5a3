"""What a figure was measured on: hardware, commit, and how busy others kept the machine meanwhile."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("src", "benchmarks", ":!benchmarks/baselines")


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(threads: int) -> str:
    """Return processor, cores and the threads a case used."""
    return f"{cpu_model()}, {cores()} cores, {threads} thread{'s' if threads > 1 else ''}"


def hardware_slug() -> str:
    """Return the name of this machine's baseline file: processor and cores, without threads."""
    words = re.sub(r"\((?:r|tm)\)", "", cpu_model(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", f"{words} {cores()} cores".lower()).strip("-")


def commit() -> str:
    """Return the short commit; `+dirty` when what is measured differs from it; `unknown` outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.strip()

    try:
        short = git("rev-parse", "--short=12", "HEAD")
        return f"{short}+dirty" if git("status", "--porcelain", "--", *MEASURED) else short
    except (OSError, subprocess.SubprocessError):
        return "unknown"


class OthersLoad:
    """Measures how many cores other processes used since it was made (Linux; None elsewhere)."""

    def __init__(self) -> None:
        self._start = self._sample()

    def cores(self) -> float | None:
        """Return the cores others kept busy on average."""
        end = self._sample()
        if self._start is None or end is None:
            return None
        wall, busy, own = (after - before for after, before in zip(end, self._start, strict=True))
        return round(max(0.0, (busy - own) / max(wall, 1e-3)), 2)

    @staticmethod
    def _sample() -> tuple[float, float, float] | None:
        try:
            tick = os.sysconf("SC_CLK_TCK")
            fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
            return time.monotonic(), (sum(fields) - fields[3] - fields[4]) / tick, _family_seconds(tick)
        except (OSError, ValueError, AttributeError):
            return None


def _family_seconds(tick: int) -> float:
    """Return the CPU seconds of this process and its descendants, those already ended included."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            # utime, stime and those of the children it has waited for.
            used[int(entry.name)] = sum(map(int, fields[11:15]))
    family = {os.getpid()}
    while True:
        found = {pid for pid, parent in parents.items() if parent in family} - family
        if not found:
            return sum(used.get(pid, 0) for pid in family) / tick
        family |= found
