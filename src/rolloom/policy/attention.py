"""Grouped-query attention without positional encoding.

Shapes: L packed tokens, D width, Hq query and Hk key heads, E head dim, C context; n rows of a decode step.
"""

from __future__ import annotations

import torch
from torch import nn

from rolloom.kernels.attention.op import cached_attention, packed_attention
from rolloom.kernels.linear.op import linear
from rolloom.kernels.packing import Packing
from rolloom.policy.cache import AttentionState
from rolloom.policy.config import HybridConfig


class Attention(nn.Module):
    """Causal attention; the hybrid's Mamba layers give it order."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        d, hd = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(d, config.num_attention_heads * hd, bias=False)
        self.k_proj = nn.Linear(d, config.num_key_value_heads * hd, bias=False)
        self.v_proj = nn.Linear(d, config.num_key_value_heads * hd, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * hd, d, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        packing: Packing,
        state: AttentionState | None = None,
        rows: slice | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`[L, D]` to `[L, D]`, each packed sequence on its own.

        Args:
            x: packed tokens.
            packing: of the L tokens.
            state: receives keys and values; None keeps nothing.
            rows: of the state, one a sequence.
            lengths: tokens each row holds already, int64 `[S]`.
        """
        q, k, v = self.heads(x, packing.bounds)
        if state is None or rows is None or lengths is None:
            out = packed_attention(q, k, v, packing)
        else:
            owners = packing.owners(x.device)
            positions = lengths[owners] + packing.places(x.device)
            state.key[rows][owners, :, positions] = k
            state.value[rows][owners, :, positions] = v
            if bool(lengths.any()):
                sizes = torch.tensor(packing.lengths, device=x.device)
                steps = torch.arange(packing.longest, device=x.device)
                steps = lengths[:, None] + torch.minimum(steps, (sizes - 1)[:, None])
                seen = int((lengths + sizes).max())
                wide = packing.to_padded(q)
                out = cached_attention(wide, state.key[rows], state.value[rows], steps, seen)
                out = packing.to_packed(out)
            else:
                out = packed_attention(q, k, v, packing)
        return linear(out.flatten(1), self.o_proj.weight, self.o_proj.bias, packing.bounds)

    def decode(
        self, x: torch.Tensor, state: AttentionState, rows: slice, positions: torch.Tensor, seen: int
    ) -> torch.Tensor:
        """`[n, D]` to `[n, D]`, one token to each row, at `positions` `[n]` below `seen`."""
        q, k, v = self.heads(x, None)
        at = torch.arange(len(x), device=x.device)
        state.key[rows][at, :, positions] = k
        state.value[rows][at, :, positions] = v
        out = cached_attention(q[:, None], state.key[rows], state.value[rows], positions[:, None], seen)
        return linear(out.flatten(1), self.o_proj.weight, self.o_proj.bias)

    def heads(
        self, x: torch.Tensor, bounds: tuple[int, ...] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries `[L, Hq, E]`, keys and values `[L, Hk, E]` of `[L, D]`."""
        hd = self.config.head_dim
        q, k, v = (
            linear(x, p.weight, p.bias, bounds).unflatten(-1, (-1, hd))
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        return q, k, v
