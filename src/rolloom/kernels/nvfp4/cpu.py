"""NVFP4 in torch's own operations, without tables: comparisons for E2M1, torch's E4M3."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels.nvfp4.format import (
    BLOCK,
    E4M3_NAN,
    LARGEST_E2M1,
    LARGEST_E4M3,
    NVFP4,
    SMALLEST_E4M3,
    tensor_scale_of,
)
from rolloom.kernels.nvfp4.reference import E2M1, draws


def quantize(x: torch.Tensor, tensor_scale: torch.Tensor | None, seed: int | None) -> NVFP4:
    """Return what `quantize_reference` returns."""
    scale = tensor_scale_of(x) if tensor_scale is None else tensor_scale.float()
    blocks = x.float().unflatten(-1, (-1, BLOCK))
    amax = blocks.abs().amax(-1)
    wanted = (amax / (LARGEST_E2M1 * scale)).clamp(max=LARGEST_E4M3)
    wanted = torch.where(amax > 0, wanted.clamp(min=SMALLEST_E4M3), wanted)
    rounded = wanted.to(torch.float8_e4m3fn)
    divisor = torch.where(amax == 0, 1.0, rounded.float() * scale)
    magnitude = blocks.abs() / divisor[..., None]
    codes = nearest(magnitude) if seed is None else stochastic(magnitude, draws(seed, blocks.shape, x.device))
    codes = torch.where(magnitude.isnan(), 7, codes + blocks.signbit().to(torch.uint8) * 8).to(torch.uint8)
    codes = codes.flatten(-2)
    scales = torch.where(wanted.isnan(), E4M3_NAN, rounded.view(torch.uint8)).to(torch.uint8)
    return NVFP4(codes[..., ::2] | codes[..., 1::2] << 4, scales, scale)


def nearest(magnitude: torch.Tensor) -> torch.Tensor:
    """Return E2M1 codes of magnitudes: a tie goes to the even code, so every second bound belongs above."""
    code = (magnitude > 0.25).to(torch.uint8)
    for bound, belongs in ((0.75, 1), (1.25, 0), (1.75, 1), (2.5, 0), (3.5, 1), (5.0, 0)):
        code += magnitude >= bound if belongs else magnitude > bound
    return code


def stochastic(magnitude: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Return E2M1 codes of magnitudes, up with the probability of the distance from below."""
    magnitude = magnitude.clamp(max=LARGEST_E2M1)
    inverse = torch.where(magnitude < 2, 2.0, torch.where(magnitude < 4, 1.0, 0.5))
    steps = magnitude * inverse
    below = steps.floor()
    first = torch.where(magnitude < 2, 0, torch.where(magnitude < 4, 2, 4))
    return (below.nan_to_num().to(torch.uint8) + first + (draw < steps - below)).to(torch.uint8)


def dequantize(packed: NVFP4, dtype: torch.dtype) -> torch.Tensor:
    """Return what `dequantize_reference` returns."""
    values = torch.tensor((*E2M1, *(-value for value in E2M1)), device=packed.codes.device)
    # Both elements of a byte in one look-up.
    both = torch.stack((values.repeat(16), values.repeat_interleave(16)), -1)
    pairs = both[packed.codes.int()]
    scale = packed.scales.view(torch.float8_e4m3fn).float() * packed.tensor_scale.float()
    return (pairs.flatten(-2).unflatten(-1, (-1, BLOCK)) * scale[..., None]).flatten(-2).to(dtype)


def w4a16_linear(x: torch.Tensor, packed: NVFP4) -> torch.Tensor:
    """Return x weight^T, the weight dequantised to x's dtype at each call."""
    return F.linear(x, dequantize(packed, x.dtype))
