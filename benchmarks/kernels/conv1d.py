"""The peer of the causal depthwise convolution with SiLU: `F.conv1d` as transformers uses it, `[B, T, C]`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.kernels.common import BATCH, Inputs

CHANNELS, WIDTH = 320, 4


def make_inputs(seed: int, length: int) -> Inputs:
    """Return x, weight and bias; the channels are those of the quickstart policy: x, B and C."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(BATCH, length, CHANNELS, generator=generator),
        torch.randn(CHANNELS, WIDTH, generator=generator) / 2,
        torch.randn(CHANNELS, generator=generator),
    )


def peer_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Pad on both sides, cut the tail, activate; transposed in and out, as the layers around it need."""
    length, width = x.shape[1], weight.shape[1]
    out = F.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=width - 1, groups=len(weight))
    return F.silu(out[..., :length]).transpose(1, 2)


def reference_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Sum over the window of each position, as the definition says."""
    width = weight.shape[1]
    windows = F.pad(x, (0, 0, width - 1, 0)).unfold(1, width, 1)
    return F.silu((windows * weight).sum(-1) + bias)
