"""`rolloom train`: from a validated configuration to a finished run.

    held-out evaluation -> [tasks -> rollouts -> advantages -> one optimizer step -> new weights] x steps
    -> held-out evaluation -> report

The driver owns the order of things and every file of the run but the checkpoints, which the learner writes.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import rolloom
from rolloom.configs.load import save_run_config
from rolloom.configs.schema import RunConfig
from rolloom.envs import registry
from rolloom.envs.types import Task
from rolloom.errors import RolloomError
from rolloom.rewards.controller import length_scale
from rolloom.rewards.correctness import is_solved
from rolloom.rollout.checkpoints import latest_checkpoint, prune
from rolloom.rollout.cluster import Cluster
from rolloom.rollout.curriculum import Curriculum, resolve_files
from rolloom.rollout.display import Progress
from rolloom.rollout.evaluate import evaluate_heldout, step_metrics
from rolloom.rollout.grpo import shape_batch
from rolloom.rollout.metrics import RunLog, read_metrics
from rolloom.rollout.mixture import draw_tasks
from rolloom.rollout.report import write_report_from_run
from rolloom.rollout.rundir import RunDir, read_jsonl
from rolloom.rollout.scheduler import Interrupted, Scheduler
from rolloom.rollout.types import Trajectory

SHIPPED = "shipped:"
LEARN_S = 3600.0


class LaunchError(RolloomError):
    """A run cannot start or go on as asked."""


def policy_directory(path: str) -> str:
    """Return the checkpoint directory of `policy.path`.

    Raises:
        LaunchError: there is none.
    """
    if path.startswith(SHIPPED):
        root = Path(rolloom.__file__).parent / "policy" / "shipped"
        directory = root / path.removeprefix(SHIPPED)
        known = sorted(entry.parent.name for entry in root.glob("*/config.json"))
    else:
        directory, known = Path(path).expanduser().resolve(), []
    if not (directory / "config.json").is_file():
        hint = f" Shipped policies: {', '.join(known)}." if known else ""
        raise LaunchError(
            f"policy.path: expected a checkpoint directory with config.json, got {path!r}.{hint}"
        )
    return str(directory)


def imported(names: Sequence[str]) -> list[str]:
    """Import modules and files that register environments; return their names with absolute paths.

    Raises:
        EnvRegistrationError: one cannot be imported.
    """
    absolute = [str(Path(name).expanduser().resolve()) if name.endswith(".py") else name for name in names]
    registry.import_modules(absolute)
    return absolute


class StopFlag:
    """Turns the first Ctrl-C into a request to stop with a checkpoint; a second one interrupts."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.requested = False
        self._announce = announce

    def __call__(self) -> bool:
        """Return True once a stop was requested."""
        return self.requested

    def __enter__(self) -> StopFlag:
        """Listen for SIGINT and SIGTERM."""
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # The signal may have come in the middle of a write to the same stream, which then refuses another.
        with contextlib.suppress(RuntimeError):
            self._announce("stopping: a checkpoint is written first (Ctrl-C again to abort)")


def dry_run(config: RunConfig) -> int:
    """Check everything a run needs and say what would run; see `rolloom.rollout.dry_run`."""
    from rolloom.rollout.dry_run import dry_run as check

    config.imports = imported(config.imports)
    return check(config, policy_directory(config.policy.path))


def free_run_directory(runs_dir: str, name: str) -> Path:
    """Return `runs_dir/name`, or the first of `name-2`, `name-3` ... that holds no run yet."""
    candidate, number = Path(runs_dir) / name, 1
    while RunDir(candidate).config.is_file():
        number += 1
        candidate = Path(runs_dir) / f"{name}-{number}"
    return candidate


