"""Cases of attention."""

from __future__ import annotations

import torch

from rolloom.kernels.attention.op import (
    cached_attention,
    cached_reference,
    packed_attention,
    packed_reference,
)
from rolloom.kernels.packing import Packing
from rolloom.kernels.registry import Case, Draw, Inputs, Operation


def packed(name: str, *lengths: int, heads: int, key_heads: int, size: int) -> Case:
    """Return a case of sequences of these lengths."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        tokens = sum(lengths)
        return {"q": draw.normal(tokens, heads, size), "k": draw.normal(tokens, key_heads, size),
                "v": draw.normal(tokens, key_heads, size), "packing": Packing.of(lengths)}  # fmt: skip

    return Case(name, make)


def cached(name: str, *held: int, new: int, context: int) -> Case:
    """Return a case of `new` tokens behind `held` cached ones in each row."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        rows = len(held)
        at = torch.tensor(held, device=device)[:, None] + torch.arange(new, device=device)
        return {"q": draw.normal(rows, new, 6, 16), "keys": draw.normal(rows, 2, context, 16),
                "values": draw.normal(rows, 2, context, 16), "positions": at,
                "seen": max(held) + new}  # fmt: skip

    return Case(name, make)


OPERATIONS = (
    Operation(
        "packed_attention", packed_attention, packed_reference, ("torch", "invariant"),
        cases=(
            packed("one token", 1, heads=2, key_heads=1, size=16),
            packed("odd", 63, 1, 0, 130, heads=6, key_heads=2, size=24),
            packed("equal", 33, 33, 33, heads=4, key_heads=4, size=16),
            packed("long beside short", 300, 2, 3, heads=2, key_heads=1, size=16),
        ),
        differentiable=("q", "k", "v"),
    ),
    Operation(
        "cached_attention", cached_attention, cached_reference, ("torch", "invariant"),
        cases=(
            cached("decode", 0, 63, 64, 129, new=1, context=140),
            cached("several", 0, 17, 100, new=5, context=128),
        ),
    ),
)  # fmt: skip
