"""SSD scan and its one-token decode update: the public entry points and their dispatch."""

from __future__ import annotations

import torch

from rolloom.kernels.ssd.reference import ssd_scan_reference
from rolloom.kernels.ssd.torch_chunked import ssd_scan_chunked

BACKENDS = {"reference": ssd_scan_reference, "torch": ssd_scan_chunked}


def ssd_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    backend: str = "torch",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mamba-2 scan over a batch of sequences; see `ssd_scan_reference` for shapes and the formula.

    Args:
        x: `[B, T, H, P]`.
        dt: `[B, T, H]`, after softplus and clamp; 0 marks padding.
        A: `[H]`.
        B: `[B, T, G, N]`.
        C: `[B, T, G, N]`.
        D: `[H]`.
        initial_state: `[B, H, P, N]` or None.
        backend: `torch` (chunked matrix products) or `reference`.

    Raises:
        ValueError: unknown backend, or H is not a multiple of G.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {sorted(BACKENDS)}, got {backend!r}")
    if x.shape[2] % B.shape[2]:
        raise ValueError(f"heads ({x.shape[2]}) must be a multiple of groups ({B.shape[2]})")
    return BACKENDS[backend](x, dt, A, B, C, D, initial_state)


def ssd_update(
    state: torch.Tensor,
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
) -> torch.Tensor:
    """Advance `state` by one token in place and return the output.

    Args:
        state: fp32 `[n, H, P, N]`, overwritten.
        x: `[n, H, P]`.
        dt: `[n, H]`, after softplus and clamp.
        A: `[H]`.
        B: `[n, G, N]`.
        C: `[n, G, N]`.
        D: `[H]`.

    Returns:
        y `[n, H, P]`.
    """
    rows, heads, head_dim, state_size = state.shape
    groups = B.shape[1]
    ratio = heads // groups
    dt = dt.float()
    grouped = state.view(rows, groups, ratio * head_dim, state_size)
    state.mul_(torch.exp(dt * A)[..., None, None])
    x_dt = (x.float() * dt[..., None]).view(rows, groups, ratio * head_dim, 1)
    grouped.addcmul_(x_dt, B.float()[:, :, None])
    y = torch.matmul(grouped, C.float()[..., None]).view(rows, heads, head_dim)
    return y.to(x.dtype) + x * D[:, None]