def train(config: RunConfig, resume: Path | None = None, progress: Progress | None = None) -> int:
    """Run or resume a training job.

    Args:
        config: validated configuration.
        resume: run directory to continue from its last complete checkpoint.
        progress: where to show it; a terminal view by default.

    Returns:
        0 when the run finished, 130 when it was stopped by Ctrl-C.

    Raises:
        RolloomError: the run cannot start, or a component failed; what was done is on disk.
    """
    view = progress or Progress()
    run = resume or free_run_directory(config.runs_dir, config.name)
    config.name = run.resolve().name
    config.imports, config.envs = imported(config.imports), resolve_files(config.envs)
    curriculum = Curriculum(config.envs, config.trainer.steps)
    initial = policy_directory(config.policy.path)
    policy, first, seconds_before = initial, 1, 0.0
    if resume is not None:
        checkpoint = latest_checkpoint(RunDir(run).checkpoints)
        if checkpoint is not None:
            policy, first = str(checkpoint.path.resolve()), checkpoint.step + 1
            seconds_before = float(checkpoint.meta.get("seconds", 0.0))
    log = RunLog(run, resume_step=first - 1)
    save_run_config(config, log.dir.config)
    curriculum.recall(log.dir, first - 1)
    job = _Job(config, log, view, seconds_before, curriculum)
    try:
        with StopFlag(view.note) as stop:
            return job.run(policy, initial, first, stop)
    finally:
        log.close()
        view.stop()


