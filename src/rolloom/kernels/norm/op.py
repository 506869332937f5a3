"""RMS norms of the hybrid: plain, and gated by groups as inside a Mamba-2 mixer."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return weight * x / rms(x) over the last dimension, computed in fp32, in x's dtype."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


def gated_group_rms_norm(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    """Gate first, then normalise each group of channels by its own rms (Mamba-2, `norm_before_gate=False`).

    Args:
        x: `[..., C]`.
        gate: `[..., C]`, passed through SiLU.
        weight: `[C]`.
        groups: number of groups; C must be a multiple.
        eps: added to the mean square.

    Returns:
        `[..., C]` in x's dtype.
    """
    gated = x.float() * F.silu(gate.float())
    split = gated.unflatten(-1, (groups, -1))
    return weight * F.rms_norm(split, split.shape[-1:], None, eps).flatten(-2).to(x.dtype)
