"""`rolloom envs profile`: how often a policy solves each task, one JSON line a task.

The policy is a checkpoint in the native engine or a model behind an OpenAI-compatible endpoint. A line is
written as soon as a task's last rollout is in, so a kill loses only the tasks in flight; the same command
goes on with what is missing. Curricula draw from such a file (`envs[].pass_rates`).
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from rolloom.configs.load import load_run_config
from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.envs import registry
from rolloom.envs.types import Split, Task
from rolloom.errors import RolloomError
from rolloom.rewards.correctness import is_solved
from rolloom.rollout.display import duration, safe_text
from rolloom.rollout.mixture import distinct_tasks
from rolloom.rollout.rundir import read_jsonl, write_jsonl

ENDPOINT = "openai:"
SAY_EVERY_S = 5.0
BAR = 30
IN_FLIGHT = 256
"""Tasks given to the environment workers at once."""


class ProfileError(RolloomError):
    """A profile cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rollout of a task.

    Attributes:
        score: the environment's reward; None if the machinery failed.
        tokens: sampled tokens.
        stop: the `StopReason` value.
    """

    score: float | None
    tokens: float
    stop: str


class Runner(Protocol):
    """Samples rollouts: the native engine or an endpoint."""

    def __call__(self, tasks: Sequence[Task], k: int, done: Callable[[int, Outcome], None]) -> None:
        """Run every task `k` times; call `done(index of the task, outcome)` for each rollout."""
        ...


def profile_main(
    ids: Sequence[str], policy: str, out: str | Path, tasks: int = 64, k: int = 8,
    levels: tuple[int, int] | None = None, split: Split = "train", seed: int = 0,
    overrides: Sequence[str] = (), config: str | Path = "quickstart", say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Profile environments and say what came of it.

    Args:
        ids: environments.
        policy: `shipped:NAME`, a checkpoint directory, or `openai:URL#MODEL`.
        out: JSONL file; goes on with it where it exists.
        tasks: distinct tasks of each environment.
        k: rollouts of each task.
        levels: lowest and highest difficulty, drawn in turn; each environment's own by default.
        split: of the tasks.
        seed: of the first task, and root of the sampling seeds.
        overrides: `key=value` words for the configuration (`rollout.max_new_tokens=512`, `imports=[..]`).
        config: configuration that they are laid over.
        say: receives lines for the person.

    Returns:
        0.

    Raises:
        RolloomError: an environment, the policy or the file cannot be used.
    """
    if not ids:
        raise ProfileError("profile: expected the id of at least one environment, got none")
    if tasks < 1 or k < 1:
        raise ProfileError(f"profile: expected at least 1 task and 1 rollout of each, got {tasks} and {k}")
    chosen = ", ".join(f"{{id: {id}}}" for id in ids)
    run = load_run_config(config, [*overrides, f"envs=[{chosen}]"])
    from rolloom.rollout.launch import imported

    run.imports = imported(run.imports)
    run.envs = [_env(id, levels) for id in ids]
    setting = _setting(run, policy, k)
    store = Store(Path(out), setting)
    wanted = [task for env in run.envs for task in distinct_tasks(env, tasks, seed, split)]
    missing = [task for task in wanted if not store.has(task)]
    if len(missing) < len(wanted):
        say(f"{store.path} has {len(wanted) - len(missing)} of {len(wanted)} tasks; going on with the rest")
    if missing:
        with store:
            _fill(store, _runner(run, policy, seed), missing, k, say)
    say(summary([store.rows[key] for task in wanted if (key := _place(task)) in store.rows]))
    say(f"pass rates: {store.path}")
    return 0


def _env(id: str, levels: tuple[int, int] | None) -> EnvConfig:
    made = registry.make(id)
    low, high = levels or made.levels
    made.close()
    if not made.levels[0] <= low <= high <= made.levels[1]:
        raise ProfileError(
            f"profile: expected levels of {id} within {made.levels[0]} to {made.levels[1]}, "
            f"got {low} to {high}"
        )
    return EnvConfig(id=id, min_level=low, max_level=high)


def _runner(config: RunConfig, policy: str, seed: int) -> Runner:
    if policy.startswith(ENDPOINT):
        from rolloom.rollout.endpoint_episodes import EndpointRunner

        return EndpointRunner(policy, config.rollout, seed)
    return _NativeRunner(config, policy, seed)


class _NativeRunner:
    """The engines and environment workers of a run, without a learner."""

    def __init__(self, config: RunConfig, policy: str, seed: int) -> None:
        self.config, self.policy, self.seed = config, policy, seed

    def __call__(self, tasks: Sequence[Task], k: int, done: Callable[[int, Outcome], None]) -> None:
        # torch and Ray are imported only where they are used: an endpoint needs neither.
        from rolloom.rollout.cluster import Cluster
        from rolloom.rollout.launch import policy_directory
        from rolloom.rollout.scheduler import Scheduler
        from rolloom.rollout.types import Trajectory, derive_seed

        def finished(t: Trajectory) -> None:
            done(t.assignment.group, Outcome(t.score, float(t.completion_tokens), str(t.stop)))

        path = policy_directory(self.policy)
        cluster = Cluster(self.config, path, path, learner=False)
        try:
            scheduler = Scheduler(cluster.workers, cluster.engines, self.config.rollout, self.seed)
            for start in range(0, len(tasks), IN_FLIGHT):
                part = tasks[start : start + IN_FLIGHT]
                # Seeds follow from the task, not from its place: what a resumed profile samples is the same.
                batch = [
                    replace(
                        a,
                        group=start + a.group,
                        seed=derive_seed(self.seed, *_place(a.task), a.sample),
                    )
                    for a in scheduler.assignments(
                        part, k, f"profile-{start}", self.config.rollout.temperature
                    )
                ]
                scheduler.run(batch, finished=finished)
        finally:
            cluster.stop()


