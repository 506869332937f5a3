"""Hosts a vLLM engine the way `EngineHost` hosts a native one: the same calls, so either may sample."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.rollout.pump import Pump
from rolloom.rollout.types import Completion, EngineError, Request
from rolloom.rollout.vllm_client import VllmCompletion, VllmProcess, VllmRequest


class VllmHost(Pump[Completion]):
    """vLLM behind `submit` and `collect`.

    A session is the tokens it has so far: vLLM is sent all of them, and its prefix cache, where it works,
    spares it from computing them again.

    Args:
        path: checkpoint directory.
        slots: sequences that decode together.
        context: longest sequence, in tokens.
        dtype: torch dtype name.
        threads: CPU threads of the CPU build.
        threaded: run the loop in a thread of its own.
        python: interpreter of vLLM's environment.
        settings: further arguments of `VllmProcess`.
    """

    def __init__(
        self, path: str, slots: int, context: int, dtype: str, threads: int, threaded: bool,
        python: str | Path, settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        from rolloom.policy.loading import is_hybrid
        from rolloom.policy.tokenizer import ChatTokenizer

        self.stop_ids = list(ChatTokenizer.load(path).stop_ids)
        self.context = context
        self._hybrid = is_hybrid(path)
        self._asked: dict[str, tuple[str, Request, list[int]]] = {}
        self._sessions: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self.policy_version = 0
        self.process = VllmProcess(
            python, path, context=context, slots=slots, dtype=dtype, threads=threads or 1, **(settings or {})
        )
        super().__init__(threaded)

    def submit(self, owner: str, requests: list[Request], released: list[str]) -> None:
        """Queue an owner's requests and forget sessions it is done with.

        Raises:
            EngineError: vLLM has ended or refused.
        """
        self._raise_failure()
        queued: list[VllmRequest] = []
        refused: list[Completion] = []
        with self._lock:
            for session in released:
                self._sessions.pop(session, None)
            for request in requests:
                held = self._sessions.pop(request.session or "", []) if request.continues else []
                ids = [*held, *request.ids]
                problem = self._refusal(request, held, ids)
                if problem:
                    refused.append(self._refused(request, *problem))
                    continue
                self._asked[request.id] = (owner, request, ids)
                queued.append(
                    VllmRequest(
                        request.id, ids, request.seed, request.max_new_tokens,
                        temperature=request.temperature, stop_ids=self.stop_ids,
                    )
                )  # fmt: skip
        self._deliver(owner, refused)
        if not queued:
            return
        try:
            self.process.submit(queued)
        except EngineError:
            with self._lock:
                for request in queued:
                    self._asked.pop(request.id, None)
            raise

    def _refusal(self, request: Request, held: list[int], ids: list[int]) -> tuple[str, str] | None:
        if request.continues and not held:
            return "error", f"session {request.session} is not held by this engine (restarted?)"
        if not ids:
            return "error", "empty prompt"
        if request.max_new_tokens < 1:
            return "error", f"max_new_tokens: expected at least 1, got {request.max_new_tokens}"
        if len(ids) >= self.context:
            return "length", f"prompt of {len(ids)} tokens fills the context of {self.context}"
        return None

    def _refused(self, request: Request, finish: str, error: str) -> Completion:
        return Completion(request.id, [], np.zeros(0, np.float32), None, finish, self.policy_version, error)

    def _error(self, text: str) -> Exception:
        return EngineError(f"the vLLM engine's loop stopped:\n{text}")

    def _pump_once(self, wait: float) -> bool:
        event = self.process.next_event(wait)
        if event is None:
            if not self.process.alive:
                self.process.health()
            return False
        while event is not None:
            if isinstance(event, VllmCompletion):
                self._completed(event)
            event = self.process.next_event(0.0)
        return True

    def _completed(self, completion: VllmCompletion) -> None:
        with self._lock:
            known = self._asked.pop(completion.id, None)
            if known is None:
                return
            owner, request, ids = known
            if request.session and completion.finish == "stop":
                self._sessions[request.session] = [*ids, *completion.ids]
        self._deliver(owner, [completion])

    def load_weights(self, state: dict[str, np.ndarray], version: int, checksum: str) -> str:
        """Replace the weights between two tokens and return their checksum.

        What is still in flight belongs to abandoned episodes and is answered with `abort`.

        Raises:
            EngineError: vLLM does not have the weights that were sent.
        """
        from rolloom.policy.checkpoint import to_released
        from rolloom.rollout.weights import to_tensors, weights_checksum

        found = weights_checksum(state)
        if found != checksum:
            raise EngineError(f"weights version {version}: expected checksum {checksum}, got {found}")
        tensors = to_tensors(state)
        self.process.update_weights(to_released(tensors) if self._hybrid else tensors, version, "abort")
        with self._lock:
            self._sessions.clear()
        self.policy_version = version
        return found

    def reset(self) -> None:
        """Answer everything in flight with `abort`; used when a step is given up."""
        self.process.abort()
        with self._lock:
            self._sessions.clear()

    def status(self) -> dict[str, Any]:
        """Return counters and what is in flight."""
        health = self.process.health()
        return {
            **super().status(),
            "policy_version": health["version"],
            "in_flight": len(self._asked),
            "generated_tokens": health["generated_tokens"],
            "prefilled_tokens": health["prompt_tokens"] - health["cached_tokens"],
            "busy_s": health["busy_s"],
        }

    def stop(self) -> None:
        """End the loop and vLLM."""
        super().stop()
        self.process.close()
