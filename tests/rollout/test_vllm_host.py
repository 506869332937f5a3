"""vLLM behind the calls that runs make of an engine: owners, sessions, weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_runs
import torch

from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.policy.config import HybridConfig
from rolloom.policy.model import HybridLM
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.rollout import engines_setup
from rolloom.rollout.engines_check import own_logprobs
from rolloom.rollout.types import EngineError, Request
from rolloom.rollout.vllm_host import VllmHost
from rolloom.rollout.weights import to_arrays, weights_checksum

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("dense")
    tokenizer = train_tokenizer([], 300)
    stop = tokenizer.stop_ids[0]
    config = HybridConfig(
        "M-M*-", vocab_size=tokenizer.vocab_size, hidden_size=32, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, intermediate_size=40, ssm_state_size=16, mamba_num_heads=4,
        mamba_head_dim=16, n_groups=1, chunk_size=16, initializer_range=0.15, eos_token_id=stop,
        bos_token_id=stop,
    )  # fmt: skip
    model = HybridLM(config, seed=1)
    with torch.no_grad():
        # One token in three or so ends a completion, so that sessions have turns.
        model.model.embeddings.weight[:, 0] = 4.0
        for name, weight in model.named_parameters():
            if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
                weight[0] = 0.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[stop, 0] = 1.5
    save_policy(model, directory)
    tokenizer.save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def host(path: str) -> Iterator[VllmHost]:
    try:
        python = engines_setup.interpreter(engines_setup.recipe("vllm", cpu=True))
    except engines_setup.EngineSetupError as error:
        pytest.skip(str(error))
    made = VllmHost(path, 8, 256, "float32", 1, threaded=True, python=python)
    yield made
    made.stop()


collect = partial(small_runs.collect, seconds=60)


def asked(name: str, ids: list[int], **changes: Any) -> Request:
    return Request(name, ids, **{"seed": 3, "max_new_tokens": 30, **changes})


def test_owners_and_refusals(host: VllmHost) -> None:
    host.submit("a", [asked(f"a{n}", [5, 6, 7], seed=n) for n in range(9)], [])
    host.submit(
        "b", [asked("b0", [8] * 300), asked("b1", []), asked("b2", [1], session="s", continues=True)], []
    )
    ours, theirs = collect(host, "a", 9), collect(host, "b", 3)
    assert {one.finish for one in ours.values()} <= {"stop", "length"}
    assert [theirs[f"b{n}"].finish for n in range(3)] == ["length", "error", "error"]
    assert "fills the context of 256" in theirs["b0"].error
    assert "session s is not held" in theirs["b2"].error
    assert host.status()["in_flight"] == 0


def test_a_session_goes_on_from_all_its_tokens(host: VllmHost, path: str) -> None:
    model = load_policy(path)
    ids, ends = [5, 6, 7, 9], 0
    for seed in range(6):
        session = f"turns-{seed}"
        host.submit("a", [asked("first", ids, seed=seed, session=session)], [])
        first = collect(host, "a", 1)["first"]
        host.submit("a", [asked("second", [11, 12], seed=seed, session=session, continues=True)], [])
        second = collect(host, "a", 1)["second"]
        assert (second.finish == "error") == (first.finish != "stop")
        if first.finish == "stop":
            ends += 1
            past = [*ids, *first.ids, 11, 12]
            ours = own_logprobs(model, [past + second.ids])[0][len(past) - 1 :]
            assert (torch.from_numpy(second.logprobs) - ours).abs().max() <= 1e-3
    assert ends >= 2


def test_weights(host: VllmHost, path: str) -> None:
    request = asked("w", [5, 6, 7], seed=1)
    host.submit("a", [request], [])
    old = collect(host, "a", 1)["w"]
    state = to_arrays(load_policy(path).state_dict())
    first = (state, 8, weights_checksum(state))
    changed = {**state, "lm_head.weight": state["lm_head.weight"] * np.float32(0.1)}
    with pytest.raises(EngineError, match="expected checksum"):
        host.load_weights(changed, 7, first[2])
    checksum = weights_checksum(changed)
    host.submit("a", [asked("gone", [5], max_new_tokens=200, temperature=2.0)], [])
    assert host.load_weights(changed, 7, checksum) == checksum
    assert collect(host, "a", 1)["gone"].finish in ("abort", "stop")
    host.submit("a", [request], [])
    new = collect(host, "a", 1)["w"]
    assert (old.policy_version, new.policy_version) == (0, 7)
    assert new.ids != old.ids
    host.load_weights(*first)
    host.submit("a", [request], [])
    assert collect(host, "a", 1)["w"].ids == old.ids


def test_the_end_of_vllm_is_told(path: str, host: VllmHost) -> None:
    python = Path(engines_setup.interpreter(engines_setup.recipe("vllm", cpu=True)))
    lone = VllmHost(path, 8, 256, "float32", 1, threaded=True, python=python)
    lone.submit("a", [asked("k", [5], max_new_tokens=250, temperature=2.0)], [])
    lone.process.kill()
    told = collect(lone, "a", 1)["k"]
    assert told.finish == "stop" or "has ended with status -9" in told.error
    with pytest.raises(EngineError, match="has ended with status -9"):
        for _ in range(50):
            lone.status()
            time.sleep(0.1)
    lone.stop()
