"""NVFP4 as published ("Pretraining Large Language Models with NVFP4", arXiv 2509.25149, section 2).

An element is E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign), 16 along a row share an E4M3 scale, and the tensor
has one fp32 scale: element * block scale * tensor scale.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch

BLOCK = 16
LARGEST_E2M1, LARGEST_E4M3 = 6.0, 448.0
SMALLEST_E4M3 = 2.0**-9
E4M3_NAN = 127


class NVFP4(NamedTuple):
    """A quantised tensor of shape `[..., K]`.

    Attributes:
        codes: uint8 `[..., K / 2]`, two E2M1 codes a byte, the element of even index in the low four bits.
        scales: uint8 `[..., K / 16]`, the bits of E4M3 (view them as `torch.float8_e4m3fn`), never negative.
        tensor_scale: fp32 scalar.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    tensor_scale: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that was quantised."""
        return (*self.codes.shape[:-1], 2 * self.codes.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes that the three parts take."""
        return sum(part.numel() * part.element_size() for part in self)


def packed_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of a quantised tensor of a shape: 4.5 bits an element, and 4 bytes."""
    elements = prod(shape)
    return elements // 2 + elements // BLOCK + 4


def tensor_scale_of(x: torch.Tensor) -> torch.Tensor:
    """Return amax / (6 * 448), so that the largest block scale is the largest of E4M3; 1 for zeros.

    Not below the smallest normal fp32, lest a tensor of subnormals is divided by zero; finite for an infinite
    x, which saturates; NaN where x has one.
    """
    amax = x.detach().abs().amax().float() if x.numel() else torch.zeros((), device=x.device)
    limits = torch.finfo(torch.float32)
    scale = (amax.clamp(max=limits.max) / (LARGEST_E2M1 * LARGEST_E4M3)).clamp(min=limits.tiny)
    return torch.where(amax == 0, torch.ones_like(scale), scale)
