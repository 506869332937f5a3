"""Cases of the causal convolution and of its one-token step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from rolloom.kernels.conv1d.op import causal_conv1d, causal_conv1d_update
from rolloom.kernels.conv1d.reference import causal_conv1d_reference, causal_conv1d_update_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation


def batch(name: str, rows: int, length: int, channels: int, width: int = 4, biased: bool = True,
          state: bool = False, sliced: bool = False, final_state: bool = True,
          slow: bool = False) -> Case:  # fmt: skip
    """Return a case on `[rows, length, channels]`, `sliced` from a wider projection."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        x = draw.normal(rows, length, channels)
        if sliced:
            poison = torch.full_like(x, float("nan"))
            x = torch.cat((poison, x, poison), -1)[..., channels : 2 * channels]
        return {
            "x": x,
            **_filter(draw, channels, width, biased),
            "initial_state": draw.normal(rows, width - 1, channels) if state else None,
            "final_state": final_state,
        }

    return Case(name, make, slow)


def packed(name: str, lengths: Sequence[int], channels: int, width: int = 4, state: bool = True,
           beyond: int = 0, final_state: bool = True) -> Case:  # fmt: skip
    """Return a case of packed sequences, with NaN in `beyond` rows that follow the last."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        x = draw.normal(1, sum(lengths) + beyond, channels)
        if beyond:
            x[:, -beyond:] = float("nan")
        return {
            "x": x,
            **_filter(draw, channels, width, True),
            "initial_state": draw.normal(len(lengths), width - 1, channels) if state else None,
            "cu_seqlens": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
            "final_state": final_state,
        }

    return Case(name, make)


def step(
    name: str, rows: int, channels: int, width: int = 4, biased: bool = True, strided: bool = False
) -> Case:
    """Return a case of one token for each of some rows."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        state, x = draw.normal(rows, width - 1, channels), draw.normal(rows, channels)
        return {
            "state": state,
            "x": draw.strided(x) if strided else x,
            **_filter(draw, channels, width, biased),
        }

    return Case(name, make)


def _filter(draw: Draw, channels: int, width: int, biased: bool) -> Inputs:
    return {
        "weight": draw.normal(channels, width, scale=0.5),
        "bias": draw.normal(channels) if biased else None,
    }


def sequence_cost(inputs: Inputs) -> Cost:
    """Read x, write y; backward reads x and the gradient of y, writes that of x."""
    elements, width = inputs["x"].numel(), inputs["weight"].shape[1]
    size = elements * inputs["x"].element_size()
    return Cost(2 * size, (2 * width + 5) * elements, 3 * size, (6 * width + 10) * elements)


def step_cost(inputs: Inputs) -> Cost:
    """Read state and x, write state and y."""
    elements, width = inputs["x"].numel(), inputs["weight"].shape[1]
    return Cost(2 * width * elements * inputs["x"].element_size(), (2 * width + 5) * elements)


OPERATIONS = (
    Operation(
        "causal_conv1d", causal_conv1d, causal_conv1d_reference, 
        ("torch", "cpu", "torch_fast", "invariant", "triton"),
        cases=(
            batch("one token", 1, 1, 6), batch("shorter than the window", 2, 2, 6, state=True),
            batch("odd", 1, 63, 21, width=3), batch("500", 1, 500, 5, width=2, biased=False, slow=True),
            batch("no token", 2, 0, 6, state=True), batch("continued", 2, 17, 10, state=True),
            batch("slice", 2, 7, 12, sliced=True), batch("two blocks", 1, 5, 515, final_state=False),
            packed("packed", [5, 1, 19, 2, 9], 7),
            packed("packed from nothing", [31, 4, 2], 7, state=False),
            packed("empty sequences", [0, 4, 0, 0, 3, 0], 6, width=3), packed("all empty", [0, 0], 6),
            packed("rows beyond", [9, 3], 5, beyond=4), packed("narrow", [1, 1, 1, 9], 5, width=2),
        ),
        shapes=(
            batch("1 x 16384 x 6144", 1, 16384, 6144, final_state=False),
            packed("16 packed, 16384 x 6144", [1024] * 16, 6144),
        ),
        differentiable=("x", "weight", "bias", "initial_state"), cost=sequence_cost,
    ),
    Operation(
        "causal_conv1d_update", causal_conv1d_update, causal_conv1d_update_reference,
        ("torch", "invariant", "triton"),
        cases=(
            step("one row", 1, 6), step("odd", 5, 21, width=3),
            step("two blocks", 2, 513, width=2, biased=False),
            step("strided", 3, 10, strided=True), step("none", 0, 6),
        ),
        shapes=(step("256 x 6144", 256, 6144), step("1 x 6144", 1, 6144)),
        mutated=("state",), cost=step_cost,
    ),
)  # fmt: skip
