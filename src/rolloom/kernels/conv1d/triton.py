"""The causal convolution on the GPU: launches of the kernels and their place in autograd.

Shapes: B batch, T tokens, C channels, k kernel width, S sequences (B when not packed), R = B T rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from rolloom.kernels.conv1d import triton_kernels as kernels
from rolloom.kernels.dispatch import launch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (2, 3, 4)
BLOCK, WARPS = 512, 2
"""Channels of a program; 8 a thread, which is 16 bytes of bf16."""
FORWARD_ROWS = 64
BACKWARD_ROWS = 128
"""Longer strips read fewer rows twice and leave fewer shares of the weight's gradient to add up."""
SHORT = 32
"""Strips where there are too few rows to fill a GPU otherwise."""
FEW_ROWS = 8192


def unsupported(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, state: torch.Tensor | None
) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    for name, tensor in {"x": x, "weight": weight, "bias": bias, "state": state}.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            return f"{name}: expected float32, bfloat16 or float16, got {tensor.dtype}"
        if tensor.device != x.device:
            return f"{name}: expected a tensor on {x.device} as x is, got one on {tensor.device}"
    if weight.shape[0] != x.shape[-1] or weight.shape[1] not in WIDTHS:
        return f"weight: expected [{x.shape[-1]}, 2 to 4], got {tuple(weight.shape)}"
    return None


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    final_state: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return what `causal_conv1d_reference` returns."""
    out, final = _Convolution.apply(x, weight, bias, initial_state, cu_seqlens, final_state)  # type: ignore[misc]
    return (out, final) if final_state else out


def causal_conv1d_update(
    state: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return what `causal_conv1d_update_reference` returns, and overwrite the state, which may be strided."""
    if state.stride(-1) != 1:
        copied = state.contiguous()
        out = causal_conv1d_update(copied, x, weight, bias)
        state.copy_(copied)
        return out
    x = x if x.stride(-1) == 1 else x.contiguous()
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    rows, channels = x.shape
    out = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    launch(
        kernels.update, (-(-channels // BLOCK), rows), x.device,
        state, x, weight, weight if bias is None else bias, out, channels,
        x.stride(0), state.stride(0), state.stride(1),
        BIAS=bias is not None, WIDTH=weight.shape[1], BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        state: torch.Tensor | None,
        cu_seqlens: torch.Tensor | None,
        final_state: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        channels, width = weight.shape
        rows, weight = _rows(x), weight.contiguous()
        bias, state = (None if tensor is None else tensor.contiguous() for tensor in (bias, state))
        bounds, positions, sequences = _places(x, cu_seqlens)
        count, device = len(rows), x.device
        strip = FORWARD_ROWS if count >= FEW_ROWS else SHORT
        blocks = -(-channels // BLOCK)
        out = torch.empty(count, channels, dtype=x.dtype, device=device)
        launch(
            kernels.forward, (blocks, -(-count // strip)), device,
            rows, weight, weight if bias is None else bias, rows if state is None else state,
            positions, sequences, out, count, channels, rows.stride(0),
            BIAS=bias is not None, STATE=state is not None, WIDTH=width,
            ROWS=strip, BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
        final = None
        if final_state:
            final = torch.empty(len(bounds) - 1, width - 1, channels, dtype=x.dtype, device=device)
            launch(
                kernels.final_state, (blocks, len(final)), device,
                rows, rows if state is None else state, bounds, bounds[1:], final, channels, rows.stride(0),
                STATE=state is not None, WIDTH=width, BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        ctx.save_for_backward(rows, weight, bias, state, bounds, positions, sequences)
        ctx.shape = x.shape
        ctx.set_materialize_grads(False)
        return out.view(x.shape), final

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_out: torch.Tensor | None, d_final: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        rows, weight, bias, state, bounds, positions, sequences = ctx.saved_tensors
        channels, width = weight.shape
        count, device = len(rows), rows.device
        d_out = torch.zeros_like(rows) if d_out is None else _rows(d_out)
        d_final = None if d_final is None else d_final.contiguous()
        strip = BACKWARD_ROWS if count >= FEW_ROWS else SHORT
        strips, blocks = -(-count // strip), -(-channels // BLOCK)
        d_x = torch.empty(count, channels, dtype=rows.dtype, device=device)
        partial = torch.empty(strips, width + 1, channels, dtype=torch.float32, device=device)
        biases, finals = weight if bias is None else bias, d_out if d_final is None else d_final
        launch(
            kernels.backward, (blocks, strips), device,
            rows, weight, biases, rows if state is None else state, positions, sequences, bounds[1:],
            d_out, finals, d_x, partial, count, channels, rows.stride(0), d_out.stride(0),
            BIAS=bias is not None, STATE=state is not None, FINAL=d_final is not None, WIDTH=width,
            ROWS=strip, BLOCK=BLOCK, num_warps=WARPS,
        )  # fmt: skip
        d_state = None
        if state is not None and ctx.needs_input_grad[3]:
            d_state = torch.empty_like(state)
            launch(
                kernels.initial_state_backward, (blocks, len(state)), device,
                rows, weight, biases, state, bounds, bounds[1:], d_out, finals, d_state,
                channels, rows.stride(0), d_out.stride(0),
                BIAS=bias is not None, FINAL=d_final is not None, WIDTH=width, BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        shares = partial.sum(0)
        d_weight = shares[:width].T.to(weight.dtype)
        d_bias = None if bias is None else shares[width].to(bias.dtype)
        return d_x.view(ctx.shape), d_weight, d_bias, d_state, None, None


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return `[R, C]` with adjacent channels: a view of a slice of a projection, a copy of anything odder."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.numel() else tensor.new_empty(0, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _places(
    x: torch.Tensor, cu_seqlens: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return bounds of the sequences, int64 `[S + 1]`, and each row's place and sequence, int32 `[R]`."""
    batch, length = x.shape[:2]
    if cu_seqlens is None:
        row = torch.arange(batch * length, device=x.device, dtype=torch.int32)
        sequence = row // max(length, 1)
        bounds = torch.arange(batch + 1, device=x.device) * length
        return bounds, row - sequence * length, sequence
    bounds = cu_seqlens.to(torch.int64)
    row = torch.arange(length, device=x.device)
    sequence = torch.searchsorted(bounds[1:].contiguous(), row, right=True)
    place = torch.where(sequence < len(bounds) - 1, row - bounds[sequence], -1)
    return bounds, place.to(torch.int32), sequence.to(torch.int32)
