"""RMS norms on the GPU, forward and backward, each input read once.

A program of the forward pass takes some rows of one group of channels. One of the backward pass takes a fixed
strip of rows and sums the weight's gradient over it; the strips are added up afterwards, in order, so there
are no atomics and the bits do not depend on the GPU's size.

Shapes: R rows, C channels, G groups, W = C / G channels a group.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from rolloom.kernels.dispatch import launch

TILE, ELEMENTS_A_WARP = 1024, 256
"""Elements a program holds at once (a longer group is held whole): 16 bytes of bf16 a thread and tensor.

With twice as many the backward pass takes 154 registers a thread instead of 96 on an H100.
"""
STRIP = 32
"""Rows whose weight gradients one program sums."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 16384


def unsupported(x: torch.Tensor, weight: torch.Tensor, gate: torch.Tensor | None, groups: int) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    tensors = {"x": x, "weight": weight} | ({} if gate is None else {"gate": gate})
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            return f"{name}: expected float32, bfloat16 or float16, got {tensor.dtype}"
        if tensor.device != x.device:
            return f"{name}: expected a tensor on {x.device} as x is, got one on {tensor.device}"
    if gate is not None and gate.shape != x.shape:
        return f"gate: expected the shape of x, {tuple(x.shape)}, got {tuple(gate.shape)}"
    if weight.shape != x.shape[-1:]:
        return f"weight: expected shape {tuple(x.shape[-1:])}, got {tuple(weight.shape)}"
    if x.shape[-1] % groups or x.shape[-1] // groups > WIDEST:
        return f"groups: expected to cut {x.shape[-1]} channels into groups of at most {WIDEST}, got {groups}"
    return None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return what `rms_norm_reference` returns."""
    return _Norm.apply(x, None, weight, 1, eps)  # type: ignore[return-value]


def gated_group_rms_norm(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """Return what `gated_group_rms_norm_reference` returns."""
    return _Norm.apply(x, gate, weight, groups, eps)  # type: ignore[return-value]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gate: torch.Tensor | None, weight: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        rows, gates, weight = _rows(x), None if gate is None else _rows(gate), weight.contiguous()
        count, width = rows.shape[0], rows.shape[1] // groups
        out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
        scale = torch.empty(count, groups, dtype=torch.float32, device=x.device)
        block, tile, warps = _tiling(width)
        launch(
            _forward, (-(-count // tile), groups), x.device,
            rows, rows if gates is None else gates, weight, out, scale, count, width, groups,
            rows.stride(0), 0 if gates is None else gates.stride(0), eps,
            GATED=gates is not None, ROWS=tile, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        ctx.save_for_backward(rows, gates, weight, scale)
        ctx.shape, ctx.groups = x.shape, groups
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, gates, weight, scale = ctx.saved_tensors
        count, width = rows.shape[0], rows.shape[1] // ctx.groups
        block, tile, warps = _tiling(width)
        strips = -(-count // STRIP)
        grad = _rows(grad)
        d_x = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
        d_gate = None if gates is None else torch.empty(rows.shape, dtype=gates.dtype, device=rows.device)
        partial = torch.empty(strips, rows.shape[1], dtype=torch.float32, device=rows.device)
        launch(
            _backward, (strips, ctx.groups), rows.device,
            rows, rows if gates is None else gates, weight, scale, grad,
            d_x, d_x if d_gate is None else d_gate, partial, count, width, ctx.groups,
            rows.stride(0), 0 if gates is None else gates.stride(0), grad.stride(0),
            GATED=gates is not None, ROWS=tile, TILES=STRIP // tile, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        d_weight = partial.sum(0).to(weight.dtype)
        return d_x.view(ctx.shape), None if d_gate is None else d_gate.view(ctx.shape), d_weight, None, None


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return `[R, C]` with adjacent channels: a view of a slice of a projection, a copy of anything odder."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.numel() else tensor.new_empty(0, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _tiling(width: int) -> tuple[int, int, int]:
    """Return the block that holds a group, the rows of a tile, and the warps that share it."""
    block = 1 << (width - 1).bit_length()
    rows = min(STRIP, max(1, TILE // block))
    return block, rows, min(16, max(1, block * rows // ELEMENTS_A_WARP))


@triton.jit
def _forward(
    x, gate, weight, out, scale, count, width, groups, x_stride, gate_stride, eps,
    GATED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    mask = (row < count)[:, None] & (column < width)[None, :]
    channel = group * width + column
    values = tl.load(x + row[:, None] * x_stride + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    if GATED:
        gates = tl.load(gate + row[:, None] * gate_stride + channel[None, :], mask=mask, other=0.0)
        gates = gates.to(tl.float32)
        values *= gates * tl.sigmoid(gates)
    factor = 1.0 / tl.sqrt(tl.sum(values * values, 1) / width + eps)
    weights = tl.load(weight + channel, mask=column < width, other=0.0).to(tl.float32)
    result = weights[None, :] * (values * factor[:, None])
    tl.store(out + row[:, None] * (groups * width) + channel[None, :], result, mask=mask)
    tl.store(scale + row * groups + group, factor, mask=row < count)


@triton.jit
def _backward(
    x, gate, weight, scale, grad, d_x, d_gate, partial, count, width, groups,
    x_stride, gate_stride, grad_stride,
    GATED: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    strip, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    channel = group * width + column
    weights = tl.load(weight + channel, mask=column < width, other=0.0).to(tl.float32)
    d_weight = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for tile in range(TILES):
        row = (strip * TILES + tile) * ROWS + tl.arange(0, ROWS)
        mask = (row < count)[:, None] & (column < width)[None, :]
        values = tl.load(x + row[:, None] * x_stride + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        pull = tl.load(grad + row[:, None] * grad_stride + channel[None, :], mask=mask, other=0.0)
        pull = pull.to(tl.float32)
        factor = tl.load(scale + row * groups + group, mask=row < count, other=0.0)
        gated = values
        gates = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        sigmoid = gates
        if GATED:
            gates = tl.load(gate + row[:, None] * gate_stride + channel[None, :], mask=mask, other=0.0)
            gates = gates.to(tl.float32)
            sigmoid = tl.sigmoid(gates)
            gated = values * (gates * sigmoid)
        normal = gated * factor[:, None]
        d_weight += pull * normal
        inner = pull * weights[None, :]
        mean = tl.sum(inner * normal, 1) / width
        d_gated = (inner - normal * mean[:, None]) * factor[:, None]
        place = row[:, None] * (groups * width) + channel[None, :]
        if GATED:
            tl.store(d_x + place, d_gated * (gates * sigmoid), mask=mask)
            slope = sigmoid * (1.0 + gates * (1.0 - sigmoid))
            tl.store(d_gate + place, d_gated * values * slope, mask=mask)
        else:
            tl.store(d_x + place, d_gated, mask=mask)
    total = tl.sum(d_weight, 0)
    tl.store(partial + strip * (groups * width) + channel, total, mask=column < width)
