"""Which tasks of a profiled pool a step draws: filtered by pass rate, weighted by a curriculum, re-profiled.

The pool of an environment is the file that `rolloom envs profile` wrote. Nemotron 3's curriculum (arXiv
2512.20856) weighs a task by a Gaussian over its pass rate, the mean of which falls linearly over the run,
from easy to hard. When an environment's accuracy stands still, the pass rates of the tasks drawn meanwhile
are replaced by how often the policy solved them. All of it is a function of the seed, the step, the file and
the rollouts kept in the run, so a resumed run draws the same tasks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.configs.schema import EnvConfig
from rolloom.envs.types import Split, Task
from rolloom.errors import RolloomError
from rolloom.rewards.correctness import is_solved
from rolloom.rollout.rundir import RunDir, read_jsonl
from rolloom.rollout.types import derive_seed


class CurriculumError(RolloomError):
    """A pool of profiled tasks cannot be used as asked."""


TaskId = tuple[int, int]
"""Level and seed: with environment and split they are the task."""


def gaussian_mean(env: EnvConfig, step: int, steps: int) -> float:
    """Return the pass rate that the Gaussian curriculum prefers at a step, from 1."""
    span = max(1, (env.curriculum_steps or steps) - 1)
    return env.mean_start + (env.mean_end - env.mean_start) * min(1.0, (step - 1) / span)


def log_weights(env: EnvConfig, rates_N: np.ndarray, step: int, steps: int) -> np.ndarray:
    """Return the logarithm of every task's weight, `[N]`; 0 for all under the uniform curriculum."""
    if env.curriculum != "gaussian":
        return np.zeros(len(rates_N))
    return -0.5 * ((rates_N - gaussian_mean(env, step, steps)) / env.spread) ** 2


def eligible(env: EnvConfig, rates_N: np.ndarray) -> np.ndarray:
    """Return the positions of the tasks within the environment's range of pass rates.

    Where none is left (after re-profiling), those nearest to the range.
    """
    outside = np.maximum(env.min_pass_rate - rates_N, rates_N - env.max_pass_rate).clip(min=0.0)
    return np.flatnonzero(outside <= outside.min() + 1e-12)


def has_plateaued(accuracies: Sequence[float], window: int, margin: float) -> bool:
    """Return True when the second half of the last `window` steps is no better than the first by `margin`."""
    if window < 2 or len(accuracies) < window:
        return False
    last = accuracies[-window:]
    half = window // 2
    return sum(last[-half:]) / half - sum(last[:half]) / half < margin


class Pool:
    """The profiled tasks of one environment.

    Args:
        env: its part of the mixture.
        rates: pass rate by task.
        steps: steps of the run.
    """

    def __init__(self, env: EnvConfig, rates: Mapping[TaskId, float], steps: int) -> None:
        self.env, self.steps = env, steps
        self.tasks = sorted(rates)
        self._place = {task: index for index, task in enumerate(self.tasks)}
        self.rates = np.array([rates[task] for task in self.tasks], np.float64)
        self._seen: dict[TaskId, list[int]] = {}
        self._accuracies: list[float] = []

    @classmethod
    def load(cls, env: EnvConfig, steps: int) -> Pool:
        """Read `env.pass_rates`.

        Raises:
            CurriculumError: the file is missing, or has no training task of this environment in the range of
                levels and pass rates.
        """
        path = Path(env.pass_rates).expanduser()
        if not path.is_file():
            raise CurriculumError(
                f"{env.id}: pass_rates: expected a file written by `rolloom envs profile`, got {str(path)!r}"
            )
        rates: dict[TaskId, float] = {}
        other: set[str] = set()
        for row in read_jsonl(path):
            task, rate = _entry(row)
            if task is None or rate is None or row.get("split", "train") != "train":
                continue
            if row.get("env_id") != env.id:
                other.add(str(row.get("env_id"))[:80])
            elif env.min_level <= task[0] <= env.max_level:
                rates[task] = rate
        pool = cls(env, rates, steps)
        inside = [rate for rate in rates.values() if env.min_pass_rate <= rate <= env.max_pass_rate]
        if not inside:
            beside = f"; it has {', '.join(sorted(other))}" if other and not rates else ""
            raise CurriculumError(
                f"{env.id}: pass_rates: expected training tasks of levels {env.min_level} to {env.max_level} "
                f"with pass rates from {env.min_pass_rate:g} to {env.max_pass_rate:g} in {path}, got "
                f"{len(rates)} of these levels and none in the range{beside}"
            )
        return pool

    def draw(self, count: int, step: int, seed: int, split: Split = "train") -> list[Task]:
        """Return the tasks of a step, none twice before every eligible one was drawn.

        The `count` largest of log-weight plus Gumbel noise are a weighted draw without replacement
        (Efraimidis and Spirakis, 2006), and no weight is too small for it.
        """
        places = eligible(self.env, self.rates)
        weights = log_weights(self.env, self.rates[places], step, self.steps)
        rng = np.random.default_rng(derive_seed(seed, "curriculum", self.env.id, step))
        chosen: list[int] = []
        while len(chosen) < count:
            noisy = weights + rng.gumbel(size=len(places))
            order = np.argsort(-noisy, kind="stable")[: count - len(chosen)]
            chosen += places[order].tolist()
        return [Task(self.env.id, split, *self.tasks[place]) for place in chosen]

    def rate(self, task: TaskId) -> float | None:
        """Return a task's pass rate as it is known now."""
        place = self._place.get(task)
        return None if place is None else float(self.rates[place])

    def observe(self, results: Iterable[tuple[TaskId, float | None]]) -> int:
        """Take in the scores of a step; re-profile at a plateau.

        Args:
            results: task and score of every rollout of this environment; None for a failed one.

        Returns:
            Tasks whose pass rate was replaced, 0 away from a plateau.
        """
        if not self.env.reprofile_window:
            return 0
        solved = total = 0
        for task, score in results:
            if score is None:
                continue
            counts = self._seen.setdefault(task, [0, 0])
            counts[0] += is_solved(score)
            counts[1] += 1
            solved, total = solved + is_solved(score), total + 1
        if total:
            self._accuracies.append(solved / total)
        if not has_plateaued(self._accuracies, self.env.reprofile_window, self.env.reprofile_margin):
            return 0
        known = {self._place[task]: counts for task, counts in self._seen.items() if task in self._place}
        for place, (passes, attempts) in known.items():
            self.rates[place] = passes / attempts
        self._seen, self._accuracies = {}, []
        return len(known)


