"""Experts on a GPU: launches the kernels of `triton_kernels.py` and binds them to autograd.

Forward: activate, multiply by `down`, combine. Kept for the backward pass: the inputs and the order of rows;
activations are computed again. Backward: activate_backward, multiply by `up`, combine, weight_gradient twice.
The host never waits for the device: row tiles are counted by an upper bound, P // BM + E.

Tiles depend on the dtype and on what was tuned for a layer's sizes, never on the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from rolloom.kernels.autotune import Config, bucket, pick
from rolloom.kernels.dispatch import launch
from rolloom.kernels.moe import triton_kernels as kernels

DTYPES = (torch.float32, torch.bfloat16)
BM = 64
"""Rows of a tile."""
BLOCK = 512
CONFIGS: dict[torch.dtype, list[Config]] = {
    torch.float32: [
        {"BN": 64, "BK": 32, "num_warps": 4, "num_stages": 2},
        {"BN": 32, "BK": 32, "num_warps": 4, "num_stages": 2},
    ],
    torch.bfloat16: [
        {"BN": 128, "BK": 64, "num_warps": 4, "num_stages": 3},
        {"BN": 256, "BK": 64, "num_warps": 8, "num_stages": 3},
        {"BN": 128, "BK": 64, "num_warps": 8, "num_stages": 4},
        {"BN": 64, "BK": 128, "num_warps": 4, "num_stages": 3},
    ],
}
"""Of `activate` and `multiply`; the pinned one first."""
BACKWARD: dict[torch.dtype, Config] = {
    torch.float32: {"BN": 32, "BK": 32, "num_warps": 4, "num_stages": 2},
    torch.bfloat16: {"BN": 64, "BK": 64, "num_warps": 4, "num_stages": 3},
}
GRADIENT: dict[torch.dtype, Config] = {
    torch.float32: {"BM": 64, "BN": 64, "BK": 32, "num_warps": 4, "num_stages": 2},
    torch.bfloat16: {"BM": 128, "BN": 128, "BK": 64, "num_warps": 8, "num_stages": 3},
}


def unsupported(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, weights: torch.Tensor) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    if x.dtype not in DTYPES:
        return f"x: expected float32 or bfloat16, got {x.dtype}"
    for name, tensor in (("up", up), ("down", down)):
        if tensor.dtype != x.dtype:
            return f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}"
    if weights.dtype != torch.float32:
        return f"weights: expected float32, got {weights.dtype}"
    for name, tensor in (("up", up), ("down", down), ("weights", weights)):
        if tensor.device != x.device:
            return f"{name}: expected a tensor on {x.device} as x is, got one on {tensor.device}"
    return None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Order of rows; see `triton_kernels`."""

    order: torch.Tensor
    firsts: torch.Tensor
    tiles: torch.Tensor
    top_k: int


