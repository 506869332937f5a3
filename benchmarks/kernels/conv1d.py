"""Causal depthwise convolution with SiLU, `[B, T, C]` in and out, against `F.conv1d` as in transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.harness import Bench, torch_threads
from benchmarks.kernels.common import BATCH, LENGTH, QUICK_S, RUN_S, SETS, Inputs, check_against, speed
from rolloom.kernels.conv1d.op import causal_conv1d

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


def measure(bench: Bench) -> None:
    """Measure the forward pass alone, then with the backward pass."""
    seconds = QUICK_S if bench.quick else RUN_S
    length = 64 if bench.quick else LENGTH
    check_against(reference_conv, {"ours": causal_conv1d, "peer": peer_conv}, make_inputs(0, 65))
    sets = [make_inputs(seed, length) for seed in range(SETS)]
    for threads in (1,) if bench.quick else (1, 2):
        with torch_threads(threads):
            for backward, what in ((False, "fwd"), (True, "fwd+bwd")):
                bench.compare(
                    f"causal conv1d {what}, {BATCH}x{length}, {CHANNELS} channels, fp32",
                    speed(causal_conv1d, sets, seconds, backward),
                    speed(peer_conv, sets, seconds, backward),
                    f"torch {torch.__version__} F.conv1d",
                    threads,
                )