class Curriculum:
    """The pools of a run, by environment id; environments without `pass_rates` have none.

    Args:
        envs: the mixture.
        steps: steps of the run.

    Raises:
        CurriculumError: a pool cannot be read.
    """

    def __init__(self, envs: Sequence[EnvConfig], steps: int) -> None:
        self.pools = {env.id: Pool.load(env, steps) for env in envs if env.pass_rates}

    def recall(self, run: RunDir, last_step: int) -> None:
        """Take in the rollouts that a run kept of its steps up to `last_step`."""
        if not any(pool.env.reprofile_window for pool in self.pools.values()):
            return
        for step in range(1, last_step + 1):
            rows = list(read_jsonl(run.rollouts_of(step)))
            self.observe(
                [
                    (row["env_id"], (row["level"], row["task_seed"]), row["score"])
                    for row in rows
                    if "score" in row
                ]
            )

    def observe(self, results: Sequence[tuple[str, TaskId, float | None]]) -> dict[str, int]:
        """Take in a step's scores; return how many tasks of each environment were re-profiled, if any."""
        done = {}
        for env_id, pool in self.pools.items():
            count = pool.observe((task, score) for owner, task, score in results if owner == env_id)
            if count:
                done[env_id] = count
        return done

    def metrics(self, tasks: Sequence[Task], step: int) -> dict[str, dict[str, float]]:
        """Return what the curriculum did in a step, by environment.

        `pool` is the number of tasks that could be drawn, `pass_rate` the mean of those drawn, `target` the
        Gaussian's mean.
        """
        shown: dict[str, dict[str, float]] = {}
        for env_id, pool in self.pools.items():
            rates = [pool.rate((task.level, task.seed)) for task in tasks if task.env_id == env_id]
            known = [rate for rate in rates if rate is not None]
            shown[env_id] = {"pool": float(len(eligible(pool.env, pool.rates)))}
            if known:
                shown[env_id]["pass_rate"] = sum(known) / len(known)
            if pool.env.curriculum == "gaussian":
                shown[env_id]["target"] = gaussian_mean(pool.env, step, pool.steps)
        return shown


def resolve_files(envs: Sequence[EnvConfig]) -> list[EnvConfig]:
    """Return the mixture with absolute paths of its pools, so that a run can be resumed from anywhere."""
    return [
        dataclasses.replace(env, pass_rates=str(Path(env.pass_rates).expanduser().resolve()))
        if env.pass_rates
        else env
        for env in envs
    ]


def _entry(row: Mapping[str, Any]) -> tuple[TaskId | None, float | None]:
    level, seed, rate = row.get("level"), row.get("seed"), row.get("pass_rate")
    if type(level) is not int or type(seed) is not int or not isinstance(rate, int | float):
        return None, None
    return (level, seed), float(rate) if math.isfinite(rate) and 0 <= rate <= 1 else None
