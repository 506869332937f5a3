"""Decoding that does the scan's arithmetic: a state at the last chunk boundary, and the inputs since.

`ssd_update` advances the state token by token, which rounds differently from `ssd_scan`: from the first token
on, outputs differ in their last bits. Here the state moves only at chunk boundaries, as in the scan, and a
token's output is its row of the scan's matrix products over the chunk so far. In fp32 on a CPU outputs and
states then equal `ssd_scan`'s (backend `torch`, chunk of 32) bit for bit, at every position, in any batch,
if P and N are multiples of 4. It also writes the state once a chunk instead of once a token, so a state kept
in 16 or 8 bits is rounded Q times less often, and tokens of the running chunk can be taken back.

Shapes: n rows, H heads, P head dim, G groups, R = H / G, N state size, Q chunk.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from rolloom.kernels.ssd import layout, rounding
from rolloom.kernels.ssd.torch_chunked import (
    CHUNK,
    Chunks,
    carried,
    gained,
    inside_out,
    outside_in,
    scan_products,
    within,
)

ROWS = 8
"""Rows of a chunk that a step computes. MKL's products of 4 rows and more have the bits of the whole
product's rows; `_rows` makes sure of it for each shape, or computes the whole chunk."""
DTYPES = (torch.float32, torch.float16, torch.int8)


