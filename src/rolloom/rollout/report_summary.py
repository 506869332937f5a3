"""Before against after on the same held-out tasks: the numbers of `summary.json`.

Both sides are paired by (env_id, task_key). A task counts only where neither side failed: a failure of the
machinery is no wrong answer, and a comparison over different tasks is none. Several rollouts of one task are
averaged first, because intervals are over tasks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.rewards.correctness import is_solved
from rolloom.rewards.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    paired_log_ratio,
    wilson_interval,
)

TaskKey = tuple[str, str]
Records = Mapping[TaskKey, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Side:
    """One evaluation of N tasks, averaged by task, in the order of their keys.

    Attributes:
        solved_N: share of the task's rollouts with full marks.
        score_N: mean score.
        tokens_N: mean sampled tokens.
        think_N: mean sampled tokens inside think tags.
        truncated: rollouts that ran into a token limit.
        failures: rollouts that failed; they are in none of the above.
    """

    solved_N: np.ndarray
    score_N: np.ndarray
    tokens_N: np.ndarray
    think_N: np.ndarray
    truncated: int
    failures: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One environment, or all together, before and after.

    Attributes:
        n: tasks compared.
        before: the initial policy; None when it was not evaluated.
        after: the trained policy; None when it was not evaluated.
    """

    n: int
    before: Side | None
    after: Side | None


def has_failed(record: Mapping[str, Any]) -> bool:
    """Return True when the machinery failed, not the policy: such a record has no score."""
    return bool(record.get("failure")) or not isinstance(record.get("score"), (int, float))


def by_task(records: Iterable[Mapping[str, Any]]) -> dict[TaskKey, list[Mapping[str, Any]]]:
    """Return the records of each (env_id, task_key), environments in order of first appearance.

    A task that failed before its content was known has no key; its level and seed name it as well.
    """
    tasks: dict[TaskKey, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        key = record.get("task_key") or f"level {record.get('level')} seed {record.get('task_seed')}"
        tasks[str(record.get("env_id", "")), str(key)].append(record)
    return dict(tasks)


def compare(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Comparison], Comparison]:
    """Return the comparison of each environment, and of all tasks together (each task weighs the same)."""
    left, right = by_task(before), by_task(after)
    names = list(dict.fromkeys(env_id for env_id, _ in [*left, *right]))
    return {name: _compare(left, right, name) for name in names}, _compare(left, right, None)


def summarize(
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Return the content of `summary.json`; what was not measured is None.

    Args:
        before: held-out records of the initial policy.
        after: held-out records of the trained policy.
        records: step records.
        seconds: wall clock of the run; when not given, that of the last record, or the sum of the steps.
    """
    environments, overall = compare(before, after)
    differences = [_finite(record.get("logprob_diff_max")) for record in records]
    measured = [value for value in differences if value is not None]
    if seconds is None and records:
        seconds = _finite(records[-1].get("elapsed_s"))
    if seconds is None:
        seconds = sum(_finite(record.get("step_s")) or 0.0 for record in records)
    return {
        "environments": {name: entry(comparison) for name, comparison in environments.items()},
        "overall": entry(overall),
        "max_logprob_difference": max(measured, default=None),
        "steps": max((int(record.get("step", 0)) for record in records), default=0),
        "seconds": seconds,
    }


def entry(comparison: Comparison) -> dict[str, Any]:
    """Return one row of the table; every interval is a 95% one, as `[low, high]`.

    `accuracy_ci` and `accuracy_before_ci` are Wilson intervals, the differences and the ratio paired
    bootstraps over tasks. `token_ratio` is before / after: 2 means half as long.
    """
    row: dict[str, Any] = {"n": comparison.n}
    sides = {"before": comparison.before, "after": comparison.after}
    for name, side in sides.items():
        row |= _side_columns(name, side, comparison.n)
    row["accuracy_ci"] = row["accuracy_after_ci"]
    before, after = sides["before"], sides["after"]
    paired = before is not None and after is not None and comparison.n > 0
    row["accuracy_difference"] = row["accuracy_difference_ci"] = row["token_ratio"] = row[
        "token_ratio_ci"
    ] = None
    if before is not None and after is not None and paired:
        difference = paired_difference(before.solved_N, after.solved_N)
        row["accuracy_difference"], row["accuracy_difference_ci"] = difference.estimate, _pair(difference)
        if before.tokens_N.mean() > 0 and after.tokens_N.mean() > 0:
            ratio = paired_log_ratio(after.tokens_N, before.tokens_N)
            row["token_ratio"] = math.exp(ratio.estimate)
            row["token_ratio_ci"] = [math.exp(ratio.low), math.exp(ratio.high)]
    return row


def _side_columns(name: str, side: Side | None, count: int) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(
        (
            f"accuracy_{name}",
            f"accuracy_{name}_ci",
            f"score_{name}",
            f"tokens_{name}",
            f"tokens_{name}_ci",
            f"think_tokens_{name}",
            f"tokens_per_correct_{name}",
            f"truncated_{name}",
            f"failures_{name}",
        )
    )
    if side is None:
        return columns
    columns[f"truncated_{name}"] = side.truncated
    columns[f"failures_{name}"] = side.failures
    if not count:
        return columns
    accuracy = wilson_interval(float(side.solved_N.sum()), count)
    tokens = mean_interval(side.tokens_N)
    solved = float(side.solved_N.sum())
    columns[f"accuracy_{name}"], columns[f"accuracy_{name}_ci"] = accuracy.estimate, _pair(accuracy)
    columns[f"score_{name}"] = float(side.score_N.mean())
    columns[f"tokens_{name}"], columns[f"tokens_{name}_ci"] = tokens.estimate, _pair(tokens)
    columns[f"think_tokens_{name}"] = _finite(float(side.think_N.mean()))
    columns[f"tokens_per_correct_{name}"] = float(side.tokens_N.sum()) / solved if solved else None
    return columns


def _compare(left: Records, right: Records, name: str | None) -> Comparison:
    here = {key: rows for key, rows in left.items() if name in (None, key[0])}
    there = {key: rows for key, rows in right.items() if name in (None, key[0])}
    sound = [{key for key, rows in side.items() if not all(map(has_failed, rows))} for side in (here, there)]
    # Where one evaluation is missing altogether (a killed run), the other is shown on all of its tasks.
    both = here and there
    keys = sorted(sound[0] & sound[1]) if both else sorted(sound[0] | sound[1])
    return Comparison(len(keys), _side(here, keys) if here else None, _side(there, keys) if there else None)


def _side(tasks: Records, keys: Sequence[TaskKey]) -> Side:
    columns: dict[str, list[float]] = {"solved": [], "score": [], "tokens": [], "think": []}
    truncated = 0
    for key in keys:
        rows = [row for row in tasks[key] if not has_failed(row)]
        columns["solved"].append(float(np.mean([is_solved(row["score"]) for row in rows])))
        columns["score"].append(float(np.mean([row["score"] for row in rows])))
        columns["tokens"].append(float(np.mean([row.get("tokens") or 0 for row in rows])))
        think = [row["think_tokens"] for row in rows if isinstance(row.get("think_tokens"), (int, float))]
        columns["think"].append(float(np.mean(think)) if think else math.nan)
        truncated += sum(row.get("stop") == "max_tokens" for row in rows)
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    failures = sum(has_failed(row) for rows in tasks.values() for row in rows)
    return Side(arrays["solved"], arrays["score"], arrays["tokens"], arrays["think"], truncated, failures)


def _pair(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
