"""The report's sections as HTML text.

Everything that is not markup written here passes through `html.escape`; what a policy wrote is stripped of
control and direction characters before that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rolloom.rollout import report_plots as plots
from rolloom.rollout.display import duration, safe_text
from rolloom.rollout.report_summary import TaskKey, by_task, has_failed

_HEADS = (
    "tasks",
    "accuracy before",
    "accuracy after",
    "difference, points",
    "tokens before",
    "tokens after",
    "shorter by",
    "think tokens",
    "cut off",
    "failed",
)
_LONGEST_TEXT = 20_000
"""Characters of one message shown in the report."""


def cards(summary: Mapping[str, Any]) -> str:
    """Return the headline numbers."""
    overall = summary["overall"]
    shown = [
        _card("accuracy, held out", _arrow(overall, "accuracy", percent), _difference(overall)),
        _card("tokens per answer", _arrow(overall, "tokens", count), _ratio(overall)),
        _card(
            "tokens per correct answer",
            _arrow(overall, "tokens_per_correct", count),
            "all sampled tokens, wrong attempts included",
        ),
        _card(
            "largest log-prob difference",
            tiny(summary.get("max_logprob_difference")),
            "engine against learner, over every trained token",
        ),
        _card("trained", f"{summary['steps']} steps", f"in {duration(summary.get('seconds'))}"),
    ]
    return f'<ul class="cards">{"".join(shown)}</ul>'


def table(summary: Mapping[str, Any]) -> str:
    """Return the before/after table, failures in a column of their own."""
    rows = [_row(name, entry, "") for name, entry in summary["environments"].items()]
    rows.append(_row("overall", summary["overall"], "total"))
    columns = "".join(f'<th scope="col">{name}</th>' for name in _HEADS)
    caption = (
        "The same held-out tasks before and after, with 95% intervals: Wilson for an accuracy, a bootstrap "
        "over tasks for lengths, paired for differences and ratios. Accuracy counts full marks only. "
        "Cut off: rollouts that ran into a token limit, before → after. Failed: rollouts whose machinery "
        "failed, before → after; their tasks are left out of both sides and are not wrong answers."
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="before and after by environment"><table>'
        f'<caption>{caption}</caption><thead><tr><th scope="col">environment</th>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def plane(summary: Mapping[str, Any], slots: Mapping[str, int]) -> str:
    """Return accuracy against tokens, an arrow an environment."""
    arrows = [
        plots.Arrow(safe_text(name, 60), _point(entry, "before"), _point(entry, "after"), slots.get(name, 0))
        for name, entry in summary["environments"].items()
    ]
    chart = plots.arrow_chart("Accuracy against tokens", arrows)
    note = "Open circle: before. Filled: after. Whiskers: 95% intervals. Up and to the left is better."
    return f'<figure class="card">{chart}<figcaption>{note}</figcaption></figure>'


def curves(records: Sequence[Mapping[str, Any]], slots: Mapping[str, int]) -> str:
    """Return the learning curves."""
    xs = [float(record.get("step", index)) for index, record in enumerate(records)]

    def whole(name: str, key: str, slot: int = 0) -> plots.Series:
        return plots.Series(name, xs, [_value(record.get(key)) for record in records], slot)

    def split(key: str) -> list[plots.Series]:
        return [
            plots.Series(
                safe_text(env_id, 60),
                xs,
                [_value((record.get("envs") or {}).get(env_id, {}).get(key)) for record in records],
                slot,
            )
            for env_id, slot in slots.items()
        ]

    differences = [whole("largest", "logprob_diff_max", 1), whole("mean", "logprob_diff_mean")]
    speeds = [whole("generated", "generated_tokens_per_s"), whole("trained", "trained_tokens_per_s", 1)]
    charts = [
        ("Accuracy on training tasks", plots.line_chart("Accuracy", split("accuracy"), percent=True), ""),
        ("Tokens per answer", plots.line_chart("Tokens per answer", split("tokens"), unit="tokens"), ""),
        ("Reward", plots.line_chart("Reward", [whole("reward", "reward")]), "with the length term"),
        ("Entropy", plots.line_chart("Entropy", [whole("entropy", "entropy")], unit="nats"), "of a token"),
        (
            "Log-prob difference",
            plots.line_chart("Log-prob difference", differences, log=True),
            "engine against learner; solid: mean, dashed: largest",
        ),
        (
            "Tokens per second",
            plots.line_chart("Tokens per second", speeds),
            "solid: generated, dashed: trained",
        ),
    ]
    figures = [
        f'<figure class="card"><h3>{name}</h3>{chart}<figcaption>{caption}</figcaption></figure>'
        for name, chart, caption in charts
    ]
    return f'{legend(slots)}<div class="grid2">{"".join(figures)}</div>'


def lengths(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], slots: Mapping[str, int]
) -> str:
    """Return the length histograms, one an environment."""
    figures = []
    for env_id in slots:
        sides = [_tokens(records, env_id) for records in (before, after)]
        means = " → ".join(f"{sum(side) / len(side):.1f}" if side else "not measured" for side in sides)
        chart = plots.histogram(f"Lengths in {safe_text(env_id, 60)}", sides[0], sides[1])
        head = f"<h3>{escape(safe_text(env_id, 60))}</h3>"
        caption = f"<figcaption>mean {means} tokens</figcaption>"
        figures.append(f'<figure class="card">{head}{chart}{caption}</figure>')
    key = '<li><span class="box"></span>before</li><li><span class="box after"></span>after</li>'
    return f'<ul class="legend">{key}</ul><div class="grid2">{"".join(figures)}</div>'


def samples(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], per_env: int) -> str:
    """Return rollouts of the same tasks side by side.

    The tasks are the first of each environment by content key, which is a hash: chosen before the results are
    looked at, and the same in every run over the same tasks.
    """
    left, right = by_task(before), by_task(after)
    shared = sorted(set(left) & set(right)) if left and right else sorted(set(left) | set(right))
    shared = [
        key for key in shared if any("text" in row for row in [*left.get(key, []), *right.get(key, [])])
    ]
    parts = []
    for env_id in dict.fromkeys(key[0] for key in [*left, *right]):
        for key in [key for key in shared if key[0] == env_id][:per_env]:
            parts.append(_task(key, left.get(key, []), right.get(key, [])))
    if not parts:
        return '<p class="muted">No rollouts with their text were kept.</p>'
    note = "The first tasks of each environment by content key (a hash), not chosen by result."
    return f'<p class="muted">{note}</p>{"".join(parts)}'


def legend(slots: Mapping[str, int]) -> str:
    """Return the colours and dashes of the environments."""
    items = [f"<li>{plots.swatch(slot)}{escape(safe_text(name, 60))}</li>" for name, slot in slots.items()]
    return f'<ul class="legend">{"".join(items)}</ul>'


def percent(value: float | None) -> str:
    """Return a share with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}%"


