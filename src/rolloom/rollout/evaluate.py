"""The held-out comparison: the same distinct tasks, sampled once each, before and after training."""

from __future__ import annotations

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
    rows = [(t, r) for t, r in zip(trajectories, rewards, strict=True) if not t.failed]

    def means(part: list[tuple[Trajectory, float]], failures: int) -> dict[str, Any]:
        count = max(1, len(part))
        return {
            "accuracy": sum(is_solved(t.score or 0.0) for t, _ in part) / count,
            "reward": sum(r for _, r in part) / count,
            "tokens": sum(t.completion_tokens for t, _ in part) / count,
            "turns": sum(t.turns for t, _ in part) / count,
            "n": len(part),
            "failures": failures,
        }

    overall = means(rows, sum(t.failed for t in trajectories))
    envs = {}
    for env_id in dict.fromkeys(t.assignment.task.env_id for t in trajectories):
        part = [(t, r) for t, r in rows if t.assignment.task.env_id == env_id]
        failed = sum(t.failed for t in trajectories if t.assignment.task.env_id == env_id)
        envs[env_id] = means(part, failed)
    return {
        "reward": overall["reward"],
        "accuracy": overall["accuracy"],
        "tokens_per_answer": overall["tokens"],
        "failures": overall["failures"],
        "generated_tokens": sum(t.completion_tokens for t in trajectories),
        "envs": envs,
    }


def main(config: RunConfig, say: Callable[[str], None] = print) -> int:
    """Measure one checkpoint on held-out tasks: accuracy and tokens, with 95% intervals.

    Args:
        config: validated configuration; `policy.path` is the checkpoint.
        say: receives lines for the person.
    """
    from rolloom.rollout.launch import policy_directory

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
