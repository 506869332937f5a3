"""Log-probability and entropy of the sampled distribution against double precision."""

from __future__ import annotations

import math

import pytest
import torch

from rolloom.kernels.logprob.op import linear_logprob

TOKENS, WIDTH, VOCAB = 17, 12, 40


def inputs(scale: float = 1.0, dtype: torch.dtype = torch.float32):
    g = torch.Generator().manual_seed(0)
    hidden = (torch.randn(TOKENS, WIDTH, generator=g) * scale).to(dtype)
    weight = torch.randn(VOCAB, WIDTH, generator=g).to(dtype)
    return hidden, weight, torch.randint(VOCAB, (TOKENS,), generator=g)


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float):
    p = ((hidden.double() @ weight.double().T) / temperature).softmax(-1)
    return p[torch.arange(len(targets)), targets].log(), -torch.special.xlogy(p, p).sum(-1)


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.7])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_equals_softmax_in_double_precision(temperature: float, scale: float) -> None:
    logp, entropy = linear_logprob(*inputs(scale), temperature)
    expected_logp, expected_entropy = plain(*inputs(scale), temperature)
    torch.testing.assert_close(logp, expected_logp.float(), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy.float(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_gradients_equal_those_in_double_precision(temperature: float) -> None:
    grads = []
    for function in (linear_logprob, plain):
        hidden, weight, targets = inputs()
        hidden.requires_grad_()
        weight.requires_grad_()
        logp, entropy = function(hidden, weight, targets, temperature)
        pulls = torch.linspace(-1, 2, TOKENS)
        ((logp * pulls).sum() + (entropy * pulls.flip(0)).sum()).backward()
        grads.append((hidden.grad, weight.grad))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_entropy_lies_between_certain_and_uniform() -> None:
    _, weight, targets = inputs()
    logp, entropy = linear_logprob(torch.zeros(TOKENS, WIDTH), weight, targets)
    torch.testing.assert_close(entropy, torch.full((TOKENS,), math.log(VOCAB)))
    torch.testing.assert_close(logp, -entropy)
    hidden, _, _ = inputs(1e4)
    logp, entropy = linear_logprob(hidden.requires_grad_(), weight, targets)
    assert (entropy >= 0).all() and (entropy < 1e-3).all()
    (logp + entropy).sum().backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


def test_probabilities_sum_to_one_over_targets() -> None:
    hidden, weight, _ = inputs()
    every = linear_logprob(hidden.repeat_interleave(VOCAB, 0), weight, torch.arange(VOCAB).repeat(TOKENS))[0]
    torch.testing.assert_close(every.view(TOKENS, VOCAB).exp().sum(-1), torch.ones(TOKENS))


def test_bf16_hidden_states_give_fp32_results() -> None:
    hidden, weight, targets = inputs(dtype=torch.bfloat16)
    logp, entropy = linear_logprob(hidden, weight, targets)
    expected_logp, expected_entropy = plain(hidden, weight, targets, 1.0)
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logp, expected_logp.float(), atol=5e-2, rtol=2e-2)
    torch.testing.assert_close(entropy, expected_entropy.float(), atol=5e-2, rtol=2e-2)


def test_no_tokens_and_poisoned_tokens() -> None:
    hidden, weight, targets = inputs()
    logp, entropy = linear_logprob(hidden[:0], weight, targets[:0])
    assert logp.shape == entropy.shape == (0,)
    clean, _ = linear_logprob(hidden, weight, targets)
    hidden[3] = float("nan")
    dirty, _ = linear_logprob(hidden, weight, targets)
    keep = torch.arange(TOKENS) != 3
    assert torch.equal(dirty[keep], clean[keep]) and dirty[3].isnan()