def count(value: float | None) -> str:
    """Return a number of tokens, or a dash."""
    return "-" if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def tiny(value: float | None) -> str:
    """Return a small number in scientific notation, or a dash."""
    return "-" if value is None else f"{value:.2e}"


def _card(label: str, value: str, detail: str) -> str:
    return (
        f'<li class="card"><div class="label">{label}</div><div class="value">{value}</div>'
        f'<div class="detail">{detail}</div></li>'
    )


def _arrow(entry: Mapping[str, Any], name: str, show: Any) -> str:
    return f"{show(entry.get(f'{name}_before'))} → {show(entry.get(f'{name}_after'))}"


def _difference(entry: Mapping[str, Any]) -> str:
    value, interval = entry.get("accuracy_difference"), entry.get("accuracy_difference_ci")
    if value is None or interval is None:
        return "not measured on both sides"
    low, high = (100 * bound for bound in interval)
    verdict, kind = ("within noise", "muted")
    if low > 0:
        verdict, kind = "higher", "good"
    elif high < 0:
        verdict, kind = "lower", "bad"
    return f'{100 * value:+.1f} points [{low:+.1f}, {high:+.1f}] <span class="{kind}">{verdict}</span>'


def _ratio(entry: Mapping[str, Any]) -> str:
    value, interval = entry.get("token_ratio"), entry.get("token_ratio_ci")
    if value is None or interval is None:
        return "not measured on both sides"
    return f"{value:.2f}x shorter [{interval[0]:.2f}, {interval[1]:.2f}]"


def _interval(interval: Sequence[float] | None, show: Any) -> str:
    if not interval:
        return ""
    return f'<span class="ci">{show(interval[0])} to {show(interval[1])}</span>'


