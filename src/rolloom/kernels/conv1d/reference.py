"""The causal convolution as its definition says: a weighted sum over the window of each position."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def causal_conv1d_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return silu(sum_j weight[c, j] x[t - k + 1 + j, c] + bias[c]); see `causal_conv1d` for shapes."""
    width = weight.shape[1]
    before = x.new_zeros(x.shape[0], width - 1, x.shape[2]) if initial_state is None else initial_state.to(x)
    padded = torch.cat((before, x), 1)
    out = torch.stack([padded[:, tap : tap + x.shape[1]] * weight[:, tap] for tap in range(width)]).sum(0)
    return F.silu(out if bias is None else out + bias)
