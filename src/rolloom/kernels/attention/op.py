"""Causal grouped-query attention over packed sequences, and of new tokens over cached keys and values.

Torch's own kernels do the work: variable-length attention on a GPU, `scaled_dot_product_attention` elsewhere.
Only deterministic mode on a CPU has its own, `tiled`.

Shapes: L packed tokens, S sequences, T tokens of the longest, Hq query and Hk key heads, E head dim, C
    context.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels.attention.tiled import cached_tiled, packed_tiled
from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.packing import Packing

WASTE = 1.5
"""Padded tokens a real one up to which sequences of several lengths are padded rather than run in turn."""


def packed_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, backend: str | None = None
) -> torch.Tensor:
    """Attend causally within each packed sequence.

    Args:
        q: `[L, Hq, E]`.
        k: `[L, Hk, E]`; Hq is a multiple of Hk.
        v: `[L, Hk, E]`.
        packing: of the L tokens.
        backend: `torch` (padded, or in turn), `varlen` (torch's kernel for half precision on CUDA),
            `invariant`, `reference`, or None to choose.

    Returns:
        `[L, Hq, E]`.

    Raises:
        UnsupportedError: no such backend.
    """
    if backend is None and q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        backend = "varlen"
    return choose("packed_attention", PACKED, backend, q, default=on_cpu(q))(q, k, v, packing)


def cached_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    positions: torch.Tensor,
    seen: int,
    backend: str | None = None,
) -> torch.Tensor:
    """Attend from new tokens to everything cached up to themselves.

    Args:
        q: `[S, T, Hq, E]`.
        keys: `[S, Hk, C, E]`, the new tokens' included.
        values: `[S, Hk, C, E]`.
        positions: of the new tokens, int64 `[S, T]`; token t of s sees keys 0 to `positions[s, t]`.
        seen: more than every position, at most C: keys from here on are not read.
        backend: `torch`, `invariant`, `reference`, or None to choose.

    Returns:
        `[S, T, Hq, E]`.

    Raises:
        UnsupportedError: no such backend.
    """
    run = choose("cached_attention", CACHED, backend, q, default=on_cpu(q))
    return run(q, keys, values, positions, seen)


def _padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing) -> torch.Tensor:
    if not packing.tokens:
        return q
    if packing.sequences * packing.longest > WASTE * packing.tokens:
        parts = [
            _padded(q[a:b], k[a:b], v[a:b], Packing.of([b - a]))
            for a, b in zip(packing.bounds, packing.bounds[1:], strict=False)
            if b > a
        ]
        return torch.cat(parts)
    wide = [packing.to_padded(t).transpose(1, 2) for t in (q, k, v)]
    out = F.scaled_dot_product_attention(wide[0], wide[1], wide[2], is_causal=True, enable_gqa=True)
    return packing.to_packed(out.transpose(1, 2))


def _varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    bounds, longest = packing.cu_seqlens(q.device), packing.longest
    out = varlen_attn(
        q, k, v, bounds, bounds, longest, longest, window_size=(-1, 0), enable_gqa=q.shape[1] != k.shape[1]
    )
    assert isinstance(out, torch.Tensor)
    return out


def packed_reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(E) + causal mask) v, sequence by sequence."""
    parts = [q[:0]]
    for a, b in zip(packing.bounds, packing.bounds[1:], strict=False):
        at = torch.arange(b - a, device=q.device)
        keys, values = (t[None, a:b].transpose(1, 2) for t in (k, v))
        parts.append(cached_reference(q[None, a:b], keys, values, at[None], b - a)[0])
    return torch.cat(parts)


def cached_reference(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, seen: int
) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(E)) v over the keys each token may see."""
    ratio = q.shape[2] // keys.shape[1]
    k, v = (t[:, :, :seen].repeat_interleave(ratio, 1) for t in (keys, values))
    scores = torch.einsum("sthe,shce->shtc", q, k) * q.shape[-1] ** -0.5
    hidden = torch.arange(seen, device=q.device) > positions[:, None, :, None]
    return torch.einsum("shtc,shce->sthe", scores.masked_fill(hidden, float("-inf")).softmax(-1), v)


def _cached(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, seen: int
) -> torch.Tensor:
    mask = (torch.arange(seen, device=q.device) <= positions[..., None])[:, None]
    keys, values = keys[:, :, :seen], values[:, :, :seen]
    if q.shape[1] == 1:
        # The query heads that share a key head stand where SDPA expects query positions.
        grouped = q[:, 0].unflatten(1, (keys.shape[1], -1))
        out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return out.flatten(1, 2)[:, None]
    out = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2)


PACKED = {"torch": _padded, "varlen": _varlen, "invariant": packed_tiled, "reference": packed_reference}
CACHED = {"torch": _cached, "invariant": cached_tiled, "reference": cached_reference}
