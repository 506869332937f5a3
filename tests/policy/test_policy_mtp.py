"""Multi-token prediction: what a depth may see, what trains it, and tokens taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.packing import Packing
from rolloom.policy.batch import Microbatch, TrainSequence, make_microbatches
from rolloom.policy.cache import DecodeCache
from rolloom.policy.checkpoint import WEIGHTS, load_policy, save_policy
from rolloom.policy.config import PolicyError, preset
from rolloom.policy.model import HybridLM
from rolloom.policy.mtp import MTP
from rolloom.policy.mtp_training import boost, boost_loss, mtp_loss, sources

SIZES: dict[str, Any] = {
    "pattern": "M*E", "vocab_size": 31, "hidden_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 24, "ssm_state_size": 8,
    "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2, "n_routed_experts": 4,
    "moe_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16, "num_nextn_predict_layers": 1,
}  # fmt: skip
LENGTHS = (9, 1, 14, 2)


def policy(**changes: Any) -> tuple[HybridLM, MTP]:
    model = HybridLM(preset("tiny", **{**SIZES, **changes}), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 4
    assert model.mtp is not None
    return model, model.mtp


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(31, (count,), generator=torch.Generator().manual_seed(seed))


def sequence(length: int, first: int, seed: int) -> TrainSequence:
    """A sequence whose tokens from `first` on are sampled."""
    mask = np.arange(length) >= first
    ids = tokens(length, seed).numpy().astype(np.int32)
    return TrainSequence(ids, mask, np.zeros(length, np.float32), 1.0, None, policy_version=0)


def batch() -> Microbatch:
    (micro,) = make_microbatches([sequence(12, 5, 1), sequence(7, 1, 2), sequence(3, 2, 3)], 100)
    return micro


@torch.no_grad()
def unrolled(model: HybridLM, ids: torch.Tensor, packing: Packing, depths: int) -> list[torch.Tensor]:
    assert model.mtp is not None
    return model.mtp.unroll(model.model.embed, ids, model(ids, packing), packing, depths)


@pytest.mark.parametrize("pattern", ["*E", "*-", "E", "*E*"])
def test_the_names_are_those_of_released_checkpoints(pattern: str) -> None:
    model, _ = policy(mtp_pattern=pattern)
    names = {name for name in model.state_dict() if name.startswith("mtp.")}
    last = len(pattern) - 1
    for name in ("enorm", "hnorm", "eh_proj", "norm"):
        assert f"mtp.layers.0.{name}.weight" in names
    assert f"mtp.layers.{last}.final_layernorm.weight" in names
    for index, letter in enumerate(pattern):
        leaf = {"*": "q_proj.weight", "E": "gate.weight", "-": "up_proj.weight"}[letter]
        assert f"mtp.layers.{index}.mixer.{leaf}" in names
    shared = HybridLM(preset("tiny", **{**SIZES, "num_nextn_predict_layers": 0}), seed=5)
    grown = HybridLM(preset("tiny", **SIZES), seed=5)
    assert all(torch.equal(tensor, grown.state_dict()[n]) for n, tensor in shared.state_dict().items())


@pytest.mark.parametrize("changes,named", [
    ({"mtp_pattern": "M"}, "mtp_pattern.*'M'"), ({"mtp_pattern": ""}, "mtp_pattern"),
    ({"num_nextn_predict_layers": 2}, "num_nextn_predict_layers.*2"),
])  # fmt: skip
def test_blocks_that_cannot_be_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        preset("tiny", **changes)


def test_the_config_and_the_weights_survive_a_checkpoint(tmp_path: Path) -> None:
    model, _ = policy(mtp_pattern="*E*")
    save_policy(model, tmp_path)
    again = load_policy(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(tensor, again.state_dict()[n]) for n, tensor in model.state_dict().items())
    assert "mtp.layers.1.mixer.experts.3.up_proj.weight" in load_file(tmp_path / WEIGHTS)


@pytest.mark.slow
def test_transformers_loads_it_and_says_the_same(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, _ = policy()
    save_policy(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = tokens(24)[None]
    with torch.no_grad():
        assert (theirs(ids).logits - model.logits(model(ids)[0])).abs().max() < 1e-3


def test_depth_one_is_the_plain_pass() -> None:
    model, mtp = policy()
    ids, packing = tokens(sum(LENGTHS)), Packing.of(LENGTHS)
    first = unrolled(model, ids, packing, 1)[0]
    following = ids[torch.minimum(torch.arange(len(ids)) + 1, packing.last()[packing.owners()])]
    with torch.no_grad():
        plain = mtp(model.model.embed(following), model(ids, packing), packing)
    assert (first - plain).abs().max() < 1e-5


def test_packed_sequences_do_not_see_each_other() -> None:
    model, _ = policy()
    ids, packing = tokens(sum(LENGTHS)), Packing.of(LENGTHS)
    together = unrolled(model, ids, packing, 3)
    for begin, length in zip(packing.bounds, LENGTHS, strict=False):
        alone = unrolled(model, ids[begin : begin + length], Packing.of([length]), 3)
        for packed, single in zip(together, alone, strict=True):
            assert (packed[begin : begin + length] - single).abs().max() < 1e-5


@torch.no_grad()
def test_a_depth_sees_no_later_token_and_no_later_hidden_state() -> None:
    model, mtp = policy()
    ids, packing, at = tokens(16), Packing.of([16]), 6
    hidden = model(ids, packing)
    before = mtp.unroll(model.model.embed, ids, hidden, packing, 4)
    for depth in range(1, 5):
        changed = ids.clone()
        changed[at + depth + 1 :] = (changed[at + depth + 1 :] + 7) % 31
        other = hidden.clone()
        other[at + 1 :] += 1.0
        after = mtp.unroll(model.model.embed, changed, other, packing, 4)
        assert torch.equal(before[depth - 1][at], after[depth - 1][at])
        changed = ids.clone()
        changed[at + depth] = (changed[at + depth] + 7) % 31
        moved = mtp.unroll(model.model.embed, changed, hidden, packing, 4)
        assert (before[depth - 1][at] - moved[depth - 1][at]).abs().max() > 1e-3


@torch.no_grad()
def test_training_computes_what_drafting_computes() -> None:
    model, mtp = policy(mtp_pattern="*E*")
    lengths, depths = (11, 7), 4
    ids, packing = tokens(sum(lengths)), Packing.of(lengths)
    hidden = model(ids, packing)
    want = mtp.unroll(model.model.embed, ids, hidden, packing, depths)
    at = torch.tensor([5, 2])
    begins = torch.tensor(packing.bounds[:-1])
    cache = mtp.new_cache(2, 20, torch.float32, "cpu")
    for row in range(2):
        # In two parts, as a prompt and what was verified since.
        done = 0
        for size in (2, int(at[row]) - 1):
            some = begins[row] + torch.arange(done, done + size)
            starts = torch.tensor([done])
            embedded = model.model.embed(ids[some + 1])
            out = mtp.feed(embedded, hidden[some], Packing.of([size]), cache, slice(row, row + 1), starts)
            done += size
            assert (out[-1] - want[0][some[-1]]).abs().max() < 1e-5
    got = torch.stack([want[0][begins[row] + at[row]] for row in range(2)])
    for depth in range(2, depths + 1):
        embedded = model.model.embed(ids[begins + at + depth])
        got = mtp.decode(embedded, got, cache, at + depth - 1, int(at.max()) + depth)
        assert (got - want[depth - 1][begins + at]).abs().max() < 1e-5


def test_the_loss_is_the_cross_entropy_of_sampled_tokens_alone() -> None:
    model, _ = policy()
    micro, depths, temperature = batch(), 3, 0.7
    with torch.no_grad():
        hidden = model(micro.ids, micro.packing)
        loss = mtp_loss(model, micro, hidden, depths, temperature)
        made = unrolled(model, micro.ids, micro.packing, depths)
    total, counted = 0.0, 0
    masks = {12: 5, 7: 1, 3: 2}
    for begin, length in zip(micro.packing.bounds, micro.packing.lengths, strict=False):
        for depth in range(1, depths + 1):
            for t in range(length - depth - 1):
                if t + depth + 1 >= masks[length]:
                    with torch.no_grad():
                        logits = model.logits(made[depth - 1][begin + t][None]) / temperature
                    total -= float(logits.log_softmax(-1)[0, micro.ids[begin + t + depth + 1]])
                    counted += 1
    assert counted == sum(len(sources(micro, depth)[0]) for depth in range(1, depths + 1))
    assert float(loss) == pytest.approx(total / depths, rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_detached_only_the_block_learns(detach: bool) -> None:
    model, _ = policy()
    micro = batch()
    mtp_loss(model, micro, model(micro.ids, micro.packing), detach=detach).backward()
    for name, parameter in model.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        if "experts." in name:
            continue  # some experts are chosen by no token
        assert moved == (name.startswith("mtp.") or not detach), name


def test_gradients_are_those_of_finite_differences() -> None:
    model, mtp = policy()
    model.double()
    micro = batch()
    hidden = model(micro.ids, micro.packing).detach()
    weight = mtp.layers[0].get_parameter("mixer.k_proj.weight")
    (grad,) = torch.autograd.grad(mtp_loss(model, micro, hidden, 3).double(), weight)
    size = grad.norm()
    losses = []
    with torch.no_grad():
        for step in (1e-2, -2e-2):
            weight += step * grad / size
            losses.append(float(mtp_loss(model, micro, hidden, 3)))
    assert float(size) == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=0.02)


def test_boosting_moves_the_block_alone_and_towards_the_policy() -> None:
    model, _ = policy()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data = [sequence(20, 4, seed) for seed in range(6)]
    seen: list[list[float]] = []
    losses = boost(model, data, 30, 3, 60, report=lambda *each: seen.append(each[2]))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert np.mean(seen[-5:]) > np.mean(seen[:5]) + 0.05 and all(0 <= a <= 1 for each in seen for a in each)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) or name.startswith("mtp.")
    again, _ = policy()
    assert boost(again, data, 30, 3, 60) == losses


@torch.no_grad()
def test_a_block_that_says_what_the_policy_says_has_nothing_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mtp = policy()
    micro = batch()
    hidden = model(micro.ids, micro.packing)

    def oracle(embed: Any, ids: Any, states: torch.Tensor, packing: Any, depths: int) -> list[torch.Tensor]:
        return [states.roll(-depth, 0) for depth in range(1, depths + 1)]

    monkeypatch.setattr(mtp, "unroll", oracle)
    loss, accepted = boost_loss(model, micro, hidden, 3)
    assert abs(float(loss)) < 1e-4 and (accepted - 1).abs().max() < 1e-5


def test_a_policy_without_a_block_is_named() -> None:
    model = HybridLM(preset("tiny", **{**SIZES, "num_nextn_predict_layers": 0}))
    with pytest.raises(PolicyError, match="num_nextn_predict_layers"):
        mtp_loss(model, batch(), torch.zeros(22, 32))
    with pytest.raises(PolicyError, match="num_nextn_predict_layers"):
        boost(model, [sequence(6, 2, 0)], 1)


@torch.no_grad()
@pytest.mark.parametrize("exact", [True, False], ids=["deterministic", "fast"])
@pytest.mark.parametrize("before", [(20, 3, 28), (31, 5, 32), (30, 2, 29), (62, 33, 1)])
def test_tokens_taken_back_were_never_fed(before: tuple[int, ...], exact: bool) -> None:
    # Chunks end at 32 and 64: some rows stay in their chunk, some reach the boundary, some pass it.
    with deterministic(exact):
        model, _ = policy(pattern="M*EM")
        drafted, kept = 5, torch.tensor([1, 5, 3])
        ids = tokens(3 * 80).view(3, 80)
        caches: list[DecodeCache] = []
        for extra in (torch.zeros(3, dtype=torch.int64), kept):
            sizes = [length + int(more) for length, more in zip(before, extra, strict=True)]
            cache = model.new_cache(3, 90)
            prompt = torch.cat([row[:size] for row, size in zip(ids, before, strict=True)])
            model.feed(prompt, Packing.of(before), cache, 0)
            if extra.any():
                for row, (begin, end) in enumerate(zip(before, sizes, strict=True)):
                    model.feed(ids[row, begin:end], Packing.of([end - begin]), cache, row)
            caches.append(cache)
        drafts = torch.stack([row[size : size + drafted] for row, size in zip(ids, before, strict=True)])
        _, _, trail = model.draft_feed(drafts, caches[0])
        trail.keep(kept)
        assert torch.equal(caches[0].lengths, caches[1].lengths)
        for step in range(3):
            following = torch.stack(
                [row[size + int(more) + step] for row, size, more in zip(ids, before, kept, strict=True)]
            )
            got, want = (model.decode(following, cache, 80)[0] for cache in caches)
            assert torch.equal(got, want) if exact else (got - want).abs().max() < 1e-4
