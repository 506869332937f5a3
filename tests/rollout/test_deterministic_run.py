"""A run in deterministic mode: what was sampled and what is trained on agree to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import small_run

from rolloom.configs.errors import ConfigError
from rolloom.configs.load import load_run_config
from rolloom.kernels.dispatch import deterministic
from rolloom.rollout.launch import train
from rolloom.rollout.rundir import RunDir, read_jsonl


@pytest.fixture(autouse=True)
def off_again() -> Iterator[None]:
    yield
    deterministic(False)


def test_sampler_and_learner_agree_to_the_last_bit(policy_path: str, tmp_path: Path) -> None:
    config = small_run(policy_path, tmp_path, policy__deterministic=True, trainer__steps=2)
    assert train(config) == 0
    steps = list(read_jsonl(RunDir(tmp_path / "small").metrics))
    assert len(steps) == 2
    assert [step["logprob_diff_max"] for step in steps] == [0.0, 0.0]
    assert all(step["generated_tokens"] > 100 for step in steps)


def test_deterministic_mode_is_refused_on_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"policy.deterministic: expected False on policy.device = 'cuda'"):
        load_run_config("quickstart", ["policy.deterministic=true", "policy.device=cuda"])
