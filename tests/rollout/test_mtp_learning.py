"""A learner that trains a multi-token prediction block along: only the block notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rolloom.configs.schema import TrainerConfig
from rolloom.policy.batch import TrainSequence
from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.rollout.boosting import with_block
from rolloom.rollout.learner import Learner

MakeLearner = Callable[..., Learner]


@pytest.fixture(scope="module")
def with_mtp(policy_path: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("with-mtp")
    for file in Path(policy_path).iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    save_policy(with_block(load_policy(policy_path), seed=4), directory)
    return str(directory)


@pytest.fixture
def learner(with_mtp: str) -> MakeLearner:
    def make(path: str = with_mtp, **settings: Any) -> Learner:
        defaults = {"learning_rate": 1e-3, "warmup_steps": 0, "threads": 1, "microbatch_tokens": 128}
        return Learner(path, TrainerConfig(**{**defaults, **settings}), 1.0, "cpu", "float32", path)

    return make


def sequences(advantages: tuple[float, ...]) -> list[TrainSequence]:
    rng = np.random.default_rng(0)
    return [
        TrainSequence(
            rng.integers(0, 250, 40).astype(np.int32), np.arange(40) >= 12,
            np.full(40, -3.0, np.float32), advantage, None, policy_version=0,
        )
        for advantage in advantages
    ]  # fmt: skip


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


def test_what_the_policy_learns_does_not_depend_on_the_block(learner: MakeLearner) -> None:
    data = sequences((1.0, -0.5, 0.0, 0.25))
    found = []
    for weight in (0.0, 0.3, 30.0):
        each = learner(mtp_loss_weight=weight)
        stats = [each.train(data, step) for step in (1, 2)]
        assert (stats[1]["mtp_loss"] > 0) == (weight > 0)
        found.append((weights(each), [{**s, "mtp_loss": 0, "learn_s": 0} for s in stats]))
    before = weights(learner())
    for name, tensor in found[0][0].items():
        drafting = name.startswith("mtp.")
        assert torch.equal(tensor, found[1][0][name]) != (drafting and ".gate." not in name), name
        assert torch.equal(tensor, found[2][0][name]) or drafting
        if drafting:
            assert torch.equal(tensor, before[name])
    assert found[0][1] == found[1][1] == found[2][1]


def test_the_block_learns_from_every_trajectory(learner: MakeLearner) -> None:
    each, data = learner(mtp_loss_weight=0.3, learning_rate=1e-2), sequences((0.0, 0.0, 0.0))
    before = weights(each)
    losses = [each.train(data, step)["mtp_loss"] for step in range(1, 13)]
    assert losses[-1] < 0.9 * losses[0]
    moved = {name for name, tensor in weights(each).items() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith("mtp.") for name in moved)


def test_a_policy_without_a_block_has_no_such_loss(learner: MakeLearner, policy_path: str) -> None:
    assert learner(policy_path).train(sequences((1.0, -1.0)), 1)["mtp_loss"] == 0.0
