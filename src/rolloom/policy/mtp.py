"""Multi-token prediction: a small block that reads a hidden state and the next token, and predicts further.

At depth k position t reads the embedding of token t + k and what depth k - 1 made of position t (depth 0: the
trunk's final hidden state), and predicts token t + k + 1 through the policy's own output head:
`eh_proj([enorm(embedding), hnorm(hidden)])`, then the layers of `mtp_pattern`, then `final_layernorm`. One
block serves every depth (shared weights, as in Nemotron 3 Super and Ultra); names are those of the released
checkpoints and of vLLM's `nemotron_h_mtp`.

Attention at depth k sees depth 1 of every position up to t and the deeper steps of its own chain. That is
what a cache holds while drafting, where positions are read again from the trunk once they are verified;
Megatron trains each depth on keys of its own depth instead, which drafting never has.

Shapes: L packed tokens, S sequences, T tokens of one, D width, Hq query and Hk key heads, E head dim; n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from rolloom.kernels.linear.op import linear
from rolloom.kernels.packing import Packing
from rolloom.policy.attention import Attention
from rolloom.policy.cache import AttentionState
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import MLP, RMSNorm
from rolloom.policy.mixers import make_mixer
from rolloom.policy.moe import MoE

Attend = Callable[[int, Attention, torch.Tensor], torch.Tensor]


class MTPLayer(nn.Module):
    """One pre-norm residual layer; the first also fuses the inputs, the last also has the final norm."""

    def __init__(self, config: HybridConfig, letter: str, first: bool, last: bool) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.layer_norm_epsilon
        if first:
            self.enorm, self.hnorm = RMSNorm(d, eps), RMSNorm(d, eps)
            self.eh_proj = nn.Linear(2 * d, d, bias=False)
        self.norm = RMSNorm(d, eps)
        self.mixer = make_mixer(config, letter)
        if last:
            self.final_layernorm = RMSNorm(d, eps)

    def fuse(self, embedded: torch.Tensor, hidden: torch.Tensor, packing: Packing | None) -> torch.Tensor:
        """`[L, D]` and `[L, D]` to `[L, D]`."""
        both = torch.cat((self.enorm(embedded, packing), self.hnorm(hidden, packing)), -1)
        return linear(both, self.eh_proj.weight, None, packing.bounds if packing else None)


class MTP(nn.Module):
    """The block, without embedding and output head: those are the policy's.

    Args:
        config: of the policy; `mtp_pattern` says which layers.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        pattern = config.mtp_pattern
        self.config = config
        last = len(pattern) - 1
        self.layers = nn.ModuleList(
            [MTPLayer(config, letter, index == 0, index == last) for index, letter in enumerate(pattern)]
        )

    def blocks(self) -> Iterator[MTPLayer]:
        """Yield the layers, typed."""
        for layer in self.layers:
            assert isinstance(layer, MTPLayer)
            yield layer

    def forward(self, embedded: torch.Tensor, hidden: torch.Tensor, packing: Packing) -> torch.Tensor:
        """Return depth 1 of whole sequences, `[L, D]`; the output head makes logits of it.

        Args:
            embedded: embedding of each position's next token, `[L, D]`.
            hidden: the trunk's final hidden states, `[L, D]`.
            packing: of the L tokens.
        """
        return self._run(embedded, hidden, packing, lambda _, mixer, x: mixer(x, packing))

    def unroll(
        self,
        embed: Callable[[torch.Tensor], torch.Tensor],
        ids: torch.Tensor,
        hidden: torch.Tensor,
        packing: Packing,
        depths: int,
    ) -> list[torch.Tensor]:
        """Return what depths 1 to `depths` make of whole sequences, teacher-forced, `[L, D]` each.

        Depth k at the last k positions of a sequence has no next token to read: what stands there means
        nothing, and nothing else depends on it.

        Args:
            embed: from ids `[L]` to embeddings `[L, D]`.
            ids: `[L]`.
            hidden: the trunk's final hidden states, `[L, D]`.
            packing: of the L tokens.
            depths: at least 1.
        """
        chains: dict[int, _Chain] = {}

        def attend(index: int, mixer: Attention, x: torch.Tensor) -> torch.Tensor:
            return chains.setdefault(index, _Chain(mixer, packing))(x)

        ends = packing.cu_seqlens(ids.device)[1:].long()[packing.owners(ids.device)] - 1
        at = torch.arange(len(ids), device=ids.device)
        made: list[torch.Tensor] = []
        for depth in range(1, depths + 1):
            hidden = self._run(embed(ids[torch.minimum(at + depth, ends)]), hidden, packing, attend)
            made.append(hidden)
        return made

    def new_cache(
        self, rows: int, context: int, dtype: torch.dtype, device: torch.device | str
    ) -> list[AttentionState | None]:
        """Return empty keys and values of up to `context` positions, one entry a layer."""
        c = self.config
        shape = (rows, c.num_key_value_heads, context, c.head_dim)
        return [
            AttentionState(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))
            if letter == "*"
            else None
            for letter in c.mtp_pattern
        ]

    @torch.no_grad()
    def feed(
        self,
        embedded: torch.Tensor,
        hidden: torch.Tensor,
        packing: Packing,
        cache: list[AttentionState | None],
        rows: slice,
        starts: torch.Tensor,
    ) -> torch.Tensor:
        """Run depth 1 of packed positions, each sequence continuing its row of the cache.

        Args:
            embedded: of the next tokens, `[L, D]`.
            hidden: of the trunk, `[L, D]`.
            packing: of the L positions; no sequence is empty.
            cache: written in place.
            rows: of the cache, one a sequence.
            starts: position each sequence starts at, int64 `[S]`.

        Returns:
            `[L, D]`.
        """

        def attend(index: int, mixer: Attention, x: torch.Tensor) -> torch.Tensor:
            return mixer(x, packing, cache[index], rows, starts)

        return self._run(embedded, hidden, packing, attend)

    @torch.no_grad()
    def decode(
        self,
        embedded: torch.Tensor,
        hidden: torch.Tensor,
        cache: list[AttentionState | None],
        positions: torch.Tensor,
        seen: int,
    ) -> torch.Tensor:
        """Run one position of each row `0..n`, at `positions` `[n]` below `seen`; returns `[n, D]`."""
        rows = slice(0, len(embedded))

        def attend(index: int, mixer: Attention, x: torch.Tensor) -> torch.Tensor:
            state = cache[index]
            assert state is not None
            return mixer.decode(x, state, rows, positions, seen)

        return self._run(embedded, hidden, None, attend)

    def _run(
        self, embedded: torch.Tensor, hidden: torch.Tensor, packing: Packing | None, attend: Attend
    ) -> torch.Tensor:
        x = hidden
        for index, layer in enumerate(self.blocks()):
            if not index:
                x = layer.fuse(embedded, hidden, packing)
            h, mixer = layer.norm(x, packing), layer.mixer
            if isinstance(mixer, Attention):
                h = attend(index, mixer, h)
            elif isinstance(mixer, MoE):
                h, _ = mixer(h, packing)
            else:
                assert isinstance(mixer, MLP)
                h = mixer(h, packing)
            x = x + h
            if index == len(self.layers) - 1:
                x = layer.final_layernorm(x, packing)
        return x


