"""Cases of the matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels.linear.op import linear
from rolloom.kernels.registry import Case, Draw, Inputs, Operation


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    bounds: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Return torch's own product."""
    return F.linear(x, weight, bias)


def case(name: str, *shape: int, out: int, bias: bool = False, bounds: tuple[int, ...] | None = None) -> Case:
    """Return a case of inputs `[*shape]`."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        weight = draw.normal(out, shape[-1], scale=shape[-1] ** -0.5)
        return {"x": draw.normal(*shape), "weight": weight, "bias": draw.normal(out) if bias else None,
                "bounds": bounds}  # fmt: skip

    return Case(name, make)


OPERATIONS = (
    Operation(
        "linear", linear, reference, ("torch", "invariant"),
        cases=(
            case("one row", 1, 24, out=9), case("odd", 3, 21, 63, out=50, bias=True),
            case("packed", 500, 20, out=33, bias=True, bounds=(0, 1, 1, 64, 500)), case("none", 0, 24, out=8),
        ),
        differentiable=("x", "weight", "bias"),
    ),
)  # fmt: skip
