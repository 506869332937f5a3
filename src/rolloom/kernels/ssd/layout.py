"""Chunks of packed sequences: no chunk straddles two sequences, so no state does.

A packed batch lays sequences end to end, `[L, ...]`; sequence s is tokens `cu_seqlens[s]` to
`cu_seqlens[s + 1]`. Each is cut into chunks of Q tokens from its own first token, its last chunk padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch

Wave = slice | torch.Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Where tokens and states go.

    Attributes:
        sequences: count S, empty ones included.
        count: chunks K.
        chunk: tokens a chunk, Q.
        slots: of each token, its place in `[K * Q]`; None when it is the identity.
        waves: wave w names the w-th chunk of every sequence that has one, in `order`.
        order: sequences by chunk count, longest first; None when it is the identity.
    """

    sequences: int
    count: int
    chunk: int
    slots: torch.Tensor | None
    waves: tuple[Wave, ...]
    order: torch.Tensor | None

    def spread(self, tokens: torch.Tensor) -> torch.Tensor:
        """Lay `[L, ...]` out as `[K, Q, ...]`, padding zero; a view where there is none."""
        shape = (self.count, self.chunk, *tokens.shape[1:])
        if self.slots is None:
            return tokens[: self.count * self.chunk].reshape(shape)
        wide = tokens.new_zeros(self.count * self.chunk, *tokens.shape[1:])
        return wide.index_copy(0, self.slots, tokens[: len(self.slots)]).view(shape)

    def gather(self, chunks: torch.Tensor, length: int) -> torch.Tensor:
        """Undo `spread`: `[K, Q, ...]` to `[L, ...]`, tokens of no sequence zero."""
        flat = chunks.reshape(self.count * self.chunk, *chunks.shape[2:])
        tokens = flat if self.slots is None else flat.index_select(0, self.slots)
        rest = length - len(tokens)
        return torch.cat((tokens, tokens.new_zeros(rest, *tokens.shape[1:]))) if rest else tokens


def dense(batch: int, length: int, chunk: int) -> Grid:
    """Return the grid of `batch` sequences of `length` tokens each."""
    return _grid(tuple(range(0, batch * length + 1, length)) if length else (0,) * (batch + 1), chunk)


def packed(cu_seqlens: torch.Tensor, length: int, chunk: int) -> Grid:
    """Return the grid of a packed batch; reads `cu_seqlens` on the host.

    Raises:
        ValueError: the bounds do not start at 0, fall, or end beyond `length`.
    """
    bounds = tuple(cu_seqlens.tolist())
    if not bounds or bounds[0] or any(a > b for a, b in pairwise(bounds)) or bounds[-1] > length:
        raise ValueError(f"cu_seqlens: expected 0 <= ... <= {length}, never falling, got {list(bounds)}")
    return _grid(bounds, chunk)


@lru_cache(maxsize=64)
def _grid(bounds: tuple[int, ...], chunk: int) -> Grid:
    lengths = [b - a for a, b in pairwise(bounds)]
    counts = [-(-length // chunk) for length in lengths]
    firsts = [0]
    for count in counts:
        firsts.append(firsts[-1] + count)
    total = firsts.pop()
    slots = None
    if bounds[-1] != total * chunk:
        shifts = [first * chunk - begin for first, begin in zip(firsts, bounds, strict=False)]
        slots = torch.arange(bounds[-1]) + torch.tensor(shifts).repeat_interleave(torch.tensor(lengths))
    if len(set(counts)) == 1:
        waves: tuple[Wave, ...] = tuple(slice(w, None, counts[0]) for w in range(counts[0]))
        return Grid(len(counts), total, chunk, slots, waves, None)
    order = sorted(range(len(counts)), key=lambda s: -counts[s])
    waves = tuple(
        torch.tensor([firsts[s] + w for s in order if counts[s] > w]) for w in range(max(counts, default=0))
    )
    return Grid(len(counts), total, chunk, slots, waves, torch.tensor(order))
