"""Attention in tiles of fixed size: a token's bits depend on no other sequence and no later token.

Keys are read in tiles of `TILE` with a running maximum (Milakov and Gimelshein, arXiv 1805.02867); a tile
that a token may not see changes nothing of it, since exp(0) = 1 and exp(-inf) = 0 exactly. Query rows are
padded to a multiple of `invariant.ROWS`. Decoding a token and scoring its sequence so give the same bits.

Shapes: as in `op.py`; R = T Hq / Hk query rows a key head.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F

from rolloom.kernels.invariant import ROWS
from rolloom.kernels.packing import Packing

TILE = 64
BLOCK = 256
"""Tokens of a sequence whose queries are computed together."""


def packed_tiled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Attend within each packed sequence, one after the other: its gradients are those of it alone."""
    parts = [q[:0]]
    for begin, end in pairwise(packing.bounds):
        keys, values = (t[begin:end].transpose(0, 1)[None] for t in (k, v))
        for first in range(begin, end, BLOCK):
            last = min(end, first + BLOCK)
            at = torch.arange(first - begin, last - begin)
            seen = last - begin
            parts.append(cached_tiled(q[None, first:last], keys, values, at[None], seen)[0])
    return torch.cat(parts)


def cached_tiled(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, seen: int
) -> torch.Tensor:
    """Attend from new tokens to cached keys, in fp32; see `cached_attention`."""
    batch, length, heads, size = q.shape
    key_heads = keys.shape[1]
    ratio = heads // key_heads
    rows = length * ratio
    missing = -rows % ROWS
    queries = (q.float() * size**-0.5).view(batch, length, key_heads, ratio, size).transpose(1, 2)
    queries = F.pad(queries.reshape(batch, key_heads, rows, size), (0, 0, 0, missing))
    limits = F.pad(positions.repeat_interleave(ratio, 1), (0, missing))[:, None, :, None]
    top = queries.new_full((batch, key_heads, rows + missing, 1), float("-inf"))
    total = torch.zeros_like(top)
    mixed = torch.zeros_like(queries)
    for first in range(0, seen, TILE):
        key, value = (_tile(t, first, seen) for t in (keys, values))
        hidden = torch.arange(first, first + TILE) > limits
        scores = (queries @ key.mT).masked_fill(hidden, float("-inf"))
        with torch.no_grad():
            above = torch.maximum(top, scores.amax(-1, keepdim=True))
            kept = torch.exp(top - above)
        weights = torch.exp(scores - above)
        total = total * kept + weights.sum(-1, keepdim=True)
        mixed = mixed * kept + weights @ value
        top = above
    out = (mixed / total)[:, :, :rows].view(batch, key_heads, length, ratio, size)
    return out.transpose(1, 2).reshape(batch, length, heads, size).to(q.dtype)


def _tile(cached: torch.Tensor, first: int, seen: int) -> torch.Tensor:
    tile = cached[:, :, first : min(first + TILE, seen)]
    return F.pad(tile.float(), (0, 0, 0, TILE - tile.shape[2])).contiguous()
