"""The table of docs/benchmarks.md, made from baseline rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Row, is_busy

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
HEAD = "| case | threads | unit | ours | peer | ours / peer | peer is |\n|---|---|---|---:|---:|---:|---|"
BUSY = "†"


def renew_page(page: Path, baselines: Mapping[str, Sequence[Row]]) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page does not have each marker once, in order.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"{page}: expected {BEGIN} once and then {END} once")
    page.write_text(f"{before}{BEGIN}\n\n{render(baselines)}\n{END}{after}")


def render(baselines: Mapping[str, Sequence[Row]]) -> str:
    """Return the Markdown of all baselines: a section for each machine, a table for each benchmark."""
    parts = []
    for rows in baselines.values():
        parts.append(f"## {rows[0].hardware.rpartition(',')[0]}\n")
        for name in dict.fromkeys(row.name for row in rows):
            chosen = [row for row in rows if row.name == name]
            pairs = sorted({row.n for row in chosen})
            commits = sorted({row.commit for row in chosen})
            parts.append(f"### {name}\n")
            parts.append(
                f"Commit {', '.join(commits)}; n = {', '.join(map(str, pairs))} pairs.\n\n{HEAD}\n"
                + "\n".join(map(_line, chosen))
                + "\n"
            )
        if any(map(is_busy, rows)):
            parts.append(f"{BUSY} other processes used the machine meanwhile.\n")
    return "\n".join(parts)


def _line(row: Row) -> str:
    threads = row.hardware.rpartition(",")[2].split()[0]
    ratio = "-"
    if row.ratio_median is not None:
        ratio = f"**{row.ratio_median:.3g}** ({row.ratio_min:.3g} to {row.ratio_max:.3g})"
    peer = "-" if row.peer is None else _number(row.peer)
    case = _plain(row.case) + (f" {BUSY}" if is_busy(row) else "")
    cells = (case, threads, row.unit, _number(row.ours), peer, ratio, _plain(row.peer_name))
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Escape what Markdown would read in a layer pattern or a name."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
