"""SSD scan by chunks in head-major batched matrix products: the CPU path, and the fallback on any device.

The packed form does the dense form's arithmetic on the chunks of all sequences at once. Decoding replays it
(see `replay.py`), so what is computed and in which order is part of this file's contract.

Shapes: B batch, T tokens, H heads, P head dim, G groups, R = H / G heads a group, N state size, c chunks of
    Q tokens; packed: L tokens of S sequences.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F

from rolloom.kernels.ssd import layout

CHUNK = 32
WHOLE = 4


class Chunks(NamedTuple):
    """Inputs by chunk.

    Attributes:
        xs: x dt, `[B, G, R, c, Q, P]`.
        cum: running sums of dt A, `[B, G, R, c, Q]`.
        bs: `[B, G, c, Q, N]`.
    """

    xs: torch.Tensor
    cum: torch.Tensor
    bs: torch.Tensor


def by_chunk(x_dt: torch.Tensor, decay: torch.Tensor, b_in: torch.Tensor, chunk: int) -> Chunks:
    """Cut `[B, c Q, H, P]`, `[B, c Q, H]` and `[B, c Q, G, N]` into chunks."""
    batch, length, heads, head_dim = x_dt.shape
    groups, state_size = b_in.shape[2:]
    chunks, ratio = length // chunk, heads // groups
    return Chunks(
        x_dt.reshape(batch, chunks, chunk, groups, ratio, head_dim).permute(0, 3, 4, 1, 2, 5),
        decay.reshape(batch, chunks, chunk, groups, ratio).permute(0, 3, 4, 1, 2).cumsum(-1),
        b_in.reshape(batch, chunks, chunk, groups, state_size).permute(0, 3, 1, 2, 4),
    )


def within(cs: torch.Tensor, rows: torch.Tensor, hidden: torch.Tensor, chunks: Chunks) -> torch.Tensor:
    """Return what the tokens of a chunk add to its outputs, `[B, G, R, c, rows, P]`.

    Args:
        cs: C of some rows of each chunk, `[B, G, c, rows, N]`.
        rows: cumulative decays of those rows, `[B, G, R, c, rows]`.
        hidden: what a row must not see, broadcast to `[B, G, R, c, rows, Q]`.
        chunks: whole chunks.
    """
    scores = cs @ chunks.bs.transpose(-1, -2)
    gap = (rows[..., :, None] - chunks.cum[..., None, :]).masked_fill(hidden, float("-inf"))
    return (scores[:, :, None] * gap.exp()) @ chunks.xs


def gained(chunks: Chunks) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what chunks add to the state, `[B, G, c, N, R P]`, and its decay, `[B, G, c, 1, R P]`."""
    xs, cum, bs = chunks
    batch, groups, ratio, count, chunk, head_dim = xs.shape
    to_end = (cum[..., -1:] - cum).exp()
    weighted = (xs * to_end[..., None]).permute(0, 1, 3, 4, 2, 5)
    weighted = weighted.reshape(batch, groups, count, chunk, ratio * head_dim)
    decay = cum[..., -1].exp().permute(0, 1, 3, 2).repeat_interleave(head_dim, -1)[..., None, :]
    return bs.transpose(-1, -2) @ weighted, decay


def carried(cs: torch.Tensor, rows: torch.Tensor, entering: torch.Tensor) -> torch.Tensor:
    """Return what the states entering chunks `[B, G, c, N, R P]` add to outputs `[B, G, R, c, rows, P]`."""
    batch, groups, count, length, _ = cs.shape
    ratio = rows.shape[2]
    head_dim = entering.shape[-1] // ratio
    y = (cs @ entering).view(batch, groups, count, length, ratio, head_dim).permute(0, 1, 4, 2, 3, 5)
    return y * rows.exp()[..., None]