class _Chain:
    """Attention of one layer over the depths of a teacher-forced pass: its keys so far."""

    def __init__(self, mixer: Attention, packing: Packing) -> None:
        self.mixer, self.packing = mixer, packing
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.mixer.heads(x, self.packing.bounds)
        self.keys.append(k)
        self.values.append(v)
        out = chain_attention(q, self.keys, self.values, self.packing)
        return linear(out.flatten(1), self.mixer.o_proj.weight, None, self.packing.bounds)


def chain_attention(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], packing: Packing
) -> torch.Tensor:
    """Attend to depth 1 of the positions up to one's own, and to the deeper steps at one's own position.

    Args:
        q: of the deepest step, `[L, Hq, E]`.
        keys: of each depth, `[L, Hk, E]`.
        values: of each depth, `[L, Hk, E]`.
        packing: of the L positions.

    Returns:
        `[L, Hq, E]`.
    """
    heads, size = keys[0].shape[1:]
    wide = packing.to_padded(q).unflatten(2, (heads, -1)) * size**-0.5
    ks, vs = ([packing.to_padded(each) for each in held] for held in (keys, values))
    scores = torch.einsum("sthre,suhe->shrtu", wide, ks[0])
    places = torch.arange(wide.shape[1], device=q.device)
    scores = scores.masked_fill(places > places[:, None], float("-inf"))
    own = [torch.einsum("sthre,sthe->shrt", wide, k)[..., None] for k in ks[1:]]
    weights = torch.cat((scores, *own), -1).softmax(-1)
    out = torch.einsum("shrtu,suhe->sthre", weights[..., : len(places)], vs[0])
    for depth, v in enumerate(vs[1:]):
        out = out + torch.einsum("shrt,sthe->sthre", weights[..., len(places) + depth], v)
    return packing.to_packed(out.flatten(2, 3))
