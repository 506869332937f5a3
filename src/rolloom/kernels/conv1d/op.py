"""Causal depthwise convolution over time with SiLU, as Mamba-2 uses it before its scan.

Shapes: B batch, T tokens, C channels, k kernel width. The state is the last k - 1 inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
) -> torch.Tensor:
    """Convolve each channel with its own causal filter, then SiLU.

    Written as k shifted multiply-adds in the channels-last layout its neighbours use: no transposes.

    Args:
        x: `[B, T, C]`.
        weight: `[C, k]`.
        bias: `[C]` or None.
        initial_state: the k - 1 inputs before x, `[B, k - 1, C]`, or None for zeros.

    Returns:
        `[B, T, C]`.
    """
    width, length = weight.shape[1], x.shape[1]
    padded = (
        F.pad(x, (0, 0, width - 1, 0)) if initial_state is None else torch.cat((initial_state.to(x), x), 1)
    )
    out = padded[:, :length] * weight[:, 0]
    for tap in range(1, width):
        out = torch.addcmul(out, padded[:, tap : tap + length], weight[:, tap])
    return F.silu(out if bias is None else out + bias)


def causal_conv1d_update(
    state: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Advance by one token: shift x into `state` in place and return the activated output.

    Args:
        state: `[n, k - 1, C]`, overwritten.
        x: `[n, C]`.
        weight: `[C, k]`.
        bias: `[C]` or None.

    Returns:
        `[n, C]`.
    """
    width = weight.shape[1]
    out = x * weight[:, width - 1]
    for tap in range(width - 1):
        out.addcmul_(state[:, tap], weight[:, tap])
    for tap in range(width - 2):
        state[:, tap] = state[:, tap + 1]
    state[:, width - 2] = x
    return F.silu(out if bias is None else out + bias)
