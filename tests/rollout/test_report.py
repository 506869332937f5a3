from __future__ import annotations

import hashlib
import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rolloom.rollout.metrics import RunLog
from rolloom.rollout.report import write_report, write_report_from_run
from rolloom.rollout.report_plots import Arrow, Point, Series, arrow_chart, histogram, line_chart, round_ticks
from rolloom.rollout.report_summary import summarize
from rolloom.rollout.rundir import RunDir

MATH, CODE = "math/affine_chain-v0", "code/functions-v0"
ENTRY_KEYS = {"accuracy_before", "accuracy_after", "accuracy_ci", "tokens_before", "tokens_after", "n"}
HOSTILE = (
    "</pre><script>alert(1)</script><img src=x onerror=y>&amp;\u202e\x1b[31m<!-- ]]> \ud800 \" ' <style>"
)


def row(env_id: str, key: str, score: float | None, tokens: int, **more) -> dict:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": f"task {key}"},
        {"role": "assistant", "content": f"<think>because {tokens}</think>{HOSTILE}"},
    ]
    think = {"think_tokens": tokens // 2, "turns": 1, "stop": "done", "failure": score is None}
    return {
        "env_id": env_id,
        "task_key": key,
        "score": score,
        "tokens": tokens,
        "text": messages,
        **think,
        **more,
    }


def evaluations(n: int = 40) -> tuple[list[dict], list[dict]]:
    generator = np.random.default_rng(0)
    sides: tuple[list[dict], list[dict]] = ([], [])
    for env_id in (MATH, CODE):
        for key in range(n):
            for side, (rate, mean) in zip(sides, ((0.7, 100), (0.8, 40)), strict=True):
                score = float(generator.random() < rate)
                side.append(row(env_id, f"{key:032x}", score, int(mean * generator.uniform(0.7, 1.3))))
    return sides


def records(count: int) -> list[dict]:
    share = {"accuracy": 0.5, "reward": 0.5, "tokens": 80.0, "turns": 1.0, "n": 8, "failures": 0}
    return [
        {
            "step": step,
            "reward": math.sin(step),
            "accuracy": 0.5,
            "entropy": 1 / step,
            "logprob_diff_max": 1e-6 * step,
            "logprob_diff_mean": 1e-8,
            "step_s": 2.0,
            "envs": {MATH: share, CODE: {**share, "tokens": 90.0 - step / 20}},
        }
        for step in range(1, count + 1)
    ]


class Page(HTMLParser):
    """Collects what a browser would act on, and fails on tags that do not match."""

    VOID = ("meta", "br", "link", "img", "input")
    LEAF = ("circle", "line", "polyline", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_summary_has_the_promised_keys_and_numbers(tmp_path: Path) -> None:
    before, after = evaluations()
    summary = write_report(tmp_path, before, after, records(3), seconds=12.5)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert set(summary) == {"environments", "overall", "max_logprob_difference", "steps", "seconds"}
    assert summary["max_logprob_difference"] == 3e-6 and summary["steps"] == 3 and summary["seconds"] == 12.5
    for entry in [*summary["environments"].values(), summary["overall"]]:
        assert set(entry) >= ENTRY_KEYS
        low, high = entry["accuracy_ci"]
        assert low <= entry["accuracy_after"] <= high
        assert entry["accuracy_difference"] == pytest.approx(
            entry["accuracy_after"] - entry["accuracy_before"]
        )
        assert entry["token_ratio"] == pytest.approx(entry["tokens_before"] / entry["tokens_after"])
    mine = [r for r in after if r["env_id"] == MATH]
    entry = summary["environments"][MATH]
    assert entry["n"] == 40 and summary["overall"]["n"] == 80
    assert entry["accuracy_after"] == pytest.approx(np.mean([r["score"] for r in mine]))
    assert entry["tokens_after"] == pytest.approx(np.mean([r["tokens"] for r in mine]))


def test_failures_are_a_column_and_never_wrong_answers() -> None:
    before = [
        row(MATH, "a", 1.0, 10),
        row(MATH, "b", None, 999),
        row(MATH, "c", 0.0, 20),
        row(MATH, "d", 0.0, 50),
    ]
    after = [row(MATH, "a", 1.0, 5), row(MATH, "b", 1.0, 7), row(MATH, "c", 1.0, 15), row(MATH, "d", None, 0)]
    entry = summarize(before, after, [])["environments"][MATH]
    assert entry["n"] == 2
    assert (entry["accuracy_before"], entry["accuracy_after"]) == (0.5, 1.0)
    assert (entry["tokens_before"], entry["tokens_after"]) == (15.0, 10.0)
    assert (entry["failures_before"], entry["failures_after"]) == (1, 1)


def test_only_the_same_tasks_are_compared() -> None:
    before = [row(MATH, "a", 1.0, 10), row(MATH, "b", 0.0, 30)]
    after = [row(MATH, "b", 1.0, 20), row(MATH, "c", 0.0, 99)]
    entry = summarize(before, after, [])["environments"][MATH]
    assert (entry["n"], entry["tokens_before"], entry["tokens_after"]) == (1, 30.0, 20.0)
    apart = summarize([row(MATH, "a", 1.0, 10)], [row(MATH, "z", 1.0, 10)], [])["overall"]
    assert apart["n"] == 0 and apart["accuracy_after"] is None and apart["token_ratio"] is None


def test_several_rollouts_of_a_task_are_one_task() -> None:
    before = [row(MATH, "a", score, 10) for score in (1.0, 0.0)] + [row(MATH, "b", 1.0, 40)]
    after = [row(MATH, "a", 1.0, 10), row(MATH, "b", 1.0, 40), row(MATH, "b", None, 0)]
    entry = summarize(before, after, [])["environments"][MATH]
    assert (entry["n"], entry["accuracy_before"], entry["tokens_before"]) == (2, 0.75, 25.0)
    assert (entry["accuracy_after"], entry["failures_after"]) == (1.0, 1)


def test_partial_credit_is_score_not_accuracy() -> None:
    entry = summarize([row(MATH, "a", 0.5, 10)], [row(MATH, "a", 0.9, 10)], [])["overall"]
    assert entry["accuracy_after"] == 0 and entry["score_after"] == 0.9


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.floats(0, 1), st.integers(0, 99)), max_size=12)
)
def test_swapping_the_sides_swaps_the_table(cases: list) -> None:
    rows = [
        row(env_id, str(index // 2), score, tokens) for index, (env_id, score, tokens) in enumerate(cases)
    ]
    left, right = rows[::2], rows[1::2]
    there, back = summarize(left, right, [])["overall"], summarize(right, left, [])["overall"]
    for name in ("accuracy", "tokens", "failures", "score"):
        assert there[f"{name}_before"] == back[f"{name}_after"]
    assert there["n"] == back["n"]


def test_page_is_one_inert_file(tmp_path: Path) -> None:
    before, after = evaluations(6)
    config = f"name: x # {HOSTILE}\nevaluation: {{side_by_side: 3}}\n"
    write_report(tmp_path, before, after, records(5), 3, config)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    allowed = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "audio", "video"}
    assert not allowed & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("style", "src", "srcset") for name in attributes)
        assert all(link.startswith("#") for link in [attributes.get("href") or "#"])
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert any("<script>alert(1)</script>" in part for part in page.texts)


