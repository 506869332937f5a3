"""Paired measurement: ours and the peer run in turns in one process, and every pair gives one ratio.

Drift of the machine (clocks, neighbours) hits both sides of a pair alike, so ratios are steadier than rates.
The side that goes first alternates; warm-up runs are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import OthersLoad, commit, hardware

PAIRS, QUICK_PAIRS = 7, 2
IDLE_CORES = 0.15
"""Others may use this many cores on average before a row counts as measured on a busy machine."""

Rates = dict[str, float]
Side = Callable[[int], Rates]
"""One run: takes its index, returns rates by unit. Both sides of a case return the same units."""


class ParityError(AssertionError):
    """Ours and the peer do not compute the same thing, so a speed would mean nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        name: the benchmark.
        case: what was run.
        unit: of `ours` and `peer`; more is better unless it says otherwise.
        ours: median rate of ours.
        peer: median rate of the peer; None without one.
        peer_name: the peer, with its version.
        ratio_median: median over pairs of ours / peer; None without a peer.
        ratio_min: smallest pair.
        ratio_max: largest pair.
        n: pairs counted.
        commit: of this repository.
        hardware: processor, cores and threads used.
        others_cores: cores that other processes used meanwhile, on average; None where unknown.
    """

    name: str
    case: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    ratio_median: float | None
    ratio_min: float | None
    ratio_max: float | None
    n: int
    commit: str
    hardware: str
    others_cores: float | None


def run_pairs(ours: Side, peer: Side | None, pairs: int, warmup: int = 1) -> list[tuple[Rates, Rates | None]]:
    """Run both sides `pairs` times in alternating order after `warmup` uncounted pairs."""
    results: list[tuple[Rates, Rates | None]] = []
    for index in range(warmup + pairs):
        if peer is None:
            mine, theirs = ours(index), None
        elif index % 2:
            theirs = peer(index)
            mine = ours(index)
        else:
            mine = ours(index)
            theirs = peer(index)
        if index >= warmup:
            results.append((mine, theirs))
    return results


def summarise(
    name: str, case: str, peer_name: str, results: Sequence[tuple[Rates, Rates | None]], **where: object
) -> list[Row]:
    """Return one row for each unit of a case's pairs; `where` holds commit, hardware and others_cores."""
    rows = []
    for unit in results[0][0]:
        ours = [mine[unit] for mine, _ in results]
        peers = [theirs[unit] for _, theirs in results if theirs is not None]
        ratios = [mine / theirs for mine, theirs in zip(ours, peers, strict=True)] if peers else []
        rows.append(
            Row(
                name, case, unit,
                ours=_round(statistics.median(ours)),
                peer=_round(statistics.median(peers)) if peers else None,
                peer_name=peer_name,
                ratio_median=_round(statistics.median(ratios)) if ratios else None,
                ratio_min=_round(min(ratios)) if ratios else None,
                ratio_max=_round(max(ratios)) if ratios else None,
                n=len(results),
                **where,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return rows


def _round(value: float) -> float:
    return float(f"{value:.4g}")


class Bench:
    """Collects the rows of one benchmark and prints each as it comes.

    Args:
        name: the benchmark.
        quick: tiny cases that only prove that everything runs; the figures mean nothing.
    """

    def __init__(self, name: str, quick: bool = False) -> None:
        self.name, self.quick = name, quick
        self.pairs = QUICK_PAIRS if quick else PAIRS
        self.rows: list[Row] = []
        self._commit = commit()

    def compare(self, case: str, ours: Side, peer: Side | None, peer_name: str, threads: int = 1) -> None:
        """Measure one case and keep its rows."""
        load = OthersLoad()
        results = run_pairs(ours, peer, self.pairs)
        where = {
            "commit": self._commit, "hardware": hardware(threads), "others_cores": load.cores(),
        }  # fmt: skip
        for row in summarise(self.name, case, peer_name, results, **where):
            self.rows.append(row)
            print(describe(row), flush=True)


def describe(row: Row) -> str:
    """Return one line for the terminal."""
    threads = row.hardware.rpartition(", ")[2]
    line = f"{row.name}: {row.case}, {threads}: {row.ours:,.6g} {row.unit}"
    if row.peer is not None:
        line += (
            f"; {row.peer_name} {row.peer:,.6g}; "
            f"ratio {row.ratio_median:.3g} ({row.ratio_min:.3g} to {row.ratio_max:.3g}, n={row.n})"
        )
    if is_busy(row):
        line += f"  [not idle: others used {row.others_cores} cores]"
    return line


def is_busy(row: Row) -> bool:
    """True when others used the machine while the row was measured."""
    return row.others_cores is not None and row.others_cores > IDLE_CORES


def rate_for(seconds: float, call: Callable[[int], object]) -> float:
    """Call repeatedly, with 0, 1, 2 ..., for at least `seconds`; return calls a second."""
    started = time.perf_counter()
    count = 0
    while True:
        call(count)
        count += 1
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed


def seconds_of(call: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def fewer_pairs(bench: Bench, pairs: int = 3) -> Iterator[None]:
    """Measure fewer pairs within the block, where a run is long and varies little."""
    before, bench.pairs = bench.pairs, min(bench.pairs, pairs)
    try:
        yield
    finally:
        bench.pairs = before


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch this many CPU threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main(name: str, measure: Callable[[Bench], None], argv: Sequence[str] | None = None) -> int:
    """Run one benchmark from its command line; return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that everything runs")
    args = parser.parse_args(argv)
    bench = Bench(name, args.quick)
    try:
        measure(bench)
    except ParityError as error:
        print(f"{name}: no figures: {error}", file=sys.stderr)
        return 1
    if args.json:
        write_rows(args.json, bench.rows)
    return 0


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON list, one a line."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    return [Row(**row) for row in json.loads(path.read_text())]
