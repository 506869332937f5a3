"""The hybrid policy: embedding, layers by pattern string, final norm, untied output head.

Three passes share the weights: `forward` (training; whole right-padded sequences), `prefill` and `decode`
(sampling, with a `DecodeCache`). Shapes: B batch, T tokens, D hidden size, V vocabulary, L MoE layers, K
experts a token.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from rolloom.policy.cache import AttentionState, DecodeCache, MambaState
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import MLP, Attention, MambaMixer, MoE, RMSNorm, init_weights, make_mixer


class Block(nn.Module):
    """Pre-norm residual block around one mixer."""

    def __init__(self, config: HybridConfig, letter: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer = make_mixer(config, letter)


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


class HybridLM(nn.Module):
    """Causal language model of the Nemotron 3 architecture.

    Args:
        config: its shape.
        seed: of the initial weights.
    """

    def __init__(self, config: HybridConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if self.lm_head.weight.device.type != "meta":
            init_weights(self, config, torch.Generator().manual_seed(seed))

    def forward(
        self,
        ids: torch.Tensor,
        replay: torch.Tensor | None = None,
        recorded: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run whole sequences; padding belongs on the right and is ignored by everything before it.

        Args:
            ids: int64 `[B, T]`.
            replay: experts chosen at sampling, `[B, T, L, K]`, or None to choose now.
            recorded: receives each MoE layer's choice `[B, T, K]`.

        Returns:
            Final hidden states `[B, T, D]`; `lm_head` makes logits of them.
        """
        x = self.model.embeddings(ids)
        moe_index = 0
        for block in self.model.blocks():
            h = block.norm(x)
            if isinstance(block.mixer, MoE):
                h, chosen = block.mixer(h, None if replay is None else replay[:, :, moe_index])
                if recorded is not None:
                    recorded.append(chosen)
                moe_index += 1
            else:
                h = block.mixer(h)
            x = x + h
        return self.model.norm_f(x)

    @torch.no_grad()
    def prefill(
        self, ids: torch.Tensor, lengths: torch.Tensor, cache: DecodeCache, start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed right-padded tokens to rows `start..start + B` of the cache, continuing what they hold.

        Args:
            ids: `[B, T]`.
            lengths: real tokens of each row, at least 1, `[B]`.
            cache: written in place.
            start: first row.

        Returns:
            Logits after each row's last token `[B, V]` and the experts chosen `[B, T, L, K]` (uint8).
        """
        batch, length = ids.shape
        rows = slice(start, start + batch)
        offsets = cache.lengths[rows]
        steps = torch.arange(length, device=ids.device)
        positions = torch.where(steps < lengths[:, None], offsets[:, None] + steps, cache.context)
        seen = int((offsets + lengths).max())
        mask = (torch.arange(seen, device=ids.device) <= positions[..., None])[:, None]
        x = self.model.embeddings(ids)
        chosen = []
        for block, state in zip(self.model.blocks(), cache.layers, strict=True):
            h, mixer = block.norm(x), block.mixer
            if isinstance(mixer, MambaMixer) and isinstance(state, MambaState):
                h = mixer.prefill(h, lengths, MambaState(state.conv[rows], state.ssm[rows]))
            elif isinstance(mixer, Attention) and isinstance(state, AttentionState):
                h = mixer.prefill(h, positions, mask, AttentionState(state.key[rows], state.value[rows]))
            elif isinstance(mixer, MoE):
                h, experts = mixer(h)
                chosen.append(experts)
            else:
                h = mixer(h)
            x = x + h
        cache.lengths[rows] += lengths
        last = x[torch.arange(batch, device=ids.device), lengths - 1]
        logits = self.lm_head(self.model.norm_f(last))
        return logits.float(), self._pack_choices(chosen, (batch, length))

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
            Logits `[n, V]` and the experts chosen `[n, L, K]` (uint8).
        """
        rows = len(ids)
        positions = cache.lengths[:rows]
        mask = (torch.arange(longest, device=ids.device) <= positions[:, None])[:, None, None]
        x = self.model.embeddings(ids)
        chosen = []
        for block, state in zip(self.model.blocks(), cache.layers, strict=True):
            h, mixer = block.norm(x), block.mixer
            if isinstance(mixer, MambaMixer) and isinstance(state, MambaState):
                h = mixer.decode(h, MambaState(state.conv[:rows], state.ssm[:rows]))
            elif isinstance(mixer, Attention) and isinstance(state, AttentionState):
                h = mixer.decode(h, positions, mask, AttentionState(state.key[:rows], state.value[:rows]))
            elif isinstance(mixer, MoE):
                h, experts = mixer(h)
                chosen.append(experts)
            else:
                h = mixer(h)
            x = x + h
        cache.lengths[:rows] += 1
        return self.lm_head(self.model.norm_f(x)).float(), self._pack_choices(chosen, (rows,))

    def _pack_choices(self, chosen: list[torch.Tensor], lead: tuple[int, ...]) -> torch.Tensor:
        if not chosen:
            return torch.zeros(*lead, 0, self.config.num_experts_per_tok, dtype=torch.uint8)
        return torch.stack(chosen, -2).to(torch.int16 if self.config.n_routed_experts > 256 else torch.uint8)


__all__ = ["MLP", "Backbone", "Block", "HybridLM"]
