"""Causal depthwise convolution over time with SiLU, as Mamba-2 uses it before its scan.

Shapes: B batch, T tokens, C channels, k kernel width, S sequences. The state is the last k - 1 inputs.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, overload

import torch
import torch.nn.functional as F

from rolloom.kernels.conv1d.cpu import channels_last, convolve_invariant, run, shifted, update_invariant
from rolloom.kernels.conv1d.packed import convolve_packed
from rolloom.kernels.conv1d.reference import causal_conv1d_reference, causal_conv1d_update_reference
from rolloom.kernels.dispatch import UnsupportedError, choose, on_cpu


@overload
def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    final_state: Literal[False] = False,
    backend: str | None = None,
) -> torch.Tensor: ...
@overload
def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    *,
    final_state: Literal[True],
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]: ...
def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    final_state: bool = False,
    backend: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Convolve each channel with its own causal filter, then SiLU.

    Args:
        x: `[B, T, C]`; packed sequences lie one after another in `[1, T, C]`.
        weight: `[C, k]`.
        bias: `[C]` or None.
        initial_state: the k - 1 inputs before each sequence, `[B, k - 1, C]` (`[S, k - 1, C]` packed), or
            None for zeros.
        cu_seqlens: where packed sequences start and end, int `[S + 1]` from 0 to at most T; some may be
            empty. No sequence sees another. What lies beyond the last gives zeros.
        final_state: also return the last k - 1 inputs of each sequence, initial state included.
        backend: `cpu` (as one sequence, then again near boundaries),
            `torch` (shifted multiply-adds), `torch_fast` (channels-last convolution, other roundings),
            `invariant` (a token's bits depend on no other sequence, and are those of decoding), `triton`,
            `reference`, or None for the rule of `dispatch`.

    Returns:
        `[B, T, C]` in x's dtype; with `final_state` also a state like `initial_state`, in x's dtype.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument, or shapes of packed inputs do
            not fit.
    """
    if cu_seqlens is not None:
        _check_packed(x, initial_state, cu_seqlens)
    function = choose(
        "causal_conv1d",
        SEQUENCE,
        backend,
        x,
        lambda: _unsupported(x, weight, bias, initial_state),
        on_cpu(x, "cpu"),
    )
    return function(x, weight, bias, initial_state, cu_seqlens, final_state)


def causal_conv1d_update(
    state: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    backend: str | None = None,
) -> torch.Tensor:
    """Advance by one token: shift x into `state` in place and return the activated output.

    Args:
        state: `[n, k - 1, C]`, overwritten.
        x: `[n, C]`.
        weight: `[C, k]`.
        bias: `[C]` or None.
        backend: `torch`, `invariant`, `triton`, `reference`, or None for the rule of `dispatch`.

    Returns:
        `[n, C]`.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    function = choose(
        "causal_conv1d_update", STEP, backend, x, lambda: _unsupported(x, weight, bias, state), on_cpu(x)
    )
    return function(state, x, weight, bias)


def _check_packed(x: torch.Tensor, initial_state: torch.Tensor | None, cu_seqlens: torch.Tensor) -> None:
    if x.shape[0] != 1:
        raise UnsupportedError(f"causal_conv1d: x: expected [1, T, C] with cu_seqlens, got {tuple(x.shape)}")
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 2 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        got = f"{cu_seqlens.dtype} {tuple(cu_seqlens.shape)}"
        raise UnsupportedError(f"causal_conv1d: cu_seqlens: expected int32 or int64 [S + 1], got {got}")
    if initial_state is not None and len(initial_state) != len(cu_seqlens) - 1:
        raise UnsupportedError(
            f"causal_conv1d: initial_state: expected {len(cu_seqlens) - 1} rows, one for each sequence of"
            f" cu_seqlens, got {len(initial_state)}"
        )


def _unsupported(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, state: torch.Tensor | None
) -> str | None:
    from rolloom.kernels.conv1d.triton import unsupported

    return unsupported(x, weight, bias, state)


def _update(
    state: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    width = weight.shape[1]
    out = x * weight[:, width - 1]
    for tap in range(width - 1):
        out.addcmul_(state[:, tap], weight[:, tap])
    for tap in range(width - 2):
        state[:, tap] = state[:, tap + 1]
    state[:, width - 2] = x
    return F.silu(out if bias is None else out + bias)


SEQUENCE = {
    "torch": partial(run, shifted),
    "invariant": convolve_invariant,
    "cpu": convolve_packed,
    "torch_fast": partial(run, channels_last),
    "reference": causal_conv1d_reference,
    "triton": "rolloom.kernels.conv1d.triton:causal_conv1d",
}
STEP = {
    "torch": _update,
    "invariant": update_invariant,
    "reference": causal_conv1d_update_reference,
    "triton": "rolloom.kernels.conv1d.triton:causal_conv1d_update",
}
