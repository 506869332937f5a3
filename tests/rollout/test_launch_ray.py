"""The same run on real Ray actors: equal to the local one, and ended with a name when an actor is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_envs import CHAT, FAULT, PARITY
from safetensors.numpy import load_file
from small_runs import Child, logged_steps, overrides, records

from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.envs import registry
from rolloom.envs.types import Task
from rolloom.rollout.cluster import Cluster, _connect
from rolloom.rollout.handles import ActorLostError
from rolloom.rollout.launch import train
from rolloom.rollout.rundir import RunDir, read_jsonl
from rolloom.rollout.scheduler import Scheduler

ray = pytest.importorskip("ray")
MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One private Ray cluster, started as a run starts it and shared by the tests of this file."""
    _, started = _connect(RunConfig())
    assert started
    yield
    ray.shutdown()


@pytest.fixture
def on_ray(session: None, run_config: MakeConfig) -> MakeConfig:
    return lambda **changes: run_config(local=False, **changes)


def actor_names() -> list[str]:
    return [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]


def actor(part: str) -> Any:
    (entry,) = [e for e in ray.util.list_named_actors(all_namespaces=True) if part in e["name"]]
    return ray.get_actor(entry["name"], entry["namespace"])


def test_ray_and_one_process_sample_the_same_tokens_and_learn_the_same(
    on_ray: MakeConfig, run_config: MakeConfig
) -> None:
    settings = {"trainer__steps": 1, "evaluation__tasks_per_env": 2}
    local, spread = run_config(name="local", **settings), on_ray(name="spread", **settings)
    spread.rollout.engines = 2
    assert train(local) == train(spread) == 0
    runs = [RunDir(Path(c.runs_dir) / c.name) for c in (local, spread)]
    # The test environments were registered in this process only; the worker got them from here.
    assert {row["env_id"] for row in read_jsonl(runs[1].after)} == {env.id for env in spread.envs}
    for file in ("evaluation/before.jsonl", "rollouts/step_000001.jsonl"):
        ours, theirs = ([*read_jsonl(run.root / file)] for run in runs)
        assert [row["ids"] for row in ours] == [row["ids"] for row in theirs]
        assert [row["mask"] for row in ours] == [row["mask"] for row in theirs]
        assert [row["score"] for row in ours] == [row["score"] for row in theirs]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a["logprobs"], b["logprobs"], atol=1e-5)
    (record,) = records(runs[1].root)
    assert record["logprob_diff_max"] <= 1e-4
    assert record["grad_norm"] > 0
    weights = [load_file(run.checkpoints / "step_000001" / "model.safetensors") for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # Adam's first step has the gradient's sign and the size of the learning rate, even where the gradient
        # is a rounding error; everywhere else the two must agree.
        assert np.isclose(value, weights[1][name], atol=1e-5).mean() > 0.98, name
    assert not any("spread-" in name for name in actor_names())


@pytest.mark.parametrize("victim", ["engine-0", "learner"])
def test_a_killed_actor_ends_the_run_with_its_name_and_resume_goes_on(
    on_ray: MakeConfig, victim: str
) -> None:
    config = on_ray(trainer__steps=3, evaluation__tasks_per_env=0)
    # Slow enough for a step to be under way when the blow falls.
    config.envs = [EnvConfig(id=CHAT, kwargs={"seconds": 0.3}), EnvConfig(id=PARITY)]
    run = RunDir(Path(config.runs_dir) / "small")

    def strike() -> None:
        while not logged_steps(run.root):
            time.sleep(0.01)
        time.sleep(0.1)
        ray.kill(actor(f"small-{victim}-"), no_restart=True)

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(ActorLostError, match=f"{victim} is gone.*killed by"):
        train(config)
    thread.join()
    # Going on in one process shows that nothing of the run depends on where it ran, and is quicker to test.
    config.local = True
    config.envs[0].kwargs = {}
    assert train(config, resume=run.root) == 0
    assert logged_steps(run.root) == [1, 2, 3]


def test_an_environment_that_ends_its_process_is_named_by_its_worker(
    on_ray: MakeConfig, policy_path: str
) -> None:
    config = on_ray(rollout__env_workers=2, rollout__stall_s=20.0)
    config.envs = [EnvConfig(id=FAULT, kwargs={"how": "dies"}), EnvConfig(id=PARITY)]
    cluster = Cluster(config, policy_path, policy_path, learner=False)
    try:
        scheduler = Scheduler(cluster.workers, cluster.engines, config.rollout, seed=1)
        fine, fatal = Task(PARITY, "train", 1, 1), Task(FAULT, "train", 1, 1)
        assert all(t.score is not None for t in scheduler.run(scheduler.assignments([fine] * 2, 4, "a", 1.0)))
        with pytest.raises(ActorLostError, match="env-worker-1 is gone"):
            scheduler.run(scheduler.assignments([fine, fatal], 4, "b", 1.0))
        assert cluster.workers[0].call("status").result(10)["queued"] == 0
    finally:
        cluster.stop()


def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(on_ray: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ActorLostError, match=r"could not start: .*expected .*config\.json"):
        Cluster(on_ray(name="doomed"), str(tmp_path), str(tmp_path), learner=False)
    deadline = time.monotonic() + 10
    while any("doomed" in name for name in actor_names()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_registrations_of_the_driver_reach_a_worker(session: None) -> None:
    @ray.remote(num_cpus=0)
    def made(specs: list[Any]) -> tuple[list[str], str]:
        before = [spec.id for spec in registry.all_specs()]
        for spec in specs:
            registry.register_spec(spec)
        return before, type(registry.make(PARITY)).__name__

    before, name = ray.get(made.remote(registry.all_specs()))
    assert PARITY not in before
    assert name == "Parity"


@pytest.mark.slow
def test_one_interrupt_of_the_whole_process_group_stops_cleanly(
    run_config: MakeConfig, child: Callable[..., Child]
) -> None:
    config = run_config(local=False, trainer__steps=200, evaluation__tasks_per_env=0)
    config.envs = [EnvConfig(id=CHAT, kwargs={"seconds": 0.1})]
    run = Path(config.runs_dir) / "small"
    process = child("train", "debug", *overrides(config))
    process.wait_until(lambda: len(logged_steps(run)) >= 2)
    # As a terminal does it: everything in the foreground gets the signal, Ray's processes included.
    os.killpg(process.process.pid, signal.SIGINT)
    assert process.finish(60) == 130
    assert f"rolloom train --resume {run}" in process.text
    steps = logged_steps(run)
    config.local, config.trainer.steps = True, steps[-1] + 1
    assert train(config, resume=run) == 0
    assert logged_steps(run) == [*steps, steps[-1] + 1]


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_behind(
    run_config: MakeConfig, child: Callable[..., Child]
) -> None:
    config = run_config(local=False, trainer__steps=200, evaluation__tasks_per_env=0)
    run = Path(config.runs_dir) / "small"
    mark = f"ROLLOOM_TEST_RUN={run}"
    os.environ["ROLLOOM_TEST_RUN"] = str(run)
    try:
        process = child("train", "debug", *overrides(config))
    finally:
        del os.environ["ROLLOOM_TEST_RUN"]
    process.wait_until(lambda: len(logged_steps(run)) >= 2)
    assert len(_marked(mark)) > 4
    os.kill(process.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while left := _marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _marked(mark: str) -> list[str]:
    """Command lines of the living processes whose environment holds a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
            except OSError:
                continue
    return found
