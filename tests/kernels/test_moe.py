"""The router against its definition, and the three ways to apply experts against each other."""

from __future__ import annotations

import pytest
import torch

from rolloom.kernels.moe.op import DENSE_MAX_TOKENS, relu2_experts, route

WIDTH, EXPERTS, HIDDEN, TOP_K = 6, 8, 5, 3
BACKENDS = ["dense", "sorted"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expert_inputs(tokens: int, seed: int = 0):
    """x, up, down, distinct experts a token, and weights."""
    g = torch.Generator().manual_seed(seed + 99)
    indices = torch.rand(tokens, EXPERTS, generator=g).argsort(-1)[:, :TOP_K]
    weights = torch.rand(tokens, TOP_K, generator=g, dtype=torch.float64)
    up, down = normal(EXPERTS, HIDDEN, WIDTH, seed=seed + 1), normal(EXPERTS, WIDTH, HIDDEN, seed=seed + 2)
    return normal(tokens, WIDTH, seed=seed), up, down, indices, weights


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tokens", [1, 2, 31, DENSE_MAX_TOKENS + 9])
def test_backends_equal_the_reference_with_gradients(backend: str, tokens: int) -> None:
    grads = {}
    for name in (backend, "reference"):
        x, up, down, indices, weights = expert_inputs(tokens)
        leaves = [t.requires_grad_() for t in (x, up, down, weights)]
        out = relu2_experts(leaves[0], leaves[1], leaves[2], indices, leaves[3], backend=name)
        (out * normal(tokens, WIDTH, seed=5)).sum().backward()
        grads[name] = [out.detach(), *[t.grad for t in leaves]]
    for ours, theirs in zip(grads[backend], grads["reference"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("tokens", [DENSE_MAX_TOKENS, DENSE_MAX_TOKENS + 1])
def test_the_chosen_backend_agrees_in_fp32(tokens: int) -> None:
    x, up, down, indices, weights = expert_inputs(tokens)
    exact = relu2_experts(x, up, down, indices, weights, backend="reference")
    ours = relu2_experts(x.float(), up.float(), down.float(), indices, weights.float())
    torch.testing.assert_close(ours, exact.float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expert_without_a_token_has_no_gradient(backend: str) -> None:
    x, up, down, _, weights = expert_inputs(4)
    indices = torch.tensor([[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]])
    up.requires_grad_()
    down.requires_grad_()
    relu2_experts(x, up, down, indices, weights, backend=backend).sum().backward()
    for parameter in (up, down):
        assert parameter.grad is not None
        assert (parameter.grad[3:] == 0).all() and (parameter.grad[:3] != 0).any()


@pytest.mark.parametrize("backend", ["dense", "sorted", "reference", None])
def test_zero_tokens(backend: str | None) -> None:
    x, up, down, indices, weights = expert_inputs(0)
    assert relu2_experts(x, up, down, indices, weights, backend=backend).shape == (0, WIDTH)
    chosen, scores = route(x, normal(EXPERTS, WIDTH), torch.zeros(EXPERTS), TOP_K, 1, 1, True, 1.0)
    assert chosen.shape == scores.shape == (0, TOP_K)


@pytest.mark.parametrize("backend", BACKENDS)
def test_poisoned_tokens_do_not_spread(backend: str) -> None:
    x, up, down, indices, weights = expert_inputs(6)
    clean = relu2_experts(x, up, down, indices, weights, backend=backend)
    x[4:] = float("nan")
    dirty = relu2_experts(x, up, down, indices, weights, backend=backend)
    assert torch.equal(clean[:4], dirty[:4]) and dirty[4:].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bf16_keeps_the_activation_exact_through_its_weight(backend: str) -> None:
    x, up, down, indices, weights = expert_inputs(40)
    x, up, down = x.bfloat16(), up.bfloat16(), down.bfloat16()
    exact = relu2_experts(x.double(), up.double(), down.double(), indices, weights, backend="reference")
    ours = relu2_experts(x, up, down, indices, weights.float(), backend=backend)
    assert ours.dtype == torch.bfloat16
    assert ((ours - exact).square().mean() / exact.square().mean()).sqrt() < 0.01


def test_unknown_backend_is_named() -> None:
    x, up, down, indices, weights = expert_inputs(2)
    with pytest.raises(ValueError, match=r"backend.*dense.*sorted.*'grouped'"):
        relu2_experts(x, up, down, indices, weights, backend="grouped")


@pytest.mark.parametrize("normalize", [False, True])
def test_the_bias_selects_but_does_not_weigh(normalize: bool) -> None:
    x, weight, bias = normal(20, WIDTH).float(), normal(EXPERTS, WIDTH, seed=1).float(), torch.zeros(EXPERTS)
    bias[5] = 10.0
    indices, weights = route(x, weight, bias, TOP_K, 1, 1, normalize, 2.5)
    assert (indices == 5).any(-1).all()
    scores = (x @ weight.T).sigmoid().gather(1, indices)
    expected = 2.5 * (scores / scores.sum(-1, keepdim=True) if normalize else scores)
    torch.testing.assert_close(weights, expected)


def test_groups_limit_the_choice_to_the_best_by_their_two_best() -> None:
    x, weight = normal(50, WIDTH).float(), normal(EXPERTS, WIDTH, seed=1).float()
    bias = normal(EXPERTS, seed=2).float() * 0.3
    indices, _ = route(x, weight, bias, TOP_K, 4, 2, True, 1.0)
    for token, row in enumerate(((x @ weight.T).sigmoid() + bias).tolist()):
        groups = [row[2 * g : 2 * g + 2] for g in range(4)]
        best = sorted(range(4), key=lambda g: -sum(groups[g]))[:2]
        allowed = [e for g in best for e in (2 * g, 2 * g + 1)]
        expected = sorted(allowed, key=lambda e: -row[e])[:TOP_K]
        assert sorted(indices[token].tolist()) == sorted(expected)


def test_groups_stay_limited_when_every_bias_is_very_negative() -> None:
    x, weight = normal(30, WIDTH).float(), normal(EXPERTS, WIDTH, seed=1).float()
    free, _ = route(x, weight, torch.zeros(EXPERTS), TOP_K, 4, 2, True, 1.0)
    pushed, _ = route(x, weight, torch.full((EXPERTS,), -5.0), TOP_K, 4, 2, True, 1.0)
    assert torch.equal(free.sort(-1).values, pushed.sort(-1).values)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_replayed_experts_give_identical_outputs(backend: str, dtype: torch.dtype) -> None:
    x, up, down, _, _ = (t.float() for t in expert_inputs(33))
    weight, bias = normal(EXPERTS, WIDTH, seed=7).float(), normal(EXPERTS, seed=8).float()
    recorded, first = route(x, weight, bias, TOP_K, 1, 1, True, 1.0)
    replayed, second = route(x, weight, bias, TOP_K, 1, 1, True, 1.0, replay=recorded.to(dtype))
    assert torch.equal(first, second)
    once = relu2_experts(x, up, down, recorded, first, backend=backend)
    assert torch.equal(once, relu2_experts(x, up, down, replayed, second, backend=backend))


def test_replay_fixes_the_choice_and_keeps_the_router_differentiable() -> None:
    x, bias = normal(10, WIDTH).float(), torch.zeros(EXPERTS)
    recorded, _ = route(x, normal(EXPERTS, WIDTH, seed=1).float(), bias, TOP_K, 1, 1, True, 1.0)
    other = normal(EXPERTS, WIDTH, seed=2).float().requires_grad_()
    free, _ = route(x, other, bias, TOP_K, 1, 1, True, 1.0)
    replayed, weights = route(x, other, bias, TOP_K, 1, 1, True, 1.0, replay=recorded)
    assert torch.equal(replayed, recorded) and not torch.equal(free.sort(-1)[0], recorded.sort(-1)[0])
    weights[:, 0].sum().backward()
    assert other.grad is not None and other.grad.abs().sum() > 0
