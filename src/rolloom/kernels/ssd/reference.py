"""SSD scan as the recurrence it stands for, one token at a time: the truth the fast paths are tested against.

Shapes: B batch, T tokens, H heads, P head dim, G groups, N state size; head h reads group h // (H // G).
"""

from __future__ import annotations

import torch


def ssd_scan_reference(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mamba-2 state space dual scan (Dao and Gu, arXiv 2405.21060), sequentially, in the inputs' dtype.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T;  y_t = h_t C_t + D x_t. A step with dt = 0 leaves the state
    alone.

    Args:
        x: inputs, `[B, T, H, P]`.
        dt: step sizes after softplus and clamp, `[B, T, H]`.
        A: negative decay rates, `[H]`.
        B: input projections, `[B, T, G, N]`.
        C: output projections, `[B, T, G, N]`.
        D: skip weights, `[H]`.
        initial_state: `[B, H, P, N]` or None for zeros.

    Returns:
        y `[B, T, H, P]` and the final state `[B, H, P, N]`.
    """
    batch, length, heads, head_dim = x.shape
    repeat = heads // B.shape[2]
    state = (
        x.new_zeros(batch, heads, head_dim, B.shape[3])
        if initial_state is None
        else initial_state.to(x.dtype)
    )
    outputs = []
    for t in range(length):
        b, c = B[:, t].repeat_interleave(repeat, 1), C[:, t].repeat_interleave(repeat, 1)
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        state = state * decay + (dt[:, t, :, None] * x[:, t])[..., None] * b[:, :, None]
        outputs.append((state * c[:, :, None]).sum(-1) + D[:, None] * x[:, t])
    y = torch.stack(outputs, 1) if outputs else x.new_zeros(x.shape)
    return y, state
