"""`python -m benchmarks [NAME ...] [--json PATH] [--quick]`: run benchmarks, keep rows, renew the table.

Each benchmark runs in a process of its own. Rows go to `benchmarks/baselines/<hardware>.json`, where they
replace those of the same benchmark, and the table of docs/benchmarks.md is made anew from all baselines.
`--quick` writes neither. A benchmark that fails keeps its old rows and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Row, read_rows, write_rows
from benchmarks.machine import ROOT, hardware_slug
from benchmarks.table import renew_page

NAMES = ("rollout", "rollout.speculation", "train", "envs", "rollout_envs", "kernels")
BASELINES = ROOT / "benchmarks" / "baselines"
PAGE = ROOT / "docs" / "benchmarks.md"


def run(name: str, quick: bool) -> list[Row] | None:
    """Run one benchmark and return its rows; None when it failed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
        done = subprocess.run([*command, *(["--quick"] if quick else [])], cwd=ROOT, check=False)
        return read_rows(path) if done.returncode == 0 and path.is_file() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write this run's rows here")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that everything runs")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in NAMES:
            parser.error(f"NAME: expected one of {', '.join(NAMES)}, got {name!r}")
    results = {name: run(name, args.quick) for name in args.names or NAMES}
    rows = [row for found in results.values() for row in found or ()]
    if args.json:
        write_rows(args.json, rows)
    if not args.quick and rows:
        keep(rows)
    failed = [name for name, found in results.items() if found is None]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def keep(rows: Sequence[Row]) -> None:
    """Replace the rows of these benchmarks in this machine's baseline and renew the page."""
    path = BASELINES / f"{hardware_slug()}.json"
    new = {row.name for row in rows}
    old = [row for row in read_rows(path) if row.name not in new] if path.is_file() else []
    path.parent.mkdir(exist_ok=True)
    write_rows(path, sorted([*old, *rows], key=lambda row: NAMES.index(row.name)))
    renew_page(PAGE, {file.stem: read_rows(file) for file in sorted(BASELINES.glob("*.json"))})


if __name__ == "__main__":
    sys.exit(main())
