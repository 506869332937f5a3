"""NVFP4 on the GPU: quantise, dequantise, and a matrix product that reads the weight packed.

E4M3 is rounded and read arithmetically on fp32 bits, so that it needs no hardware for it. Shapes: x `[M, K]`,
weight `[N, K]`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from rolloom.kernels.dispatch import launch
from rolloom.kernels.nvfp4.format import BLOCK, NVFP4, tensor_scale_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCKS, BLOCKS_INTERPRETED = 128, 4096
"""Blocks of 16 elements that a program takes; the interpreter's time goes by programs."""
FEW_ROWS = 64
"""Up to here the product reads the packed weight; above, the weight is dequantised once, for cuBLAS."""


def unsupported(x: torch.Tensor, others: dict[str, torch.Tensor | None]) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    if x.dtype not in DTYPES:
        return f"x: expected float32, bfloat16 or float16, got {x.dtype}"
    for name, tensor in others.items():
        if tensor is not None and tensor.device != x.device:
            return f"{name}: expected a tensor on {x.device} as x is, got one on {tensor.device}"
    return None


def gradient_unsupported(x: torch.Tensor, packed: NVFP4) -> str | None:
    """Say which argument of the product these kernels cannot take, and why."""
    if x.requires_grad and torch.is_grad_enabled() and x.numel() // x.shape[-1] <= FEW_ROWS:
        return f"x: expected no gradient for at most {FEW_ROWS} rows"
    return unsupported(x, packed._asdict())


