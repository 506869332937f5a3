"""The held-out comparison: the same distinct tasks, sampled once each, before and after training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rolloom.configs.schema import RunConfig
from rolloom.rewards.correctness import is_solved
from rolloom.rewards.statistics import mean_interval, wilson_interval
from rolloom.rollout.cluster import Cluster
from rolloom.rollout.display import safe_text
from rolloom.rollout.mixture import heldout_tasks
from rolloom.rollout.scheduler import Scheduler
from rolloom.rollout.types import Trajectory


def evaluate_heldout(
    scheduler: Scheduler, config: RunConfig, name: str, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Run every held-out task once and return one row a task, as kept in `evaluation/<name>.jsonl`.

    No length shaping enters: the score is the environment's own.
    """
    tasks = heldout_tasks(config.envs, config.evaluation.tasks_per_env, config.evaluation.seed)
    assignments = scheduler.assignments(tasks, 1, f"eval-{name}", config.evaluation.temperature)
    return [trajectory.to_row(step=0) for trajectory in scheduler.run(assignments, progress)]


def step_metrics(trajectories: Sequence[Trajectory], rewards: Sequence[float]) -> dict[str, Any]:
    """Return a step's means over valid rollouts, overall and by environment; failures are counted apart.

    Args:
        trajectories: every rollout of the step.
        rewards: shaped reward of each; ignored for failed ones.
    """
    pairs = list(zip(trajectories, rewards, strict=True))
    overall = _means(pairs)
    by_env: dict[str, list[tuple[Trajectory, float]]] = {}
    for trajectory, reward in pairs:
        by_env.setdefault(trajectory.assignment.task.env_id, []).append((trajectory, reward))
    envs = {env_id: _means(part) for env_id, part in by_env.items()}
    return {
        "reward": overall["reward"],
        "accuracy": overall["accuracy"],
        "tokens_per_answer": overall["tokens"],
        "failures": overall["failures"],
        "generated_tokens": sum(t.completion_tokens for t in trajectories),
        "envs": envs,
    }


def _means(pairs: Sequence[tuple[Trajectory, float]]) -> dict[str, Any]:
    """Return the `EnvStep` of some rollouts and their shaped rewards."""
    valid = [(t, r) for t, r in pairs if not t.failed]
    groups: dict[int, list[float]] = {}
    for trajectory, _ in valid:
        groups.setdefault(trajectory.assignment.group, []).append(trajectory.score or 0.0)
    kinds = Counter(str(t.stop) for t, _ in pairs if t.failed)
    count = max(1, len(valid))
    return {
        "accuracy": sum(is_solved(t.score) for t, _ in valid) / count,
        "reward": sum(r for _, r in valid) / count,
        "score": sum(t.score or 0.0 for t, _ in valid) / count,
        "pass_at_k": sum(any(map(is_solved, scores)) for scores in groups.values()) / max(1, len(groups)),
        "tokens": sum(t.completion_tokens for t, _ in valid) / count,
        "think_tokens": sum(t.think_tokens for t, _ in valid) / count,
        "turns": sum(t.turns for t, _ in valid) / count,
        "env_s": sum(t.env_s for t, _ in valid) / count,
        "env_s_max": max((t.env_s for t, _ in valid), default=0.0),
        "groups": len({t.assignment.group for t, _ in pairs}),
        "effective_groups": sum(max(scores) - min(scores) > 1e-9 for scores in groups.values()),
        "n": len(valid),
        "failures": len(pairs) - len(valid),
        "failure_kinds": dict(sorted(kinds.items())),
    }


def main(config: RunConfig, say: Callable[[str], None] = print) -> int:
    """Measure one checkpoint on held-out tasks: accuracy and tokens, with 95% intervals.

    Args:
        config: validated configuration; `policy.path` is the checkpoint.
        say: receives lines for the person.
    """
    from rolloom.rollout.launch import imported, policy_directory

    config.imports = imported(config.imports)
    path = policy_directory(config.policy.path)
    cluster = Cluster(config, path, path, learner=False)
    try:
        scheduler = Scheduler(cluster.workers, cluster.engines, config.rollout, config.seed)
        rows = evaluate_heldout(scheduler, config, "checkpoint", lambda done, total: None)
    finally:
        cluster.stop()
    say(f"{'environment':<28} {'n':>5}  {'accuracy':>8}  {'95% interval':>15}  {'tokens':>7}  {'95%':>15}")
    for env in config.envs:
        part = [row for row in rows if row["env_id"] == env.id and not row["failure"]]
        failed = sum(row["env_id"] == env.id and row["failure"] for row in rows)
        if not part:
            say(f"{safe_text(env.id):<28} {0:>5}  no valid rollout, {failed} failed")
            continue
        accuracy = wilson_interval(sum(is_solved(row["score"]) for row in part), len(part))
        tokens = mean_interval([row["tokens"] for row in part])
        say(
            f"{safe_text(env.id):<28} {len(part):>5}  {accuracy.estimate:>8.1%}  "
            f"{accuracy.low:>6.1%} - {accuracy.high:>6.1%}  {tokens.estimate:>7.1f}  "
            f"{tokens.low:>6.1f} - {tokens.high:>6.1f}" + (f"  {failed} failed" if failed else "")
        )
    return 0
