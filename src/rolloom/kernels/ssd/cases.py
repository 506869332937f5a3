"""Cases and costs of the SSD scan and of its one-token update."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation
from rolloom.kernels.ssd.op import ssd_scan, ssd_scan_packed, ssd_update
from rolloom.kernels.ssd.reference import (
    ssd_scan_packed_reference,
    ssd_scan_reference,
    ssd_update_reference,
)

NANO = (64, 64, 8, 128)
"""Heads, head dim, groups and state size of Nemotron 3 Nano."""
DIFFERENTIABLE = ("x", "dt", "A", "B", "C", "D")
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
COST_CHUNK = 128


def _inputs(
    draw: Draw, lead: tuple[int, ...], heads: int, head_dim: int, groups: int, state: int, strided: bool
) -> Inputs:
    inputs: Inputs = {
        "x": draw.normal(*lead, heads, head_dim),
        "dt": draw.uniform(*lead, heads, low=1e-3, high=0.5, dtype=torch.float32),
        "A": draw.uniform(heads, low=-4.0, high=-0.1, dtype=torch.float32),
        "B": draw.normal(*lead, groups, state),
        "C": draw.normal(*lead, groups, state),
        "D": draw.normal(heads, dtype=torch.float32),
    }
    if strided:
        for name in ("x", "dt", "B", "C"):
            inputs[name] = draw.strided(inputs[name])
    return inputs


def dense(
    name: str, batch: int, length: int, heads: int, head_dim: int, groups: int, state: int,
    carried: bool = False, strided: bool = False,
) -> Case:  # fmt: skip
    """Return a case of `ssd_scan`."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        inputs = _inputs(draw, (batch, length), heads, head_dim, groups, state, strided)
        inputs["initial_state"] = (
            draw.normal(batch, heads, head_dim, state, dtype=torch.float32) if carried else None
        )
        return inputs

    return Case(name, make)


def packed(
    name: str, lengths: Sequence[int], heads: int, head_dim: int, groups: int, state: int,
    carried: bool = False, strided: bool = False, rest: int = 0,
) -> Case:  # fmt: skip
    """Return a case of `ssd_scan_packed`; `rest` tokens follow the last sequence."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        inputs = _inputs(draw, (sum(lengths) + rest,), heads, head_dim, groups, state, strided)
        inputs["cu_seqlens"] = torch.tensor([0, *lengths], device=device).cumsum(0).int()
        inputs["initial_states"] = (
            draw.normal(len(lengths), heads, head_dim, state, dtype=torch.float32) if carried else None
        )
        return inputs

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Count a fused pass at chunks of 128 tokens: inputs read and outputs written once, states kept on chip.

    Products within a chunk are counted over the lower triangle only, rounded up to the whole square, as
    matrix units compute it.
    """
    x, b = inputs["x"], inputs["B"]
    heads, head_dim = x.shape[-2:]
    groups, state = b.shape[-2:]
    tokens = x.numel() // (heads * head_dim)
    size = x.element_size()
    read = tokens * (heads * head_dim * size + heads * 4 + 2 * groups * state * size)
    written = tokens * heads * head_dim * size
    scores, mixed, carried = (
        groups * COST_CHUNK * state,
        heads * COST_CHUNK * head_dim,
        heads * head_dim * state,
    )
    # Backward: C B^T and its two gradients; three products within chunks; states once more, and both their
    # gradients' products with x, dy, B and C.
    backward = 2 * tokens * (3 * scores + 2 * mixed + 5 * carried)
    return Cost(read + written, 2 * tokens * (scores + mixed + 2 * carried), 2 * read + written, backward)


def update(name: str, rows: int, heads: int, head_dim: int, groups: int, state: int) -> Case:
    """Return a case of `ssd_update`."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        held = draw.normal(rows, heads, head_dim, state, dtype=torch.float32)
        inputs = _inputs(draw, (rows,), heads, head_dim, groups, state, strided=False)
        return {"state": held, **inputs, "D": inputs["D"].to(dtype)}

    return Case(name, make)


def update_cost(inputs: Inputs) -> Cost:
    """Count the state read and written, and five operations on each of its elements."""
    size = inputs["state"].numel()
    return Cost(8 * size, 5 * size)


OPERATIONS = (
    Operation(
        name="ssd_scan",
        function=ssd_scan,
        reference=ssd_scan_reference,
        backends=("torch", "cpu", "triton"),
        cases=(
            dense("one token", 2, 1, 4, 16, 2, 16, carried=True),
            dense("63 tokens, 4 groups", 1, 63, 4, 16, 4, 16),
            dense("2 x 130 tokens, 1 group, narrow", 2, 130, 4, 3, 1, 5, carried=True),
            dense("35 tokens, wide state", 1, 35, 2, 16, 1, 80, carried=True),
            dense("500 tokens, 2 groups, strided", 1, 500, 2, 16, 2, 20, carried=True, strided=True),
        ),
        shapes=(
            dense("nano, 1 x 8192", 1, 8192, *NANO),
            dense("nano, 4 x 2048, carried", 4, 2048, *NANO, carried=True),
        ),
        differentiable=(*DIFFERENTIABLE, "initial_state"),
        tolerances=TOLERANCES,
        cost=cost,
    ),
    Operation(
        name="ssd_scan_packed",
        function=ssd_scan_packed,
        reference=ssd_scan_packed_reference,
        backends=("torch", "cpu", "triton"),
        cases=(
            packed("odd and empty", (63, 0, 1, 130, 0), 4, 16, 2, 16, carried=True),
            packed("1 group of 4 heads, rest", (32, 33, 64), 4, 8, 1, 32, rest=7),
            packed("nothing in them", (0, 0), 2, 16, 1, 16, carried=True),
            packed("16 heads a group, strided", (5, 70), 32, 4, 2, 8, carried=True, strided=True, rest=70),
        ),
        shapes=(
            packed("nano, 16 of 512", (512,) * 16, *NANO),
            packed("nano, uneven", (4096, 1, 700, 63, 3000, 332), *NANO, carried=True),
        ),
        differentiable=(*DIFFERENTIABLE, "initial_states"),
        tolerances=TOLERANCES,
        cost=cost,
    ),
    Operation(
        name="ssd_update",
        function=ssd_update,
        reference=ssd_update_reference,
        backends=("torch",),
        cases=(update("one row", 1, 2, 8, 1, 16), update("odd", 5, 6, 7, 3, 9)),
        shapes=(update("nano, 64 rows", 64, *NANO),),
        mutated=("state",),
        cost=update_cost,
    ),
)  # fmt: skip