def quantize(x: torch.Tensor, tensor_scale: torch.Tensor | None, seed: int | None) -> NVFP4:
    """Return what `quantize_reference` returns."""
    scale = tensor_scale_of(x) if tensor_scale is None else tensor_scale.float()
    x = x.detach().contiguous()
    if x.device.type == "cpu":
        # The interpreter takes bf16 subnormals that are powers of two for 0.
        x = x.float()
    codes = torch.empty((*x.shape[:-1], x.shape[-1] // 2), dtype=torch.uint8, device=x.device)
    scales = torch.empty((*x.shape[:-1], x.shape[-1] // BLOCK), dtype=torch.uint8, device=x.device)
    blocks = _blocks(x.device)
    launch(
        _quantize, (-(-scales.numel() // blocks),), x.device,
        x, scale, codes, scales, scales.numel(), 0 if seed is None else seed,
        STOCHASTIC=seed is not None, BLOCKS=blocks, num_warps=4,
    )  # fmt: skip
    return NVFP4(codes, scales, scale)


def dequantize(packed: NVFP4, dtype: torch.dtype) -> torch.Tensor:
    """Return what `dequantize_reference` returns."""
    codes, scales, device = packed.codes.contiguous(), packed.scales.contiguous(), packed.codes.device
    # The interpreter truncates where it should round to bf16.
    out = torch.empty(packed.shape, dtype=torch.float32 if device.type == "cpu" else dtype, device=device)
    blocks = _blocks(device)
    launch(
        _dequantize, (-(-scales.numel() // blocks),), device,
        codes, scales, packed.tensor_scale.float(), out, scales.numel(), BLOCKS=blocks, num_warps=4,
    )  # fmt: skip
    return out.to(dtype)


def w4a16_linear(x: torch.Tensor, packed: NVFP4) -> torch.Tensor:
    """Return what `w4a16_linear_reference` returns; a row's result does not depend on the other few rows."""
    rows = x.reshape(-1, x.shape[-1]) if x.numel() else x.new_empty(0, x.shape[-1])
    if len(rows) > FEW_ROWS:
        return F.linear(x, dequantize(packed, x.dtype))
    if x.device.type == "cpu":
        rows = rows.float()
    rows = rows.contiguous()
    codes, scales = packed.codes.contiguous(), packed.scales.contiguous()
    out = torch.empty(len(rows), len(codes), dtype=rows.dtype, device=x.device)
    launch(
        _w4a16, (-(-len(codes) // 32), -(-len(rows) // 16)), x.device,
        rows, codes, scales, packed.tensor_scale.float(), out, len(rows), len(codes), rows.shape[1],
        BLOCK_M=16, BLOCK_N=32, BYTES=16 if rows.dtype == torch.float32 else 64, num_warps=4, num_stages=4,
    )  # fmt: skip
    return out.view(*x.shape[:-1], len(codes)).to(x.dtype)


def _blocks(device: torch.device) -> int:
    return BLOCKS_INTERPRETED if device.type == "cpu" else BLOCKS


@triton.jit
def _to_e4m3(value):
    """Return the code nearest to a value of [0, 448], ties to even."""
    bits = value.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    steps = value * 512.0
    below = tl.floor(steps)
    rest = steps - below
    odd = below - 2.0 * tl.floor(below * 0.5)
    up = (rest > 0.5) | ((rest == 0.5) & (odd == 1.0))
    return tl.where(value < 0.015625, (below + tl.where(up, 1.0, 0.0)).to(tl.int32), normal)


@triton.jit
def _from_e4m3(code):
    """Return the values of codes without a sign."""
    bits = ((code >> 3) + 120) << 23 | (code & 7) << 20
    value = tl.where(code < 8, (code & 7).to(tl.float32) * 0.001953125, bits.to(tl.float32, bitcast=True))
    return tl.where(code == 127, float("nan"), value)


@triton.jit
def _from_e2m1(code):
    """Return the values of codes with a sign."""
    level = code & 7
    bits = ((level >> 1) + 126) << 23 | (level & 1) << 22
    value = tl.where(level < 2, level.to(tl.float32) * 0.5, bits.to(tl.float32, bitcast=True))
    return tl.where(code > 7, -value, value)


@triton.jit
def _nearest(magnitude):
    """Return E2M1 codes: a tie goes to the even one."""
    code = (magnitude > 0.25).to(tl.int32)
    code += (magnitude >= 0.75).to(tl.int32)
    code += (magnitude > 1.25).to(tl.int32)
    code += (magnitude >= 1.75).to(tl.int32)
    code += (magnitude > 2.5).to(tl.int32)
    code += (magnitude >= 3.5).to(tl.int32)
    return code + (magnitude > 5.0).to(tl.int32)


@triton.jit
def _stochastic(magnitude, words):
    """Return E2M1 codes, up with the probability of the distance from below."""
    draw = ((words >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    magnitude = tl.where(magnitude > 6.0, 6.0, magnitude)
    inverse = tl.where(magnitude < 2.0, 2.0, tl.where(magnitude < 4.0, 1.0, 0.5))
    steps = magnitude * inverse
    below = tl.floor(steps)
    up = tl.where(draw < steps - below, 1.0, 0.0)
    first = tl.where(magnitude < 2.0, 0.0, tl.where(magnitude < 4.0, 2.0, 4.0))
    return (below + first + up).to(tl.int32)


@triton.jit
def _quantize(x, tensor_scale, codes, scales, count, seed, STOCHASTIC: tl.constexpr, BLOCKS: tl.constexpr):
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    mask = (block < count)[:, None]
    index = block[:, None] * 16 + tl.arange(0, 16)[None, :]
    values = tl.load(x + index, mask=mask, other=0.0).to(tl.float32)
    scale = tl.load(tensor_scale)
    magnitude = tl.abs(values)
    amax = tl.max(magnitude, 1)
    poisoned = tl.max((values != values).to(tl.int32), 1) > 0
    wanted = tl.div_rn(amax, tl.zeros_like(amax) + 6.0 * scale)
    wanted = tl.where(wanted > 448.0, 448.0, wanted)
    wanted = tl.where((amax > 0.0) & (wanted < 0.001953125), 0.001953125, wanted)
    code = tl.where(poisoned | (wanted != wanted), 127, _to_e4m3(wanted))
    tl.store(scales + block, code.to(tl.uint8), mask=block < count)
    divisor = tl.where((amax == 0.0) & (poisoned == 0), 1.0, _from_e4m3(code) * scale)
    magnitude = tl.div_rn(magnitude, tl.zeros_like(magnitude) + divisor[:, None])
    level = _nearest(magnitude)
    if STOCHASTIC:
        level = _stochastic(magnitude, tl.randint(seed, index))
    negative = values.to(tl.int32, bitcast=True) < 0
    level = tl.where(magnitude != magnitude, 7, tl.where(negative, level + 8, level))
    low, high = tl.split(tl.reshape(level, (BLOCKS, 8, 2)))
    place = block[:, None] * 8 + tl.arange(0, 8)[None, :]
    tl.store(codes + place, (low | (high << 4)).to(tl.uint8), mask=mask)


@triton.jit
def _dequantize(codes, scales, tensor_scale, out, count, BLOCKS: tl.constexpr):
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    mask = (block < count)[:, None]
    byte = tl.load(codes + block[:, None] * 8 + tl.arange(0, 8)[None, :], mask=mask, other=0).to(tl.int32)
    code = tl.load(scales + block, mask=block < count, other=0).to(tl.int32)
    scale = _from_e4m3(code) * tl.load(tensor_scale)
    values = tl.join(_from_e2m1(byte & 15), _from_e2m1(byte >> 4))
    values = tl.reshape(values, (BLOCKS, 16)) * scale[:, None]
    tl.store(out + block[:, None] * 16 + tl.arange(0, 16)[None, :], values, mask=mask)


@triton.jit
def _w4a16(
    x, codes, scales, tensor_scale, out, rows, columns, width,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """Multiply even and odd columns apart, as they lie in the low and the high halves of bytes.

    Element times block scale has six significant bits and is exact in bf16; the tensor scale comes last.
    """
    column = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    depth = tl.arange(0, BYTES)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, width // 2, BYTES):
        byte = start + depth
        inside = byte < width // 2
        taken = (column < columns)[:, None] & inside[None, :]
        packed = tl.load(codes + column[:, None] * (width // 2) + byte[None, :], mask=taken, other=0)
        code = tl.load(scales + column[:, None] * (width // 16) + byte[None, :] // 8, mask=taken, other=0)
        packed = packed.to(tl.int32)
        scale = _from_e4m3(code.to(tl.int32))
        left = x + row[:, None] * width + 2 * byte[None, :]
        given = (row < rows)[:, None] & inside[None, :]
        even = tl.load(left, mask=given, other=0.0)
        odd = tl.load(left + 1, mask=given, other=0.0)
        low = (_from_e2m1(packed & 15) * scale).to(even.dtype)
        high = (_from_e2m1(packed >> 4) * scale).to(even.dtype)
        sums = tl.dot(even, tl.trans(low), sums, input_precision="ieee")
        sums = tl.dot(odd, tl.trans(high), sums, input_precision="ieee")
    result = sums * tl.load(tensor_scale)
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(out + row[:, None] * columns + column[None, :], result, mask=mask)
