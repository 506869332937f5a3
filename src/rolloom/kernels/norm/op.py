"""RMS norms of the hybrid: plain, and gated by groups as inside a Mamba-2 mixer."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.norm.cpu import gated_group_rms_norm_cpu, rms_norm_cpu
from rolloom.kernels.norm.reference import gated_group_rms_norm_reference, rms_norm_reference

LARGE = 1 << 16
"""Elements from which `cpu` is faster: below, the calls cost more than what they compute."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, backend: str | None = None) -> torch.Tensor:
    """Return weight * x / rms(x) over the last dimension, computed in fp32, in x's dtype.

    Args:
        x: `[..., C]`.
        weight: `[C]`; the backend `invariant` also takes one a row, `[..., C]`.
        eps: added to the mean square.
        backend: `torch`, `cpu` (with a backward pass of its own), `invariant` (a row's bits do not depend on
            the others), `triton`, `reference`, or None for the rule of `dispatch`.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    run = choose("rms_norm", PLAIN, backend, x, lambda: _unsupported(x, weight, None, 1), _default(x))
    return run(x, weight, eps)


def gated_group_rms_norm(
    x: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor,
    groups: int,
    eps: float,
    backend: str | None = None,
) -> torch.Tensor:
    """Gate first, then normalise each group of channels by its own rms (Mamba-2, `norm_before_gate=False`).

    Args:
        x: `[..., C]`.
        gate: `[..., C]`, passed through SiLU.
        weight: `[C]`.
        groups: number of groups; C must be a multiple.
        eps: added to the mean square.
        backend: `torch`, `cpu`, `invariant`, `triton`, `reference`, or None for the rule of
            `dispatch`.

    Returns:
        `[..., C]` in x's dtype.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    run = choose(
        "gated_group_rms_norm", GATED, backend, x, lambda: _unsupported(x, weight, gate, groups), _default(x)
    )
    return run(x, gate, weight, groups, eps)


def _default(x: torch.Tensor) -> str:
    return on_cpu(x, "cpu" if x.numel() >= LARGE else "torch")


def _unsupported(x: torch.Tensor, weight: torch.Tensor, gate: torch.Tensor | None, groups: int) -> str | None:
    from rolloom.kernels.norm.triton import unsupported

    return unsupported(x, weight, gate, groups)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


def _gated_group_rms_norm(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    gated = x.float() * F.silu(gate.float())
    split = gated.unflatten(-1, (groups, -1))
    return weight * F.rms_norm(split, split.shape[-1:], None, eps).flatten(-2).to(x.dtype)


def _rms_norm_invariant(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * _normalise(x.float(), eps).to(x.dtype)


def _gated_group_rms_norm_invariant(
    x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float
) -> torch.Tensor:
    gated = x.float() * invariant.silu(gate.float())
    return weight * _normalise(gated.unflatten(-1, (groups, -1)), eps).flatten(-2).to(x.dtype)


def _normalise(x: torch.Tensor, eps: float) -> torch.Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


PLAIN = {
    "torch": _rms_norm,
    "cpu": rms_norm_cpu,
    "invariant": _rms_norm_invariant,
    "reference": rms_norm_reference,
    "triton": "rolloom.kernels.norm.triton:rms_norm",
}
GATED = {
    "torch": _gated_group_rms_norm,
    "cpu": gated_group_rms_norm_cpu,
    "invariant": _gated_group_rms_norm_invariant,
    "reference": gated_group_rms_norm_reference,
    "triton": "rolloom.kernels.norm.triton:gated_group_rms_norm",
}
