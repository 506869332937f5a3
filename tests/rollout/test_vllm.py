"""vLLM's CPU build, for real: log-probs as ours and transformers', weights changed in memory, kill -9."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rolloom.policy.checkpoint import load_policy, save_policy, to_released
from rolloom.policy.config import HybridConfig
from rolloom.policy.model import HybridLM
from rolloom.rollout import engines_setup
from rolloom.rollout.engines_check import own_logprobs
from rolloom.rollout.types import EngineError
from rolloom.rollout.vllm_client import Partial, VllmCompletion, VllmProcess, VllmRequest
from rolloom.rollout.weights import to_arrays, weights_checksum

pytestmark = pytest.mark.slow
TOLERANCE = 1e-3
PATTERN = "M-M*-M-"
SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 40, "ssm_state_size": 16, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1,
    "chunk_size": 16,
}  # fmt: skip
LARGE: dict[str, Any] = {
    "vocab_size": 1024, "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 32, "intermediate_size": 512, "ssm_state_size": 32, "mamba_num_heads": 16,
    "mamba_head_dim": 32, "n_groups": 1, "chunk_size": 64,
}  # fmt: skip
LENGTHS = (2, 3, 17, 64, 65, 129, 257)


def random_policy(shape: dict[str, Any], seed: int, scale: float) -> HybridLM:
    """A policy whose matrices are `scale` times as large as at initialisation, and everything else random."""
    model = HybridLM(HybridConfig(PATTERN, **shape), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("A_log", "dt_bias", ".D", "norm.weight", "norm_f.weight", ".bias")):
                tensor += 0.5 * torch.randn(tensor.shape, generator=generator)
            else:
                tensor *= scale
    return model


def prompts(vocabulary: int, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    return [
        torch.randint(vocabulary, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in lengths
    ]


def difference(theirs: list[np.ndarray], ours: list[torch.Tensor]) -> float:
    return max(float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(theirs, ours, strict=True))


def of_completion(model: HybridLM, prompt: list[int], completion: VllmCompletion) -> torch.Tensor:
    """Our log-probabilities of what was sampled after a prompt."""
    return own_logprobs(model, [prompt + completion.ids])[0][len(prompt) - 1 :]


def completions(engine: VllmProcess, count: int, seconds: float = 60.0) -> dict[str, VllmCompletion]:
    """Wait for completions, ignoring streamed parts."""
    done: dict[str, VllmCompletion] = {}
    deadline = time.monotonic() + seconds
    while len(done) < count:
        event = engine.next_event(max(0.0, deadline - time.monotonic()))
        assert event is not None, f"{len(done)} of {count} completions within {seconds} s"
        if isinstance(event, VllmCompletion):
            done[event.id] = event
    return done


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return engines_setup.interpreter(engines_setup.recipe("vllm", cpu=True))
    except engines_setup.EngineSetupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridLM, Path]:
    directory = tmp_path_factory.mktemp("vllm-policy")
    save_policy(random_policy(SMALL, 0, 10.0), directory)
    return load_policy(directory), directory


@pytest.fixture(scope="module")
def shared(python: Path, policy: tuple[HybridLM, Path]) -> Iterator[VllmProcess]:
    with VllmProcess(python, policy[1], context=512, slots=16) as engine:
        yield engine


@pytest.fixture
def engine(shared: VllmProcess, policy: tuple[HybridLM, Path]) -> Iterator[VllmProcess]:
    """The module's engine, with its first weights and nothing in flight afterwards."""
    yield shared
    shared.abort()
    shared.call("resume")
    while shared.next_event(0.0) is not None:
        pass
    if shared.health()["version"]:
        shared.update_weights(to_released(policy[0].state_dict()), 0)


