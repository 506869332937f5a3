"""The learner on real rollouts of a real engine: what a step changes, what it must not, how it resumes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fault_envs import CHAT, PARITY
from small_runs import Bench

from rolloom.configs.schema import RewardConfig, TrainerConfig
from rolloom.envs.types import StopReason
from rolloom.policy.batch import TrainSequence
from rolloom.rollout.grpo import shape_batch
from rolloom.rollout.learner import OPTIMIZER, Learner
from rolloom.rollout.types import Trajectory


@pytest.fixture(scope="module")
def trajectories(policy_path: str) -> list[Trajectory]:
    bench = Bench(policy_path, {}, threaded=False)
    return bench.run(PARITY, CHAT, PARITY, CHAT, samples=4)


@pytest.fixture(scope="module")
def sequences(trajectories: list[Trajectory]) -> list[TrainSequence]:
    shaped = shape_batch(trajectories, RewardConfig(efficiency="none"), TrainerConfig())
    assert any(shaped.advantages)
    return shaped.sequences


MakeLearner = Callable[..., Learner]


@pytest.fixture
def learner(policy_path: str) -> MakeLearner:
    def make(path: str = policy_path, **settings: Any) -> Learner:
        defaults = {"learning_rate": 1e-3, "warmup_steps": 0, "threads": 1, "microbatch_tokens": 512}
        config = TrainerConfig(**{**defaults, **settings})
        return Learner(path, config, 1.0, "cpu", "float32", policy_path)

    return make


def logp(learner: Learner, sequences: Sequence[TrainSequence]) -> np.ndarray:
    """Mean log-prob of each sequence's sampled tokens, through the learner's own measurement."""
    from rolloom.kernels.logprob.op import linear_logprob
    from rolloom.policy.batch import make_microbatches

    means = []
    for sequence in sequences:
        (micro,) = make_microbatches([sequence], 10**6)
        with torch.no_grad():
            hidden = learner.model(micro.ids, micro.packing, micro.replay)[micro.at]
            values, _ = linear_logprob(hidden, learner.model.lm_head.weight, micro.targets)
        means.append(float(values.mean()))
    return np.array(means)


def with_advantages(sequences: Sequence[TrainSequence], advantages: Sequence[float]) -> list[TrainSequence]:
    return [dataclasses.replace(s, advantage=a) for s, a in zip(sequences, advantages, strict=True)]


def state(learner: Learner) -> dict[str, np.ndarray]:
    return learner.weights()[0]


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_step_makes_good_completions_likelier_and_bad_ones_less_likely(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    made = learner()
    chosen = sequences[:4]
    batch = with_advantages(chosen, [1.0, -1.0, 1.0, -1.0])
    before = logp(made, chosen)
    made.train(batch, step=1)
    change = logp(made, chosen) - before
    assert min(change[[0, 2]]) > 0 > max(change[[1, 3]])


def test_the_sampler_and_the_learner_agree_before_the_first_update(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    stats = learner().train(sequences, step=1)
    assert 0 <= stats["logprob_diff_mean"] <= stats["logprob_diff_max"] <= 1e-4
    assert stats["clip_fraction"] == 0
    assert stats["kl"] == 0
    assert 0 < stats["entropy"] < np.log(384)
    assert stats["trained_tokens"] == sum(len(s.ids) for s in sequences)
    # On-policy the ratio is 1, so the loss is minus the mean advantage over tokens.
    tokens = [int(s.mask.sum()) for s in sequences]
    mean = sum(s.advantage * n for s, n in zip(sequences, tokens, strict=True)) / sum(tokens)
    assert stats["loss"] == pytest.approx(-mean, abs=1e-5)
    wrong = [dataclasses.replace(s, logprobs=s.logprobs - 0.125 * s.mask) for s in sequences]
    assert learner().train(wrong, step=1)["logprob_diff_mean"] == pytest.approx(0.125, abs=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_batch_without_advantages_leaves_every_weight_alone(
    learner: MakeLearner, sequences: list[TrainSequence], decay: float
) -> None:
    made = learner(weight_decay=decay)
    before = state(made)
    stats = made.train(with_advantages(sequences, [0.0] * len(sequences)), step=1)
    assert same(before, state(made))
    assert stats["grad_norm"] == 0
    assert stats["entropy"] > 0
    assert 0 < stats["logprob_diff_max"] <= 1e-4
    assert made.train([], step=2)["loss"] == 0
    assert same(before, state(made))


def test_the_step_does_not_depend_on_how_it_is_cut_into_microbatches(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    small, large = learner(microbatch_tokens=64), learner(microbatch_tokens=10**6)
    one, two = small.train(sequences, step=1), large.train(list(reversed(sequences)), step=1)
    assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-4)
    for name, value in state(small).items():
        # Adam's first step is the gradient's sign: where the gradient is all but zero, either may come out.
        close = np.isclose(value, state(large)[name], atol=1e-5)
        assert close.mean() > 0.995, name


def test_failed_trajectories_never_reach_the_learner(
    trajectories: list[Trajectory], sequences: list[TrainSequence]
) -> None:
    broken = [*trajectories]
    broken[2] = dataclasses.replace(broken[2], score=None, stop=StopReason.ENV_ERROR)
    shaped = shape_batch(broken, RewardConfig(efficiency="none"), TrainerConfig())
    assert len(shaped.sequences) == len(sequences) - 1
    assert not any(np.array_equal(s.ids, broken[2].ids) for s in shaped.sequences[:3])
    all_failed = [dataclasses.replace(t, score=None, stop=StopReason.ENV_ERROR) for t in trajectories]
    assert shape_batch(all_failed, RewardConfig(), TrainerConfig()).sequences == []


def test_a_checkpoint_goes_on_to_the_same_bits(
    learner: MakeLearner, sequences: list[TrainSequence], tmp_path: Path
) -> None:
    settings = {
        "weight_decay": 0.01,
        "warmup_steps": 2,
        "schedule": "linear",
        "steps": 6,
        "updates_per_step": 2,
    }
    straight, first = learner(**settings), learner(**settings)
    for step in (1, 2, 3):
        straight.train(sequences, step)
    first.train(sequences, 1)
    path = first.save(str(tmp_path), 1, {"note": "kept"})
    second = learner(path, **settings)
    assert same(state(first), state(second))
    second.train(sequences, 2)
    third = learner(second.save(str(tmp_path), 2, {}), **settings)
    third.train(sequences, 3)
    assert same(state(straight), state(third))
    assert straight.weights()[1] == third.weights()[1]
    # Without the optimizer's state the same step leads elsewhere: the comparison can fail.
    (Path(path) / OPTIMIZER).unlink()
    forgetful = learner(path, **settings)
    forgetful.train(sequences, 2)
    assert not same(state(second), state(forgetful))


def test_a_new_run_from_a_checkpoint_starts_with_a_fresh_optimizer(
    learner: MakeLearner, sequences: list[TrainSequence], tmp_path: Path
) -> None:
    first = learner()
    first.train(sequences, 1)
    path = first.save(str(tmp_path), 1, {})
    assert learner(path).optimizer.state
    assert not Learner(path, first.config, 1.0, "cpu", "float32", path).optimizer.state


def test_a_learner_that_never_stepped_can_be_saved(learner: MakeLearner, tmp_path: Path) -> None:
    made = learner()
    assert same(state(made), state(learner(made.save(str(tmp_path), 1, {}))))


def test_several_updates_a_step_use_every_sequence_once_and_clip(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    made = learner(updates_per_step=4, learning_rate=0.02)
    parts = made._split(sequences, step=3)
    assert [len(part) for part in parts] == [4, 4, 4, 4]
    assert {id(s) for part in parts for s in part} == {id(s) for s in sequences}
    assert [[id(s) for s in part] for part in parts] == [
        [id(s) for s in p] for p in made._split(sequences, 3)
    ]
    stats = made.train(sequences, step=3)
    assert 0 < stats["clip_fraction"] < 1
    # Measured before the first update only: later ones are meant to differ.
    assert stats["logprob_diff_max"] <= 1e-4


def test_kl_is_measured_against_the_initial_policy_and_holds_back(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    free, held = learner(kl_coefficient=1e-9), learner(kl_coefficient=10.0)
    assert free.train(sequences, 1)["kl"] == pytest.approx(0, abs=1e-6)
    held.train(sequences, 1)
    for step in range(2, 8):
        drift, tight = free.train(sequences, step)["kl"], held.train(sequences, step)["kl"]
    assert drift > 2 * tight > 0


@pytest.mark.parametrize("train_router", [False, True])
def test_the_router_is_frozen_unless_asked(
    learner: MakeLearner, sequences: list[TrainSequence], train_router: bool
) -> None:
    made = learner(train_router=train_router)
    before = state(made)
    made.train(sequences, 1)
    changed = {name for name, value in state(made).items() if not np.array_equal(value, before[name])}
    routers = {name for name in before if name.endswith(".gate.weight")}
    assert routers
    assert (routers <= changed) if train_router else not (routers & changed)
    assert {"lm_head.weight", "model.embeddings.weight"} <= changed


def test_the_selection_bias_moves_against_the_load(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    still, moved = learner(), learner(expert_bias_rate=1e-3)
    before = {name: value.copy() for name, value in state(moved).items()}
    stats = moved.train(sequences, 1)
    assert still.train(sequences, 1)["expert_violation"] == stats["expert_violation"] > 0
    assert 0 < stats["expert_entropy"] <= 1 and stats["dead_experts"] >= 0
    names = [name for name in before if name.endswith("e_score_correction_bias")]
    counts = np.zeros((len(names), len(before[names[0]])), np.int64)
    for sequence in sequences:
        assert sequence.experts is not None
        for layer, row in enumerate(counts):
            row += np.bincount(sequence.experts[:, layer].ravel(), minlength=len(row))
    for name, load in zip(names, counts, strict=True):
        expected = 1e-3 * np.sign(load.mean() - load)
        np.testing.assert_allclose(state(moved)[name] - before[name], expected, atol=1e-7)
        assert np.array_equal(state(still)[name], before[name])


def test_the_learning_rate_warms_up_and_decays(learner: MakeLearner) -> None:
    def rates(at: Sequence[int], **settings: Any) -> list[float]:
        made = learner(**settings)
        return [made.train([], step)["learning_rate"] for step in at]

    linear = rates(range(1, 13), warmup_steps=4, schedule="linear", steps=12, learning_rate=1.0)
    assert linear[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(a > b > 0 for a, b in itertools.pairwise(linear[4:]))
    assert rates((1, 2, 3, 1000), warmup_steps=2, learning_rate=0.5) == [0.25, 0.5, 0.5, 0.5]


def test_a_gradient_that_is_not_finite_changes_nothing(
    learner: MakeLearner, sequences: list[TrainSequence]
) -> None:
    made = learner()
    before = state(made)
    stats = made.train(with_advantages(sequences, [float("inf"), *[1.0] * (len(sequences) - 1)]), 1)
    assert not np.isfinite(stats["grad_norm"])
    assert same(before, state(made))
