"""The hybrid policy: embedding, layers by pattern string, final norm, untied output head.

Three passes share the weights: `forward` (training), `feed` (any number of tokens a sequence, continuing a
`DecodeCache`) and `decode` (one token a row). All run packed sequences; a batch of equal lengths is a special
case. Shapes: B batch, T tokens, L packed tokens, S sequences, D hidden size, V vocabulary, E MoE layers, K
experts a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import invariant_mode, is_deterministic
from rolloom.kernels.linear.op import linear
from rolloom.kernels.packing import Packing
from rolloom.policy.attention import Attention
from rolloom.policy.cache import AttentionState, DecodeCache, MambaState, ReplayedMambaState, StateFormat
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import RMSNorm
from rolloom.policy.mamba import MambaMixer
from rolloom.policy.mixers import init_weights, make_mixer
from rolloom.policy.moe import MoE
from rolloom.policy.mtp import MTP
from rolloom.policy.rollback import Trail

RunMamba = Callable[[MambaMixer, torch.Tensor, MambaState | ReplayedMambaState], torch.Tensor]
RunAttention = Callable[[Attention, torch.Tensor, AttentionState], torch.Tensor]
"""Of a mixer, its input `[L, D]` and its state, to its output."""


class Block(nn.Module):
    """Pre-norm residual block around one mixer."""

    def __init__(self, config: HybridConfig, letter: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer = make_mixer(config, letter)

    def forward(
        self, x: torch.Tensor, packing: Packing, replay: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`[L, D]` to `[L, D]`, and the experts chosen `[L, K]` if the mixer has any."""
        h = self.norm(x, packing)
        if isinstance(self.mixer, MoE):
            h, chosen = self.mixer(h, packing, replay)
            return x + h, chosen
        return x + self.mixer(h, packing), None