def _plan(indices: torch.Tensor, experts: int) -> _Plan:
    chosen, order = indices.flatten().sort(stable=True)
    firsts = torch.searchsorted(chosen, torch.arange(experts + 1, device=chosen.device))
    ends = ((firsts.diff() + BM - 1) // BM).cumsum(0)
    index = torch.arange(len(order) // BM + experts, device=order.device)
    expert = torch.searchsorted(ends, index, right=True)
    owner = expert.clamp(max=experts - 1)
    before = torch.cat((ends.new_zeros(1), ends))[owner]
    begin = firsts[owner] + (index - before) * BM
    end = torch.where(expert < experts, torch.minimum(begin + BM, firsts[owner + 1]), begin)
    return _Plan(order, firsts, torch.stack((owner, begin, end), 1).contiguous(), indices.shape[1])


def experts_triton(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return what `relu2_experts` returns."""
    if not up.shape[0]:
        return torch.zeros_like(x)
    plan = _plan(indices.long(), len(up))
    # The interpreter's bf16 products are wrong.
    xs, ups, downs = (t.float() if t.device.type == "cpu" else t for t in (x, up, down))
    out = _Experts.apply(xs.contiguous(), ups.contiguous(), downs.contiguous(), weights.contiguous(), plan)
    assert isinstance(out, torch.Tensor)
    return out.to(x.dtype)


def _key(name: str, x: torch.Tensor, up: torch.Tensor) -> dict[str, Any]:
    experts, hidden, width = up.shape
    sizes = {"E": experts, "F": bucket(hidden), "D": bucket(width)}
    return {"launch": name, "dtype": str(x.dtype).removeprefix("torch."), **sizes}


def _multiply(
    rows: torch.Tensor,
    weight: torch.Tensor,
    strides: tuple[int, int, int],
    width: int,
    plan: _Plan,
    name: str,
) -> torch.Tensor:
    """Return each slot's row times its expert's matrix, `[P, width]`; strides: of expert, depth and width."""
    out = rows.new_empty(len(plan.order), width)

    def run(config: Config) -> None:
        columns = _cdiv(width, config["BN"])
        launch(
            kernels.multiply, (len(plan.tiles) * columns,), rows.device,
            rows, weight, plan.order, plan.tiles, out, rows.shape[1], width, *strides, columns,
            BM=BM, **config,
        )  # fmt: skip

    run(pick("moe_multiply", _key(name, rows, weight), CONFIGS[rows.dtype], run, rows.device))
    return out


def _combine(rows: torch.Tensor, tokens: int, top_k: int) -> torch.Tensor:
    width = rows.shape[1]
    out = rows.new_empty(tokens, width)
    launch(
        kernels.combine, (tokens, _cdiv(width, BLOCK)), rows.device,
        rows, out, width, top_k, BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
    return out


def _weight_gradient(left: torch.Tensor, right: torch.Tensor, plan: _Plan, gather_left: bool) -> torch.Tensor:
    config = GRADIENT[left.dtype]
    experts, m, n = len(plan.firsts) - 1, left.shape[1], right.shape[1]
    out = left.new_empty(experts, m, n)
    tiles, columns = _cdiv(m, config["BM"]), _cdiv(n, config["BN"])
    launch(
        kernels.weight_gradient, (experts * tiles * columns,), left.device,
        left, right, plan.order, plan.firsts, out, m, n, plan.top_k, tiles, columns,
        GATHER_LEFT=gather_left, **config,
    )  # fmt: skip
    return out


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, weights: torch.Tensor, plan: _Plan
    ) -> torch.Tensor:
        _, hidden, width = up.shape
        acted = x.new_empty(len(plan.order), hidden)

        def run(config: Config) -> None:
            columns = _cdiv(hidden, config["BN"])
            launch(
                kernels.activate, (len(plan.tiles) * columns,), x.device,
                x, up, plan.order, weights, plan.tiles, acted, width, hidden, plan.top_k, columns,
                BM=BM, **config,
            )  # fmt: skip

        run(pick("moe_activate", _key("activate", x, up), CONFIGS[x.dtype], run, x.device))
        ctx.save_for_backward(x, up, down, weights)
        ctx.plan = plan
        rows = _multiply(acted, down, (hidden * width, 1, hidden), width, plan, "down")
        return _combine(rows, len(x), plan.top_k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, up, down, weights = ctx.saved_tensors
        plan: _Plan = ctx.plan
        _, hidden, width = up.shape
        dy = grads[0].contiguous()
        rows, config = len(plan.order), BACKWARD[x.dtype]
        columns = _cdiv(hidden, config["BN"])
        d_h, acted = x.new_empty(rows, hidden), x.new_empty(rows, hidden)
        shares = torch.empty(rows, columns, dtype=torch.float32, device=x.device)
        launch(
            kernels.activate_backward, (len(plan.tiles) * columns,), x.device,
            x, up, down, dy, plan.order, weights, plan.tiles, d_h, acted, shares, width, hidden, plan.top_k,
            columns, BM=BM, **config,
        )  # fmt: skip
        needs = ctx.needs_input_grad
        d_x = None
        if needs[0]:
            rows_x = _multiply(d_h, up, (hidden * width, width, 1), width, plan, "up")
            d_x = _combine(rows_x, len(x), plan.top_k)
        return (
            d_x,
            _weight_gradient(d_h, x, plan, gather_left=False) if needs[1] else None,
            _weight_gradient(dy, acted, plan, gather_left=True) if needs[2] else None,
            shares.sum(1).view(weights.shape) if needs[3] else None,
            None,
        )


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)
