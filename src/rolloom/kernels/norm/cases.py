"""Cases of the norms."""

from __future__ import annotations

import torch

from rolloom.kernels.norm.op import gated_group_rms_norm, rms_norm
from rolloom.kernels.norm.reference import gated_group_rms_norm_reference, rms_norm_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation

EPS = 1e-5


def plain(name: str, *shape: int, strided: bool = False) -> Case:
    """Return a case of `rms_norm` on inputs `[*shape]`."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        x = draw.normal(*shape, scale=3.0)
        return {"x": draw.strided(x) if strided else x, "weight": draw.normal(shape[-1]), "eps": EPS}

    return Case(name, make)


def gated(name: str, *shape: int, groups: int, strided: bool = False, sliced: bool = False) -> Case:
    """Return a case of `gated_group_rms_norm` on inputs `[*shape]`, `sliced` from one projection."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        x, gate = draw.normal(*shape, scale=3.0), draw.normal(*shape)
        if strided:
            x, gate = draw.strided(x), draw.strided(gate)
        if sliced:
            gate, _, x = torch.cat((gate, torch.full_like(x, float("nan")), x), -1).chunk(3, -1)
        return {"x": x, "gate": gate, "weight": draw.normal(shape[-1]), "groups": groups, "eps": EPS}

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Read every input and write the output; backward reads them and a gradient, and writes one for each."""
    size = inputs["x"].element_size() * inputs["x"].numel()
    tensors = 2 if "gate" in inputs else 1
    elements = inputs["x"].numel()
    return Cost((tensors + 1) * size, (9 if tensors == 2 else 4) * elements,
                (2 * tensors + 1) * size, (22 if tensors == 2 else 10) * elements)  # fmt: skip


OPERATIONS = (
    Operation(
        "rms_norm", rms_norm, rms_norm_reference, ("torch", "cpu", "invariant", "triton"),
        cases=(
            plain("one row", 1, 24), plain("vector", 24), plain("odd", 3, 21, 63), plain("rows 500", 500, 20),
            plain("none", 0, 24), plain("strided", 5, 33, strided=True),
        ),
        shapes=(plain("16384 x 4096", 16384, 4096),),
        differentiable=("x", "weight"), cost=cost,
    ),
    Operation(
        "gated_group_rms_norm", gated_group_rms_norm, gated_group_rms_norm_reference,
        ("torch", "cpu", "invariant", "triton"),
        cases=(
            gated("one row", 1, 24, groups=3), gated("odd", 3, 21, 63, groups=7),
            gated("rows 500", 500, 20, groups=1), gated("none", 0, 24, groups=2),
            gated("strided", 5, 36, groups=4, strided=True),
            gated("slices", 2, 17, 40, groups=2, sliced=True),
        ),
        shapes=(gated("16384 x 4096, 8 groups", 16384, 4096, groups=8),),
        differentiable=("x", "gate", "weight"), cost=cost,
    ),
)  # fmt: skip
