"""The selection bias: its rule by hand, that it balances a skewed router, and the load's metrics."""

from __future__ import annotations

import pytest
import torch

from rolloom.kernels.moe.op import route
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.policy.router_bias import RATE, ExpertLoad, load_metrics, update_bias


def test_the_rule_by_hand() -> None:
    bias = torch.tensor([0.5, 0.0, -0.5, 0.0])
    moved = update_bias(bias, torch.tensor([7, 1, 4, 4]), 0.25)
    assert moved.tolist() == [0.25, 0.25, -0.5, 0.0]
    assert bias.tolist() == [0.5, 0.0, -0.5, 0.0]
    assert RATE == 1e-3


def test_nothing_counted_or_balance_moves_nothing() -> None:
    bias = torch.randn(6, generator=torch.Generator().manual_seed(0))
    for counts in (torch.zeros(6, dtype=torch.int64), torch.full((6,), 9)):
        assert torch.equal(update_bias(bias, counts, 0.1), bias)
    assert torch.equal(update_bias(bias, torch.arange(6), 0.0), bias)


def test_counts_beyond_fp32_still_meet_the_mean_exactly() -> None:
    big = 2**40
    counts = torch.tensor([big, big + 1, big - 1])
    assert update_bias(torch.zeros(3), counts, 1.0).tolist() == [0.0, -1.0, 1.0]


def test_the_rule_does_not_depend_on_the_order_or_the_scale_of_counts() -> None:
    g = torch.Generator().manual_seed(1)
    counts, bias = torch.randint(0, 50, (16,), generator=g), torch.randn(16, generator=g)
    order = torch.randperm(16, generator=g)
    moved = update_bias(bias, counts)
    assert torch.equal(update_bias(bias[order], counts[order]), moved[order])
    assert torch.equal(update_bias(bias, counts * 3), moved)


@pytest.mark.parametrize("rate", [0.0, 0.005])
def test_updates_balance_a_skewed_router_and_no_update_does_not(rate: float) -> None:
    g = torch.Generator().manual_seed(2)
    weight = torch.randn(8, 16, generator=g) * 0.25
    weight[:, 0] += torch.linspace(-2, 2, 8)
    bias, load, seen = torch.zeros(8), ExpertLoad(1, 8), []
    for _ in range(300):
        x = torch.randn(256, 16, generator=g) * 0.5
        x[:, 0] += 1
        load.add([route(x, weight, bias, 2, 1, 1, True, 1.0)[0]])
        seen.append(load_metrics(load.counts[0]))
        load.apply([bias], rate)
    assert seen[0].violation > 2 and seen[0].entropy < 0.7
    if rate:
        assert seen[-1].violation < 0.3 and seen[-1].entropy > 0.97 and seen[-1].dead == 0
    else:
        assert seen[-1].violation > 2 and not bias.any()


def test_metrics_at_balance_and_at_collapse() -> None:
    balance = load_metrics(torch.full((8,), 5))
    assert (balance.violation, balance.dead) == (0.0, 0) and balance.entropy == pytest.approx(1.0)
    collapse = load_metrics(torch.tensor([40, 0, 0, 0]))
    assert (collapse.violation, collapse.entropy, collapse.dead) == (3.0, 0.0, 3)
    assert load_metrics(torch.zeros(4)).dead == 4 and load_metrics(torch.tensor([3])).entropy == 1.0


def test_counts_of_parts_add_up_to_those_of_the_whole_and_kept_tokens_alone_count() -> None:
    g = torch.Generator().manual_seed(3)
    recorded = [torch.rand(30, 8, generator=g).argsort(-1)[:, :3] for _ in range(2)]
    whole, parts, kept = ExpertLoad(2, 8), ExpertLoad(2, 8), ExpertLoad(2, 8)
    whole.add(recorded)
    for rows in (slice(0, 11), slice(11, 30)):
        parts.add([chosen[rows].to(torch.uint8) for chosen in recorded])
    mask = torch.arange(30) < 11
    kept.add(recorded, mask)
    assert torch.equal(whole.counts, parts.counts) and whole.counts.sum(1).tolist() == [90, 90]
    assert kept.counts.sum(1).tolist() == [33, 33] and (kept.counts <= whole.counts).all()
    whole.reset()
    assert not whole.counts.any()


def test_a_policy_feeds_it_and_its_buffers_move() -> None:
    model = HybridLM(preset("tiny", vocab_size=64), seed=0)
    biases = [
        buffer for name, buffer in model.named_buffers() if name.endswith("gate.e_score_correction_bias")
    ]
    recorded: list[torch.Tensor] = []
    ids = torch.randint(0, 64, (2, 33), generator=torch.Generator().manual_seed(0))
    model(ids, recorded=recorded)
    load = ExpertLoad(len(biases), len(biases[0]))
    load.add([chosen.flatten(0, -2) for chosen in recorded])
    top_k = recorded[0].shape[-1]
    assert load.counts.sum(1).tolist() == [66 * top_k] * len(biases)
    assert load.metrics()["moe/load_violation_max"] >= load.metrics()["moe/load_violation"] > 0
    expected = [update_bias(bias, row) for bias, row in zip(biases, load.counts, strict=True)]
    load.apply(biases)
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(biases, expected, strict=True))
    assert not load.counts.any()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"rate: expected >= 0, got -1"):
        update_bias(torch.zeros(2), torch.ones(2), -1)
    with pytest.raises(ValueError, match=r"counts: expected \(2,\).*got \(3,\)"):
        update_bias(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match=r"counts: expected \[E\]"):
        load_metrics(torch.tensor([1, -1]))
    load = ExpertLoad(2, 4)
    with pytest.raises(ValueError, match=r"recorded: expected 2 layers, got 1"):
        load.add([torch.zeros(3, 1, dtype=torch.int64)])
    with pytest.raises(ValueError, match=r"recorded\[0\]: expected experts below 4, got 7"):
        load.add([torch.full((3, 1), 7)] * 2)
    with pytest.raises(ValueError, match=r"biases: expected 2 layers, got 1"):
        load.apply([torch.zeros(4)])
    with pytest.raises(ValueError, match="layers, experts"):
        ExpertLoad(1, 0)
