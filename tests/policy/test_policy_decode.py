"""Cached sampling passes against the full forward, and right padding that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.kernels.packing import Packing
from rolloom.policy.batch import TrainSequence, make_microbatches
from rolloom.policy.cache import DecodeCache
from rolloom.policy.config import HybridConfig, preset
from rolloom.policy.model import HybridLM

VOCAB = 53
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 40, "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 8,
    "n_routed_experts": 6, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24,
}  # fmt: skip
PATTERNS = {
    "hybrid": {"pattern": "M*EM*-ME", "n_groups": 2},
    "mamba": {"pattern": "MM", "conv_kernel": 2},
    "attention": {"pattern": "*-*", "num_key_value_heads": 4},
    "latent": {"pattern": "E*ME", "moe_latent_size": 12, "n_group": 3, "topk_group": 2},
}


def small(name: str, seed: int = 0) -> HybridLM:
    """A random policy whose distribution is far from uniform."""
    config: HybridConfig = preset("tiny", **{**SIZES, **PATTERNS[name]})
    model = HybridLM(config, seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 6
    return model


def tokens(count: int, seed: int) -> torch.Tensor:
    return torch.randint(VOCAB, (count,), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def full_logits(model: HybridLM, ids: torch.Tensor) -> torch.Tensor:
    return model.lm_head(model(ids[None])[0])


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours.log_softmax(-1), expected.log_softmax(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PATTERNS)
def test_prefill_continuation_and_decode_equal_the_full_forward(name: str) -> None:
    model = small(name)
    parts = [(5, 3), (1, 33), (40, 1), (32, 32)]
    rows = [tokens(first + more + 12, seed) for seed, (first, more) in enumerate(parts)]
    expected = [full_logits(model, row) for row in rows]
    # Row 0 belongs to a sequence that must not be touched.
    cache = DecodeCache(model.config, 5, 96, torch.float32)
    start, fed = 1, [0] * len(rows)
    for turn in range(2):
        counts = [part[turn] for part in parts]
        ids = torch.cat([row[at : at + n] for row, at, n in zip(rows, fed, counts, strict=True)])
        packing = Packing.of(counts)
        hidden, _ = model.feed(ids, packing, cache, start)
        for index, logits in enumerate(model.logits(hidden).split(counts)):
            close(logits, expected[index][fed[index] : fed[index] + counts[index]])
            fed[index] += counts[index]
    assert cache.lengths.tolist() == [0, *fed]
    for index in range(len(rows)):
        cache.copy_row(start + index, index)
    for _ in range(12):
        step = torch.stack([row[at] for row, at in zip(rows, fed, strict=True)])
        hidden, _ = model.decode(step, cache, max(fed) + 1)
        for index, row_logits in enumerate(model.logits(hidden)):
            close(row_logits, expected[index][fed[index]])
        fed = [at + 1 for at in fed]


@pytest.mark.parametrize("name", PATTERNS)
def test_a_parked_row_continues_in_another_row(name: str) -> None:
    model = small(name)
    first, other = tokens(50, 1), tokens(60, 2)
    expected = full_logits(model, first)
    cache = DecodeCache(model.config, 2, 64, torch.float32)
    model.feed(first[:37], Packing.of([37]), cache, 0)
    parked = cache.park(0)
    cache.clear(0, 2)
    model.feed(other, Packing.of([60]), cache, 0)
    cache.copy_row(0, 1)
    cache.restore(parked, 1)
    hidden, _ = model.feed(first[37:49], Packing.of([12]), cache, 1)
    close(model.logits(hidden), expected[37:49])
    cache.copy_row(1, 0)
    hidden, _ = model.decode(first[49:], cache, 50)
    close(model.logits(hidden)[0], expected[49])


@pytest.mark.parametrize("name", ["hybrid", "latent"])
def test_passes_report_the_experts_of_the_full_forward(name: str) -> None:
    model, ids = small(name), tokens(30, 3)
    recorded: list[torch.Tensor] = []
    with torch.no_grad():
        model(ids[None], recorded=recorded)
    expected = torch.stack(recorded, 1).sort(-1).values
    cache = DecodeCache(model.config, 1, 64, torch.float32)
    _, chosen = model.feed(ids[:29], Packing.of([29]), cache, 0)
    _, last = model.decode(ids[29:], cache, 30)
    assert chosen.shape == (29, model.config.moe_layers, model.config.num_experts_per_tok)
    assert torch.equal(torch.cat((chosen, last)).sort(-1).values.long(), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["hybrid", "latent"])
def test_replaying_the_recorded_experts_changes_no_bit(name: str) -> None:
    model, ids = small(name), tokens(40, 4)[None]
    recorded: list[torch.Tensor] = []
    hidden = model(ids, recorded=recorded)
    chosen = torch.stack(recorded, 1)[None]
    assert torch.equal(model(ids, replay=chosen.to(torch.uint8)), hidden)
    assert not torch.equal(model(ids, replay=chosen.roll(1, 1)), hidden)


@torch.no_grad()
@pytest.mark.parametrize("name", PATTERNS)
def test_what_stands_in_the_padding_changes_nothing(name: str) -> None:
    model, ids = small(name), tokens(45, 5)
    alone = model(ids[None])[0]
    padded = torch.stack([torch.cat((ids, tokens(30, seed))) for seed in (6, 7)])
    for row in model(padded):
        torch.testing.assert_close(row[:45], alone, atol=2e-5, rtol=1e-5)


def sequences(count: int, seed: int = 0) -> list[TrainSequence]:
    """Sequences of mixed length, some with two completions."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(rng.integers(2, 60))
        mask = rng.random(length) < 0.5
        mask[0], mask[-1] = False, True
        ids = rng.integers(0, VOCAB, length).astype(np.int32)
        logprobs = np.where(mask, -rng.random(length), 0).astype(np.float32)
        rows.append(TrainSequence(ids, mask, logprobs, float(rng.normal()), None, 0))
    return rows


@pytest.mark.parametrize("name", PATTERNS)
def test_outputs_and_gradients_do_not_depend_on_the_company(name: str) -> None:
    rows = sequences(7)
    results = []
    for groups in ([rows], [[row] for row in rows]):
        model = small(name)
        logps: dict[float, torch.Tensor] = {}
        for group in groups:
            for micro in make_microbatches(group, 150):
                hidden = model(micro.ids, micro.packing)[micro.at]
                logp, _ = linear_logprob(hidden, model.lm_head.weight, micro.targets)
                (logp * micro.advantages).sum().backward()
                for advantage in micro.advantages.unique().tolist():
                    logps[advantage] = logp.detach()[micro.advantages == advantage]
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((logps, grads))
    (together, pulled), (alone, expected) = results
    assert together.keys() == alone.keys() and len(together) == len(rows)
    for key, logp in alone.items():
        torch.testing.assert_close(together[key], logp, atol=2e-5, rtol=0)
    assert pulled.keys() == expected.keys() and len(pulled) > 5
    for key, grad in expected.items():
        scale = float(grad.abs().max())
        torch.testing.assert_close(pulled[key], grad, atol=1e-4 * scale + 1e-7, rtol=0, msg=key)
