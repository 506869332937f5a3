"""SSD scan as the recurrence it stands for, one token at a time: the truth the fast paths are tested against.

Shapes: B batch, T tokens, H heads, P head dim, G groups, N state size; head h reads group h // (H // G).
    Packed: L tokens of S sequences laid end to end, sequence s being tokens `cu_seqlens[s]` to
    `cu_seqlens[s + 1]`.
"""

from __future__ import annotations

from itertools import pairwise

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
    """Mamba-2 state space dual scan (Dao and Gu, arXiv 2405.21060), sequentially, in fp32 or better.

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
        y `[B, T, H, P]` in x's dtype and the final state `[B, H, P, N]` in fp32, or fp64 for an x of fp64.
    """
    batch, length, heads, head_dim = x.shape
    repeat = heads // B.shape[2]
    exact = torch.promote_types(x.dtype, torch.float32)
    xs, steps, bs, cs, rate, skip = (t.to(exact) for t in (x, dt, B, C, A, D))
    state = (
        xs.new_zeros(batch, heads, head_dim, B.shape[3]) if initial_state is None else initial_state.to(exact)
    )
    outputs = []
    for t in range(length):
        b, c = bs[:, t].repeat_interleave(repeat, 1), cs[:, t].repeat_interleave(repeat, 1)
        decay = torch.exp(steps[:, t] * rate)[..., None, None]
        state = state * decay + (steps[:, t, :, None] * xs[:, t])[..., None] * b[:, :, None]
        outputs.append((state * c[:, :, None]).sum(-1) + skip[:, None] * xs[:, t])
    y = torch.stack(outputs, 1) if outputs else xs
    return y.to(x.dtype), state


def ssd_scan_packed_reference(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_states: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `ssd_scan_reference` on each sequence of a packed batch; no state crosses a boundary.

    Args:
        x: `[L, H, P]`.
        dt: `[L, H]`.
        A: `[H]`.
        B: `[L, G, N]`.
        C: `[L, G, N]`.
        D: `[H]`.
        cu_seqlens: integers from 0 to at most L, never falling, `[S + 1]`.
        initial_states: `[S, H, P, N]` or None for zeros.

    Returns:
        y `[L, H, P]`, zero for tokens behind the last sequence, and the final states `[S, H, P, N]`.
    """
    outputs, finals = [x[:0]], []
    bounds = cu_seqlens.tolist()
    for index, (begin, end) in enumerate(pairwise(bounds)):
        start = None if initial_states is None else initial_states[index : index + 1]
        xs, steps, bs, cs = (t[None, begin:end] for t in (x, dt, B, C))
        y, final = ssd_scan_reference(xs, steps, A, bs, cs, D, start)
        outputs.append(y[0])
        finals.append(final)
    outputs.append(torch.zeros_like(x[bounds[-1] :]))
    return torch.cat(outputs), torch.cat(finals)


def ssd_update_reference(
    state: torch.Tensor,
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
) -> torch.Tensor:
    """One step of the recurrence, `state` overwritten; see `rolloom.kernels.ssd.op.ssd_update` for shapes."""
    y, final = ssd_scan_reference(x[:, None], dt[:, None], A, B[:, None], C[:, None], D, state)
    state.copy_(final)
    return y[:, 0]
