"""NVFP4 by looking up the nearest entry of a table: the truth, bit for bit.

All arithmetic between tables is fp32, whatever the dtype of the input: block scale = E4M3(block amax / (6 *
tensor scale)), element = E2M1(x / (block scale * tensor scale)). Rounding is to nearest, ties to the even
code; what is too large saturates. A block that is not zero has a scale that is not zero. NaN in a block makes
its scale NaN and its codes 7.
"""

from __future__ import annotations

import torch

from rolloom.kernels.nvfp4.format import (
    BLOCK,
    E4M3_NAN,
    LARGEST_E2M1,
    LARGEST_E4M3,
    NVFP4,
    SMALLEST_E4M3,
    tensor_scale_of,
)
from rolloom.kernels.ssd.rounding import philox, uniform

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E4M3 = tuple(
    mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    for exponent in range(16)
    for mantissa in range(8)
)[:127]


def quantize_reference(
    x: torch.Tensor, tensor_scale: torch.Tensor | None = None, seed: int | None = None
) -> NVFP4:
    """Return x in NVFP4; see `quantize`."""
    scale = tensor_scale_of(x) if tensor_scale is None else tensor_scale.float()
    blocks = x.float().unflatten(-1, (-1, BLOCK))
    amax = blocks.abs().amax(-1)
    wanted = (amax / (LARGEST_E2M1 * scale)).clamp(max=LARGEST_E4M3)
    wanted = torch.where(amax > 0, wanted.clamp(min=SMALLEST_E4M3), wanted)
    scales = _nearest(wanted, E4M3)
    scales = torch.where(wanted.isnan(), E4M3_NAN, scales)
    divisor = (_look_up(scales, E4M3) * scale)[..., None]
    magnitude = torch.where(amax[..., None] == 0, 0.0, blocks.abs() / divisor)
    if seed is None:
        codes = _nearest(magnitude, E2M1)
    else:
        codes = _stochastic(magnitude, draws(seed, blocks.shape, x.device))
    codes = torch.where(magnitude.isnan(), 7, codes + 8 * blocks.signbit())
    pairs = codes.flatten(-2).unflatten(-1, (-1, 2))
    return NVFP4((pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8), scales.to(torch.uint8), scale)


def draws(seed: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return the uniform number of each element: Philox of the seed and the element's index."""
    count = 1
    for size in shape:
        count *= size
    index = torch.arange(count, device=device)
    words = philox(torch.tensor(seed, device=device), index & 0xFFFFFFFF, index >> 32)
    return uniform(words).view(shape)


def dequantize_reference(packed: NVFP4, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return element * (block scale * tensor scale), in fp32 before it is rounded to the dtype."""
    codes = torch.stack((packed.codes & 15, packed.codes >> 4), -1).flatten(-2).long()
    values = _look_up(codes & 7, E2M1) * torch.where(codes > 7, -1.0, 1.0)
    scale = _look_up(packed.scales.long(), E4M3) * packed.tensor_scale.float()
    return (values.unflatten(-1, (-1, BLOCK)) * scale[..., None]).flatten(-2).to(dtype)


def w4a16_linear_reference(x: torch.Tensor, packed: NVFP4) -> torch.Tensor:
    """Return x weight^T, the weight dequantised to fp32 (fp64 beside a fp64 x)."""
    exact = torch.promote_types(x.dtype, torch.float32)
    return (x.to(exact) @ dequantize_reference(packed).to(exact).T).to(x.dtype)


def _look_up(codes: torch.Tensor, table: tuple[float, ...]) -> torch.Tensor:
    entries = torch.tensor([*table, float("nan")], device=codes.device)
    return entries[codes]


def _nearest(values: torch.Tensor, table: tuple[float, ...]) -> torch.Tensor:
    """Return the code of the entry nearest to each value, the even one of two; the last for NaN."""
    entries = torch.tensor(table, dtype=torch.float64, device=values.device)
    value = values.double().clamp(max=table[-1])
    above = torch.searchsorted(entries, value).clamp(max=len(table) - 1)
    below = (above - 1).clamp(min=0)
    up, down = entries[above] - value, value - entries[below]
    nearer = (up < down) | ((up == down) & (above % 2 == 0))
    return torch.where(nearer | value.isnan(), above, below)


def _stochastic(values: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Return the code above with the probability of its nearness, else the one below."""
    entries = torch.tensor(E2M1, dtype=torch.float64, device=values.device)
    value = values.double().clamp(max=E2M1[-1])
    above = torch.searchsorted(entries, value).clamp(max=7)
    below = (above - 1).clamp(min=0)
    gap = (entries[above] - entries[below]).clamp(min=0.5)
    up = draw.double() < (value - entries[below]) / gap
    return torch.where(up | (entries[above] == value) | value.isnan(), above, below)
