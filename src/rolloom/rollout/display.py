"""What a run shows in the terminal: a live view where there is one, plain lines everywhere else.

Everything that comes from a policy or an environment is untrusted: `safe_text` takes out control characters,
escape sequences and direction marks before anything is printed, and rich markup is never interpreted.
"""

from __future__ import annotations

import math
import os
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SPARK = "▁▂▃▄▅▆▇█"
_KEEP_POINTS = 400


def safe_text(text: str, limit: int | None = None) -> str:
    r"""Return text that cannot act on a terminal: control and direction characters become `\xNN` escapes.

    Args:
        text: anything a policy wrote.
        limit: cut to this many characters, marked by an ellipsis.
    """
    cut = text if limit is None or len(text) <= limit else text[: max(limit - 1, 0)] + "…"
    # Cf holds the bidi overrides and zero-width characters, Cc the escape sequences, Cs half surrogates.
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else _escape(char)
        for char in cut
    )


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """Return the finite values as a row of bars, averaged into at most `width` bins."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    bins = min(width, len(finite))
    means = []
    for index in range(bins):
        part = finite[index * len(finite) // bins : (index + 1) * len(finite) // bins]
        means.append(sum(part) / len(part))
    low, high = min(means), max(means)
    if high - low <= 1e-12 * max(abs(high), abs(low), 1.0):
        return SPARK[3] * bins
    return "".join(
        SPARK[min(int((mean - low) / (high - low) * len(SPARK)), len(SPARK) - 1)] for mean in means
    )


def duration(seconds: float | None) -> str:
    """Return `45s`, `3m05s` or `2h07m`; `?` when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """Shows a run. `start`, then any of the others in any order, then `stop`; also a context manager.

    Args:
        live: redraw a view in place; by default when the stream is a terminal, and neither `NO_COLOR`, `CI`
            nor `TERM=dumb` is set.
        stream: where to print; standard output by default.
    """

    def __init__(self, *, live: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.live = _is_live(self._stream) if live is None else live
        plain = not self.live
        self._console = Console(
            file=self._stream,
            force_terminal=self.live,
            no_color=plain,
            highlight=False,
            soft_wrap=plain,
            emoji=False,
        )
        self._view: Live | None = None
        self._title: list[tuple[str, str]] = []
        self._phase = ""
        self._record: Mapping[str, Any] = {}
        self._history: dict[tuple[str, str], list[float]] = {}
        self._total = 0
        self._eta: float | None = None
        self._evaluation: tuple[str, int, int] | None = None
        self._printed_evaluation = 0.0

    def __enter__(self) -> Progress:
        """Return the display itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take the live view down."""
        self.stop()

    def start(self, summary: Mapping[str, Any]) -> None:
        """Begin, showing what will run: `{"run": ..., "policy": ..., "steps": ...}`, one line an entry."""
        self._title = [(safe_text(str(key)), safe_text(str(value), 200)) for key, value in summary.items()]
        if self.live:
            # stdout is left alone: log lines of other libraries go above the view instead of through it.
            self._view = Live(self._render(), console=self._console, refresh_per_second=4, transient=True)
            self._view.start()
        else:
            for key, value in self._title:
                self._line(f"{key}: {value}")

    def phase(self, text: str) -> None:
        """Say what is being done now (`starting the engines`)."""
        self._phase = safe_text(text, 200)
        self._evaluation = None
        self._show(self._phase)

    def step(self, record: Mapping[str, Any], total_steps: int, eta_s: float | None) -> None:
        """Show a trained step (a `rolloom.rollout.metrics.StepRecord`)."""
        self._record, self._total, self._eta, self._evaluation = record, total_steps, eta_s, None
        for env_id, share in record.get("envs", {}).items():
            for name in ("accuracy", "tokens"):
                self._remember((env_id, name), share.get(name))
        self._remember(("", "reward"), record.get("reward"))
        self._show(step_line(record, total_steps, eta_s))

    def evaluation(self, name: str, done: int, total: int) -> None:
        """Show how far a held-out evaluation is, in tasks; as plain lines, every five seconds at most."""
        self._evaluation = (safe_text(name), done, total)
        now = time.monotonic()
        if self.live or done >= total or now - self._printed_evaluation > 5:
            self._printed_evaluation = now
            self._show(f"evaluation {safe_text(name)}: {done}/{total} tasks")

    def table(self, summary: Mapping[str, Any]) -> None:
        """Print the before/after table of a `summary.json`; it stays when the live view is gone."""
        self._print(summary_table(summary, plain=not self.live))

    def note(self, text: str) -> None:
        """Print a line that stays (where the report is, how to resume)."""
        self._print(Text(safe_text(text)))

    def stop(self) -> None:
        """Take the live view down; twice is fine."""
        if self._view is not None:
            self._view.stop()
            self._view = None

    def _remember(self, key: tuple[str, str], value: Any) -> None:
        if isinstance(value, (int, float)) and math.isfinite(value):
            points = self._history.setdefault(key, [])
            points.append(float(value))
            if len(points) >= _KEEP_POINTS:
                # Halving keeps the whole run's shape in bounded memory.
                points[:] = [(a + b) / 2 for a, b in zip(points[::2], points[1::2], strict=False)]

    def _show(self, line: str) -> None:
        if self._view is not None:
            self._view.update(self._render())
        elif not self.live:
            self._line(line)

    def _print(self, content: RenderableType) -> None:
        self._console.print(content)
        self._stream.flush()

    def _line(self, text: str) -> None:
        self._print(Text(text))

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._title:
            head = Table.grid(padding=(0, 1))
            for key, value in self._title:
                head.add_row(Text(key, style="dim"), Text(value))
            parts.append(head)
        if self._phase:
            parts.append(Text(self._phase, style="bold"))
        if self._evaluation is not None:
            name, done, total = self._evaluation
            parts.append(_bar(f"evaluation {name}", done, total, "tasks"))
        if self._record:
            step = int(self._record.get("step", 0))
            parts.append(_bar("step", step, self._total, f"· ETA {duration(self._eta)}"))
            parts.append(self._environments())
            parts.append(Text(_numbers(self._record, ("reward", "entropy", "logprob", "speed", "failures"))))
        return Panel(Group(*parts), title="rolloom", title_align="left", border_style="dim")

    def _environments(self) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for name in ("environment", "accuracy", "", "tokens/answer", "", "n"):
            table.add_column(
                name, justify="left" if name in ("environment", "") else "right", header_style="dim"
            )
        for env_id, share in self._record.get("envs", {}).items():
            table.add_row(
                Text(safe_text(str(env_id), 40)),
                Text(_percent(share.get("accuracy")), style="green"),
                Text(sparkline(self._history.get((env_id, "accuracy"), [])), style="green"),
                Text(_number(share.get("tokens"), 1), style="cyan"),
                Text(sparkline(self._history.get((env_id, "tokens"), [])), style="cyan"),
                Text(_number(share.get("n"), 0)),
            )
        return table


def step_line(record: Mapping[str, Any], total_steps: int, eta_s: float | None) -> str:
    """Return a step as one line of plain text."""
    parts = [f"step {record.get('step', '?')}/{total_steps}"]
    parts.append(
        _numbers(record, ("reward", "accuracy", "tokens", "entropy", "logprob", "speed", "failures"))
    )
    for env_id, share in record.get("envs", {}).items():
        tokens = _number(share.get("tokens"), 0)
        parts.append(f"{safe_text(str(env_id), 60)} {_percent(share.get('accuracy'))} {tokens} tok")
    parts.append(f"ETA {duration(eta_s)}")
    return " | ".join(parts)


def summary_table(summary: Mapping[str, Any], *, plain: bool = False) -> RenderableType:
    """Return the before/after table of a `summary.json`: aligned text when plain, a rich table otherwise."""
    header = [
        "environment",
        "n",
        "accuracy before",
        "after",
        "95% interval",
        "tokens before",
        "after",
        "ratio",
        "failed",
    ]
    rows = []
    entries = [*summary.get("environments", {}).items(), ("overall", summary.get("overall", {}))]
    for name, entry in entries:
        low, high = entry.get("accuracy_ci") or (None, None)
        before, after = entry.get("tokens_before"), entry.get("tokens_after")
        ratio = f"{before / after:.2f}x" if before and after else "-"
        rows.append(
            [
                safe_text(str(name), 60),
                _number(entry.get("n"), 0),
                _percent(entry.get("accuracy_before")),
                _percent(entry.get("accuracy_after")),
                f"{_percent(low)} - {_percent(high)}" if low is not None else "-",
                _number(before, 1),
                _number(after, 1),
                ratio,
                _number((entry.get("failures_before") or 0) + (entry.get("failures_after") or 0), 0),
            ]
        )
    if plain:
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                _align(cell, width, at) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in [header, *rows]
        ]
        return Text("\n".join(line.rstrip() for line in lines))
    table = Table(title="held-out tasks, before and after", title_justify="left")
    for at, name in enumerate(header):
        table.add_column(name, justify="right" if at else "left")
    for at, row in enumerate(rows):
        last = at == len(rows) - 1
        table.add_row(
            *(Text(cell, style="bold" if last else "") for cell in row), end_section=at == len(rows) - 2
        )
    return table


