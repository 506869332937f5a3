"""Quantisation-aware distillation: what is rounded, what the loss is, and that it brings the policy back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rolloom.kernels.nvfp4.op import fake_quantize
from rolloom.policy.batch import TrainSequence, make_microbatches
from rolloom.policy.checkpoint import to_released
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.model import HybridLM
from rolloom.policy.qad import Distillation, FakeQuantized, distill, divergence, forward_kl
from rolloom.policy.quantize_layers import chosen

CONFIG = HybridConfig(
    pattern="ME*-", vocab_size=32, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
    intermediate_size=32, ssm_state_size=16, mamba_num_heads=4, mamba_head_dim=8, n_groups=1, chunk_size=16,
    n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
    moe_shared_expert_intermediate_size=32, initializer_range=0.2,
)  # fmt: skip


def sequences(count: int, seed: int, length: int = 24) -> list[TrainSequence]:
    """Random tokens, the second half sampled."""
    rng = np.random.default_rng(seed)
    mask = np.arange(length) >= length // 2
    zeros = np.zeros(length, np.float32)
    ids = rng.integers(0, 32, (count, length)).astype(np.int32)
    return [TrainSequence(row, mask, zeros, 1.0, None, 0) for row in ids]


@pytest.fixture
def teacher() -> HybridLM:
    return HybridLM(CONFIG, seed=3)


def names_of(model: HybridLM, layers: str) -> list[str]:
    return chosen(to_released(model.state_dict()), CONFIG.pattern, layers)


def test_forward_passes_see_rounded_weights_and_parameters_stay(teacher: HybridLM) -> None:
    before = copy.deepcopy(teacher.state_dict())
    some = [name for name in names_of(teacher, "all") if "experts.1." not in name]
    (micro,) = make_microbatches(sequences(3, 0), 4096)
    view = FakeQuantized(teacher, some)
    with torch.no_grad():
        seen = view.logits(micro, view.rounded())
    by_hand = to_released(before)
    for name in some:
        by_hand[f"{name}.weight"] = fake_quantize(by_hand[f"{name}.weight"])
    from rolloom.policy.checkpoint import from_any_layout

    rounded = HybridLM(CONFIG)
    rounded.load_state_dict(from_any_layout(by_hand))
    with torch.no_grad():
        wanted = FakeQuantized(rounded, ()).logits(micro, {})
    assert torch.equal(seen, wanted)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_gradients_pass_straight_through(teacher: HybridLM) -> None:
    (micro,) = make_microbatches(sequences(2, 1), 4096)
    some = names_of(teacher, "all")
    view = FakeQuantized(teacher, some)
    view.logits(micro, view.rounded()).square().sum().backward()
    found = {name: p.grad for name, p in teacher.named_parameters()}
    twin = copy.deepcopy(teacher)
    twin.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, value in FakeQuantized(twin, some).rounded().items():
            twin.get_parameter(name).copy_(value)
    FakeQuantized(twin, ()).logits(micro, {}).square().sum().backward()
    for name, parameter in twin.named_parameters():
        grad = found[name]
        assert (grad is None) == (parameter.grad is None), name
        if grad is not None and parameter.grad is not None:
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-4, atol=1e-5)


def test_divergence_is_forward_and_zero_for_equals() -> None:
    g = torch.Generator().manual_seed(0)
    p, q = torch.randn(5, 7, generator=g), torch.randn(5, 7, generator=g)
    a, b = p.double().softmax(-1), q.double().softmax(-1)
    torch.testing.assert_close(forward_kl(p, q).double(), (a * (a / b).log()).sum(-1), rtol=1e-5, atol=1e-6)
    assert torch.equal(forward_kl(p, p), torch.zeros(5))


def test_distillation_takes_some_of_the_divergence_away(teacher: HybridLM) -> None:
    student, some = copy.deepcopy(teacher), names_of(teacher, "all")
    held_back = sequences(16, 99)
    before = divergence(teacher, FakeQuantized(student, some), held_back)
    routers = {name: p.clone() for name, p in student.named_parameters() if ".gate." in name}
    told: list[int] = []
    losses = distill(
        teacher, student, some, lambda step: sequences(16, step), 30, Distillation(learning_rate=3e-4),
        lambda step, loss: told.append(step),
    )  # fmt: skip
    after = divergence(teacher, FakeQuantized(student, some), held_back)
    assert after < 0.8 * before, (before, after, losses)
    assert told == list(range(30))
    assert all(torch.equal(student.get_parameter(name), value) for name, value in routers.items())


def test_what_cannot_be_distilled_is_refused(teacher: HybridLM) -> None:
    with pytest.raises(PolicyError, match="steps: expected at least 1, got 0"):
        distill(teacher, copy.deepcopy(teacher), [], lambda step: [], 0)
    narrow = HybridLM(HybridConfig(**{**CONFIG.__dict__, "intermediate_size": 24}))
    with pytest.raises(PolicyError, match=r"layers\.3\.mixer\.down_proj: expected a width"):
        FakeQuantized(narrow, names_of(narrow, "all"))