class Backbone(nn.Module):
    """Everything below the output head."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Block(config, letter) for letter in config.pattern])
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)

    def blocks(self) -> Iterator[Block]:
        """Yield the layers, typed."""
        for block in self.layers:
            assert isinstance(block, Block)
            yield block

    def embed(self, ids: torch.Tensor, packing: Packing | None = None) -> torch.Tensor:
        """Return the embeddings `[L, D]` of ids `[L]`."""
        weight = self.embeddings.weight
        if packing is not None and torch.is_grad_enabled() and invariant_mode(weight):
            return invariant.embedding(ids, weight, packing.bounds)
        return F.embedding(ids, weight)


class HybridLM(nn.Module):
    """Causal language model of the Nemotron 3 architecture.

    Args:
        config: its shape.
        seed: of the initial weights.

    Attributes:
        recompute: in training, keep only each layer's input and compute the layer again in the backward pass.
        mtp: predicts further tokens, or None.
        state_format: how the SSM states of new caches rest.
    """

    def __init__(self, config: HybridConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.state_format = StateFormat()
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.mtp = MTP(config) if config.num_nextn_predict_layers else None
        if self.lm_head.weight.device.type != "meta":
            init_weights(self, config, torch.Generator().manual_seed(seed))

    def forward(
        self,
        ids: torch.Tensor,
        packing: Packing | None = None,
        replay: torch.Tensor | None = None,
        recorded: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run whole sequences. Padding on the right of a dense batch is ignored by everything before it.

        Args:
            ids: int64, packed `[L]` with `packing`, or `[B, T]` without.
            packing: of the L tokens; no state crosses from one sequence to the next.
            replay: experts chosen at sampling, `[L, E, K]` or `[B, T, E, K]`, or None to choose now.
            recorded: receives each MoE layer's choice, `[L, K]`.

        Returns:
            Final hidden states `[L, D]` or `[B, T, D]`; `logits` makes logits of them.
        """
        shape = ids.shape
        if packing is None:
            packing = Packing.dense(*shape)
            ids, replay = ids.flatten(), None if replay is None else replay.flatten(0, 1)
        x = self.model.embed(ids, packing)
        moe_index = 0
        for block in self.model.blocks():
            given = None
            if isinstance(block.mixer, MoE):
                given = None if replay is None else replay[:, moe_index]
                moe_index += 1
            if self.recompute and torch.is_grad_enabled():
                made = checkpoint(block, x, packing, given, use_reentrant=False)
                assert isinstance(made, tuple)
                x, chosen = made
            else:
                x, chosen = block(x, packing, given)
            if chosen is not None and recorded is not None:
                recorded.append(chosen)
        return self.model.norm_f(x, packing).view(*shape, -1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of final hidden states `[n, D]`, fp32 `[n, V]`, for sampling."""
        return linear(hidden, self.lm_head.weight).float()

    def new_cache(self, rows: int, context: int) -> DecodeCache:
        """Return an empty cache of `rows` sequences of up to `context` tokens."""
        weight = self.lm_head.weight
        return DecodeCache(
            self.config, rows, context, weight.dtype, weight.device, is_deterministic(), self.state_format
        )

    @torch.no_grad()
    def feed(
        self,
        ids: torch.Tensor,
        packing: Packing,
        cache: DecodeCache,
        start: int,
        trail: Trail | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed packed sequences to rows `start..start + S` of the cache, continuing what they hold.

        Args:
            ids: `[L]`.
            packing: of the L tokens; no sequence is empty.
            cache: written in place.
            start: first row.
            trail: receives what it takes to keep only the first tokens of each sequence.

        Returns:
            Final hidden states `[L, D]` and the experts chosen `[L, E, K]` (uint8, int16 above 256 experts).
        """
        rows = slice(start, start + packing.sequences)
        lengths = cache.lengths[rows].clone()
        made = self._through(
            ids, cache,
            lambda mixer, h, state: mixer(h, packing, state, rows, trail),
            lambda mixer, h, state: mixer(h, packing, state, rows, lengths),
        )  # fmt: skip
        cache.lengths[rows] += torch.tensor(packing.lengths, device=ids.device)
        return made

    def draft_feed(self, ids: torch.Tensor, cache: DecodeCache) -> tuple[torch.Tensor, torch.Tensor, Trail]:
        """Feed tokens `[n, T]` to rows `0..n` of the cache, some of which may be taken back.

        Returns:
            Final hidden states `[n * T, D]`, the experts chosen `[n * T, E, K]`, and the trail whose `keep`
            says how many tokens of each row stay; it must be called before anything else is fed.
        """
        trail = Trail(cache, *ids.shape)
        hidden, chosen = self.feed(ids.flatten(), Packing.dense(*ids.shape), cache, 0, trail)
        return hidden, chosen, trail

    @torch.no_grad()
    def decode(
        self, ids: torch.Tensor, cache: DecodeCache, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed one token to each of the rows `0..n` of the cache.

        Args:
            ids: `[n]`.
            cache: written in place.
            longest: length of the longest of these rows, this token included.

        Returns:
            Final hidden states `[n, D]` and the experts chosen `[n, E, K]`.
        """
        rows = slice(0, len(ids))
        positions = cache.lengths[rows]
        made = self._through(
            ids, cache,
            lambda mixer, h, state: mixer.decode(h, state, rows),
            lambda mixer, h, state: mixer.decode(h, state, rows, positions, longest),
        )  # fmt: skip
        cache.lengths[rows] += 1
        return made

    def _through(
        self, ids: torch.Tensor, cache: DecodeCache, mamba: RunMamba, attention: RunAttention
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run tokens `[L]` through all layers, those with a state by the functions given.

        Returns:
            Final hidden states `[L, D]` and the experts chosen `[L, E, K]`.
        """
        x = self.model.embed(ids)
        chosen = []
        for block, state in zip(self.model.blocks(), cache.layers, strict=True):
            h, mixer = block.norm(x), block.mixer
            if isinstance(mixer, MambaMixer) and isinstance(state, MambaState | ReplayedMambaState):
                h = mamba(mixer, h, state)
            elif isinstance(mixer, Attention) and isinstance(state, AttentionState):
                h = attention(mixer, h, state)
            elif isinstance(mixer, MoE):
                h, experts = mixer(h)
                chosen.append(experts)
            else:
                h = mixer(h)
            x = x + h
        return self.model.norm_f(x), self._pack_choices(chosen, len(x))

    def _pack_choices(self, chosen: list[torch.Tensor], tokens: int) -> torch.Tensor:
        if not chosen:
            return torch.zeros(tokens, 0, self.config.num_experts_per_tok, dtype=torch.uint8)
        return torch.stack(chosen, -2).to(torch.int16 if self.config.n_routed_experts > 256 else torch.uint8)