def _row(name: str, entry: Mapping[str, Any], kind: str) -> str:
    ratio, ratio_ci = entry.get("token_ratio"), entry.get("token_ratio_ci")
    cells = [
        str(entry["n"]),
        percent(entry.get("accuracy_before")) + _interval(entry.get("accuracy_before_ci"), percent),
        percent(entry.get("accuracy_after")) + _interval(entry.get("accuracy_ci"), percent),
        _points(entry),
        count(entry.get("tokens_before")) + _interval(entry.get("tokens_before_ci"), count),
        count(entry.get("tokens_after")) + _interval(entry.get("tokens_after_ci"), count),
        ("-" if ratio is None else f"{ratio:.2f}x") + _interval(ratio_ci, lambda value: f"{value:.2f}x"),
        _arrow(entry, "think_tokens", count),
        _arrow(entry, "truncated", _whole),
        _arrow(entry, "failures", _whole),
    ]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{kind}"><th scope="row">{escape(safe_text(name, 80))}</th>{body}</tr>'


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)


def _points(entry: Mapping[str, Any]) -> str:
    value, interval = entry.get("accuracy_difference"), entry.get("accuracy_difference_ci")
    if value is None:
        return "-"
    kind = "good" if interval and interval[0] > 0 else "bad" if interval and interval[1] < 0 else ""
    signed = _interval(interval, lambda bound: f"{100 * bound:+.1f}")
    return f'<span class="{kind}">{100 * value:+.1f}</span>{signed}'


def _point(entry: Mapping[str, Any], side: str) -> plots.Point | None:
    x, x_ci = entry.get(f"tokens_{side}"), entry.get(f"tokens_{side}_ci")
    y, y_ci = entry.get(f"accuracy_{side}"), entry.get(f"accuracy_{side}_ci")
    if x is None or y is None or not x_ci or not y_ci:
        return None
    return plots.Point(x, y, x_ci[0], x_ci[1], y_ci[0], y_ci[1])


def _tokens(records: Sequence[Mapping[str, Any]], env_id: str) -> list[float]:
    kept = [row for row in records if row.get("env_id") == env_id and not has_failed(row)]
    return [float(row.get("tokens") or 0) for row in kept]


def _value(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _task(key: TaskKey, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    rollouts = [("before", before[0] if before else None), ("after", after[0] if after else None)]
    texts = [list(row.get("text") or []) if row else [] for _, row in rollouts]
    prompt = _common_prompt([text for text in texts if text])
    sides = [
        f"<div><h3>{name}</h3>{_outcome(row)}{''.join(_message(part) for part in text[len(prompt) :])}</div>"
        for (name, row), text in zip(rollouts, texts, strict=True)
    ]
    head = (
        f'<h3>{escape(safe_text(key[0], 80))} <span class="muted">{escape(safe_text(key[1], 16))}</span></h3>'
    )
    shown = "".join(_message(part) for part in prompt)
    return f'<article class="task">{head}{shown}<div class="pair">{"".join(sides)}</div></article>'


def _common_prompt(texts: Sequence[Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Return the messages before the first completion, when every side has the same ones."""
    if not texts:
        return []
    size = 0
    while all(size < len(text) and text[size].get("role") != "assistant" for text in texts):
        if any(text[size] != texts[0][size] for text in texts):
            return []
        size += 1
    return texts[0][:size]


def _outcome(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return '<p class="outcome muted">not evaluated</p>'
    if has_failed(row):
        return f'<p class="outcome bad">failed ({escape(str(row.get("stop", "unknown")))}), not counted</p>'
    kind = "good" if row["score"] >= 1 else "bad" if row["score"] <= 0 else "muted"
    think = f", {row['think_tokens']} of them thinking" if isinstance(row.get("think_tokens"), int) else ""
    stop = f", stopped: {escape(safe_text(str(row['stop']), 40))}" if row.get("stop") else ""
    return (
        f'<p class="outcome"><span class="{kind}">score {float(row["score"]):.2f}</span>, '
        f"{row.get('tokens', 0)} tokens{think}{stop}</p>"
    )


def _message(message: Mapping[str, Any]) -> str:
    role = safe_text(str(message.get("role", "")), 20)
    content = str(message.get("content") or "")
    left_out = len(content) - _LONGEST_TEXT
    text = escape(safe_text(content[:_LONGEST_TEXT]))
    if role == "assistant":
        think = re.compile(r"&lt;think&gt;.*?(?:&lt;/think&gt;|\Z)", re.DOTALL)
        text = think.sub(lambda found: f'<span class="think">{found.group()}</span>', text)
    if left_out > 0:
        text += f'<span class="muted"> … {left_out:,} more characters</span>'
    name = f" {safe_text(str(message['name']), 40)}" if message.get("name") else ""
    kind = "" if role == "assistant" else ' class="prompt"'
    return f'<div class="role">{escape(role + name)}</div><pre{kind} tabindex="0">{text or "(empty)"}</pre>'
