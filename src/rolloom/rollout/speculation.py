"""Speculative decoding: the multi-token prediction block drafts, one pass of the policy verifies.

A round drafts k tokens for each sequence from what its last verified hidden state says, feeds them and the
token before them to the policy, and keeps the longest prefix that rejection sampling accepts
(`kernels/speculative`), plus one token of the policy's own. What comes out has the policy's distribution,
whatever the block drafts. A draw depends on its request's seed and its position only, as without speculation;
the draws themselves are others.

Position i of the block's cache reads the hidden state of token i and the embedding of token i + 1. Drafting
writes beyond the verified positions; the next round overwrites them.

Shapes: n active rows, k drafted tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rolloom.kernels.packing import Packing
from rolloom.kernels.speculative.op import verify
from rolloom.policy.model import HybridLM
from rolloom.policy.mtp import MTP
from rolloom.policy.protocol import Policy
from rolloom.rollout.sampling import draw, uniform
from rolloom.rollout.types import EngineError

DRAFT, ACCEPT, REPLACE = 0x1B873593A4093822, 0x299F31D0082EFA98, 0x4528E638D01377BE
"""Added to a request's seed: each kind of draw has a stream of its own (words of pi and of MurmurHash3)."""


@dataclass(slots=True)
class Round:
    """What one round decided.

    Attributes:
        words: kept drafts and one token more, int64 `[n, k + 1]`, -1 behind.
        logprobs: of the distribution sampled from, fp32 `[n, k + 1]`; temperature 1 for greedy rows.
        kept: drafts kept, int64 `[n]`.
    """

    words: torch.Tensor
    logprobs: torch.Tensor
    kept: torch.Tensor