def inside_out(state: torch.Tensor, groups: int) -> torch.Tensor:
    """Turn `[B, H, P, N]` into the layout of chunks, `[B, G, N, R P]`."""
    batch, heads, head_dim, state_size = state.shape
    return state.reshape(batch, groups, heads // groups * head_dim, state_size).transpose(-1, -2)


def outside_in(state: torch.Tensor, heads: int) -> torch.Tensor:
    """Turn `[B, G, N, R P]` into `[B, H, P, N]`."""
    return state.transpose(-1, -2).reshape(state.shape[0], heads, -1, state.shape[2])


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
    pad = -length % chunk
    count = (length + pad) // chunk
    exact = torch.promote_types(x.dtype, torch.float32)
    x_dt, decay, b_in, c_in = _exact(x, dt, A, B, C, exact)
    if pad:
        x_dt, b_in, c_in = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x_dt, b_in, c_in))
        decay = F.pad(decay, (0, 0, 0, pad))
    chunks = by_chunk(x_dt, decay, b_in, chunk)
    cs = c_in.reshape(batch, count, chunk, groups, state_size).permute(0, 3, 1, 2, 4)
    inner = within(cs, chunks.cum, _future(chunk, x.device), chunks)
    gain, chunk_decay = gained(chunks)
    if initial_state is None:
        state = gain.new_zeros(batch, groups, state_size, heads // groups * head_dim)
    else:
        state = inside_out(initial_state.to(exact), groups)
    entering = []
    for index in range(count):
        entering.append(state)
        state = state * chunk_decay[:, :, index] + gain[:, :, index]
    stacked = torch.stack(entering, 2) if entering else gain.new_zeros(gain.shape)
    y = inner + carried(cs, chunks.cum, stacked)
    y = y.permute(0, 3, 4, 1, 2, 5).reshape(batch, length + pad, heads, head_dim)[:, :length]
    return (y.to(x.dtype) + x * D[:, None]).to(x.dtype), outside_in(state, heads)


def _exact(
    x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, exact: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    steps = dt.to(exact)
    return x.to(exact) * steps[..., None], steps * A.to(exact), B.to(exact), C.to(exact)


def _future(chunk: int, device: torch.device) -> torch.Tensor:
    return torch.ones(chunk, chunk, dtype=torch.bool, device=device).triu(1)


def ssd_scan_packed_chunked(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_states: torch.Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_chunked` returns for each sequence alone, in fp32 to the last bit.

    A and D may be of each token, `[L, H]`. All chunks of all sequences go through the matrix products
    together; MKL computes a product of a batch like the product alone if its sizes are multiples of `WHOLE`.
    For other sizes sequences are scanned in turn.
    """
    grid = layout.packed(cu_seqlens, len(x), chunk)
    _, heads, head_dim = x.shape
    groups, state_size = B.shape[1:]
    exact = torch.promote_types(x.dtype, torch.float32)
    shape = (grid.sequences, heads, head_dim, state_size)
    starts = x.new_zeros(shape, dtype=exact) if initial_states is None else initial_states.to(exact)
    if head_dim % WHOLE or state_size % WHOLE:
        return _in_turn((x, dt, A, B, C, D), cu_seqlens.tolist(), starts, chunk)
    products = _exact(x, dt, A, B, C, exact)
    y, _, final = scan_products(*products, grid, inside_out(starts, groups))
    skip = x * D[..., None]
    real = cu_seqlens[-1]
    if real < len(x):
        skip = torch.where(torch.arange(len(x), device=x.device)[:, None, None] < real, skip, 0)
    return (y.to(x.dtype) + skip).to(x.dtype), outside_in(final, heads)


def scan_products(
    x_dt: torch.Tensor,
    decay: torch.Tensor,
    b_in: torch.Tensor,
    c_in: torch.Tensor,
    grid: layout.Grid,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scan packed sequences from x dt `[L, H, P]`, dt A `[L, H]`, B and C `[L, G, N]`.

    Args:
        x_dt: x dt.
        decay: dt A.
        b_in: B.
        c_in: C.
        grid: of the batch.
        starts: `[S, G, N, R P]`.

    Returns:
        y without D x, `[L, H, P]`; the state entering each chunk, `[G, K, N, R P]`; the last of each
        sequence, `[S, G, N, R P]`.
    """
    length, heads, head_dim = x_dt.shape
    x_dt, decay, b_in, c_in = (
        grid.spread(t).flatten(0, 1)[None].contiguous() for t in (x_dt, decay, b_in, c_in)
    )
    chunks = by_chunk(x_dt, decay, b_in, grid.chunk)
    cs = c_in.reshape(1, grid.count, grid.chunk, *c_in.shape[2:]).permute(0, 3, 1, 2, 4)
    inner = within(cs, chunks.cum, _future(grid.chunk, x_dt.device), chunks)
    gain, chunk_decay = gained(chunks)
    entering, final = _pass_states(grid, gain[0], chunk_decay[0], starts)
    y = inner + carried(cs, chunks.cum, entering[None])
    y = y.permute(0, 3, 4, 1, 2, 5).reshape(grid.count, grid.chunk, heads, head_dim)
    return grid.gather(y, length), entering, final


def _in_turn(
    args: tuple[torch.Tensor, ...], bounds: list[int], starts: torch.Tensor, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    x, dt, a, b, c, d = args
    outputs, finals = [], []
    for index, (begin, end) in enumerate(pairwise(bounds)):
        xs, steps, bs, cs = (t[None, begin:end] for t in (x, dt, b, c))
        own = [t[begin:end] if t.dim() > 1 else t for t in (a, d)]
        start = starts[index : index + 1]
        y, final = ssd_scan_chunked(xs, steps, own[0], bs, cs, x.new_zeros(x.shape[1]), start, chunk)
        outputs.append(y[0] + x[begin:end] * own[1][..., None])
        finals.append(final)
    rest = x.new_zeros(len(x) - bounds[-1], *x.shape[1:])
    return torch.cat((*outputs, rest)), torch.cat((starts[:0], *finals))


def _pass_states(
    grid: layout.Grid, gain: torch.Tensor, decay: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run states over the chunks of their sequences.

    Args:
        grid: of the batch.
        gain: `[G, K, N, R P]`.
        decay: `[G, K, 1, R P]`.
        state: `[S, G, N, R P]`.

    Returns:
        The state entering each chunk, `[G, K, N, R P]`, and the last of each sequence, `[S, G, N, R P]`.
    """
    gain, decay = gain.transpose(0, 1), decay.transpose(0, 1)
    state = state if grid.order is None else state[grid.order]
    entering, done, names = [], [], []
    for wave in grid.waves:
        step_gain = gain[wave]
        done.append(state[len(step_gain) :])
        state = state[: len(step_gain)]
        entering.append(state)
        names.append(torch.arange(grid.count)[wave])
        state = state * decay[wave] + step_gain
    done.append(state)
    final = torch.cat(done[::-1])
    if grid.order is not None:
        final = final[grid.order.argsort()]
    stacked = torch.cat(entering)[torch.cat(names).argsort()] if entering else gain.new_zeros(gain.shape)
    return stacked.transpose(0, 1), final
