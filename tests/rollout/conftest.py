"""Shared by the rollout tests: a tiny policy made on the fly, environments that misbehave, and small runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_envs
import pytest
import torch
from small_runs import BUILT_IN, HERE, Bench, Child, small_run

from rolloom.configs.schema import RunConfig
from rolloom.policy.checkpoint import save_policy
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.rollout.demonstrations import demonstrations, to_text

STOP_WEIGHT = 1.3

# Read by the workers of a Ray cluster and by child processes when they start.
os.environ["PYTHONPATH"] = os.pathsep.join((str(HERE), os.environ["PYTHONPATH"]))
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
torch.set_num_threads(1)
fault_envs.register_all()


@pytest.fixture(scope="session")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy of about 50,000 random parameters that ends a completion after some 12 tokens."""
    directory = tmp_path_factory.mktemp("policy")
    demos = list(demonstrations(BUILT_IN, (1,), 4, seed=0))
    blank = train_tokenizer([], 300)
    tokenizer = train_tokenizer((to_text(blank, demo) for demo in demos), 384)
    config = preset(
        "tiny", pattern="M*E", vocab_size=tokenizer.vocab_size, hidden_size=32, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, ssm_state_size=16, mamba_num_heads=4, mamba_head_dim=16,
        n_routed_experts=4, moe_intermediate_size=32, moe_shared_expert_intermediate_size=32,
        initializer_range=0.15, eos_token_id=tokenizer.stop_ids[0], bos_token_id=tokenizer.stop_ids[0],
        pad_token_id=0,
    )  # fmt: skip
    model = HybridLM(config, seed=1)
    with torch.no_grad():
        # A component that every token has and no layer changes carries the stop token's logit to the head.
        model.model.embeddings.weight[:, 0] = 4.0
        for name, weight in model.named_parameters():
            if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight", "down_proj")):
                weight.select(-2, 0).zero_()
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[tokenizer.stop_ids[0], 0] = STOP_WEIGHT
    save_policy(model, directory)
    tokenizer.save(directory)
    return str(directory)


@pytest.fixture
def run_config(policy_path: str, tmp_path: Path) -> Callable[..., RunConfig]:
    """Make a small run's configuration; `trainer__steps=2` changes a field of a section."""
    return lambda **changes: small_run(policy_path, tmp_path / "runs", **changes)


@pytest.fixture
def bench(policy_path: str) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(env_kwargs: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Bench:
        made.append(Bench(policy_path, env_kwargs or {}, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start `rolloom WORDS` in a child process; what is still alive in the end is killed."""
    made: list[Child] = []

    def start(*words: str) -> Child:
        made.append(Child(list(words), tmp_path))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
