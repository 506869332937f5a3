"""The report's section on each environment's training: what it was given, what came of it, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rolloom.rollout import report_plots as plots
from rolloom.rollout.display import safe_text

LAST_STEPS = 10
_HEADS = (
    "share of tasks",
    "reward",
    "accuracy",
    "pass@k",
    "groups that differ",
    "tokens",
    "think tokens",
    "turns",
    "environment, s",
    "slowest, s",
    "failed",
)


def environments(records: Sequence[Mapping[str, Any]], slots: Mapping[str, int]) -> str:
    """Return a table over the last steps and curves over all of them, by environment."""
    if not records:
        return '<p class="muted">No step was trained.</p>'
    last = records[-LAST_STEPS:]
    rows = "".join(_row(env_id, records, last) for env_id in slots)
    columns = "".join(f'<th scope="col">{name}</th>' for name in _HEADS)
    caption = (
        f"Share of tasks and failures: the whole run. The rest: means over the last {len(last)} steps, "
        "failed rollouts left out. pass@k: groups with at least one rollout of full marks. Groups that "
        "differ: those with rollouts of different scores; only they teach by their score. Environment: "
        "seconds that a rollout spent in the environment's own calls."
    )
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="training by environment"><table>'
        f'<caption>{caption}</caption><thead><tr><th scope="col">environment</th>{columns}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return f"{table}{_curves(records, slots)}"


def _row(env_id: str, records: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> str:
    entries = [(record.get("envs") or {}).get(env_id) or {} for record in last]

    def mean(key: str, digits: int = 1, percent: bool = False) -> str:
        values = [_number(entry.get(key)) for entry in entries if entry.get("n")]
        known = [value for value in values if value is not None]
        if not known:
            return "-"
        value = sum(known) / len(known)
        return f"{value:.1%}" if percent else f"{value:.{digits}f}"

    cells = [
        _share(env_id, records),
        mean("reward", 3),
        mean("accuracy", percent=True),
        mean("pass_at_k", percent=True),
        _effective(entries),
        mean("tokens"),
        mean("think_tokens"),
        mean("turns", 2),
        mean("env_s", 3),
        mean("env_s_max", 3),
        _failures(env_id, records),
    ]
    name = f'<th scope="row">{escape(safe_text(env_id, 60))}</th>'
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _share(env_id: str, records: Sequence[Mapping[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for record in records:
        for name, entry in (record.get("envs") or {}).items():
            counts[name] += int(_number(entry.get("groups")) or 0)
    whole = sum(counts.values())
    return f"{counts[env_id] / whole:.1%} ({counts[env_id]})" if whole else "-"


def _effective(entries: Sequence[Mapping[str, Any]]) -> str:
    groups = sum(_number(entry.get("groups")) or 0 for entry in entries)
    effective = sum(_number(entry.get("effective_groups")) or 0 for entry in entries)
    return f"{effective / groups:.0%}" if groups else "-"


def _failures(env_id: str, records: Sequence[Mapping[str, Any]]) -> str:
    kinds: Counter[str] = Counter()
    total = 0
    for record in records:
        entry = (record.get("envs") or {}).get(env_id) or {}
        total += int(_number(entry.get("failures")) or 0)
        for kind, number in (entry.get("failure_kinds") or {}).items():
            kinds[str(kind)] += int(_number(number) or 0)
    if not total:
        return "0"
    listed = ", ".join(f"{number} {safe_text(kind, 40)}" for kind, number in kinds.most_common())
    return f'{total}<span class="ci">{escape(listed)}</span>'


def _curves(records: Sequence[Mapping[str, Any]], slots: Mapping[str, int]) -> str:
    xs = [float(record.get("step", index)) for index, record in enumerate(records)]

    def split(*keys: str) -> list[plots.Series]:
        series = []
        for env_id, slot in slots.items():
            ys = [_dig((record.get("envs") or {}).get(env_id), keys) for record in records]
            if any(y is not None for y in ys):
                series.append(plots.Series(safe_text(env_id, 60), xs, ys, slot))
        return series

    charts = [
        ("Reward", split("reward"), False, "with the length term"),
        ("pass@k on training tasks", split("pass_at_k"), True, "k is the size of a group"),
        ("Seconds in the environment", split("env_s"), False, "mean of a rollout"),
        ("Pass rate of the tasks drawn", split("curriculum", "pass_rate"), True, "as they were profiled"),
    ]
    figures = [
        f'<figure class="card"><h3>{name}</h3>{plots.line_chart(name, series, percent=percent)}'
        f"<figcaption>{note}</figcaption></figure>"
        for name, series, percent, note in charts
        if series
    ]
    return f'<div class="grid2">{"".join(figures)}</div>'


def _dig(value: Any, keys: Sequence[str]) -> float | None:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return _number(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
