"""Killed, interrupted and resumed runs: nothing is lost, nothing counted twice, and the end is the same."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_envs import CHAT, FAULT, PARITY
from small_runs import Child, logged_steps, overrides, untimed

from rolloom.configs.load import load_run_config
from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.rollout.checkpoints import latest_checkpoint
from rolloom.rollout.launch import LaunchError, train
from rolloom.rollout.rundir import RunDir, read_jsonl

MakeConfig = Callable[..., RunConfig]
MakeChild = Callable[..., Child]

FINAL = ("model.safetensors", "optimizer.safetensors")


def jittery(config: RunConfig, seconds: float = 0.02) -> RunConfig:
    """Let environments answer after random times, so that a run equal to another is so in spite of them."""
    config.envs[1].kwargs = {"jitter": seconds}
    return config


def final(run: Path, step: int) -> list[bytes]:
    return [(RunDir(run).checkpoints / f"step_{step:06d}" / name).read_bytes() for name in FINAL]


def assert_same_run(one: Path, two: Path, steps: int) -> None:
    assert logged_steps(one) == logged_steps(two) == list(range(1, steps + 1))
    for step in range(1, steps + 1):
        ours, theirs = (untimed(RunDir(run).rollouts_of(step)) for run in (one, two))
        assert ours == theirs, f"rollouts of step {step}"
    assert final(one, steps) == final(two, steps)
    assert untimed(RunDir(one).after) == untimed(RunDir(two).after)


def test_a_driver_killed_in_a_step_goes_on_to_the_same_bits(run_config: MakeConfig, child: MakeChild) -> None:
    straight = jittery(run_config(name="straight", trainer__steps=5, trainer__save_every=2))
    killed = jittery(run_config(name="killed", trainer__steps=5, trainer__save_every=2), seconds=0.06)
    run = Path(killed.runs_dir) / "killed"
    process = child("train", "debug", *overrides(killed))
    # Step 3 is logged, 4 is under way, and the last checkpoint holds 2.
    process.wait_until(lambda: len(logged_steps(run)) >= 3)
    os.kill(process.process.pid, signal.SIGKILL)
    assert process.finish() == -signal.SIGKILL
    checkpoint = latest_checkpoint(RunDir(run).checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert logged_steps(run) == [1, 2, 3]

    assert train(load_run_config(RunDir(run).config), resume=run) == 0
    assert train(straight) == 0
    assert_same_run(run, Path(straight.runs_dir) / "straight", steps=5)


def test_a_damaged_last_checkpoint_is_passed_over_and_made_again(run_config: MakeConfig) -> None:
    straight, torn = (run_config(name=name, trainer__steps=4) for name in ("straight", "torn"))
    assert train(straight) == 0
    torn.trainer.steps = 3
    assert train(torn) == 0
    run = Path(torn.runs_dir) / "torn"
    weights = RunDir(run).checkpoints / "step_000003" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    torn.trainer.steps = 4
    assert train(torn, resume=run) == 0
    assert_same_run(run, Path(straight.runs_dir) / "straight", steps=4)
    checkpoint = latest_checkpoint(RunDir(run).checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 4
    assert weights.read_bytes() != bytes(data)


def test_a_run_without_a_checkpoint_starts_again(run_config: MakeConfig) -> None:
    straight, config = (run_config(name=name, trainer__steps=2) for name in ("straight", "bare"))
    assert train(straight) == 0
    assert train(config) == 0
    run = Path(config.runs_dir) / "bare"
    shutil.rmtree(RunDir(run).checkpoints)
    assert train(config, resume=run) == 0
    assert_same_run(run, Path(straight.runs_dir) / "straight", steps=2)


def test_a_finished_run_can_be_resumed_and_is_as_it_was(run_config: MakeConfig) -> None:
    config = run_config(trainer__steps=2)
    assert train(config) == 0
    run = Path(config.runs_dir) / "small"
    after = untimed(RunDir(run).after)
    assert train(config, resume=run) == 0
    assert logged_steps(run) == [1, 2]
    assert untimed(RunDir(run).after) == after


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_one_signal_stops_with_a_checkpoint_and_says_how_to_go_on(
    run_config: MakeConfig, child: MakeChild, number: signal.Signals
) -> None:
    config = jittery(
        run_config(trainer__steps=500, trainer__save_every=1000, evaluation__tasks_per_env=0), 0.1
    )
    run = Path(config.runs_dir) / "small"
    process = child("train", "debug", *overrides(config))
    process.wait_until(lambda: len(logged_steps(run)) >= 2)
    process.process.send_signal(number)
    assert process.finish(30) == 130
    assert f"Continue with: rolloom train --resume {run}" in process.text
    assert "Traceback" not in process.text
    steps = logged_steps(run)
    checkpoint = latest_checkpoint(RunDir(run).checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == steps[-1] == len(steps)
    assert RunDir(run).summary.is_file()
    config.trainer.steps = steps[-1] + 2
    assert train(config, resume=run) == 0
    assert logged_steps(run) == list(range(1, steps[-1] + 3))


def test_an_interrupt_in_the_last_evaluation_keeps_the_training(
    run_config: MakeConfig, child: MakeChild
) -> None:
    config = run_config(trainer__steps=1, evaluation__tasks_per_env=2)
    config.envs = [EnvConfig(id=PARITY), EnvConfig(id=CHAT, kwargs={"seconds": 0.2})]
    config.evaluation.tasks_per_env = 6
    config.rollout.env_threads = 1
    config.trainer.group_size, config.trainer.prompts_per_step = 2, 1
    run = RunDir(Path(config.runs_dir) / "small")
    process = child("train", "debug", *overrides(config))
    process.wait_until(lambda: "held-out evaluation after" in process.text)
    process.process.send_signal(signal.SIGINT)
    assert process.finish(30) == 130
    assert "stopped after step 1" in process.text
    assert run.before.is_file()
    assert not run.after.is_file()
    config.envs[1].kwargs = {}
    assert train(config, resume=run.root) == 0
    assert logged_steps(run.root) == [1]
    assert len(untimed(run.after)) == 12


def test_an_interrupt_before_the_first_step_loses_nothing(run_config: MakeConfig, child: MakeChild) -> None:
    config = run_config(trainer__steps=1)
    config.envs = [EnvConfig(id=CHAT, kwargs={"seconds": 1.0})]
    run = RunDir(Path(config.runs_dir) / "small")
    process = child("train", "debug", *overrides(config))
    process.wait_until(lambda: "held-out evaluation before" in process.text)
    process.process.send_signal(signal.SIGINT)
    assert process.finish(30) == 130
    assert f"stopped after step 0. Continue with: rolloom train --resume {run.root}" in process.text
    config.envs[0].kwargs = {}
    assert train(config, resume=run.root) == 0
    assert logged_steps(run.root) == [1]
    assert run.before.is_file()


def test_a_second_interrupt_does_not_wait(run_config: MakeConfig, child: MakeChild) -> None:
    config = run_config(trainer__steps=3)
    # In one process a hanging environment is waited for until its deadline.
    config.envs = [EnvConfig(id=FAULT, kwargs={"how": "hangs"})]
    config.rollout.step_deadline_s = 60.0
    process = child("train", "debug", *overrides(config))
    process.wait_until(lambda: "held-out evaluation before" in process.text)
    process.process.send_signal(signal.SIGINT)
    process.wait_until(lambda: "Ctrl-C again to abort" in process.text)
    process.process.send_signal(signal.SIGINT)
    assert process.finish(10) == 130
    assert "interrupted" in process.text


def test_a_step_in_which_everything_fails_ends_the_run_and_shows_why(run_config: MakeConfig) -> None:
    config = run_config(evaluation__tasks_per_env=0)
    config.envs = [EnvConfig(id=FAULT, kwargs={"how": "raises_in_reset"})]
    with pytest.raises(
        LaunchError, match=r"step 1: all 24 rollouts failed.*ValueError: the environment is broken"
    ):
        train(config)
    run = RunDir(Path(config.runs_dir) / "small")
    assert logged_steps(run.root) == []
    assert len(list(read_jsonl(run.rollouts_of(1)))) == 24


def test_a_packaged_configuration_runs_from_the_command_line(policy_path: str, child: MakeChild) -> None:
    process = child("train", "debug", f"policy.path={policy_path}", "trainer.threads=1")
    assert process.finish(60) == 0, process.text
    run = process.output.parent / "runs" / "debug"
    assert logged_steps(run) == [1, 2]
    assert "report: " in process.text
    for name in ("agent/workplace-v0", "code/int_function-v0", "math/affine_chain-v0", "tools/lookup-v0"):
        assert name in process.text
    assert RunDir(run).report.is_file()
    again = child("train", "--resume", "debug", "trainer.steps=3")
    assert again.finish(60) == 0, again.text
    assert logged_steps(run) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("after_steps", range(6))
def test_wherever_the_driver_is_killed_the_end_is_the_same(
    run_config: MakeConfig, child: MakeChild, after_steps: int
) -> None:
    straight = jittery(run_config(name="straight", trainer__steps=6, trainer__save_every=2))
    killed = jittery(run_config(name="killed", trainer__steps=6, trainer__save_every=2), seconds=0.1)
    run = Path(killed.runs_dir) / "killed"
    process = child("train", "debug", *overrides(killed))
    process.wait_until(
        lambda: len(logged_steps(run)) >= after_steps and "held-out evaluation before" in process.text
    )
    os.kill(process.process.pid, signal.SIGKILL)
    process.finish()
    assert train(load_run_config(RunDir(run).config), resume=run) == 0
    assert train(straight) == 0
    assert_same_run(run, Path(straight.runs_dir) / "straight", steps=6)
