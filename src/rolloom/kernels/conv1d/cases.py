"""Cases of the causal convolution."""

from __future__ import annotations

import torch

from rolloom.kernels.conv1d.op import causal_conv1d
from rolloom.kernels.conv1d.reference import causal_conv1d_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation


def batch(name: str, rows: int, length: int, channels: int, width: int = 4, biased: bool = True,
          state: bool = False) -> Case:  # fmt: skip
    """Return a case on `[rows, length, channels]`."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {
            "x": draw.normal(rows, length, channels),
            "weight": draw.normal(channels, width, scale=0.5),
            "bias": draw.normal(channels) if biased else None,
            "initial_state": draw.normal(rows, width - 1, channels) if state else None,
        }

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Read x, write y; backward reads x and the gradient of y, writes that of x."""
    elements, width = inputs["x"].numel(), inputs["weight"].shape[1]
    size = elements * inputs["x"].element_size()
    return Cost(2 * size, (2 * width + 5) * elements, 3 * size, (6 * width + 10) * elements)


OPERATIONS = (
    Operation(
        "causal_conv1d", causal_conv1d, causal_conv1d_reference, ("torch",),
        cases=(
            batch("one token", 1, 1, 6), batch("shorter than the window", 2, 2, 6),
            batch("odd", 3, 63, 21, width=3), batch("500", 1, 500, 5, width=2, biased=False),
            batch("no token", 2, 0, 6), batch("continued", 3, 17, 10, state=True),
        ),
        shapes=(batch("1 x 16384 x 6144", 1, 16384, 6144),),
        differentiable=("x", "weight", "bias", "initial_state"), cost=cost,
    ),
)  # fmt: skip
