"""The attention function that transformers' models call here: packed sequences, and rows with a cache.

Every model with transformers' attention interface hands over rotated queries, keys and values; what tokens
may see each other is decided here alone, from the `Pass` that travels with the call. So no model has to know
how sequences are packed or where they are cached, and no mask is ever made by transformers.

Shapes: L packed tokens, S sequences, T tokens of the longest, Hq query and Hk key heads, E head dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from rolloom.kernels.attention.op import cached_attention, packed_attention
from rolloom.kernels.packing import Packing
from rolloom.policy.config import PolicyError
from rolloom.policy.hf_cache import KeyValueCache

NAME = "rolloom"
"""What the function is registered under: `attn_implementation`."""

REFUSED = {"softcap": "soft-capped scores", "s_aux": "attention sinks", "position_bias": "a position bias"}
"""Keywords by which models ask for what is not done here."""


@dataclass(slots=True)
class Pass:
    """One run of the model over packed tokens.

    Attributes:
        packing: of the L tokens.
        positions: of each token in its sequence, what the cache holds included, int64 `[L]`.
        cache: what the tokens continue, and where theirs are kept; None in training.
        start: row of the first sequence.
        seen: more than every position.
        fresh: no row holds anything yet.
    """

    packing: Packing
    positions: torch.Tensor
    cache: KeyValueCache | None = None
    start: int = 0
    seen: int = 0
    fresh: bool = True


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    rolloom_pass: Pass | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally; the signature is transformers' attention interface.

    Args:
        module: the attention layer; its `layer_idx` names its place in the cache.
        query: `[1, Hq, L, E]`.
        key: `[1, Hk, L, E]`.
        value: `[1, Hk, L, E]`.
        attention_mask: not used.
        scaling: of the scores; None is 1 / sqrt(E).
        sliding_window: tokens that each token sees, itself included; None is all before it.
        rolloom_pass: what is run.
        others: further keywords of the interface; dropout is never applied.

    Returns:
        `[1, L, Hq, E]`, and None for the attention weights.

    Raises:
        PolicyError: the layer asks for something else than softmax attention over all keys, or the model does
            not hand its keyword arguments on.
    """
    for name, meaning in REFUSED.items():
        if others.get(name) is not None:
            raise PolicyError(f"{type(module).__name__}: {meaning} ({name}) is not supported")
    if rolloom_pass is None:
        raise PolicyError(f"{type(module).__name__} was not given `rolloom_pass`: the model drops keywords")
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    natural = q.shape[-1] ** -0.5
    if scaling is not None and abs(scaling - natural) > 1e-6 * natural:
        q = q * (scaling / natural)
    here, window = rolloom_pass, sliding_window or 0
    if here.cache is not None:
        rows = here.packing.owners(q.device) + here.start
        keys, values = here.cache.write(module.layer_idx, rows, here.positions, k, v)
        if not here.fresh:
            return _over_cache(q, keys, values, here, window)[None], None
    return _over_packed(q, k, v, here.packing, window)[None], None


def _over_packed(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packing: Packing, window: int
) -> torch.Tensor:
    if not 0 < window < packing.longest:
        return packed_attention(q, k, v, packing)
    steps = torch.arange(packing.longest, device=q.device)
    ago = steps[:, None] - steps
    wide = [packing.to_padded(t).transpose(1, 2) for t in (q, k, v)]
    mask = (ago >= 0) & (ago < window)
    out = F.scaled_dot_product_attention(wide[0], wide[1], wide[2], attn_mask=mask, enable_gqa=True)
    return packing.to_packed(out.transpose(1, 2))


def _over_cache(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, here: Pass, window: int
) -> torch.Tensor:
    packing = here.packing
    rows = slice(here.start, here.start + packing.sequences)
    keys, values, wide = keys[rows, :, : here.seen], values[rows, :, : here.seen], packing.to_padded(q)
    # Padding repeats the position 0, which sees a key and so has no empty softmax.
    positions = packing.to_padded(here.positions)
    if not 0 < window < here.seen:
        return packing.to_packed(cached_attention(wide, keys, values, positions, here.seen))
    ago = positions[..., None] - torch.arange(here.seen, device=q.device)
    mask = ((ago >= 0) & (ago < window))[:, None]
    out = F.scaled_dot_product_attention(
        wide.transpose(1, 2),
        keys[:, :, : here.seen],
        values[:, :, : here.seen],
        attn_mask=mask,
        enable_gqa=True,
    )
    return packing.to_packed(out.transpose(1, 2))
