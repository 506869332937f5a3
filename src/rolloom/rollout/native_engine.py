"""Continuous batching for any policy: sequences join and leave a running batch.

Rows 0..n-1 of the cache are active, so a decode step is one pass over views. A finished sequence's row is
filled by the last one. Between the turns of an episode its row is parked and later continued, so no token is
fed twice; siblings that start from the same prompt in the same step are prefilled once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from rolloom.kernels.packing import Packing
from rolloom.policy.cache import DecodeCache
from rolloom.policy.protocol import Parked, Policy, SlotCache
from rolloom.rollout.sampling import sample
from rolloom.rollout.speculation import Speculation
from rolloom.rollout.types import Completion, Request

PREFILL_TOKENS = 4096
PATIENCE = 4


@dataclass(slots=True)
class _Row:
    request: Request
    fed_before: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class _Session:
    state: Parked
    pending: int
    read: list[torch.Tensor]


class NativeEngine:
    """Samples completions from a policy; single-threaded, driven by `step`.

    Args:
        model: weights, used in place.
        stop_ids: tokens that end a completion.
        slots: sequences that decode together.
        context: longest sequence, in tokens.
        speculative_tokens: tokens drafted for every pass of the policy; 0 feeds one token at a time.

    Attributes:
        speculation: drafts and verifies, and counts what was kept; None without.

    Raises:
        EngineError: tokens are to be drafted by a policy that cannot.
    """

    def __init__(
        self, model: Policy, stop_ids: Iterable[int], slots: int = 64, context: int = 512,
        speculative_tokens: int = 0,
    ) -> None:  # fmt: skip
        self.model = model.eval()
        parameter = next(model.parameters())
        self.device = parameter.device
        self.slots, self.context = slots, context
        self.stop_ids = frozenset(stop_ids)
        self.speculation = None
        # A pass over drafted tokens writes behind the last one that may stay.
        room = context + speculative_tokens
        if speculative_tokens:
            self.speculation = Speculation(model, slots, context, speculative_tokens)
        self.cache: SlotCache = model.new_cache(slots, room)
        choice = (slots, room, model.config.moe_layers, model.config.num_experts_per_tok)
        self._experts = torch.zeros(
            choice, dtype=torch.int16 if model.config.n_routed_experts > 256 else torch.uint8
        )
        self._waiting: deque[Request] = deque()
        self._rows: list[_Row] = []
        self._sessions: dict[str, _Session] = {}
        self._next = torch.zeros(slots, dtype=torch.int64, device=self.device)
        self._seeds = torch.zeros(slots, dtype=torch.int64)
        self._temperatures = torch.ones(slots, device=self.device)
        self._patience = 0
        self.policy_version = 0
        self.generated_tokens = 0
        self.prefilled_tokens = 0
        self.steps = 0

    @property
    def busy(self) -> bool:
        """True while a request waits or decodes."""
        return bool(self._waiting or self._rows)

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue requests."""
        self._waiting.extend(requests)

    def release(self, sessions: Iterable[str]) -> None:
        """Forget sessions that will not continue."""
        for session in sessions:
            self._sessions.pop(session, None)

    def load_weights(self, state: dict[str, torch.Tensor], version: int) -> None:
        """Replace the weights. Sequences still in flight belong to abandoned episodes and are dropped."""
        self.abort_all()
        self.model.load_state_dict(state)
        self.policy_version = version

    def abort_all(self) -> list[Completion]:
        """Drop everything in flight and answer each request with `abort`."""
        dropped = [row.request for row in self._rows] + list(self._waiting)
        self._rows.clear()
        self._waiting.clear()
        self._sessions.clear()
        return [self._failure(request, "abort", "aborted") for request in dropped]

    def step(self) -> list[Completion]:
        """Admit what fits, feed one token to every active row, and return what finished."""
        finished: list[Completion] = []
        if self._should_admit():
            finished += self._admit()
        if self._rows:
            finished += self._speculate(self.speculation) if self.speculation else self._decode()
        self.steps += 1
        return finished

    def _should_admit(self) -> bool:
        # A prefill of one short sequence costs as much as a decode step of all rows: wait a little for
        # company.
        if not self._waiting or len(self._rows) == self.slots:
            return False
        free = self.slots - len(self._rows)
        enough = len(self._waiting) >= min(free, max(1, len(self._rows) // 4))
        self._patience += 1
        return enough or self._patience >= PATIENCE

    def _admit(self) -> list[Completion]:
        self._patience = 0
        finished: list[Completion] = []
        start = len(self._rows)
        batch: list[tuple[Request, list[int], _Session | None]] = []
        twins: list[tuple[Request, int]] = []
        first_of: dict[tuple[int, ...], int] = {}
        fresh = 0
        while self._waiting and start + len(batch) + len(twins) < self.slots:
            request = self._waiting[0]
            if batch and fresh + len(request.ids) > PREFILL_TOKENS:
                break
            self._waiting.popleft()
            session = self._sessions.get(request.session) if request.session and request.continues else None
            ids = [session.pending, *request.ids] if session else list(request.ids)
            fed = session.state.length if session else 0
            problem = self._refusal(request, ids, fed, session)
            if problem:
                finished.append(self._failure(request, *problem))
                continue
            if session is None:
                twin = first_of.setdefault(tuple(ids), len(batch))
                if twin != len(batch):
                    twins.append((request, twin))
                    continue
            elif request.session:
                del self._sessions[request.session]
            batch.append((request, ids, session))
            fresh += len(ids)
        if not batch:
            return finished
        finished += self._prefill(start, batch, twins)
        return finished

    def _refusal(
        self, request: Request, ids: list[int], fed: int, session: _Session | None
    ) -> tuple[str, str] | None:
        if request.continues and session is None:
            return "error", f"session {request.session} is not held by this engine (restarted?)"
        if not ids:
            return "error", "empty prompt"
        if request.max_new_tokens < 1:
            return "error", f"max_new_tokens: expected at least 1, got {request.max_new_tokens}"
        if fed + len(ids) >= self.context:
            return "length", f"prompt of {fed + len(ids)} tokens fills the context of {self.context}"
        return None

    def _prefill(
        self, start: int, batch: list[tuple[Request, list[int], _Session | None]],
        twins: list[tuple[Request, int]],
    ) -> list[Completion]:  # fmt: skip
        count = len(batch)
        self.cache.clear(start, start + count)
        for index, (request, _, session) in enumerate(batch):
            if session is not None:
                self.cache.restore(session.state, start + index)
                if self.speculation:
                    self.speculation.restore(session.read, start + index)
            self._rows.append(_Row(request, session.state.length if session else 0))
        ids = torch.tensor([token for _, tokens, _ in batch for token in tokens], device=self.device)
        packing = Packing.of([len(tokens) for _, tokens, _ in batch])
        before = self.cache.lengths[start : start + count].clone()
        hidden, chosen = self.model.feed(ids, packing, self.cache, start)
        if self.speculation:
            self.speculation.prefill(ids, hidden, packing, start, before)
        hidden = hidden[packing.last(self.device)]
        for index, part in enumerate(chosen.cpu().split(packing.lengths)):
            fed = self._rows[start + index].fed_before
            self._experts[start + index, fed : fed + len(part)] = part
        self.prefilled_tokens += packing.tokens
        for request, twin in twins:
            row = len(self._rows)
            self._copy_row(start + twin, row)
            self._rows.append(_Row(request, 0))
        if twins:
            hidden = torch.cat((hidden, hidden[[twin for _, twin in twins]]))
        stop = len(self._rows)
        self._seeds[start:stop] = torch.tensor([row.request.seed for row in self._rows[start:]])
        self._temperatures[start:stop] = torch.tensor([row.request.temperature for row in self._rows[start:]])
        return self._take(start, stop, hidden)

    def _decode(self) -> list[Completion]:
        count = len(self._rows)
        longest = max(row.fed_before + self._fed(row) for row in self._rows) + 1
        positions = self.cache.lengths[:count].clone()
        hidden, chosen = self.model.decode(self._next[:count], self.cache, longest)
        self._experts[torch.arange(count), positions.cpu()] = chosen.cpu()
        return self._take(0, count, hidden)

    def _speculate(self, speculation: Speculation) -> list[Completion]:
        count, width = len(self._rows), speculation.tokens + 1
        longest = max(row.fed_before + self._fed(row) for row in self._rows)
        lengths = self.cache.lengths[:count].clone()
        seeds, temperatures = self._seeds[:count], self._temperatures[:count]
        positions = torch.tensor([len(row.tokens) for row in self._rows])
        drafts, draft_logp = speculation.draft(lengths, longest, seeds, positions, temperatures)
        ids = torch.cat((self._next[:count, None], drafts), 1)
        assert isinstance(self.cache, DecodeCache)
        hidden, chosen, trail = speculation.model.draft_feed(ids, self.cache)
        logits = self.model.logits(hidden).unflatten(0, (count, width))
        decided = speculation.verify(logits, drafts, draft_logp, seeds, positions, temperatures)
        words, logprobs = [], []
        for row, given, logps, kept in zip(
            self._rows, decided.words.tolist(), decided.logprobs.tolist(), decided.kept.tolist(), strict=True
        ):
            end = min(kept + 1, self._room(row))
            stop = next((at for at, word in enumerate(given[:end]) if word in self.stop_ids), end - 1)
            words.append(given[: stop + 1])
            logprobs.append(logps[: stop + 1])
        counts = torch.tensor([len(each) for each in words], device=self.device)
        trail.keep(counts)
        self._experts[torch.arange(count)[:, None], lengths.cpu()[:, None] + torch.arange(width)] = (
            chosen.cpu().unflatten(0, (count, width))
        )
        speculation.pend(0, hidden.unflatten(0, (count, width)), decided.words, counts)
        return self._append(0, words, logprobs)

    @staticmethod
    def _fed(row: _Row) -> int:
        return len(row.request.ids) + int(row.request.continues) + len(row.tokens) - 1

    def _room(self, row: _Row) -> int:
        """Return how many tokens a row may still sample."""
        context = self.context - row.fed_before - self._fed(row) - 1
        return min(row.request.max_new_tokens - len(row.tokens), context)

    def _take(self, start: int, stop: int, hidden: torch.Tensor) -> list[Completion]:
        """Sample a token after the hidden states `[stop - start, D]` of rows."""
        logits = self.model.logits(hidden)
        counts = torch.tensor([len(row.tokens) for row in self._rows[start:stop]])
        tokens, logprobs = sample(logits, self._seeds[start:stop], counts, self._temperatures[start:stop])
        if self.speculation:
            self.speculation.pend(start, hidden[:, None], tokens[:, None], torch.ones_like(tokens))
        return self._append(start, [[token] for token in tokens.tolist()], [[p] for p in logprobs.tolist()])

    def _append(self, start: int, words: list[list[int]], logprobs: list[list[float]]) -> list[Completion]:
        """Add sampled tokens to the rows from `start` on, and finish those that are over."""
        self._next[start : start + len(words)] = torch.tensor([each[-1] for each in words])
        over: list[int] = []
        for index, tokens, logps in zip(range(start, start + len(words)), words, logprobs, strict=True):
            row = self._rows[index]
            row.tokens += tokens
            row.logprobs += logps
            self.generated_tokens += len(tokens)
            if not all(map(math.isfinite, logps)):
                row.error = (
                    f"the policy's log-probabilities are not finite (weights version {self.policy_version})"
                )
            if tokens[-1] in self.stop_ids or self._room(row) <= 0 or row.error:
                over.append(index)
        return [self._finish(index) for index in reversed(over)]

    def _finish(self, index: int) -> Completion:
        row = self._rows[index]
        fed = int(self.cache.lengths[index])
        last = row.tokens[-1]
        stopped = last in self.stop_ids
        if row.request.session and stopped and not row.error:
            read = self.speculation.park(index, self.cache.lengths) if self.speculation else []
            self._sessions[row.request.session] = _Session(self.cache.park(index), last, read)
        experts = (
            self._experts[index, row.fed_before : fed].numpy().copy() if self._experts.shape[2] else None
        )
        tail = len(self._rows) - 1
        if index != tail:
            self._copy_row(tail, index)
            for tensor in (self._next, self._seeds, self._temperatures):
                tensor[index] = tensor[tail]
            self._rows[index] = self._rows[tail]
        self._rows.pop()
        if row.error:
            return self._failure(row.request, "error", row.error)
        finish = "stop" if stopped else "length"
        logprobs = np.asarray(row.logprobs, np.float32)
        return Completion(row.request.id, row.tokens, logprobs, experts, finish, self.policy_version)

    def _copy_row(self, source: int, target: int) -> None:
        self.cache.copy_row(source, target)
        self._experts[target] = self._experts[source]
        if self.speculation:
            self.speculation.copy_row(source, target, int(self.cache.lengths[source]))

    def _failure(self, request: Request, finish: str, error: str) -> Completion:
        return Completion(request.id, [], np.zeros(0, np.float32), None, finish, self.policy_version, error)
