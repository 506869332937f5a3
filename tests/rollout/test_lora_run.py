"""The real loop with LoRA on the hybrid and on a transformers policy: what it writes, and how it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import records, small_run, untimed
from test_hf_policy_run import make_policy

from rolloom.configs.errors import ConfigError
from rolloom.configs.load import load_run_config
from rolloom.configs.schema import LoraConfig, RunConfig
from rolloom.kernels.dispatch import deterministic
from rolloom.policy.config import PolicyError
from rolloom.policy.loading import load_any_policy
from rolloom.policy.lora_files import merge_adapter
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.checkpoints import read_checkpoint
from rolloom.rollout.dry_run import dry_run
from rolloom.rollout.evaluate import main as evaluate
from rolloom.rollout.launch import train
from rolloom.rollout.rundir import RunDir

KINDS = ("hybrid", "qwen3")
FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
)


def lora_run(policy: str, runs: Path, **changes: Any) -> RunConfig:
    settings = {"rank": 4, "alpha": 16.0, **changes.pop("lora", {})}
    learning = {"trainer__steps": 3, "trainer__learning_rate": 1e-2}
    return small_run(policy, runs, policy__lora=LoraConfig(**settings), **{**learning, **changes})


@pytest.fixture(scope="module")
def policies(policy_path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("qwen3")
    make_policy(directory, ChatTokenizer.load(policy_path))
    return {"hybrid": policy_path, "qwen3": str(directory)}


@pytest.fixture(scope="module")
def finished(policies: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """Finished runs of three steps."""
    made = {}
    for kind in KINDS:
        runs = tmp_path_factory.mktemp(f"lora-{kind}")
        assert train(lora_run(policies[kind], runs)) == 0
        made[kind] = RunDir(runs / "small")
    return made


def last(run: RunDir) -> Path:
    return read_checkpoint(run.checkpoints / "step_000003").path


@pytest.mark.parametrize("kind", KINDS)
def test_engines_sample_from_what_the_learner_computes_with(kind: str, finished: dict[str, RunDir]) -> None:
    rows = records(finished[kind].root)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["failures"] == 0
        assert row["logprob_diff_max"] <= 1e-4
    assert any(row["grad_norm"] > 0 for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_base_and_adapter_make_the_merged_checkpoint(
    kind: str, finished: dict[str, RunDir], policies: dict[str, str]
) -> None:
    checkpoint, base = last(finished[kind]), load_any_policy(policies[kind]).state_dict()
    trained = load_any_policy(checkpoint).state_dict()
    merged = merge_adapter(load_any_policy(policies[kind]), checkpoint / "adapter").state_dict()
    moved = {name for name in base if not torch.equal(base[name], trained[name])}
    assert all(torch.equal(merged[name], trained[name]) for name in base)
    targets = json.loads((checkpoint / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert moved and {name.removeprefix("hf.").removesuffix(".weight") for name in moved} <= set(targets)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_has_optimizer_state(kind: str, finished: dict[str, RunDir]) -> None:
    checkpoint = last(finished[kind])
    adapter = sum(t.numel() for t in load_file(checkpoint / "adapter" / "adapter_model.safetensors").values())
    state = load_file(checkpoint / "optimizer.safetensors")
    assert all(".lora_" in name for name in state)
    moments = [t.numel() for name, t in state.items() if name.endswith(("/exp_avg", "/exp_avg_sq"))]
    assert sum(moments) == 2 * adapter


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_in_the_same_bits(
    kind: str, finished: dict[str, RunDir], policies: dict[str, str], tmp_path: Path
) -> None:
    config = lora_run(policies[kind], tmp_path, trainer__steps=2)
    assert train(config) == 0
    config.trainer.steps = 3
    run = RunDir(tmp_path / "small")
    assert train(config, resume=run.root) == 0
    for name in FILES:
        assert (last(run) / name).read_bytes() == (last(finished[kind]) / name).read_bytes(), name
    assert untimed(run.after) == untimed(finished[kind].after)


def test_the_reference_of_a_kl_term_is_the_base_without_a_second_copy(
    policies: dict[str, str], tmp_path: Path
) -> None:
    config = lora_run(policies["hybrid"], tmp_path, trainer__kl_coefficient=0.05)
    assert train(config) == 0
    first, second, _ = records(tmp_path / "small")
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert second["kl"] > 1e-5


def test_a_checkpoint_is_a_policy_like_any_other(
    finished: dict[str, RunDir], policies: dict[str, str], tmp_path: Path
) -> None:
    """It can be measured, and a run can start from it, with a new adapter on the merged weights."""
    lines: list[str] = []
    checkpoint = str(last(finished["qwen3"]))
    assert evaluate(small_run(checkpoint, tmp_path), lines.append) == 0
    assert len(lines) == 4
    assert train(lora_run(checkpoint, tmp_path, trainer__steps=1, evaluation__tasks_per_env=0)) == 0
    adapter = RunDir(tmp_path / "small").checkpoints / "step_000001" / "adapter" / "adapter_config.json"
    assert json.loads(adapter.read_text())["base_model_name_or_path"] == checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_counts_the_adapter(
    kind: str, policies: dict[str, str], finished: dict[str, RunDir], tmp_path: Path
) -> None:
    lines: list[str] = []
    assert dry_run(lora_run(policies[kind], tmp_path), policies[kind], lines.append) == 0
    tensors = load_file(last(finished[kind]) / "adapter" / "adapter_model.safetensors")
    assert f"LoRA of {sum(t.numel() for t in tensors.values()):,} parameters" in "\n".join(lines)


def test_deterministic_sampling_equals_the_learner_to_the_bit(
    policies: dict[str, str], tmp_path: Path
) -> None:
    config = lora_run(policies["hybrid"], tmp_path, policy__deterministic=True, evaluation__tasks_per_env=0)
    try:
        assert train(config) == 0
    finally:
        deterministic(False)
    rows = records(tmp_path / "small")
    assert [row["logprob_diff_max"] for row in rows] == [0.0, 0.0, 0.0]
    assert any(row["grad_norm"] > 0 for row in rows[:2])


def test_a_resume_with_another_rank_is_refused(policies: dict[str, str], tmp_path: Path) -> None:
    config = lora_run(policies["hybrid"], tmp_path, trainer__steps=1, evaluation__tasks_per_env=0)
    assert train(config) == 0
    config.policy.lora.rank = 5
    config.trainer.steps = 2
    with pytest.raises(PolicyError, match=r"policy\.lora.*rank 4.*rank 5"):
        train(config, resume=tmp_path / "small")


def test_dropout_repeats_with_the_run(policies: dict[str, str], tmp_path: Path) -> None:
    for name in ("one", "two"):
        config = lora_run(
            policies["qwen3"], tmp_path, name=name, lora={"dropout": 0.3}, evaluation__tasks_per_env=0
        )
        assert train(config) == 0
    one, two = (last(RunDir(tmp_path / name)) for name in ("one", "two"))
    assert (one / FILES[2]).read_bytes() == (two / FILES[2]).read_bytes()
    # B is zero until the first step has moved it.
    assert records(tmp_path / "one")[1]["logprob_diff_max"] > 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy.lora.rank=-1"], r"policy\.lora\.rank"),
        (["policy.lora.rank=4", "policy.lora.alpha=0"], r"policy\.lora\.alpha"),
        (["policy.lora.rank=4", "policy.lora.dropout=1"], r"policy\.lora\.dropout"),
        (["policy.lora.rank=4", "trainer.train_router=true"], "LoRA freezes the routers"),
        (["policy.lora.target_modules=[q_proj]"], "rank of at least 1"),
        (["policy.lora.rnk=4"], "rank"),
    ],
)
def test_wrong_settings_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_run_config("debug", words)
