"""The GRPO token loss: its formulas by hand, both backends against each other, and the learner's loss."""

from __future__ import annotations

import math

import pytest
import torch

from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.grpo_loss.op import grpo_token_loss
from rolloom.policy.loss import grpo_token_loss as learner_loss

BACKENDS = ["torch", "triton"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on(backend: str) -> str:
    return DEVICE if backend == "triton" else "cpu"


def slopes(backend: str, ratios: list[float], advantages: list[float], **how):
    """Return losses, gradients of logp and flags of tokens with these ratios to log-probability -1."""
    device = on(backend)
    logp = (torch.tensor(ratios, device=device).log() - 1).requires_grad_()
    behaviour = torch.full((len(ratios),), -1.0, device=device)
    losses, _, clipped = grpo_token_loss(
        logp, behaviour, torch.tensor(advantages, device=device), backend=backend, **how
    )
    (grad,) = torch.autograd.grad(losses.sum(), logp)
    return losses.detach().cpu(), grad.cpu(), clipped.cpu().tolist()


def equal(value: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ppo_clips_each_side_where_it_binds(backend: str) -> None:
    losses, grads, clipped = slopes(
        backend, [1.0, 1.5, 0.5, 1.5, 0.5, 1.25], [1.0, 1.0, 1.0, -1.0, -1.0, 2.0]
    )
    equal(losses, [-1.0, -1.28, -0.5, 1.5, 0.8, -2.5])
    equal(grads, [-1.0, 0.0, -0.5, 1.5, 0.0, -2.5])
    assert clipped == [False, True, False, False, True, False]


@pytest.mark.parametrize("backend", BACKENDS)
def test_dual_clip_bounds_the_loss_of_bad_tokens_only(backend: str) -> None:
    losses, grads, clipped = slopes(backend, [5.0, 2.5, 5.0, 0.5], [-1.0, -1.0, 1.0, -1.0], dual_clip=3.0)
    equal(losses, [3.0, 2.5, -1.28, 0.8])
    equal(grads, [0.0, 2.5, 0.0, 0.0])
    assert clipped == [True, False, True, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_cispo_bounds_the_weight_and_keeps_every_gradient(backend: str) -> None:
    ratios, advantages = [1.0, 3.0, 0.1, 3.0], [1.0, 1.0, -1.0, -2.0]
    losses, grads, clipped = slopes(backend, ratios, advantages, clip="cispo")
    weights = [1.0, 1.28, 0.8, 1.28]
    equal(grads, [-w * a for w, a in zip(weights, advantages, strict=True)])
    logp = [math.log(r) - 1 for r in ratios]
    equal(losses, [-w * a * x for w, a, x in zip(weights, advantages, logp, strict=True)])
    assert clipped == [False, True, True, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_clip_the_gradient_is_the_ratio_times_the_advantage(backend: str) -> None:
    losses, grads, clipped = slopes(backend, [9.0, 0.01], [1.0, -2.0], clip="none")
    equal(losses, [-9.0, 0.02])
    equal(grads, [-9.0, 0.02])
    assert clipped == [False, False]


def draws(count: int = 200, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    behaviour = -torch.rand(count, generator=generator) * 6
    return [
        behaviour + 0.3 * torch.randn(count, generator=generator),
        behaviour,
        torch.randn(count, generator=generator),
        behaviour + 0.3 * torch.randn(count, generator=generator),
    ]


@pytest.mark.parametrize("penalised", [False, True])
def test_the_sum_is_bit_for_bit_the_learners_loss(penalised: bool) -> None:
    logp, behaviour, advantages, reference = draws()
    grads = []
    leaf = logp.clone().requires_grad_()
    losses, estimates, clipped = grpo_token_loss(
        leaf, behaviour, advantages, None, reference if penalised else None, kl_coefficient=0.0, clip_high=0.3
    )
    losses.sum().backward()
    grads.append(leaf.grad)
    leaf = logp.clone().requires_grad_()
    theirs = learner_loss(leaf, behaviour, advantages, 0.2, 0.3, 0.0, reference if penalised else None)
    theirs.loss.backward()
    grads.append(leaf.grad)
    assert torch.equal(losses.sum(), theirs.loss)
    assert torch.equal(estimates.sum(), theirs.kl)
    assert torch.equal(clipped.sum(), theirs.clipped) and clipped.any()
    torch.testing.assert_close(*grads, atol=0, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sum_with_a_penalty_is_the_learners_loss(backend: str) -> None:
    given = [tensor.to(on(backend)) for tensor in draws()]
    logp, behaviour, advantages, reference = given
    theirs = learner_loss(logp, behaviour, advantages, 0.2, 0.28, 0.4, reference)
    losses, estimates, _ = grpo_token_loss(
        logp, behaviour, advantages, None, reference, kl_coefficient=0.4, backend=backend
    )
    torch.testing.assert_close(losses.sum(), theirs.loss)
    torch.testing.assert_close(estimates.sum(), theirs.kl)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_give_any_aggregation_over_packed_sequences(backend: str) -> None:
    logp, behaviour, advantages, _ = (tensor.to(on(backend)) for tensor in draws(60))
    lengths = torch.tensor([1, 0, 29, 30])
    sequence = torch.repeat_interleave(torch.arange(4), lengths)
    each = grpo_token_loss(logp, behaviour, advantages)[0].cpu()
    means = [each[sequence == s].mean() for s in (0, 2, 3)]
    by_sequence = (1 / (3 * lengths[sequence])).to(logp.device)
    ours = grpo_token_loss(logp, behaviour, advantages, by_sequence, backend=backend)[0]
    torch.testing.assert_close(ours.sum().cpu(), torch.stack(means).mean())
    by_token = torch.full_like(logp, 1 / 60)
    ours = grpo_token_loss(logp, behaviour, advantages, by_token, backend=backend)[0]
    torch.testing.assert_close(ours.sum().cpu(), each.mean())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_divergences_keep_their_digits_at_every_distance(backend: str, kl: str) -> None:
    gaps = [0.0, 1e-4, -1e-3, 1e-2, -0.1, 0.49, -0.49, 0.51, -0.51, 2.0, -6.0]
    reference = torch.zeros(len(gaps), device=on(backend))
    logp = -torch.tensor(gaps, device=on(backend))
    exact = [float(-x) for x in logp]
    truth = {
        "k1": [-g for g in exact],
        "k2": [g * g / 2 for g in exact],
        "k3": [math.expm1(g) - g if abs(g) > 1e-3 else g * g / 2 + g**3 / 6 for g in exact],
    }[kl]
    estimates = grpo_token_loss(logp, logp, reference, None, reference, kl=kl, backend=backend)[1].cpu()
    # torch's expm1(d) - d loses d's digits; the kernel's series does not.
    digits = 3e-3 if backend == "torch" else 1e-6
    for value, expected in zip(estimates.tolist(), truth, strict=True):
        assert value == pytest.approx(expected, rel=digits, abs=1e-12)


def test_k1_and_k3_have_the_divergence_as_their_mean_and_k1_pulls_nowhere() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    expected = (p.exp() * (p - q)).sum()
    grads = {}
    for kl in ("k1", "k2", "k3"):
        logp = p.clone().requires_grad_()
        losses, estimates, _ = grpo_token_loss(logp, p, p * 0, None, q, kl=kl, kl_coefficient=1.0)
        if kl != "k2":
            torch.testing.assert_close((p.exp() * estimates).sum(), expected)
        (grads[kl],) = torch.autograd.grad(losses.sum(), logp)
    # E[slope * d logp / d logits] = p * (slope - E[slope]): 0 for k1, the gradient of KL for k2.
    score = {kl: p.exp() * (grad - (p.exp() * grad).sum()) for kl, grad in grads.items()}
    torch.testing.assert_close(score["k1"], torch.zeros_like(p))
    torch.testing.assert_close(score["k2"], p.exp() * (p - q - expected))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("clip", ["ppo", "cispo", "none"])
def test_a_poisoned_token_stays_alone(backend: str, clip: str) -> None:
    logp, behaviour, advantages, reference = (tensor.to(on(backend)) for tensor in draws(9))
    clean = grpo_token_loss(logp, behaviour, advantages, None, reference, clip, backend=backend)[0]
    logp[4] = float("nan")
    dirty = grpo_token_loss(logp, behaviour, advantages, None, reference, clip, backend=backend)[0]
    keep = torch.arange(9, device=logp.device) != 4
    assert torch.equal(clean[keep], dirty[keep]) and dirty[4].isnan()


def test_wrong_arguments_are_named() -> None:
    logp, behaviour, advantages, _ = (tensor.to(DEVICE) for tensor in draws(4))
    with pytest.raises(ValueError, match=r"clip: expected one of .*'cispo'.*got 'cisp'.*mean 'cispo'"):
        grpo_token_loss(logp, behaviour, advantages, clip="cisp")
    with pytest.raises(ValueError, match="kl: expected"):
        grpo_token_loss(logp, behaviour, advantages, kl="k4")
    with pytest.raises(ValueError, match="dual_clip: expected more than 1"):
        grpo_token_loss(logp, behaviour, advantages, dual_clip=0.5)
    with pytest.raises(ValueError, match=r"dual_clip: expected .* with clip 'ppo'"):
        grpo_token_loss(logp, behaviour, advantages, clip="cispo", dual_clip=2.0)
    with pytest.raises(ValueError, match=r"advantages: expected the shape of logp, \(4,\), got \(3,\)"):
        grpo_token_loss(logp, behaviour, advantages[:3])
    with pytest.raises(UnsupportedError, match="behaviour: expected a tensor without gradient"):
        grpo_token_loss(logp, behaviour.requires_grad_(), advantages, backend="triton")