@pytest.mark.parametrize(("shape", "scale"), [(SMALL, 10.0), (LARGE, 4.0)], ids=["small", "2.6M"])
def test_same_logprobs_as_ours_and_transformers(
    python: Path, tmp_path: Path, shape: dict[str, Any], scale: float
) -> None:
    from transformers import AutoModelForCausalLM

    model = random_policy(shape, 0, scale)
    save_policy(model, tmp_path)
    peer = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    sequences = prompts(shape["vocab_size"])
    with VllmProcess(python, tmp_path, context=512, slots=16) as engine:
        scored = engine.score(sequences)
        asked = [
            VllmRequest(f"r{n}", ids[: n // 2 + 1], n, 40) for n, ids in zip(LENGTHS, sequences, strict=True)
        ]
        sampled = engine.generate(asked)
    ours = own_logprobs(model, sequences)
    worst = {"scored, ours": difference(scored, ours)}
    theirs = []
    with torch.no_grad():
        for ids in sequences:
            tokens = torch.tensor([ids])
            logp = torch.log_softmax(peer(tokens, use_cache=False).logits.float(), -1)[0, :-1]
            theirs.append(logp.gather(1, tokens[0, 1:, None])[:, 0])
    worst["scored, transformers"] = difference(scored, theirs)
    worst["sampled, ours"] = difference(
        [completion.logprobs for completion in sampled],
        [of_completion(model, request.ids, done) for request, done in zip(asked, sampled, strict=True)],
    )
    print(f"\n{sum(p.numel() for p in model.parameters())} parameters:", worst)
    assert min(float(row.min()) for row in ours) < -6, "too flat to tell two models apart"
    assert all(len(completion.ids) == 40 and completion.finish == "length" for completion in sampled)
    assert max(worst.values()) <= TOLERANCE, worst


def test_vllm_by_itself_agrees_where_the_time_step_is_not_bounded(python: Path, tmp_path: Path) -> None:
    model = random_policy({**SMALL, "time_step_min": 1e-30}, 0, 10.0)
    save_policy(model, tmp_path)
    sequences = prompts(101)
    with VllmProcess(python, tmp_path, bound_time_steps=False) as engine:
        worst = difference(engine.score(sequences), own_logprobs(model, sequences))
    assert worst <= TOLERANCE


def test_a_seed_decides_the_tokens_whatever_runs_beside(engine: VllmProcess) -> None:
    ids = prompts(101)[3]
    alone = engine.generate([VllmRequest("a", ids, 5, 30)])[0]
    crowd = [VllmRequest(f"c{n}", ids[:n], n, 50) for n in range(1, 12)]
    among = engine.generate([*crowd, VllmRequest("a", ids, 5, 30)])[-1]
    other = engine.generate([VllmRequest("a", ids, 6, 30)])[0]
    assert among.ids == alone.ids != other.ids


def test_more_prompt_tokens_than_one_step_takes(engine: VllmProcess, policy: tuple[HybridLM, Path]) -> None:
    asked = [VllmRequest(f"m{n}", prompts(101, (480 + n,))[0], n, 6) for n in range(20)]
    done = engine.generate(asked)
    assert all((one.finish, len(one.ids)) == ("length", 6) for one in done), done[-1].error
    ours = [of_completion(policy[0], one.ids, two) for one, two in zip(asked, done, strict=True)]
    assert difference([one.logprobs for one in done], ours) <= TOLERANCE


def test_sampling_controls(engine: VllmProcess, policy: tuple[HybridLM, Path]) -> None:
    ids = prompts(101)[4]
    base = VllmRequest("x", ids, 1, 24)
    greedy, again = (engine.generate([replace(base, temperature=0.0, seed=seed)])[0] for seed in (1, 2))
    assert greedy.ids == again.ids
    one = engine.generate([replace(base, top_k=1)])[0]
    assert one.ids == greedy.ids
    assert np.abs(one.logprobs).max() < 1e-6, "with one token left its probability is 1"
    cold = engine.generate([replace(base, temperature=0.5)])[0]
    logp = torch.log_softmax(policy[0].logits(policy[0](torch.tensor([ids + cold.ids]))).detach() / 0.5, -1)[
        0
    ]
    expected = logp[len(ids) - 1 : -1].gather(1, torch.tensor(cold.ids)[:, None])[:, 0]
    assert difference([cold.logprobs], [expected]) <= TOLERANCE
    stop = greedy.ids[5]
    stopped = engine.generate([replace(base, temperature=0.0, stop_ids=[stop])])[0]
    assert (stopped.finish, stopped.ids) == ("stop", greedy.ids[: greedy.ids.index(stop) + 1])
    later = engine.generate([replace(base, temperature=0.0, stop_ids=[stop], min_new_tokens=12)])[0]
    assert len(later.ids) >= 12


def test_weights_are_replaced_in_memory_and_proved(
    engine: VllmProcess, policy: tuple[HybridLM, Path], python: Path, tmp_path: Path
) -> None:
    first, second = policy[0], random_policy(SMALL, 1, 8.0)
    sequences, state = prompts(101), to_released(second.state_dict())
    before = engine.health()
    answer = engine.update_weights(state, 7)
    assert answer["checksum"] == weights_checksum(to_arrays(state)) != before["checksum"]
    scored = engine.score(sequences)
    assert difference(scored, own_logprobs(second, sequences)) <= TOLERANCE
    assert difference(scored, own_logprobs(first, sequences)) > 0.5, "the update did not happen"
    request = VllmRequest("u", sequences[3], 3, 20)
    done = engine.generate([request])[0]
    assert (done.policy_version, done.versions) == (7, [(0, 7)])
    assert difference([done.logprobs], [of_completion(second, request.ids, done)]) <= TOLERANCE
    save_policy(second, tmp_path)
    with VllmProcess(python, tmp_path) as fresh:
        assert fresh.loaded["held"] == answer["held"] != engine.loaded["held"]
    assert engine.update_weights(to_released(first.state_dict()), 8)["held"] == engine.loaded["held"]


@pytest.mark.parametrize("in_flight", ["continue", "recompute", "abort"])
def test_an_update_in_flight_stamps_every_token(
    engine: VllmProcess, policy: tuple[HybridLM, Path], in_flight: Any
) -> None:
    first, second = policy[0], random_policy(SMALL, 1, 8.0)
    request = VllmRequest("f", prompts(101)[2], 11, 400, stream=True)
    engine.submit([request])
    seen = 0
    while seen < 5:
        part = engine.next_event(30)
        assert isinstance(part, Partial)
        seen += len(part.ids)
    engine.update_weights(to_released(second.state_dict()), 3, in_flight=in_flight)
    done = completions(engine, 1)["f"]
    assert done.versions[0] == (0, 0)
    if in_flight == "abort":
        assert done.finish == "abort"
        assert len(done.ids) >= seen
        assert len(done.versions) == 1
        assert difference([done.logprobs], [of_completion(first, request.ids, done)]) <= TOLERANCE
        return
    assert len(done.versions) == 2, "the update came after the last token: sample more"
    switch, version = done.versions[1]
    assert (version, done.finish, len(done.ids)) == (3, "length", 400)
    old, new = (of_completion(model, request.ids, done) for model in (first, second))
    told = torch.from_numpy(done.logprobs)
    assert (told[:switch] - old[:switch]).abs().max() <= TOLERANCE
    # Recomputed, the rest is what the new weights say of the whole; otherwise its past stays the old's.
    matches = bool((told[switch:] - new[switch:]).abs().max() <= TOLERANCE)
    assert matches == (in_flight == "recompute")


def test_a_wrong_update_leaves_the_weights_alone(engine: VllmProcess, policy: tuple[HybridLM, Path]) -> None:
    state = to_released(policy[0].state_dict())
    broken = dict(state)
    name, tensor = broken.popitem()
    with pytest.raises(EngineError, match=f"1 tensors do not fit: {name}: expected"):
        engine.update_weights(broken, 4)
    with pytest.raises(EngineError, match="do not fit"):
        engine.update_weights({**state, name: torch.zeros(3)}, 4)
    with pytest.raises(
        EngineError, match="in_flight: expected one of continue, recompute, abort, got 'drop'"
    ):
        engine.update_weights(state, 4, in_flight="drop")  # pyright: ignore[reportArgumentType] - the point
    health = engine.health()
    assert (health["version"], health["broken"]) == (0, "")
    assert difference(engine.score(prompts(101)), own_logprobs(policy[0], prompts(101))) <= TOLERANCE
    assert tensor.shape != (3,)


def test_pause_abort_and_refusals(engine: VllmProcess, policy: tuple[HybridLM, Path]) -> None:
    ids = prompts(101)[2]
    engine.call("pause")
    engine.submit([VllmRequest("p", ids, 1, 10), VllmRequest("q", ids, 2, 10)])
    assert engine.next_event(1.0) is None
    assert engine.health()["in_flight"] == 2
    with pytest.raises(EngineError, match="'p' is in flight already"):
        engine.submit([VllmRequest("p", ids, 1, 10)])
    assert engine.abort(["q", "never sent"]) == 1
    assert completions(engine, 1)["q"].finish == "abort"
    engine.call("resume")
    assert completions(engine, 1)["p"].finish == "length"
    long = engine.generate([VllmRequest("l", prompts(101, (600,))[0], 1, 10)])[0]
    assert (long.finish, long.ids) == ("error", [])
    assert "512" in long.error
    with pytest.raises(EngineError, match=r"sequence 1: .*512"):
        engine.score([[1, 2], [1] * 600])
    assert engine.health()["scoring"] == 0
    with pytest.raises(EngineError, match="at least 2 tokens"):
        engine.score([[1]])
    assert engine.call("reset_prefix_cache")["reset"]
    engine.call("sleep", level=1)
    engine.call("wake")
    assert len(engine.generate([VllmRequest("w", ids, 1, 10)])[0].ids) == 10


def test_killed_worker_answers_for_all_it_had(python: Path, policy: tuple[HybridLM, Path]) -> None:
    engine = VllmProcess(python, policy[1], context=512, slots=4)
    engine.submit([VllmRequest(f"k{n}", prompts(101)[2], n, 480) for n in range(8)])
    threading.Timer(0.2, os.kill, (engine.pid, signal.SIGKILL)).start()
    done = completions(engine, 8)
    lost = [one for one in done.values() if one.finish == "error"]
    assert lost
    assert all("has ended with status -9" in one.error for one in lost)
    assert not engine.alive
    with pytest.raises(EngineError, match="has ended with status -9"):
        engine.health()
    engine.close()


def test_a_checkpoint_vllm_refuses(python: Path, tmp_path: Path) -> None:
    experts = {"n_routed_experts": 4, "moe_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16}
    save_policy(HybridLM(HybridConfig("ME", **{**SMALL, **experts})), tmp_path)
    with pytest.raises(EngineError, match="is_act_and_mul"):
        VllmProcess(python, tmp_path)
