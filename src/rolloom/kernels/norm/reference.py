"""RMS norms as their formulas say, in plain torch: the truth in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return weight * x / sqrt(mean(x^2) + eps) over the last dimension (arXiv 1910.07467).

    Computed in fp32 (fp64 for fp64 inputs), returned in x's dtype.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    values = x.to(exact)
    scale = (values.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (weight.to(exact) * (values * scale)).to(x.dtype)


def gated_group_rms_norm_reference(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """Return weight * rms_norm of each group of channels of x * silu(gate) (arXiv 2405.21060, section 7).

    Computed in fp32 (fp64 for fp64 inputs), returned in x's dtype.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    gated = x.to(exact) * F.silu(gate.to(exact))
    split = gated.unflatten(-1, (groups, -1))
    normal = split * (split.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (weight.to(exact) * normal.flatten(-2)).to(x.dtype)
