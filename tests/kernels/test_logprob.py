"""Log-probability and entropy of the sampled distribution against double precision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import rolloom.kernels.logprob.cpu as chunked
from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.logprob.op import linear_logprob

TOKENS, WIDTH, VOCAB = 17, 12, 40
BACKENDS = ["torch", "chunked", "triton"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on(backend: str) -> str:
    return DEVICE if backend == "triton" else "cpu"


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


class Largest(TorchDispatchMode):
    """Remember the largest floating tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self.numel = max(self.numel, value.numel())
        return out


def train(backend: str, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor):
    hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    logp, entropy = linear_logprob(hidden, weight, targets, 0.7, backend)
    pulls = torch.linspace(-1, 2, len(hidden), device=hidden.device)
    grads = torch.autograd.grad((logp * pulls).sum() + (entropy * pulls.flip(0)).sum(), (hidden, weight))
    return logp.detach(), entropy.detach(), *grads


def test_the_default_on_a_cpu_is_bit_for_bit_the_plain_formula() -> None:
    hidden, weight, targets = inputs(dtype=torch.bfloat16)
    logp = F.log_softmax(F.linear(hidden, weight).float() / 0.7, -1)
    ours = linear_logprob(hidden, weight, targets, 0.7)
    assert torch.equal(ours[0], logp.gather(1, targets[:, None]).squeeze(1))
    assert torch.equal(ours[1], -(logp.exp() * logp).sum(-1))


def test_chunked_holds_a_block_of_logits_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(600, 8, generator=generator), torch.randn(50, 8, generator=generator)
    targets = torch.randint(50, (600,), generator=generator)
    whole = train("torch", hidden, weight, targets)
    monkeypatch.setattr(chunked, "BLOCK_LOGITS", 50 * 64 + 7)
    with Largest() as plain:
        train("torch", hidden, weight, targets)
    with Largest() as ours:
        found = train("chunked", hidden, weight, targets)
    assert plain.numel == 600 * 50
    assert ours.numel == max(600 * 8, 64 * 50)
    for value, expected in zip(found, whole, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_triton_takes_the_vocabulary_in_chunks_and_holds_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("rolloom.kernels.logprob.triton")
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(70, 8, generator=generator), torch.randn(1100, 8, generator=generator)
    targets = torch.randint(1100, (70,), generator=generator)
    expected = train("torch", hidden, weight, targets)
    monkeypatch.setattr(triton, "BUFFER", 70 * 4 * 600)
    with Largest() as ours:
        found = train("triton", hidden.to(DEVICE), weight.to(DEVICE), targets.to(DEVICE))
    assert ours.numel < 70 * 600
    for value, true in zip(found, expected, strict=True):
        torch.testing.assert_close(value.cpu(), true, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_a_row_does_not_depend_on_the_other_rows(backend: str) -> None:
    hidden, weight, targets = (tensor.to(on(backend)) for tensor in inputs())
    many = linear_logprob(hidden.repeat(9, 1), weight, targets.repeat(9), 0.7, backend)
    few = linear_logprob(hidden[:2], weight, targets[:2], 0.7, backend)
    for a, b in zip(many, few, strict=True):
        if backend == "triton":
            assert torch.equal(a[:2], b)
        torch.testing.assert_close(a[:2], b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_huge_logits_and_a_poisoned_row(backend: str) -> None:
    hidden, weight, targets = (tensor.to(on(backend)) for tensor in inputs(1e4))
    hidden[3] = float("nan")
    keep = torch.arange(TOKENS) != 3
    logp, entropy = (value.cpu() for value in linear_logprob(hidden, weight, targets, 1.0, backend))
    assert logp[3].isnan() and entropy[3].isnan()
    expected = plain(hidden.cpu(), weight.cpu(), targets.cpu(), 1.0)[1]
    torch.testing.assert_close(entropy[keep], expected[keep].float(), atol=1e-3, rtol=0)
    assert logp[keep].isfinite().all() and (logp[keep] <= 0).all()
    largest = (hidden.cpu().double() @ weight.cpu().double().T).amax(-1)
    chosen = (hidden.cpu().double() * weight.cpu().double()[targets.cpu()]).sum(-1)
    torch.testing.assert_close(logp[keep], (chosen - largest)[keep].float(), atol=0.1, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_wanted_gradient_is_computed(backend: str) -> None:
    hidden, weight, targets = (tensor.to(on(backend)) for tensor in inputs())
    both = train(backend, hidden, weight, targets)
    for index, leaf in enumerate((hidden, weight)):
        given = [hidden, weight]
        given[index] = leaf.detach().clone().requires_grad_()
        logp, entropy = linear_logprob(given[0], given[1], targets, 0.7, backend)
        pulls = torch.linspace(-1, 2, TOKENS, device=hidden.device)
        ((logp * pulls).sum() + (entropy * pulls.flip(0)).sum()).backward()
        grad = given[index].grad
        assert grad is not None and torch.equal(grad, both[2 + index])
        assert given[1 - index].grad is None


def test_triton_names_the_argument_it_cannot_take() -> None:
    hidden, weight, targets = (tensor.to(DEVICE) for tensor in inputs())
    with pytest.raises(UnsupportedError, match=r"hidden: expected float32 or bfloat16, got torch.float64"):
        linear_logprob(hidden.double(), weight.double(), targets, backend="triton")
    with pytest.raises(UnsupportedError, match=r"weight: expected the dtype of hidden"):
        linear_logprob(hidden, weight.bfloat16(), targets, backend="triton")
