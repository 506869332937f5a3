"""SSD scan by chunks in head-major batched matrix products: the CPU path, and the fallback on any device.

Shapes: B batch, T tokens, H heads, P head dim, G groups, R = H / G heads a group, N state size, c chunks of
    Q tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

CHUNK = 32


def ssd_scan_chunked(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_reference` returns, differentiably (arXiv 2405.21060, section 6).

    Accumulates in fp32, or fp64 for fp64 inputs. The heads of a group share C B^T and are laid side by side
    in the state's columns, so nothing is expanded.
    """
    batch, length, heads, head_dim = x.shape
    groups, state_size = B.shape[2], B.shape[3]
    ratio = heads // groups
    pad = -length % chunk
    chunks = (length + pad) // chunk
    exact = torch.promote_types(x.dtype, torch.float32)
    skip = x * D[:, None]
    x_dt = x.to(exact) * dt.to(exact)[..., None]
    decay = dt.to(exact) * A.to(exact)
    b_in, c_in = B.to(exact), C.to(exact)
    if pad:
        x_dt, b_in, c_in = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x_dt, b_in, c_in))
        decay = F.pad(decay, (0, 0, 0, pad))
    # [B, G, R, c, Q, P], [B, G, R, c, Q], [B, G, c, Q, N]
    xs = x_dt.view(batch, chunks, chunk, groups, ratio, head_dim).permute(0, 3, 4, 1, 2, 5)
    cum = decay.view(batch, chunks, chunk, groups, ratio).permute(0, 3, 4, 1, 2).cumsum(-1)
    bs = b_in.view(batch, chunks, chunk, groups, state_size).permute(0, 3, 1, 2, 4)
    cs = c_in.view(batch, chunks, chunk, groups, state_size).permute(0, 3, 1, 2, 4)

    scores = cs @ bs.transpose(-1, -2)
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    gap = (cum[..., :, None] - cum[..., None, :]).masked_fill(future, float("-inf"))
    inner = (scores[:, :, None] * gap.exp()) @ xs

    # A chunk's own contribution to the state, [B, G, c, N, R * P].
    to_end = (cum[..., -1:] - cum).exp()
    weighted = (xs * to_end[..., None]).permute(0, 1, 3, 4, 2, 5)
    weighted = weighted.reshape(batch, groups, chunks, chunk, ratio * head_dim)
    gained = bs.transpose(-1, -2) @ weighted
    chunk_decay = cum[..., -1].exp().permute(0, 1, 3, 2).repeat_interleave(head_dim, -1)[..., None, :]
    if initial_state is None:
        state = gained.new_zeros(batch, groups, state_size, ratio * head_dim)
    else:
        state = initial_state.to(exact).view(batch, groups, ratio * head_dim, state_size).transpose(-1, -2)
    entering = []
    for index in range(chunks):
        entering.append(state)
        state = state * chunk_decay[:, :, index] + gained[:, :, index]
    carried = (
        cs @ torch.stack(entering, 2) if entering else xs.new_zeros(batch, groups, 0, chunk, ratio * head_dim)
    )
    carried = carried.view(batch, groups, chunks, chunk, ratio, head_dim).permute(0, 1, 4, 2, 3, 5)
    y = inner + carried * cum.exp()[..., None]
    y = y.permute(0, 3, 4, 1, 2, 5).reshape(batch, length + pad, heads, head_dim)[:, :length]
    final = state.transpose(-1, -2).reshape(batch, heads, head_dim, state_size)
    return y.to(x.dtype) + skip, final
