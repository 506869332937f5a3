"""The held-out comparison: the same distinct tasks, sampled once each, before and after training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rolloom.configs.schema import RunConfig
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
            "accuracy": sum(t.score or 0.0 for t, _ in part) / count,
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