class ReplayState:
    """Decoding state of n rows of one layer.

    Args:
        rows: n.
        heads: H.
        head_dim: P.
        groups: G.
        state_size: N.
        chunk: Q; equal to the scan's.
        dtype: of the state at rest: float32, float16, or int8 in blocks of 128 with a scale each.
        rounding_mode: to narrower dtypes: `stochastic` or `nearest`.
        seeds: int64 `[n]`, of each row's stochastic rounding; a row's draws depend on its seed, the chunk's
            number and the element only, not on the batch. Zeros when None.

    Attributes:
        position: tokens since the boundary, `[n]`, 0 to Q: a full chunk is folded in with the next token.
        chunks: boundaries passed, `[n]`.

    Raises:
        ValueError: an unknown dtype or rounding, or H is not a multiple of G.
    """

    def __init__(
        self, rows: int, heads: int, head_dim: int, groups: int, state_size: int, chunk: int = CHUNK,
        dtype: torch.dtype = torch.float32, rounding_mode: rounding.Rounding = "stochastic",
        seeds: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {[str(each) for each in DTYPES]}, got {dtype}")
        if rounding_mode not in ("nearest", "stochastic"):
            raise ValueError(f"rounding_mode: expected 'nearest' or 'stochastic', got {rounding_mode!r}")
        if not groups or heads % groups:
            raise ValueError(f"heads ({heads}) must be a multiple of groups ({groups})")
        self.heads, self.head_dim, self.groups, self.state_size = heads, head_dim, groups, state_size
        self.chunk, self.dtype, self.rounding_mode = chunk, dtype, rounding_mode
        ratio = heads // groups
        self.position = torch.zeros(rows, dtype=torch.int64)
        self.chunks = torch.zeros(rows, dtype=torch.int64)
        self.seeds = torch.zeros(rows, dtype=torch.int64) if seeds is None else seeds
        self._xs = torch.zeros(rows, groups, ratio, 1, chunk, head_dim)
        self._decay = torch.zeros(rows, groups, ratio, 1, chunk)
        self._bs = torch.zeros(rows, groups, 1, chunk, state_size)
        # fp32 rests as the products read it, narrower dtypes in the order of `[H, P, N]`.
        inner = (rows, groups, state_size, ratio * head_dim)
        self._state = torch.zeros(inner if dtype == torch.float32 else (rows, heads * head_dim * state_size),
                                  dtype=dtype)  # fmt: skip
        blocks = -(-heads * head_dim * state_size // rounding.INT8_BLOCK)
        self._scale = torch.zeros(rows, blocks if dtype == torch.int8 else 0)

    def state(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the state at the last boundary, fp32 `[n, H, P, N]`."""
        return outside_in(self._read(self._index(rows)), self.heads)

    def set_state(self, state: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        """Start rows anew from `[n, H, P, N]`, at a boundary."""
        at = self._index(rows)
        self.position[at], self.chunks[at] = 0, 0
        self._write(at, inside_out(state.float(), self.groups))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return everything held; the first dimension of each is rows."""
        small = (self.position, self.chunks, self.seeds)
        return (self._state, self._scale, self._xs, self._decay, self._bs, *small)

    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def take_back(self, tokens: int, rows: torch.Tensor | None = None) -> None:
        """Forget the last tokens of rows, as after a rejected draft.

        Raises:
            ValueError: a row has fewer since its last boundary.
        """
        at = self._index(rows)
        if bool((self.position[at] < tokens).any()):
            raise ValueError(
                f"tokens: {tokens} reach behind a boundary; rows hold {self.position[at].tolist()}"
            )
        self.position[at] -= tokens

    def step(
        self, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
        D: torch.Tensor, rows: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Feed one token a row and return its output.

        Args:
            x: `[n, H, P]`.
            dt: `[n, H]`, after softplus and clamp.
            A: `[H]`.
            B: `[n, G, N]`.
            C: `[n, G, N]`.
            D: `[H]`.
            rows: int64 `[n]`, no row twice; None for all.

        Returns:
            y `[n, H, P]` in x's dtype.
        """
        at = self._index(rows)
        self._fold(at[self.position[at] == self.chunk])
        place, count = self.position[at], len(at)
        groups, ratio = self.groups, self.heads // self.groups
        whole = slice(None) if rows is None else at
        steps = dt.float()
        self._xs[at, :, :, 0, place] = (x.float() * steps[..., None]).view(
            count, groups, ratio, self.head_dim
        )
        self._decay[at, :, :, 0, place] = (steps * A.float()).view(count, groups, ratio)
        self._bs[at, :, 0, place] = B.float()
        self.position[at] += 1

        chunks = self._chunks(whole)
        height = _rows(self.chunk, self.head_dim, self.state_size, ratio)
        first, every = place // height * height, torch.arange(count)
        cs = torch.zeros(count, groups, 1, height, self.state_size)
        cs[every, :, 0, place - first] = C.float()
        tile = first[:, None] + torch.arange(height)
        seen = chunks.cum.gather(-1, tile[:, None, None, None].expand(*chunks.cum.shape[:-1], height))
        hidden = (torch.arange(self.chunk) > tile[..., None])[:, None, None, None]
        y = within(cs, seen, hidden, chunks) + carried(cs, seen, self._read(whole)[:, :, None])
        y = y[every, :, :, 0, place - first].reshape(count, self.heads, self.head_dim)
        return (y.to(x.dtype) + x * D[:, None]).to(x.dtype)

    def feed(
        self, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
        D: torch.Tensor, cu_seqlens: torch.Tensor, rows: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Feed any number of tokens a row, a prompt or a draft, packed; see `ssd_scan_packed` for shapes.

        A state narrower than fp32 is rounded once, at the last boundary passed.

        Returns:
            y `[L, H, P]` in x's dtype.
        """
        at = self._index(rows)
        self._fold(at[self.position[at] == self.chunk])
        bounds, held = cu_seqlens.tolist(), self.position[at].tolist()
        own = (x.float() * dt.float()[..., None], dt.float() * A.float(), B.float(), C.float())
        parts: list[list[torch.Tensor]] = [[], [], [], []]
        lengths = [0]
        for index, row in enumerate(at.tolist()):
            count, new = held[index], slice(bounds[index], bounds[index + 1])
            old = (
                self._xs[row, :, :, 0, :count].flatten(0, 1).transpose(0, 1),
                self._decay[row, :, :, 0, :count].flatten(0, 1).T,
                self._bs[row, :, 0, :count].transpose(0, 1),
                C.new_zeros(count, self.groups, self.state_size, dtype=torch.float32),
            )
            for part, before, after in zip(parts, old, own, strict=True):
                part += [before, after[new]]
            lengths.append(count + new.stop - new.start)
        x_dt, decay, bs, cs = (torch.cat(part) for part in parts)
        ends = torch.tensor(lengths).cumsum(0)
        grid = layout.packed(ends, len(x_dt), self.chunk)
        y, entering, final = scan_products(x_dt, decay, bs, cs, grid, self._read(at))

        firsts = ((ends.diff() + self.chunk - 1) // self.chunk).cumsum(0)
        outputs = []
        for index, row in enumerate(at.tolist()):
            begin, end = int(ends[index]), int(ends[index + 1])
            left = (end - begin) % self.chunk
            outputs.append(y[begin + held[index] : end])
            state = entering[:, int(firsts[index]) - 1] if left else final[index]
            passed = (end - begin) // self.chunk
            if passed:
                self.chunks[row] += passed
                self._write(torch.tensor([row]), state[None])
            self.position[row] = left
            last = slice(end - left, end)
            self._xs[row, :, :, 0, :left] = x_dt[last].transpose(0, 1).unflatten(0, (self.groups, -1))
            self._decay[row, :, :, 0, :left] = decay[last].T.unflatten(0, (self.groups, -1))
            self._bs[row, :, 0, :left] = bs[last].transpose(0, 1)
        y = torch.cat(outputs)
        return (y.to(x.dtype) + x[: len(y)] * D[:, None]).to(x.dtype)

    def _index(self, rows: torch.Tensor | None) -> torch.Tensor:
        return torch.arange(len(self.position)) if rows is None else rows

    def _chunks(self, at: torch.Tensor | slice) -> Chunks:
        return Chunks(self._xs[at], self._decay[at].cumsum(-1), self._bs[at])

    def _fold(self, at: torch.Tensor) -> None:
        """Move rows with a full chunk over the boundary."""
        if not len(at):
            return
        gain, decay = gained(self._chunks(at))
        state = self._read(at) * decay[:, :, 0] + gain[:, :, 0]
        self.chunks[at] += 1
        self._write(at, state)
        self.position[at] = 0

    def _read(self, at: torch.Tensor | slice) -> torch.Tensor:
        held = self._state[at]
        if self.dtype == torch.float32:
            return held
        flat = held.float() if self.dtype == torch.float16 else rounding.from_int8(held, self._scale[at])
        shape = (len(held), self.heads, self.head_dim, self.state_size)
        return inside_out(flat.view(shape), self.groups).contiguous()

    def _write(self, at: torch.Tensor, state: torch.Tensor) -> None:
        if self.dtype == torch.float32:
            self._state[at] = state
            return
        flat = outside_in(state, self.heads).flatten(1)
        draw = None
        if self.rounding_mode == "stochastic":
            offsets = torch.arange(flat.shape[1])
            words = rounding.philox(self.seeds[at, None], offsets, self.chunks[at, None])
            draw = rounding.uniform(words)
        if self.dtype == torch.float16:
            self._state[at] = rounding.to_half(flat, draw)
        else:
            self._state[at], self._scale[at] = rounding.to_int8(flat, draw)


@lru_cache(maxsize=256)
def _rows(chunk: int, head_dim: int, state_size: int, ratio: int) -> int:
    """Return how few rows of a chunk's products can be computed without changing their bits."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((state_size, chunk, True), (chunk, head_dim, False), (state_size, ratio * head_dim, False))
    for inner, width, turned in shapes:
        left = torch.randn(3, chunk, inner, generator=generator)
        right = (
            torch.randn(3, width, inner, generator=generator).mT
            if turned
            else (torch.randn(3, inner, width, generator=generator))
        )
        whole = left @ right
        for begin in range(0, chunk, ROWS):
            tile = slice(begin, begin + ROWS)
            if chunk % ROWS or not torch.equal(left[:, tile].contiguous() @ right, whole[:, tile]):
                return chunk
    return ROWS