def _fill(store: Store, runner: Runner, tasks: Sequence[Task], k: int, say: Callable[[str], None]) -> None:
    open_: dict[int, list[Outcome]] = {}
    written, started = 0, time.monotonic()
    said = started

    def done(index: int, outcome: Outcome) -> None:
        nonlocal written, said
        outcomes = open_.setdefault(index, [])
        outcomes.append(outcome)
        if len(outcomes) == k:
            store.write(tasks[index], open_.pop(index))
            written += 1
        now = time.monotonic()
        if now - said > SAY_EVERY_S:
            said = now
            say(f"{written}/{len(tasks)} tasks in {duration(now - started)}")

    runner(tasks, k, done)


def row_of(task: Task, outcomes: Sequence[Outcome], setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's line: pass rate and reward over the rollouts that did not fail."""
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    passes = sum(map(is_solved, scores))
    failures = Counter(outcome.stop for outcome in outcomes if outcome.score is None)
    valid = [outcome.tokens for outcome in outcomes if outcome.score is not None]
    return {
        "env_id": task.env_id,
        "split": task.split,
        "level": task.level,
        "seed": task.seed,
        "key": task.key,
        "k": len(outcomes),
        "passes": passes,
        "pass_rate": passes / len(scores) if scores else None,
        "mean_reward": statistics.fmean(scores) if scores else None,
        "std": statistics.pstdev(scores) if scores else None,
        "tokens": statistics.fmean(valid) if valid else None,
        "failures": sum(failures.values()),
        "failure_kinds": dict(sorted(failures.items())),
        **setting,
    }


def _setting(config: RunConfig, policy: str, k: int) -> dict[str, Any]:
    """Return what has to be the same for two lines to belong together."""
    sampling = config.rollout
    told = {
        "policy": policy,
        "temperature": sampling.temperature,
        "max_new_tokens": sampling.max_new_tokens,
        "max_context": sampling.max_context,
    }
    digest = hashlib.blake2b(json.dumps([told, k], sort_keys=True).encode(), digest_size=8).hexdigest()
    return {**told, "setting": digest}


class Store:
    """The file of a profile: read on opening, then one line at a time.

    Args:
        path: JSONL file, made when missing.
        setting: fields of every line; a file of another setting is refused.

    Attributes:
        rows: the last line of every task that has a pass rate.

    Raises:
        ProfileError: the file holds pass rates of another policy or sampling.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self.path, self.setting = path, dict(setting)
        self.rows: dict[tuple[str, str, int, int], dict[str, Any]] = {}
        self._file: IO[str] | None = None
        for row in read_jsonl(path):
            if row.get("setting") != setting["setting"]:
                names = ("policy", "k", "temperature", "max_new_tokens", "max_context")
                held = ", ".join(f"{name}={safe_text(str(row.get(name)), 80)}" for name in names)
                raise ProfileError(
                    f"profile: {path} holds pass rates of another setting ({held}); write to another file"
                )
            # A task that only failed is tried again.
            if row.get("pass_rate") is not None:
                self.rows[str(row["env_id"]), str(row["split"]), row["level"], row["seed"]] = row

    def has(self, task: Task) -> bool:
        """Return True when a task has its line."""
        return _place(task) in self.rows

    def __enter__(self) -> Store:
        """Open the file for more lines, without what a kill tore off or what only failed."""
        write_jsonl(self.path, self.rows.values())
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def write(self, task: Task, outcomes: Sequence[Outcome]) -> None:
        """Add a task's line; it is with the operating system when this returns."""
        assert self._file is not None
        row = row_of(task, outcomes, self.setting)
        self.rows[_place(task)] = row
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _place(task: Task) -> tuple[str, str, int, int]:
    return task.env_id, task.split, task.level, task.seed


BINS: tuple[tuple[str, Callable[[float], bool]], ...] = (
    ("never", lambda rate: rate == 0),
    ("up to 25%", lambda rate: 0 < rate <= 0.25),
    ("25 to 50%", lambda rate: 0.25 < rate <= 0.5),
    ("50 to 75%", lambda rate: 0.5 < rate <= 0.75),
    ("above 75%", lambda rate: 0.75 < rate < 1),
    ("always", lambda rate: rate == 1),
)


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a histogram of pass rates for each environment, as text."""
    by_env: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_env.setdefault(str(row["env_id"]), []).append(row)
    lines: list[str] = []
    for env_id, part in by_env.items():
        rates = [row["pass_rate"] for row in part if row["pass_rate"] is not None]
        failures = sum(row["failures"] for row in part)
        lines.append(f"{safe_text(env_id, 80)}: {len(rates)} tasks" + (
            f", solved {statistics.fmean(rates):.1%} of the time, "
            f"{statistics.fmean(row['tokens'] for row in part if row['tokens'] is not None):.0f} tokens"
            if rates else "") + (f"; {failures} rollouts failed" if failures else ""))  # fmt: skip
        counts = [sum(inside(rate) for rate in rates) for _, inside in BINS]
        for (name, _), count in zip(BINS, counts, strict=True):
            bar = "#" * round(BAR * count / max(1, len(rates)))
            lines.append(f"  {name:>10} {count:>5} {bar}".rstrip())
    return "\n".join(lines) or "no task was profiled"
