"""Small runs, a bench of real parts, and a child process, for the tests of rollouts and training."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_envs

from rolloom.configs.schema import EnvConfig, RolloutConfig, RunConfig
from rolloom.envs import registry
from rolloom.envs.types import Task
from rolloom.rollout.engine_host import EngineHost
from rolloom.rollout.env_worker import EnvWorker
from rolloom.rollout.handles import Handle, LocalHandle
from rolloom.rollout.metrics import read_metrics
from rolloom.rollout.pump import Pump
from rolloom.rollout.rundir import RunDir, read_jsonl
from rolloom.rollout.scheduler import Scheduler
from rolloom.rollout.types import Completion, Trajectory

HERE = Path(__file__).resolve().parent
BUILT_IN = ("math/affine_chain-v0", "code/int_function-v0", "tools/lookup-v0", "agent/workplace-v0")


def small_run(policy: str, runs_dir: Path, **changes: Any) -> RunConfig:
    """A run of seconds over one built-in and two learnable environments, in one process by default."""
    config = RunConfig(name="small", runs_dir=str(runs_dir), seed=5, local=True)
    config.policy.path = policy
    config.envs = [
        EnvConfig(id=fault_envs.PARITY),
        EnvConfig(id=fault_envs.CHAT),
        EnvConfig(id=BUILT_IN[0]),
    ]
    config.rollout = RolloutConfig(
        engines=1, slots=16, max_context=384, max_new_tokens=24, step_deadline_s=20.0, stall_s=60.0
    )
    t = config.trainer
    t.steps, t.prompts_per_step, t.group_size, t.threads = 3, 6, 4, 1
    t.learning_rate, t.warmup_steps, t.save_every = 1e-3, 1, 1
    config.evaluation.tasks_per_env, config.evaluation.side_by_side = 4, 1
    config.ray.num_cpus, config.ray.object_store_mb = 2, 96
    for path, value in changes.items():
        section, _, field = path.partition("__")
        if field:
            setattr(getattr(config, section), field, value)
        else:
            setattr(config, section, value)
    return config


class Bench:
    """A real engine, environment worker and scheduler in this process, the first two on their own threads."""

    def __init__(
        self, policy: str, env_kwargs: dict[str, dict[str, Any]], threaded: bool = True, **rollout: Any
    ) -> None:
        limits = {"max_context": 384, "max_new_tokens": 24, "slots": 16, "stall_s": 30.0, **rollout}
        self.config = RolloutConfig(**limits)
        self.engine = EngineHost(
            policy, self.config.slots, self.config.max_context, "cpu", "float32", 1, threaded
        )
        self.engines: list[Handle] = [LocalHandle(self.engine, "engine-0")]
        specs = registry.all_specs()
        self.worker = EnvWorker(
            "env-worker-0", self.engines, policy, self.config, specs, env_kwargs, threaded
        )
        self.workers: list[Handle] = [LocalHandle(self.worker, "env-worker-0")]
        self.scheduler = Scheduler(self.workers, self.engines, self.config, seed=3)

    def run(self, *env_ids: str, samples: int = 2, batch: str = "test") -> list[Trajectory]:
        tasks = [Task(env_id, "train", 1, 10 + index) for index, env_id in enumerate(env_ids)]
        return self.scheduler.run(self.scheduler.assignments(tasks, samples, batch, 1.0))

    def stop(self) -> None:
        self.engine.stop()
        self.worker.stop()


class Child:
    """`rolloom` with the test environments, in a process group of its own."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.output = cwd / f"child-{time.monotonic_ns()}.log"
        with self.output.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "fault_envs.py"), *words],
                cwd=cwd, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait_until(self, reached: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, f"ended early:\n{self.text}"
            assert time.monotonic() < deadline, f"took longer than {seconds} s:\n{self.text}"
            time.sleep(0.01)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def finish(self, seconds: float = 90) -> int:
        return self.process.wait(seconds)


def overrides(config: RunConfig) -> list[str]:
    """Every leaf of a configuration as `key=value` words."""
    words: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "envs":
            words.append(f"envs={json.dumps([dataclasses.asdict(env) for env in value])}")
        elif dataclasses.is_dataclass(value):
            inside: dict[str, Any] = dataclasses.asdict(config)[field.name]
            words += [f"{field.name}.{name}={json.dumps(held)}" for name, held in inside.items()]
        else:
            words.append(f"{field.name}={json.dumps(value)}")
    return words


def logged_steps(run: Path) -> list[int]:
    """The steps of metrics.jsonl in the order of its lines, without removing doubles."""
    file = RunDir(run).metrics
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def untimed(file: Path) -> list[dict[str, Any]]:
    """The rollouts of a file without what a clock says of them."""
    rows = read_jsonl(file)
    return [{key: value for key, value in row.items() if key not in ("env_s", "seconds")} for row in rows]


def records(run: Path) -> list[dict[str, Any]]:
    return read_metrics(RunDir(run))


def collect(host: Pump[Completion], owner: str, count: int, seconds: float = 20) -> dict[str, Completion]:
    """Wait for as many of an owner's completions, each of which comes once."""
    found: dict[str, Completion] = {}
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline
        for completion in host.collect(owner, 1.0):
            assert completion.id not in found
            found[completion.id] = completion
    return found
