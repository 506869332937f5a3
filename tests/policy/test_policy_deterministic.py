"""Deterministic mode on a CPU: packed equals alone, and decoding equals scoring, to the last bit in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.logprob.op import linear_logprob
from rolloom.kernels.packing import Packing
from rolloom.policy.batch import TrainSequence, make_microbatches
from rolloom.policy.config import HybridConfig, preset
from rolloom.policy.model import HybridLM
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, Request

VOCAB = 97
MEDIUM: dict[str, Any] = {
    "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
    "intermediate_size": 1024, "ssm_state_size": 64, "mamba_num_heads": 16, "mamba_head_dim": 64,
    "n_groups": 2, "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 256,
    "moe_shared_expert_intermediate_size": 512,
}  # fmt: skip
POLICIES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "groups": {"n_groups": 2, "n_group": 2, "topk_group": 1, "use_bias": True, "mlp_bias": True},
    "latent": {"moe_latent_size": 48, "num_key_value_heads": 1},
}


@pytest.fixture(autouse=True)
def pinned() -> Iterator[None]:
    with deterministic():
        yield


def make(name: str, **changes: object) -> HybridLM:
    """A policy whose weights are large enough that everything in it matters."""
    model = HybridLM(preset("tiny", **{"vocab_size": VOCAB, **POLICIES.get(name, {}), **changes}), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def sequences(lengths: list[int], seed: int = 0) -> list[TrainSequence]:
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        mask = rng.random(length) < 0.6
        mask[0], mask[-1] = False, True
        ids = rng.integers(0, VOCAB, length).astype(np.int32)
        logprobs = np.zeros(length, np.float32)
        rows.append(TrainSequence(ids, mask, logprobs, float(rng.normal()), None, 0))
    return rows


def learn(model: HybridLM, rows: list[TrainSequence], budget: int) -> tuple[list[torch.Tensor], dict]:
    """Log-probabilities of every microbatch and the accumulated gradients."""
    scored = []
    for micro in make_microbatches(rows, budget):
        hidden = model(micro.ids, micro.packing)[micro.at]
        weight = model.lm_head.weight
        logp, entropy = linear_logprob(hidden, weight, micro.targets, 0.8, bounds=micro.sampled.bounds)
        (logp * micro.advantages + 0.01 * entropy).sum().backward()
        scored.append(logp.detach())
    return scored, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", POLICIES)
def test_a_packed_batch_has_the_bits_of_its_sequences_alone(name: str) -> None:
    rows = sequences([2, 5, 31, 32, 33, 47, 64, 65, 150, 300])
    (together, pulled), (alone, expected), (mixed, _) = (
        learn(make(name), rows, budget) for budget in (10**6, 1, 100)
    )
    assert [len(scored) for scored in (together, alone)] == [1, len(rows)]
    for scored in (alone, mixed):
        assert torch.equal(torch.cat(scored), together[0])
    assert expected.keys() == pulled.keys() and len(pulled) > 30
    for key, gradient in expected.items():
        assert gradient.abs().max() > 0 and torch.equal(gradient, pulled[key]), key


def test_recomputed_activations_change_no_bit() -> None:
    rows = sequences([40, 70, 3])
    kept, again = make("tiny"), make("tiny")
    again.recompute = True
    first, second = learn(kept, rows, 1000), learn(again, rows, 1000)
    assert torch.equal(first[0][0], second[0][0])
    assert all(torch.equal(value, second[1][key]) for key, value in first[1].items())


def answers(engine: NativeEngine, requests: list[Request]) -> dict[str, Completion]:
    engine.submit(requests)
    done: dict[str, Completion] = {}
    while engine.busy:
        done |= {completion.id: completion for completion in engine.step()}
    return done


def requests(count: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    return [
        Request(
            id=f"r{index}", ids=rng.integers(3, VOCAB, int(rng.integers(1, 90))).tolist(), seed=index,
            max_new_tokens=int(rng.integers(1, 80)), temperature=float(rng.choice([0.0, 0.7, 1.0])),
        )
        for index in range(count)
    ]  # fmt: skip


def same_bits(model: HybridLM, asked: list[Request], done: dict[str, Completion]) -> int:
    """Score every completion in packed batches, experts replayed or not, and compare bits."""
    compared = 0
    for request in asked:
        completion = done[request.id]
        ids = torch.tensor([*request.ids, *completion.ids])
        with torch.no_grad():
            # Beside it in the batch stand two others: what was sampled must not notice.
            company = torch.arange(3, 40)
            packing = Packing.of([len(company), len(ids) - 1, 5])
            hidden = model(torch.cat((company, ids[:-1], company[:5])), packing)
            first = len(company) + len(request.ids) - 1
            mine = hidden[first : first + len(completion.ids)]
            logp, _ = linear_logprob(mine, model.lm_head.weight, ids[len(request.ids) :],
                                     request.temperature or 1.0)  # fmt: skip
        assert np.array_equal(logp.numpy(), completion.logprobs), request.id
        compared += len(completion.ids)
    return compared


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", POLICIES)
def test_sampled_log_probabilities_are_the_learner_s_bits(name: str) -> None:
    model = make(name).eval()
    asked = requests(24, seed=3)
    done = answers(NativeEngine(model, [0], slots=11, context=200), asked)
    assert same_bits(model, asked, done) > 400


@pytest.mark.usefixtures("threads")
def test_sampling_does_not_depend_on_the_batch() -> None:
    model = make("tiny").eval()
    asked = requests(20, seed=4)
    together = answers(NativeEngine(model, [0], slots=20, context=200), asked)
    for slots in (1, 7):
        other = answers(NativeEngine(model, [0], slots=slots, context=200), asked[::-1])
        for key, completion in together.items():
            assert completion.ids == other[key].ids
            assert np.array_equal(completion.logprobs, other[key].logprobs)
            first, second = completion.experts, other[key].experts
            assert first is not None and second is not None and np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
@pytest.mark.timeout(600)
def test_thirty_million_parameters_have_the_learner_s_bits() -> None:
    config = HybridConfig(pattern="MEM*EMEM*EM-", vocab_size=4096, **MEDIUM)
    model = HybridLM(config, seed=2).eval()
    assert 20e6 < sum(p.numel() for p in model.parameters()) < 60e6
    asked = requests(32, seed=5)
    done = answers(NativeEngine(model, [0], slots=16, context=200), asked)
    assert same_bits(model, asked, done) > 800
    rows = sequences([2, 33, 64, 150, 300])
    one, each = learn(model, rows, 10**6), {}
    model.zero_grad(set_to_none=True)
    each = learn(model, rows, 1)
    assert all(torch.equal(value, each[1][key]) for key, value in one[1].items())


def test_the_facts_that_deterministic_mode_rests_on() -> None:
    """If a build of torch breaks one of these, this says which."""
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(300, 96, generator=draw), torch.randn(80, 96, generator=draw)
    whole = invariant.product(x, w.T)
    for begin, count in ((0, 1), (5, 2), (17, 3), (40, 16), (7, 33), (100, 150)):
        rows = slice(begin, begin + count)
        assert torch.equal(invariant.product(x[rows], w.T), whole[rows])
        for function in (torch.exp, invariant.silu, invariant.softplus, invariant.sigmoid):
            assert torch.equal(function(x[rows]), function(x)[rows]), function
        assert torch.equal(torch.log_softmax(x[rows], -1), torch.log_softmax(x, -1)[rows])
        assert torch.equal(x[rows].square().mean(-1), x.square().mean(-1)[rows])
