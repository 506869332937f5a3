"""GRPO's token loss: a worked example, the clip's asymmetry, k3, and REINFORCE as its on-policy limit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rolloom.policy.loss import clipped_policy_loss, grpo_token_loss, k3

LOW, HIGH = 0.2, 0.28


def logs(*ratios: float) -> torch.Tensor:
    return torch.tensor([math.log(r) for r in ratios], dtype=torch.float64)


def test_worked_example() -> None:
    logp = logs(1.0, 1.5, 0.5, 1.5, 0.5).requires_grad_()
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    terms = grpo_token_loss(logp, torch.zeros(5, dtype=torch.float64), advantages, LOW, HIGH)
    # min(r A, clip(r) A) of each token: 1, 1.28 (clipped), 0.5, -1.5, -0.8 (clipped).
    assert terms.loss.item() == pytest.approx(-(1 + 1.28 + 0.5 - 1.5 - 0.8))
    assert terms.clipped.item() == 2 and terms.kl.item() == 0
    terms.loss.backward()
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad, torch.tensor([-1.0, 0.0, -0.5, 1.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("ratio,advantage,clipped", [
    (1.27, 1.0, False), (1.29, 1.0, True), (0.79, 1.0, False),
    (0.81, -1.0, False), (0.79, -1.0, True), (1.29, -1.0, False),
])  # fmt: skip
def test_the_upper_bound_is_wider_and_each_binds_on_one_side(
    ratio: float, advantage: float, clipped: bool
) -> None:
    logp = logs(ratio).requires_grad_()
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss, removed = clipped_policy_loss(logp, logs(1.0), advantages, LOW, HIGH)
    loss.sum().backward()
    assert logp.grad is not None
    assert bool(removed) == clipped
    assert logp.grad.item() == pytest.approx(0.0 if clipped else -ratio * advantage)


tensors = st.lists(st.tuples(st.floats(-12, 0), st.floats(-12, 0), st.floats(-3, 3)), min_size=1, max_size=20)


def columns(rows: list[tuple[float, float, float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, 0], table[:, 1], table[:, 2]


@given(tensors)
def test_the_clip_only_ever_lowers_the_objective(rows: list[tuple[float, float, float]]) -> None:
    logp, behaviour, advantages = columns(rows)
    loss, removed = clipped_policy_loss(logp, behaviour, advantages, LOW, HIGH)
    unclipped = -(logp - behaviour).exp() * advantages
    assert (loss >= unclipped).all()
    assert torch.equal(loss > unclipped, removed)


@given(tensors)
def test_on_policy_the_gradient_is_reinforce(rows: list[tuple[float, float, float]]) -> None:
    logp, _, advantages = columns(rows)
    leaf = logp.clone().requires_grad_()
    grpo_token_loss(leaf, logp, advantages, LOW, HIGH).loss.backward()
    torch.testing.assert_close(leaf.grad, -advantages)


@given(tensors)
def test_k3_is_never_negative_and_zero_only_at_equality(rows: list[tuple[float, float, float]]) -> None:
    logp, reference, _ = (column.float() for column in columns(rows))
    assert (k3(logp, reference) >= 0).all()
    assert (k3(logp, logp) == 0).all()
    apart = (logp - reference).abs() > 1e-3
    assert (k3(logp, reference)[apart] > 0).all()


@pytest.mark.parametrize("gap", [1e-4, 1e-3, 1e-2, -1e-3, 0.5, -2.0])
def test_k3_keeps_its_digits_in_fp32(gap: float) -> None:
    exact = math.expm1(gap) - gap
    assert k3(torch.tensor([-gap]), torch.tensor([0.0])).item() == pytest.approx(exact, rel=2e-3)


def test_k3_is_unbiased_and_its_mean_is_the_divergence() -> None:
    g = torch.Generator().manual_seed(0)
    p, q = (torch.randn(6, generator=g, dtype=torch.float64).log_softmax(0) for _ in range(2))
    expected = (p.exp() * (p - q)).sum()
    torch.testing.assert_close((p.exp() * k3(p, q)).sum(), expected)


def test_the_penalty_adds_the_coefficient_times_k3() -> None:
    g = torch.Generator().manual_seed(1)
    logp, behaviour, reference, advantages = (
        torch.randn(8, generator=g, dtype=torch.float64) * 0.3 for _ in range(4)
    )
    plain = grpo_token_loss(logp, behaviour, advantages, LOW, HIGH)
    priced = grpo_token_loss(logp, behaviour, advantages, LOW, HIGH, 0.7, reference)
    total = k3(logp, reference).sum()
    torch.testing.assert_close(priced.loss, plain.loss + 0.7 * total)
    torch.testing.assert_close(priced.kl, total)


def test_no_tokens() -> None:
    empty = torch.zeros(0)
    terms = grpo_token_loss(empty, empty, empty, LOW, HIGH, 0.1, empty)
    assert terms.loss.item() == terms.kl.item() == terms.clipped.item() == 0
