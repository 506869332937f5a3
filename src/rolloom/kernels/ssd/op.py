"""SSD scan, dense and packed, and its one-token decode update: the public entry points and their dispatch."""

from __future__ import annotations

import importlib

import torch

from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.ssd.cpu import ssd_scan_cpu, ssd_scan_packed_cpu
from rolloom.kernels.ssd.reference import ssd_scan_packed_reference, ssd_scan_reference
from rolloom.kernels.ssd.torch_chunked import ssd_scan_chunked, ssd_scan_packed_chunked

SCANS = {
    "reference": ssd_scan_reference,
    "torch": ssd_scan_chunked,
    "cpu": ssd_scan_cpu,
    "triton": "rolloom.kernels.ssd.triton:ssd_scan_triton",
}
PACKED_SCANS = {
    "reference": ssd_scan_packed_reference,
    "invariant": ssd_scan_packed_chunked,
    "torch": ssd_scan_packed_chunked,
    "cpu": ssd_scan_packed_cpu,
    "triton": "rolloom.kernels.ssd.triton:ssd_scan_packed_triton",
}


def ssd_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    backend: str | None = None,
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
        backend: `torch` (chunked matrix products), `cpu` (the same, faster, with a backward pass of its own),
            `triton` or `reference`; None picks by device.

    Returns:
        y `[B, T, H, P]` in x's dtype and the final state `[B, H, P, N]` in fp32 (fp64 for an x of fp64).

    Raises:
        UnsupportedError: no such backend, or one that cannot take an argument.
        ValueError: H is not a multiple of G.
    """
    _check_groups(x.shape[2], B.shape[2])
    scan = choose("ssd_scan", SCANS, backend, x, lambda: _refusal(x, B), "torch" if x.is_cuda else "cpu")
    return scan(x, dt, A, B, C, D, initial_state)


def ssd_scan_packed(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_states: torch.Tensor | None = None,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan sequences laid end to end; no state crosses a boundary.

    On a CPU the result for a sequence is `ssd_scan`'s for it alone by the same backend, to the last bit in
    fp32 where P and N are multiples of 4.

    Args:
        x: `[L, H, P]`.
        dt: `[L, H]`, after softplus and clamp.
        A: `[H]`.
        B: `[L, G, N]`.
        C: `[L, G, N]`.
        D: `[H]`.
        cu_seqlens: sequence s is tokens `cu_seqlens[s]` to `cu_seqlens[s + 1]`, integers `[S + 1]` from 0 to
            at most L; a sequence may be empty. The backend `triton` trusts it.
        initial_states: `[S, H, P, N]` or None.
        backend: as in `ssd_scan`, or `invariant`: the arithmetic of `torch`, which decoding replays (see
            `replay.py`); it also takes A and D of each token, `[L, H]`.

    Returns:
        y `[L, H, P]` in x's dtype, zero for tokens behind the last sequence, and the final states
        `[S, H, P, N]` in fp32 (fp64 for an x of fp64).

    Raises:
        UnsupportedError: no such backend, or one that cannot take an argument.
        ValueError: H is not a multiple of G, or `cu_seqlens` is none.
    """
    _check_groups(x.shape[1], B.shape[1])
    if cu_seqlens.dim() != 1 or cu_seqlens.is_floating_point() or not len(cu_seqlens):
        raise ValueError(
            f"cu_seqlens: expected integers [sequences + 1], got {cu_seqlens.dtype} {list(cu_seqlens.shape)}"
        )
    if initial_states is not None and len(initial_states) != len(cu_seqlens) - 1:
        raise ValueError(
            f"initial_states: expected {len(cu_seqlens) - 1}, one a sequence, got {len(initial_states)}"
        )
    scan = choose("ssd_scan_packed", PACKED_SCANS, backend, x, lambda: _refusal(x, B), on_cpu(x, "cpu"))
    return scan(x, dt, A, B, C, D, cu_seqlens, initial_states)


def _check_groups(heads: int, groups: int) -> None:
    if not groups or heads % groups:
        raise ValueError(f"heads ({heads}) must be a multiple of groups ({groups})")


def _refusal(x: torch.Tensor, B: torch.Tensor) -> str | None:
    return importlib.import_module("rolloom.kernels.ssd.triton").refusal(x, B)


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
    # A row times a matrix: the matrix times a column, the same numbers, takes several times as long on a CPU.
    y = torch.matmul(C.float()[:, :, None], grouped.mT).view(rows, heads, head_dim)
    return y.to(x.dtype) + x * D[:, None]
