"""What a token's bits depend on, what is kept for the backward pass, and the corners of choosing experts."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rolloom.kernels.dispatch import UnsupportedError, deterministic
from rolloom.kernels.moe.op import relu2_experts, route

WIDTH, EXPERTS, HIDDEN, TOP_K = 48, 9, 40, 3
ON_GPU = torch.cuda.is_available()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Layer:
    """A router and experts, the last expert never chosen."""

    def __init__(self) -> None:
        self.router = (normal(EXPERTS, WIDTH, seed=1) * 0.3).requires_grad_()
        self.up = (normal(EXPERTS, HIDDEN, WIDTH, seed=2) * 0.2).requires_grad_()
        self.down = (normal(EXPERTS, WIDTH, HIDDEN, seed=3) * 0.2).requires_grad_()
        self.bias = torch.zeros(EXPERTS)
        self.bias[-1] = -9.0

    def __call__(self, x: torch.Tensor, bounds: tuple[int, ...] | None = None) -> torch.Tensor:
        indices, weights = route(x, self.router, self.bias, TOP_K, 1, 1, True, 2.5, bounds=bounds)
        return relu2_experts(x, self.up, self.down, indices, weights, bounds=bounds)

    def gradients(self) -> list[torch.Tensor]:
        grads = [parameter.grad for parameter in (self.router, self.up, self.down)]
        assert all(grad is not None for grad in grads)
        return [grad for grad in grads if grad is not None]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "bounds", [(0, 1), (0, 1, 2, 3), (0, 15, 31, 48), (0, 5, 5, 70, 71, 200), (0, 130, 333)]
)
def test_deterministic_mode_gives_a_packed_batch_the_bits_of_its_sequences_alone(
    bounds: tuple[int, ...],
) -> None:
    x, pull = normal(bounds[-1], WIDTH, seed=5), normal(bounds[-1], WIDTH, seed=6)
    packed, alone = Layer(), Layer()
    with deterministic():
        inputs = x.clone().requires_grad_()
        together = packed(inputs, bounds)
        together.backward(pull)
        for begin, end in (pair for pair in pairwise(bounds) if pair[0] < pair[1]):
            own = x[begin:end].clone().requires_grad_()
            out = alone(own)
            out.backward(pull[begin:end])
            assert torch.equal(out, together[begin:end])
            assert inputs.grad is not None and own.grad is not None
            assert torch.equal(own.grad, inputs.grad[begin:end])
    for ours, expected in zip(packed.gradients(), alone.gradients(), strict=True):
        assert torch.equal(ours, expected) and expected.abs().max() > 0


@pytest.mark.usefixtures("threads")
def test_deterministic_mode_gives_a_token_its_bits_in_any_company() -> None:
    x, layer = normal(97, WIDTH, seed=7), Layer()
    with deterministic(), torch.no_grad():
        whole = layer(x)
        order = torch.randperm(97, generator=torch.Generator().manual_seed(8))
        assert torch.equal(layer(x[order]), whole[order])
        for count in (1, 2, 15, 16, 17, 64):
            assert torch.equal(layer(x[:count].clone()), whole[:count])
            assert torch.equal(layer(x[97 - count :].clone()), whole[97 - count :])


def triton_inputs(tokens: int) -> tuple[torch.Tensor, ...]:
    device = "cuda" if ON_GPU else "cpu"
    indices = torch.rand(tokens, EXPERTS, generator=torch.Generator().manual_seed(9)).argsort(-1)[:, :TOP_K]
    made = (
        normal(tokens, WIDTH), normal(EXPERTS, HIDDEN, WIDTH, seed=1), normal(EXPERTS, WIDTH, HIDDEN, seed=2),
        indices, normal(tokens, TOP_K, seed=3),
    )  # fmt: skip
    return tuple(tensor.to(device) for tensor in made)


def test_a_tokens_row_in_triton_does_not_depend_on_the_others() -> None:
    x, up, down, indices, weights = triton_inputs(80)
    whole = relu2_experts(x, up, down, indices, weights, backend="triton")
    for rows in (slice(0, 1), slice(0, 33), slice(50, 80)):
        part = relu2_experts(x[rows], up, down, indices[rows], weights[rows], backend="triton")
        assert torch.equal(part, whole[rows])
    router, bias = up[:, 0], torch.zeros(EXPERTS, device=x.device)
    chosen, scores = route(x, router, bias, TOP_K, 3, 2, True, 1.0, backend="triton")
    for rows in (slice(0, 1), slice(7, 50)):
        part_chosen, part_scores = route(x[rows], router, bias, TOP_K, 3, 2, True, 1.0, backend="triton")
        assert torch.equal(part_chosen, chosen[rows]) and torch.equal(part_scores, scores[rows])


def test_triton_keeps_inputs_and_the_order_of_rows_only() -> None:
    x, up, down, indices, weights = triton_inputs(50)
    leaves = [tensor.requires_grad_() for tensor in (x, up, down, weights)]
    kept: list[torch.Size] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        relu2_experts(leaves[0], leaves[1], leaves[2], indices, leaves[3], backend="triton")
    assert set(kept) == {leaf.shape for leaf in leaves}


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_a_tie_goes_to_the_lower_number(backend: str) -> None:
    x = torch.zeros(5, WIDTH, device="cuda" if ON_GPU else "cpu")
    router, bias = torch.zeros(EXPERTS, WIDTH, device=x.device), torch.zeros(EXPERTS, device=x.device)
    bias[6] = 0.5
    chosen, weights = route(x, router, bias, TOP_K, 1, 1, True, 3.0, backend=backend)
    assert chosen.tolist() == [[6, 0, 1]] * 5
    torch.testing.assert_close(weights, torch.ones_like(weights))
    chosen, _ = route(x, router, bias, TOP_K, 3, 1, True, 1.0, backend=backend)
    assert chosen.tolist() == [[6, 7, 8]] * 5


def test_scores_that_are_no_numbers_still_choose_distinct_experts_that_exist() -> None:
    x, router = triton_inputs(6)[:2]
    x[2:4], router = float("nan"), router[:, 0]
    bias = torch.zeros(EXPERTS, device=x.device)
    for groups in (1, 3):
        chosen, weights = route(x, router, bias, TOP_K, groups, 2, True, 1.0, backend="triton")
        assert weights[2:4].isnan().all() and not weights[[0, 1, 4, 5]].isnan().any()
        for row in chosen.tolist():
            assert len(set(row)) == TOP_K and all(0 <= expert < EXPERTS for expert in row)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_triton_replays_recorded_choices_of_any_width(dtype: torch.dtype) -> None:
    x, router = triton_inputs(21)[:2]
    router, bias = router[:, 0], torch.zeros(EXPERTS, device=x.device)
    recorded, first = route(x, router, bias, TOP_K, 1, 1, True, 2.0, backend="triton")
    again, second = route(
        x, router, bias + 5 * normal(EXPERTS, seed=4).to(x.device), TOP_K, 1, 1, True, 2.0,
        replay=recorded.to(dtype), backend="triton",
    )  # fmt: skip
    assert torch.equal(again, recorded) and again.dtype == torch.int64 and torch.equal(first, second)


def test_what_triton_cannot_take_is_named() -> None:
    x, up, down, indices, weights = triton_inputs(3)
    with pytest.raises(UnsupportedError, match=r"relu2_experts: backend='triton': x: .*float64"):
        relu2_experts(x.double(), up, down, indices, weights, backend="triton")
    with pytest.raises(UnsupportedError, match=r"down: expected the dtype of x"):
        relu2_experts(x, up, down.bfloat16(), indices, weights, backend="triton")
    with pytest.raises(UnsupportedError, match=r"weights: expected float32"):
        relu2_experts(x, up, down, indices, weights.double(), backend="triton")
    with pytest.raises(UnsupportedError, match=r"route: backend='triton': x: .*float16"):
        route(x.half(), up[:, 0], torch.zeros(EXPERTS), TOP_K, 1, 1, True, 1.0, backend="triton")
    with pytest.raises(UnsupportedError, match=r"route: backend: .*'trito'.*mean 'triton'"):
        route(x, up[:, 0], torch.zeros(EXPERTS), TOP_K, 1, 1, True, 1.0, backend="trito")
