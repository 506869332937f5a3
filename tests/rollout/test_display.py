from __future__ import annotations

import io
import math
import os
import pty
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rolloom.rollout.display import SPARK, Progress, duration, safe_text, sparkline, step_line, summary_table

HOSTILE = "ok\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u200b[bold red]markup[/] {x} \ud800\r\x08"
ENV = "math/affine_chain-v0"


def record(step: int = 3, **more) -> dict:
    share = {"accuracy": 0.75, "reward": 0.7, "tokens": 81.4, "turns": 1.0, "n": 16, "failures": 0}
    numbers = {"reward": 0.61, "accuracy": 0.75, "tokens_per_answer": 81.4, "entropy": 0.42}
    speed = {"logprob_diff_max": 3.1e-6, "generated_tokens_per_s": 2345.6, "failures": 2}
    return {"step": step, **numbers, **speed, "envs": {ENV: share}, **more}


def summary() -> dict:
    entry = {
        "accuracy_before": 0.75,
        "accuracy_after": 0.8125,
        "accuracy_ci": [0.75, 0.86],
        "tokens_before": 81.4,
        "tokens_after": 27.2,
        "n": 256,
        "failures_before": 1,
        "failures_after": 2,
    }
    return {"environments": {ENV: entry}, "overall": entry}


def drive(display: Progress) -> None:
    display.start({"run": "runs/x", "steps": 60})
    display.phase("starting engines")
    display.evaluation("before", 3, 8)
    display.step(record(), 60, 312.0)
    display.table(summary())
    display.note("report: runs/x/report.html")
    display.stop()
    display.stop()


def test_plain_output_is_one_line_a_step_without_escapes() -> None:
    stream = io.StringIO()
    drive(Progress(stream=stream))
    text = stream.getvalue()
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("step ")]
    for part in (
        "3/60",
        "reward 0.610",
        "75.0%",
        "81",
        "0.420",
        "3.1e-06",
        "2,346 tok/s",
        "2 failed",
        "5m12s",
        ENV,
    ):
        assert part in line
    assert "report: runs/x/report.html" in text
    row = next(line for line in text.splitlines() if line.startswith("overall"))
    assert row.split() == [
        "overall",
        "256",
        "75.0%",
        "81.2%",
        "75.0%",
        "-",
        "86.0%",
        "81.4",
        "27.2",
        "2.99x",
        "3",
    ]


def test_live_output_on_a_terminal_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    main, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as stream:
        display = Progress(stream=stream)
        assert display.live
        drive(display)
    seen = b""
    try:
        while chunk := os.read(main, 65536):
            seen += chunk
    except OSError:
        pass  # Linux reports the closed terminal as an input/output error.
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert "81.4" in text and "report: runs/x/report.html" in text
    assert "tokens/answer" in text and "5m12s" in text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_the_environment_can_ask_for_plain(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    main, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as stream:
        assert not Progress(stream=stream).live
    os.close(main)


@given(st.text(st.characters()), st.none() | st.integers(0, 30))
def test_safe_text_holds_nothing_that_acts(text: str, limit: int | None) -> None:
    safe = safe_text(text, limit)
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") for c in safe)
    safe.encode("utf-8")
    if limit is None and text.isprintable():
        assert safe == text


@pytest.mark.parametrize("live", [False, True])
def test_hostile_text_reaches_the_terminal_disarmed(live: bool) -> None:
    stream = io.StringIO()
    display = Progress(live=live, stream=stream)
    display.start({"run": HOSTILE})
    display.phase(HOSTILE)
    display.evaluation(HOSTILE, 1, 2)
    display.step(record(envs={HOSTILE: {"accuracy": 0.1, "tokens": 2.0}}), 5, None)
    display.table({"environments": {HOSTILE: {}}, "overall": {}})
    display.note(HOSTILE)
    display.stop()
    text = stream.getvalue()
    for bad in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\u2066", "\u200b", "\x08"):
        assert bad not in text
    assert "[bold red]markup[/]" in text


def test_incomplete_records_are_shown_as_far_as_they_go() -> None:
    for live in (False, True):
        display = Progress(live=live, stream=io.StringIO())
        display.start({})
        display.step({"step": 1, "reward": math.nan, "envs": {ENV: {}}}, 0, None)
        display.table({})
        display.stop()
    assert "reward -" in step_line({"step": 1, "reward": math.nan}, 2, math.inf)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.integers(1, 20))
def test_sparkline_fits_and_uses_only_bars(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) <= width and set(line) <= set(SPARK)


def test_sparkline_rises_with_the_values() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == SPARK
    assert sparkline([2.0] * 5) == SPARK[3] * 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (185, "3m05s"), (7620, "2h07m"), (None, "?"), (math.nan, "?")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_history_of_a_long_run_stays_bounded() -> None:
    display = Progress(live=False, stream=io.StringIO())
    for step in range(2000):
        display.step(record(step, reward=step), 2000, 1.0)
    assert max(map(len, display._history.values())) <= 400
    assert sys.getsizeof(display._history) < 10_000


def test_rich_table_has_every_figure() -> None:
    console = Console(file=io.StringIO(), width=160, record=True)
    console.print(summary_table(summary()))
    text = console.export_text()
    for part in ("256", "75.0%", "81.2%", "75.0% - 86.0%", "81.4", "27.2", "2.99x"):
        assert part in text