def test_the_content_policy_admits_the_style_sheet_and_nothing_else(tmp_path: Path) -> None:
    write_report(tmp_path, [], [], [])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    policy = next(
        a["content"] for tag, a in page_of(tmp_path).tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; style-src 'sha256-" + digest)
    assert "unsafe" not in policy


def test_page_says_what_the_summary_says(tmp_path: Path) -> None:
    before, after = evaluations()
    summary = write_report(tmp_path, before, after, records(3), config_text="trainer:\n  steps: 3\n")
    text = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for entry in [*summary["environments"].values(), summary["overall"]]:
        for number in (
            f"{100 * entry['accuracy_before']:.1f}%",
            f"{100 * entry['accuracy_after']:.1f}%",
            f"{entry['tokens_after']:.1f}",
            f"{entry['token_ratio']:.2f}x",
        ):
            assert number in text
    assert "rolloom train --resume" in text and "steps: 3" in text


def test_rollouts_stand_side_by_side_with_their_prompt_once(tmp_path: Path) -> None:
    before, after = evaluations(5)
    write_report(tmp_path, before, after, [], samples=1)
    texts = page_of(tmp_path).texts
    assert sum(part == f"task {0:032x}" for part in texts) == 2  # one an environment
    assert sum("<think>because" in part for part in texts) == 4


@pytest.mark.parametrize("missing", ["before", "after", "both"])
def test_a_killed_run_can_still_be_reported(tmp_path: Path, missing: str) -> None:
    before, after = evaluations(8)
    with RunLog(tmp_path, tensorboard=False) as log:
        log.config("trainer:\n  steps: 50\nevaluation:\n  side_by_side: 1\n")
        for record in records(7):
            log.step(record)
        if missing == "after":
            log.evaluation("before", before)
        if missing == "before":
            log.evaluation("after", after)
    with RunDir(tmp_path).metrics.open("a") as handle:
        handle.write('{"step": 8, "rewa')
    summary = write_report_from_run(tmp_path)
    assert summary["steps"] == 7 and summary["seconds"] == 14.0
    text = " ".join(page_of(tmp_path).texts)
    assert "Stopped early: 7 of 50 steps" in text and "nothing is compared" in text
    if missing == "after":
        entry = summary["environments"][MATH]
        assert entry["n"] == 8 and entry["accuracy_before"] is not None and entry["accuracy_after"] is None


def test_an_empty_directory_and_a_damaged_config_are_reported_too(tmp_path: Path) -> None:
    summary = write_report_from_run(tmp_path / "never")
    assert summary["overall"]["n"] == 0 and summary["environments"] == {}
    (tmp_path / "config.yaml").write_bytes(b"\xff: [unclosed\n\t- {")
    assert write_report_from_run(tmp_path)["steps"] == 0
    page_of(tmp_path)


def test_disk_and_memory_give_the_same_page(tmp_path: Path) -> None:
    before, after = evaluations(10)
    config = "trainer:\n  steps: 3\nevaluation:\n  side_by_side: 2\n"
    with RunLog(tmp_path, tensorboard=False) as log:
        log.config(config)
        log.evaluation("before", before)
        log.evaluation("after", after)
        for record in records(3):
            log.step(record)
    write_report_from_run(tmp_path)
    disk = (tmp_path / "report.html").read_text(encoding="utf-8")
    write_report(tmp_path, before, after, records(3), 2, config, total_steps=3)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").replace("\\ud800", "?") == disk


def test_a_long_run_stays_a_small_page(tmp_path: Path) -> None:
    before, after = evaluations(256)
    write_report(tmp_path, before, after, records(3000))
    assert (tmp_path / "report.html").stat().st_size < 500_000
    page_of(tmp_path)


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10, 10)


