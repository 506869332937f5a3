"""Hosts one native engine: queues from many callers in, completions out, weights swapped between batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import torch

from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.ssd.rounding import Rounding
from rolloom.policy.allocator import keep_freed_memory
from rolloom.policy.cache import StateFormat
from rolloom.policy.config import PolicyError
from rolloom.policy.loading import expect_deterministic, load_any_policy
from rolloom.policy.model import HybridLM
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.pump import Pump
from rolloom.rollout.types import Completion, EngineError, Request
from rolloom.rollout.weights import to_arrays, to_tensors, weights_checksum


class EngineHost(Pump[Completion]):
    """A native engine behind `submit` and `collect`.

    Args:
        path: checkpoint directory.
        slots: sequences that decode together.
        context: longest sequence, in tokens.
        device: torch device.
        dtype: torch dtype name.
        threads: CPU threads; set on purpose, since two threads are slower than one at small sizes. 0 leaves
            it.
        threaded: run the loop in a thread of its own.
        pinned: switch the process's deterministic mode on, else off.
        speculative_tokens: drafted for each pass of the policy; 0 decodes one token at a time.
        state: dtype and rounding of SSM states at rest, as in `policy.cache.StateFormat`.
    """

    def __init__(
        self, path: str, slots: int, context: int, device: str, dtype: str, threads: int, threaded: bool,
        pinned: bool = False, speculative_tokens: int = 0,
        state: tuple[str, Rounding] = ("float32", "stochastic"),
    ) -> None:  # fmt: skip
        deterministic(pinned)
        keep_freed_memory()
        if threads:
            torch.set_num_threads(threads)
        model = load_any_policy(path, getattr(torch, dtype), device)
        if pinned:
            expect_deterministic(model)
        if isinstance(model, HybridLM):
            model.state_format = StateFormat(*state)
        elif state[0] != "float32":
            raise PolicyError(
                f"rollout.state_dtype: expected 'float32' for a policy of transformers, got {state[0]!r}"
            )
        tokenizer = ChatTokenizer.load(path)
        self.engine = NativeEngine(model, tokenizer.stop_ids, slots, context, speculative_tokens)
        self._owner_of: dict[str, str] = {}
        self._inbox: deque[tuple[str, list[Request], list[str]]] = deque()
        self._arrived = threading.Event()
        self._lock = threading.Lock()
        self._busy_s = 0.0
        super().__init__(threaded)

    def submit(self, owner: str, requests: list[Request], released: list[str]) -> None:
        """Queue an owner's requests and forget sessions it is done with.

        Raises:
            EngineError: the loop has died.
        """
        self._raise_failure()
        self._inbox.append((owner, requests, released))
        self._arrived.set()

    def _error(self, text: str) -> Exception:
        return EngineError(f"the engine's loop stopped:\n{text}")

    def _read_inbox(self) -> None:
        while self._inbox:
            owner, requests, released = self._inbox.popleft()
            self.engine.release(released)
            for request in requests:
                self._owner_of[request.id] = owner
            self.engine.submit(requests)

    def _pump_once(self, wait: float) -> bool:
        self._arrived.clear()
        if not self._inbox and not self.engine.busy:
            return self._threaded and self._arrived.wait(wait)
        with self._lock:
            self._read_inbox()
            started = time.perf_counter()
            finished = self.engine.step()
            self._busy_s += time.perf_counter() - started
            self._hand_out(finished)
        return True

    def _hand_out(self, completions: list[Completion]) -> None:
        by_owner: dict[str, list[Completion]] = {}
        for completion in completions:
            by_owner.setdefault(self._owner_of.pop(completion.id), []).append(completion)
        for owner, own in by_owner.items():
            self._deliver(owner, own)

    def load_weights(self, state: dict[str, np.ndarray], version: int, checksum: str) -> str:
        """Swap in weights between batches and return the checksum of what the engine now samples with.

        What is still in flight belongs to abandoned episodes and is answered with `abort`.

        Raises:
            EngineError: the weights it holds afterwards are not those sent.
        """
        with self._lock:
            self._read_inbox()
            self._hand_out(self.engine.abort_all())
            self.engine.load_weights(to_tensors(state), version)
            held = weights_checksum(to_arrays(self.engine.model.state_dict()))
        if held != checksum:
            raise EngineError(
                f"weights version {version}: expected checksum {checksum}, the engine holds {held}"
            )
        return held

    def reset(self) -> None:
        """Answer everything in flight with `abort`; used when a step is given up."""
        with self._lock:
            self._read_inbox()
            self._hand_out(self.engine.abort_all())

    def status(self) -> dict[str, Any]:
        """Return counters and what is in flight."""
        return {
            **super().status(),
            "policy_version": self.engine.policy_version,
            "in_flight": len(self._owner_of),
            "generated_tokens": self.engine.generated_tokens,
            "prefilled_tokens": self.engine.prefilled_tokens,
            "busy_s": round(self._busy_s, 3),
        }
