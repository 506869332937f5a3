"""Writes `report.html` and `summary.json`: what a run changed on held-out tasks, and how it got there.

The page is one file without a script, an image or a request: its content policy forbids all of them, so that
nothing a policy wrote can act, and it looks the same offline and in a year.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rolloom.rollout import report_sections as sections
from rolloom.rollout.display import safe_text
from rolloom.rollout.metrics import read_metrics
from rolloom.rollout.report_envs import environments
from rolloom.rollout.report_plots import SLOTS
from rolloom.rollout.report_style import STYLE
from rolloom.rollout.report_summary import summarize
from rolloom.rollout.rundir import RunDir, json_ready, read_jsonl, write_atomic


def write_report(
    run_dir: str | os.PathLike[str] | RunDir,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    samples: int = 2,
    config_text: str = "",
    *,
    seconds: float | None = None,
    total_steps: int | None = None,
) -> dict[str, Any]:
    """Write both files and return the content of `summary.json`.

    Args:
        run_dir: the run's directory.
        before: held-out records of the initial policy (`rolloom.rollout.metrics.EvalRecord`); may be empty.
        after: the same tasks with the trained policy; may be empty (a run that was stopped).
        records: step records (`rolloom.rollout.metrics.StepRecord`).
        samples: rollouts shown side by side, per environment.
        config_text: the resolved configuration, YAML.
        seconds: wall clock of the run; when not given, that of the last record, or the sum of the steps.
        total_steps: steps the run was asked for, to say when it did fewer.
    """
    run = run_dir if isinstance(run_dir, RunDir) else RunDir(Path(run_dir))
    summary = json_ready(summarize(before, after, records, seconds))
    page = render(run, before, after, records, samples, config_text, summary, total_steps)
    write_atomic(run.summary, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_atomic(run.report, page)
    return summary


def write_report_from_run(
    run_dir: str | os.PathLike[str] | RunDir, *, seconds: float | None = None
) -> dict[str, Any]:
    """Write the report from what a run left on disk, also when it was killed; return the summary.

    How many rollouts are shown and how many steps were asked for is read from the run's configuration.

    Args:
        run_dir: the run's directory.
        seconds: wall clock of the run, when the caller knows it better than the last step's record.
    """
    run = run_dir if isinstance(run_dir, RunDir) else RunDir(Path(run_dir))
    text = run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else ""
    samples = _setting(text, "evaluation.side_by_side")
    before, after = list(read_jsonl(run.before)), list(read_jsonl(run.after))
    return write_report(
        run,
        before,
        after,
        read_metrics(run),
        2 if samples is None else samples,
        text,
        seconds=seconds,
        total_steps=_setting(text, "trainer.steps"),
    )


def render(
    run: RunDir,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    samples: int,
    config_text: str,
    summary: Mapping[str, Any],
    total_steps: int | None = None,
) -> str:
    """Return the page as text; see `write_report` for the arguments."""
    trained = [env_id for record in records for env_id in record.get("envs") or {}]
    names = dict.fromkeys([*summary["environments"], *trained])
    slots = {name: index % SLOTS for index, name in enumerate(names)}
    title = safe_text(run.root.name or "run", 80)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        ("result", "Before and after", sections.table(summary)),
        ("plane", "Accuracy against tokens", sections.plane(summary, slots)),
        ("curves", "Learning curves", sections.curves(records, slots)),
        ("environments", "Environment by environment", environments(records, slots)),
        ("lengths", "Lengths before and after", sections.lengths(before, after, slots)),
        ("rollouts", "Rollouts side by side", sections.samples(before, after, samples)),
        ("again", "Resume, reproduce, look closer", _commands(run, config_text)),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in parts)
    body = "".join(f'<section id="{key}"><h2>{name}</h2>{content}</section>' for key, name, content in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}: rolloom report</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_notices(before, after, summary, total_steps)}"
        f'<nav aria-label="sections">{links}</nav></header>'
        f"<main>{sections.cards(summary)}{body}</main></body></html>\n"
    )


def _setting(config_text: str, name: str) -> int | None:
    """Return a whole number of the configuration; None where there is none, or the file is damaged."""
    try:
        value = OmegaConf.select(OmegaConf.create(config_text), name)
    except (OmegaConfBaseException, YAMLError, TypeError, ValueError):
        return None
    return value if isinstance(value, int) else None


def _notices(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    total_steps: int | None,
) -> str:
    """Say at the top what a reader would otherwise mistake."""
    notices = []
    if total_steps is not None and summary["steps"] < total_steps:
        notices.append(f"Stopped early: {summary['steps']} of {total_steps} steps were trained.")
    if not (before and after):
        missing = " and ".join(name for name, side in (("before", before), ("after", after)) if not side)
        notices.append(f"The held-out evaluation {missing} training is missing, so nothing is compared.")
    overall = summary["overall"]
    failed = (overall.get("failures_before") or 0) + (overall.get("failures_after") or 0)
    if failed:
        notices.append(f"{failed} held-out rollouts failed; their tasks are left out, not counted as wrong.")
    return "".join(f'<p class="notice">{escape(notice)}</p>' for notice in notices)


def _commands(run: RunDir, config_text: str) -> str:
    root = str(run.root)
    config = f'<pre tabindex="0">{escape(safe_text(config_text))}</pre>' if config_text else ""
    lines = [
        ("Go on from the last checkpoint", f"rolloom train --resume {shlex.quote(root)}"),
        ("Run the same again", f"rolloom train {shlex.quote(str(run.config))} name=again"),
        ("Curves in TensorBoard", f"tensorboard --logdir {shlex.quote(str(run.tensorboard))}"),
    ]
    shown = "".join(
        f'<div class="role">{name}</div><pre tabindex="0">{escape(safe_text(line))}</pre>'
        for name, line in lines
    )
    files = (
        "Beside this file: <code>summary.json</code> (the table for programs), "
        "<code>metrics.jsonl</code> (every step), "
        "<code>rollouts/</code> (every rollout), <code>evaluation/</code> (the held-out rollouts), "
        "<code>checkpoints/</code>."
    )
    fold = f"<details><summary>Resolved configuration</summary>{config}</details>" if config else ""
    return f"{shown}<p>{files}</p>{fold}"