@example([5e-324], False, True, "")
@example([1e308], False, True, "")
@given(
    st.lists(numbers, max_size=30),
    st.booleans(),
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
def test_charts_are_well_formed_for_any_numbers(values: list, percent: bool, log: bool, name: str) -> None:
    name = "".join(char for char in name if char.isprintable())
    chart = line_chart(name, [Series(name, list(range(len(values))), values, 3)], percent=percent, log=log)
    root = ElementTree.fromstring(chart)
    assert root.get("aria-label", "").startswith(f"{name}. ")
    assert "nan" not in chart.replace(html.escape(name), "").lower()


@given(st.lists(st.floats(0, 1e6), max_size=20), st.lists(st.floats(0, 1e6), max_size=20))
def test_histogram_shares_sum_to_one(before: list[float], after: list[float]) -> None:
    chart = histogram("lengths", before, after)
    ElementTree.fromstring(chart)
    for name, side in (("before", before), ("after", after)):
        shares = [float(x) for x in re.findall(rf"<title>{name}: ([\d.]+)%", chart)]
        assert sum(shares) == pytest.approx(100 if side else 0, abs=0.05 * len(shares) + 1e-9)


def test_arrows_point_from_before_to_after_inside_the_plot() -> None:
    arrow = Arrow(MATH, Point(100, 0.7, 95, 105, 0.6, 0.8), Point(40, 0.9, 38, 42, 0.85, 0.95))
    root = ElementTree.fromstring(arrow_chart("plane", [arrow, Arrow(CODE, None, None)]))
    marks = {m.get("class", "").split()[1]: m for m in root.iter("circle")}
    assert float(marks["after"].get("cx", "")) < float(marks["before"].get("cx", ""))
    assert float(marks["after"].get("cy", "")) < float(marks["before"].get("cy", ""))
    shaft = next(line for line in root.iter("line") if line.get("class", "").startswith("shaft"))
    assert float(shaft.get("x2", "")) < float(shaft.get("x1", ""))
    assert CODE + ": not measured" in root.get("aria-label", "")


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    ticks = round_ticks(low, low + span)
    assert len(ticks) <= 12
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