def _is_live(stream: TextIO) -> bool:
    quiet = any(os.environ.get(name) for name in ("NO_COLOR", "CI")) or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not quiet


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _bar(label: str, done: int, total: int, after: str) -> Table:
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(total, 1), completed=min(done, max(total, 1)), width=32)
    row.add_row(Text(label, style="bold"), bar, Text(f"{done}/{total} {after}"))
    return row


def _numbers(record: Mapping[str, Any], names: Sequence[str]) -> str:
    known = {
        "reward": f"reward {_number(record.get('reward'), 3)}",
        "accuracy": f"accuracy {_percent(record.get('accuracy'))}",
        "tokens": f"{_number(record.get('tokens_per_answer'), 1)} tok/answer",
        "entropy": f"entropy {_number(record.get('entropy'), 3)}",
        "logprob": f"logp diff {_tiny(record.get('logprob_diff_max'))}",
        "speed": f"{_number(record.get('generated_tokens_per_s'), 0)} tok/s",
        "failures": f"{record['failures']} failed" if record.get("failures") else "",
    }
    return " · ".join(known[name] for name in names if known[name])


def _number(value: Any, digits: int) -> str:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "-"
    return f"{value:,.{digits}f}"


def _percent(value: Any) -> str:
    return "-" if not isinstance(value, (int, float)) or not math.isfinite(value) else f"{100 * value:.1f}%"


def _tiny(value: Any) -> str:
    return "-" if not isinstance(value, (int, float)) or not math.isfinite(value) else f"{value:.1e}"
