"""Cases of the scan and of its one-token step."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels.registry import Case, Draw, Inputs, Operation
from rolloom.kernels.ssd.op import ssd_scan, ssd_update
from rolloom.kernels.ssd.reference import ssd_scan_reference


def reference_update(state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor,
                     C: torch.Tensor, D: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """One step of the recurrence."""
    y, final = ssd_scan_reference(x[:, None], dt[:, None], A, B[:, None], C[:, None], D, state)
    state.copy_(final)
    return y[:, 0]


def scan(name: str, batch: int, length: int, heads: int, head_dim: int, groups: int, state_size: int,
         state: bool = False) -> Case:  # fmt: skip
    """Return a case of the scan."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        dt = draw.normal(batch, length, heads, dtype=torch.float32)
        return {
            "x": draw.normal(batch, length, heads, head_dim),
            "dt": F.softplus(dt - 2).to(dtype),
            "A": -draw.uniform(heads, low=0.5, high=4.0, dtype=torch.float32).to(dtype),
            "B": draw.normal(batch, length, groups, state_size, scale=state_size**-0.5),
            "C": draw.normal(batch, length, groups, state_size),
            "D": draw.normal(heads),
            "initial_state": draw.normal(batch, heads, head_dim, state_size) if state else None,
        }

    return Case(name, make)


def update(name: str, rows: int, heads: int, head_dim: int, groups: int, state_size: int) -> Case:
    """Return a case of the step."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {
            "state": draw.normal(rows, heads, head_dim, state_size, dtype=torch.float32),
            "x": draw.normal(rows, heads, head_dim),
            "dt": draw.uniform(rows, heads, dtype=torch.float32),
            "A": -draw.uniform(heads, low=0.5, high=4.0, dtype=torch.float32),
            "B": draw.normal(rows, groups, state_size, scale=state_size**-0.5),
            "C": draw.normal(rows, groups, state_size),
            "D": draw.normal(heads),
        }

    return Case(name, make)


OPERATIONS = (
    Operation(
        "ssd_scan", ssd_scan, ssd_scan_reference, ("torch",),
        cases=(
            scan("one token", 2, 1, 2, 8, 1, 16), scan("odd", 2, 63, 4, 5, 2, 7),
            scan("500 tokens", 1, 500, 2, 4, 1, 8), scan("continued", 3, 37, 2, 8, 2, 16, state=True),
        ),
        differentiable=("x", "dt", "A", "B", "C", "D", "initial_state"),
        tolerances={torch.float32: 1e-4, torch.bfloat16: 2e-2},
    ),
    Operation(
        "ssd_update", ssd_update, reference_update, ("torch",),
        cases=(update("one row", 1, 2, 8, 1, 16), update("odd", 5, 6, 7, 3, 9)),
        mutated=("state",),
    ),
)  # fmt: skip
