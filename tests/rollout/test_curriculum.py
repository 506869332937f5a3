"""Which profiled tasks are drawn: filters, the Gaussian from easy to hard, re-profiling, resuming."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fault_envs import PARITY
from hypothesis import given
from hypothesis import strategies as st
from small_runs import records, untimed

from rolloom.configs.checks import combinations
from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.rollout.curriculum import (
    Curriculum,
    CurriculumError,
    Pool,
    eligible,
    gaussian_mean,
    has_plateaued,
    log_weights,
)
from rolloom.rollout.launch import train
from rolloom.rollout.mixture import draw_tasks
from rolloom.rollout.rundir import RunDir

STEPS = 50


def env(**fields: object) -> EnvConfig:
    return EnvConfig(**{"id": PARITY, "curriculum": "gaussian", "pass_rates": "p.jsonl", **fields})  # type: ignore[arg-type]


def pool(count: int = 101, **fields: object) -> Pool:
    return Pool(env(**fields), {(1, seed): seed / (count - 1) for seed in range(count)}, STEPS)


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(seed: int, rate: float | None, **more: object) -> dict:
    return {"env_id": PARITY, "split": "train", "level": 1, "seed": seed, "pass_rate": rate, **more}


def test_the_mean_falls_linearly_and_then_stays() -> None:
    part = env(mean_start=0.9, mean_end=0.1, curriculum_steps=5)
    means = [gaussian_mean(part, step, STEPS) for step in range(1, 8)]
    assert means == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1, 0.1, 0.1])
    assert gaussian_mean(env(), STEPS, STEPS) == pytest.approx(env().mean_end)


def test_weights_are_a_gaussian_of_the_pass_rate() -> None:
    part, rates = env(mean_start=0.5, mean_end=0.5, spread=0.1), np.array([0.5, 0.6, 0.7, 0.4])
    assert np.exp(log_weights(part, rates, 1, STEPS)) == pytest.approx(np.exp([0, -0.5, -2, -0.5]))
    assert not log_weights(env(curriculum="uniform"), rates, 1, STEPS).any()


def test_what_is_drawn_moves_from_easy_to_hard() -> None:
    made = pool()
    means = []
    for first in (1, 21, 41):
        drawn = [task for step in range(first, first + 10) for task in made.draw(10, step, seed=7)]
        rates = [rate for task in drawn if (rate := made.rate((task.level, task.seed))) is not None]
        assert len(rates) == len(drawn)
        means.append(np.mean(rates))
    assert means[0] > 0.65 > means[1] > 0.4 > means[2]


@given(st.integers(1, 30), st.integers(1, 80), st.integers(0, 5))
def test_a_draw_repeats_and_repeats_no_task_before_all_were_drawn(count: int, step: int, seed: int) -> None:
    made = pool(11, spread=0.01)
    drawn = made.draw(count, step, seed)
    assert drawn == pool(11, spread=0.01).draw(count, step, seed)
    times = Counter(task.seed for task in drawn)
    assert len(drawn) == count
    assert max(times.values()) - min(times[seed] for seed in range(11)) <= 1


def test_tasks_outside_the_range_are_left_out() -> None:
    made = pool(min_pass_rate=0.25, max_pass_rate=0.75, curriculum="uniform")
    drawn = {task.seed for step in range(1, 40) for task in made.draw(20, step, 1)}
    assert drawn == set(range(25, 76))
    # Where re-profiling leaves none in the range, the nearest ones are drawn.
    assert eligible(env(min_pass_rate=0.4, max_pass_rate=0.6), np.array([0.0, 0.9, 1.0])).tolist() == [1]


def test_the_mixture_keeps_its_shares_with_a_pool() -> None:
    other = EnvConfig(id="math/affine_chain-v0", weight=3)
    tasks = draw_tasks([env(), other], 8, 1, 0, pools={PARITY: pool()})
    assert Counter(task.env_id for task in tasks) == {PARITY: 2, other.id: 6}
    assert draw_tasks([other], 8, 1, 0, pools={PARITY: pool()}) == draw_tasks([other], 8, 1, 0)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.3, 0.3, 0.3, 0.3], True),
        ([0.5, 0.5, 0.1, 0.1], True),
        ([0.0, 0.9, 0.3, 0.3, 0.3, 0.3], True),
        ([0.3, 0.3, 0.3], False),
        ([0.30, 0.30, 0.305, 0.305], True),
    ],
)
def test_a_plateau_is_a_second_half_no_better_than_the_first(accuracies: list[float], expected: bool) -> None:
    assert has_plateaued(accuracies, 4, 0.01) is expected
    assert not has_plateaued(accuracies, 0, 0.01)


def test_at_a_plateau_the_tasks_seen_get_the_rates_of_now() -> None:
    made = pool(11, reprofile_window=2)
    assert made.observe([((1, 0), 1.0), ((1, 0), 1.0), ((1, 10), 0.0), ((1, 10), None)]) == 0
    # (9, 9) is not of the pool.
    assert made.observe([((1, 5), 1.0), ((1, 5), 0.5), ((9, 9), 1.0)]) == 3
    assert [made.rate((1, seed)) for seed in (0, 10, 5, 4)] == [1.0, 0.0, 0.5, 0.4]
    # A new window begins: one more step is not yet a plateau.
    assert made.observe([((1, 4), 0.0)]) == 0
    assert pool(11).observe([((1, 0), 1.0)]) == 0


def test_a_pool_is_read_leniently_and_refused_with_reasons(tmp_path: Path) -> None:
    rows = [row(1, 0.5), row(2, None), row(3, 2.0), row(4, 0.25, split="heldout"), row(5, 0.75, level=9)]
    rows += [{"seed": 1}, row(6, 0.0), row(1, 0.75), {**row(7, 0.5), "env_id": "other/env-v0"}]
    path = write(tmp_path / "p.jsonl", rows)
    # The last line of a task counts.
    made = Pool.load(env(pass_rates=path), STEPS)
    assert dict(zip(made.tasks, made.rates, strict=True)) == {(1, 1): 0.75, (1, 6): 0.0}
    with pytest.raises(CurriculumError, match=r"with pass rates from 0\.8 to 1 .* got 2 of these levels"):
        Pool.load(env(pass_rates=path, min_pass_rate=0.8), STEPS)
    with pytest.raises(CurriculumError, match="it has other/env-v0"):
        Pool.load(env(id="math/affine_chain-v0", pass_rates=write(tmp_path / "o.jsonl", rows[-1:])), STEPS)
    with pytest.raises(CurriculumError, match="expected a file written by"):
        Pool.load(env(pass_rates=str(tmp_path / "none.jsonl")), STEPS)


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"min_pass_rate": 0.5, "max_pass_rate": 0.2}, "min_pass_rate", "at most envs[0].max_pass_rate"),
        ({"pass_rates": ""}, "curriculum", "expected a file in envs[0].pass_rates"),
        ({"reprofile_window": 1}, "reprofile_window", "0 or at least 2"),
        ({"mean_start": 0.2, "mean_end": 0.8}, "mean_end", "it falls"),
        ({"step_deadline_s": 9.0, "episode_deadline_s": 3.0}, "step_deadline_s", "a step is part of it"),
    ],
)
def test_fields_that_contradict_each_other_are_named(fields: dict, path: str, words: str) -> None:
    problems = list(combinations(RunConfig(envs=[env(**fields)])))
    assert [problem.path for problem in problems] == [f"envs[0].{path}"]
    assert words in problems[0].message


def test_a_run_follows_its_curriculum_and_a_resumed_one_draws_the_same(
    run_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    path = write(tmp_path / "p.jsonl", [row(seed, seed / 20) for seed in range(21)])

    def configured(name: str) -> RunConfig:
        config = run_config(
            name=name, trainer__steps=5, trainer__save_every=1, evaluation__tasks_per_env=0,
            trainer__keep_checkpoints=9,
        )  # fmt: skip
        # Accuracy cannot rise by all of 1: every second step is a plateau.
        config.envs = [env(pass_rates=path, spread=0.1, reprofile_window=2, reprofile_margin=1.0)]
        return config

    assert train(configured("whole")) == 0
    whole = RunDir(Path(configured("whole").runs_dir) / "whole")
    shown = [record["envs"][PARITY] for record in records(whole.root)]
    assert [share["curriculum"]["target"] for share in shown] == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2])
    assert ["reprofiled" in share for share in shown] == [False, True, False, True, False]
    assert all(share["curriculum"]["pool"] == 21 for share in shown)
    half = configured("half")
    half.trainer.steps = 3
    assert train(half) == 0
    run = RunDir(Path(half.runs_dir) / "half")
    half.trainer.steps, half.envs[0].curriculum_steps = 5, 0
    assert train(half, resume=run.root) == 0
    # The mean falls over trainer.steps, so the first steps of the shorter run differ; what was re-profiled
    # at step 2 is remembered, and the draws of a resumed run are those of a run that was never stopped.
    again = Curriculum(half.envs, 5)
    again.recall(run, 3)
    drawn = again.pools[PARITY].draw(6, 4, half.seed)
    assert {task.seed for task in drawn} == {row["task_seed"] for row in untimed(run.rollouts_of(4))}