class _Job:
    """One invocation of the loop."""

    def __init__(
        self, config: RunConfig, log: RunLog, view: Progress, seconds_before: float, curriculum: Curriculum
    ) -> None:
        self.config, self.log, self.view, self.curriculum = config, log, view, curriculum
        self.started = time.monotonic() - seconds_before
        self.accuracies: dict[str, list[float]] = {}

    def _recall(self) -> None:
        """Take up each environment's accuracies from the run's own files: held-out first, then every step."""
        rows = list(read_jsonl(self.log.dir.before))
        for env in self.config.envs:
            solved = [
                is_solved(row["score"]) for row in rows if row["env_id"] == env.id and not row["failure"]
            ]
            self.accuracies[env.id] = [sum(solved) / len(solved)] if solved else []
        for record in read_metrics(self.log.dir):
            self._remember(record["envs"])

    def _remember(self, envs: Mapping[str, Mapping[str, Any]]) -> None:
        for env, means in envs.items():
            if means["n"]:
                self.accuracies.setdefault(env, []).append(means["accuracy"])

    def run(self, policy: str, initial: str, first: int, stop: StopFlag) -> int:
        config = self.config
        self.view.start(
            {
                "run": str(self.log.dir.root),
                "policy": config.policy.path if first == 1 else policy,
                "environments": ", ".join(env.id for env in config.envs),
                "steps": config.trainer.steps,
                "rollouts per step": config.trainer.prompts_per_step * config.trainer.group_size,
                "mode": "one process" if config.local else "Ray",
            }
        )
        self.view.phase("starting engines, environment workers and the learner")
        cluster = Cluster(config, policy, initial)
        done = first - 1
        try:
            scheduler = Scheduler(cluster.workers, cluster.engines, config.rollout, config.seed, stop)
            cluster.publish(version=done)
            try:
                if not self.log.dir.before.is_file() and first == 1:
                    self._evaluate(scheduler, "before")
                self._recall()
                for step in range(first, config.trainer.steps + 1):
                    self._step(cluster, scheduler, step)
                    done = step
                    last = step == config.trainer.steps
                    if last or stop() or step % config.trainer.save_every == 0:
                        self._save(cluster, step)
                    if stop() and not last:
                        raise Interrupted
                self._evaluate(scheduler, "after")
            except Interrupted:
                return self._stopped(cluster, done)
        finally:
            cluster.stop()
        self._finish()
        return 0

    def _evaluate(self, scheduler: Scheduler, name: str) -> None:
        if not self.config.evaluation.tasks_per_env:
            return
        self.view.phase(f"held-out evaluation {name} training")
        rows = evaluate_heldout(
            scheduler, self.config, name, lambda done, total: self.view.evaluation(name, done, total)
        )
        self.log.evaluation(name, rows)

    def _step(self, cluster: Cluster, scheduler: Scheduler, step: int) -> None:
        config = self.config
        started = time.monotonic()
        tasks = draw_tasks(
            config.envs, config.trainer.prompts_per_step, step, config.seed, pools=self.curriculum.pools
        )
        batch = scheduler.assignments(
            tasks, config.trainer.group_size, f"step-{step}", config.rollout.temperature
        )
        trajectories = scheduler.run(batch)
        rolled = time.monotonic()
        scales = {
            env: length_scale(record, config.reward.accuracy_margin)
            for env, record in self.accuracies.items()
        }
        shaped = shape_batch(trajectories, config.reward, config.trainer, scales)
        assert cluster.learner is not None
        if all(trajectory.failed for trajectory in trajectories):
            self.log.rollouts(step, [trajectory.to_row(step) for trajectory in trajectories])
            first = trajectories[0]
            raise LaunchError(
                f"step {step}: all {len(trajectories)} rollouts failed, the first in "
                f"{first.assignment.task.env_id}: {first.stop}: {first.error}. They are kept in "
                f"{self.log.dir.rollouts_of(step)}"
            )
        learning = cluster.learner.call("train", shaped.sequences, step)
        self.log.rollouts(
            step,
            (
                trajectory.to_row(step, advantage, reward)
                for trajectory, advantage, reward in zip(
                    trajectories, shaped.advantages, shaped.rewards, strict=True
                )
            ),
        )
        learned: dict[str, Any] = learning.result(LEARN_S)
        cluster.publish(version=step)
        ended = time.monotonic()
        metrics = step_metrics(trajectories, shaped.rewards)
        for env, means in metrics["envs"].items():
            means["length_scale"] = scales.get(env, 1.0)
        self._follow_curriculum(metrics["envs"], tasks, trajectories, step)
        self._remember(metrics["envs"])
        trained = learned.pop("trained_tokens")
        record = {
            "step": step,
            **metrics,
            **learned,
            "generated_tokens_per_s": metrics["generated_tokens"] / max(1e-9, rolled - started),
            "trained_tokens_per_s": trained / max(1e-9, learned["learn_s"]),
            "rollout_s": rolled - started,
            "step_s": ended - started,
            "elapsed_s": ended - self.started,
            "policy_version": step,
        }
        self.log.step(record)
        remaining = (config.trainer.steps - step) * record["step_s"]
        self.view.step(record, config.trainer.steps, remaining)

    def _follow_curriculum(
        self,
        envs: dict[str, dict[str, Any]],
        tasks: Sequence[Task],
        trajectories: Sequence[Trajectory],
        step: int,
    ) -> None:
        for env, shown in self.curriculum.metrics(tasks, step).items():
            if env in envs:
                envs[env]["curriculum"] = shown
        done = self.curriculum.observe(
            [
                (t.assignment.task.env_id, (t.assignment.task.level, t.assignment.task.seed), t.score)
                for t in trajectories
            ]
        )
        for env, count in done.items():
            envs[env]["reprofiled"] = count
            self.view.note(f"{env}: accuracy stands still; the pass rates of {count} tasks were renewed")

    def _save(self, cluster: Cluster, step: int) -> None:
        assert cluster.learner is not None
        meta = {"policy_version": step, "seconds": round(time.monotonic() - self.started, 1)}
        root = self.log.dir.checkpoints
        cluster.learner.call("save", str(root.resolve()), step, meta).result(LEARN_S)
        prune(root, self.config.trainer.keep_checkpoints)

    def _stopped(self, cluster: Cluster, done: int) -> int:
        if done:
            self._save(cluster, done)
        root = self.log.dir.root
        self.log.close()
        write_report_from_run(root, seconds=time.monotonic() - self.started)
        self.view.note(f"stopped after step {done}. Continue with: rolloom train --resume {root}")
        return 130

    def _finish(self) -> None:
        self.log.close()
        self.view.phase("writing the report")
        summary = write_report_from_run(self.log.dir.root, seconds=time.monotonic() - self.started)
        self.view.table(summary)
        self.view.note(f"report: {self.log.dir.report}")
