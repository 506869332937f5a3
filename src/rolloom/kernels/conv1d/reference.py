"""The causal convolution as its definition says: a weighted sum over the window of each position."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F


def causal_conv1d_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    final_state: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return silu(sum_j weight[c, j] x[t - k + 1 + j, c] + bias[c]); see `causal_conv1d` for the arguments.

    Packed sequences are cut apart and convolved one by one.
    """
    if cu_seqlens is not None:
        ends = cu_seqlens.tolist()
        parts = [
            causal_conv1d_reference(
                x[:, start:end], weight, bias,
                None if initial_state is None else initial_state[index : index + 1], final_state=True,
            )
            for index, (start, end) in enumerate(pairwise(ends))
        ]  # fmt: skip
        outs, states = [part[0] for part in parts], [part[1] for part in parts]
        out = torch.cat([*outs, torch.zeros_like(x[:, ends[-1] :])], 1)
        return (out, torch.cat(states)) if final_state else out
    width = weight.shape[1]
    before = x.new_zeros(x.shape[0], width - 1, x.shape[2]) if initial_state is None else initial_state.to(x)
    padded = torch.cat((before, x), 1)
    out = torch.stack([padded[:, tap : tap + x.shape[1]] * weight[:, tap] for tap in range(width)]).sum(0)
    out = F.silu(out if bias is None else out + bias)
    return (out, padded[:, x.shape[1] :]) if final_state else out


def causal_conv1d_update_reference(
    state: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve one token and overwrite the state; see `causal_conv1d_update`."""
    window = torch.cat((state.to(x), x[:, None]), 1)
    state.copy_(window[:, 1:])
    out = (window * weight.T).sum(1)
    return F.silu(out if bias is None else out + bias)