class Speculation:
    """Drafts and verifies for the rows of an engine.

    Args:
        model: with a multi-token prediction block.
        slots: rows.
        context: longest sequence, in tokens.
        tokens: k.

    Attributes:
        rounds: rows verified so far.
        kept_at: of these, how many kept the draft at each position, int64 `[k]`.

    Raises:
        EngineError: k is not positive, or the policy has no block.
    """

    def __init__(self, model: Policy, slots: int, context: int, tokens: int) -> None:
        if tokens < 1:
            raise EngineError(f"speculative_tokens: expected at least 0, got {tokens}")
        if not isinstance(model, HybridLM) or model.mtp is None:
            raise EngineError(
                f"speculative_tokens: expected 0 for a policy without a multi-token prediction block "
                f"(num_nextn_predict_layers is 0), got {tokens}"
            )
        self.model, self.tokens = model, tokens
        self._mtp: MTP = model.mtp
        weight = model.lm_head.weight
        self._cache = self._mtp.new_cache(slots, context + tokens + 1, weight.dtype, weight.device)
        # Verified positions that the block has not read yet: hidden states, and the tokens that follow them.
        self._hidden = torch.zeros(
            slots, tokens + 1, weight.shape[1], dtype=weight.dtype, device=weight.device
        )
        self._words = torch.zeros(slots, tokens + 1, dtype=torch.int64, device=weight.device)
        self._counts = torch.zeros(slots, dtype=torch.int64, device=weight.device)
        self.rounds = 0
        self.kept_at = torch.zeros(tokens, dtype=torch.int64)

    @property
    def acceptance(self) -> list[float]:
        """Share of rounds that kept the draft at each position."""
        return (self.kept_at / max(1, self.rounds)).tolist()

    @property
    def acceptance_length(self) -> float:
        """Mean tokens a round gives, before anything ends a completion."""
        return 1 + sum(self.acceptance)

    def prefill(
        self, ids: torch.Tensor, hidden: torch.Tensor, packing: Packing, start: int, starts: torch.Tensor
    ) -> None:
        """Read what was fed to rows `start..start + S`.

        Args:
            ids: `[L]`.
            hidden: their hidden states, `[L, D]`.
            packing: of the L tokens.
            start: first row.
            starts: tokens each row held before, int64 `[S]`.
        """
        # The last position's next token is not known yet: it is read again with it.
        following = self.model.model.embed(ids.roll(-1))
        rows = slice(start, start + packing.sequences)
        self._mtp.feed(following, hidden, packing, self._cache, rows, starts)

    def pend(self, start: int, hidden: torch.Tensor, words: torch.Tensor, counts: torch.Tensor) -> None:
        """Note verified positions of rows from `start` on for the next round to read.

        Args:
            start: first row.
            hidden: `[n, T, D]`, T at most k + 1.
            words: the tokens that follow, `[n, T]`.
            counts: how many of the T count, int64 `[n]`.
        """
        rows, width = slice(start, start + len(words)), words.shape[1]
        self._hidden[rows, :width] = hidden
        self._words[rows, :width] = words.clamp(min=0)
        self._counts[rows] = counts

    @torch.no_grad()
    def draft(
        self, lengths: torch.Tensor, longest: int, seeds: torch.Tensor, positions: torch.Tensor,
        temperatures: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Draft k tokens for each of the rows `0..n`.

        Args:
            lengths: tokens the policy's cache holds, int64 `[n]`.
            longest: the longest of them.
            seeds: of the requests, int64 `[n]`.
            positions: tokens each completion has so far, int64 `[n]`.
            temperatures: `[n]`.

        Returns:
            Drafts int64 `[n, k]` and the log-probabilities they were drawn with, `[n, k, V]`.
        """
        rows = torch.arange(len(lengths), device=lengths.device)
        hidden = self._read(slice(0, len(lengths)), lengths)[rows, self._counts[: len(lengths)] - 1]
        drafts, logps = [], []
        for step in range(self.tokens):
            logp = _target(self.model.logits(hidden), temperatures)
            draws = uniform(seeds + DRAFT, positions + step).to(logp.device)
            words = draw(logp, draws)
            drafts.append(words)
            logps.append(logp)
            if step + 1 < self.tokens:
                embedded = self.model.model.embed(words)
                hidden = self._mtp.decode(embedded, hidden, self._cache, lengths + step, longest + step + 1)
        return torch.stack(drafts, 1), torch.stack(logps, 1)

    def verify(
        self, logits: torch.Tensor, drafts: torch.Tensor, draft_logp: torch.Tensor, seeds: torch.Tensor,
        positions: torch.Tensor, temperatures: torch.Tensor,
    ) -> Round:  # fmt: skip
        """Keep what rejection sampling accepts.

        Args:
            logits: of the policy, before each draft and after the last, `[n, k + 1, V]`.
            drafts: as `draft` returned them.
            draft_logp: as `draft` returned them.
            seeds: as `draft` took them.
            positions: as `draft` took them.
            temperatures: as `draft` took them.
        """
        target = _target(logits, temperatures)
        at = positions[:, None] + torch.arange(self.tokens)
        accept = uniform((seeds[:, None] + ACCEPT).expand_as(at).flatten(), at.flatten()).view(at.shape)
        last = uniform(seeds + REPLACE, positions)[:, None]
        draws = torch.cat((accept, last), 1).to(logits.device)
        words, logprobs, kept = verify(drafts, target, draws, draft_logp)
        if bool((temperatures == 0).any()):
            plain = logits.log_softmax(-1).gather(2, words.clamp(min=0)[..., None]).squeeze(2)
            logprobs = torch.where((temperatures == 0)[:, None], plain, logprobs)
        self.rounds += len(drafts)
        self.kept_at += (torch.arange(self.tokens) < kept.cpu()[:, None]).sum(0)
        return Round(words, logprobs, kept)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Overwrite one row, of `length` tokens, by another."""
        for tensor in (self._hidden, self._words, self._counts):
            tensor[target] = tensor[source]
        for state in self._cache:
            if state is not None:
                state.key[target, :, :length] = state.key[source, :, :length]
                state.value[target, :, :length] = state.value[source, :, :length]

    def park(self, row: int, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Return a copy of what a row holds, all of whose verified positions are read.

        Args:
            row: of the engine.
            lengths: tokens the policy's cache holds, of every row.
        """
        self._read(slice(row, row + 1), lengths[row : row + 1])
        length = int(lengths[row])
        states = [state for state in self._cache if state is not None]
        return [held[row, :, :length].clone() for state in states for held in (state.key, state.value)]

    def restore(self, parked: list[torch.Tensor], row: int) -> None:
        """Continue what `park` returned in a row."""
        tensors = iter(parked)
        for state in self._cache:
            if state is not None:
                for held in (state.key, state.value):
                    tensor = next(tensors)
                    held[row, :, : tensor.shape[1]] = tensor

    @torch.no_grad()
    def _read(self, rows: slice, lengths: torch.Tensor) -> torch.Tensor:
        """Run depth 1 of the noted positions of rows, `[n, T, D]`; behind a row's own, what means nothing."""
        counts = self._counts[rows]
        width = int(counts.max())
        packing = Packing.dense(len(counts), width)
        embedded = self.model.model.embed(self._words[rows, :width].flatten())
        hidden = self._hidden[rows, :width].flatten(0, 1)
        read = self._mtp.feed(embedded, hidden, packing, self._cache, rows, lengths - counts)
        return read.unflatten(0, (len(counts), width))


def _target(logits: torch.Tensor, temperatures: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities `[n, ..., V]` that rows are sampled from; greedy rows are certain."""
    shape = (-1, *(1,) * (logits.dim() - 1))
    greedy = (temperatures == 0).view(shape)
    logp = (logits / torch.where(greedy, 1.0, temperatures.view(shape))).log_softmax(-1)
    if not bool(greedy.any()):
        return logp
    best = logits.argmax(-1, keepdim=True)
    certain = torch.full_like(logp, float("-inf")).scatter(-1, best, 0.0)
    return torch.where(greedy, certain.masked_fill(logits.isnan(), float("nan")), logp)
