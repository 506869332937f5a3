"""The other end of `vllm_worker`: vLLM in its own interpreter, driven from here by lines of JSON.

vLLM runs in the worker's process, not in children of it: killing the process frees all it holds, and a step
of its engine is a step of the worker: weights change between two tokens, and every token knows its version.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rolloom.rollout import vllm_worker
from rolloom.rollout.types import Completion, EngineError

if TYPE_CHECKING:
    import torch

SHARED_MEMORY = Path("/dev/shm")
IN_FLIGHT = ("continue", "recompute", "abort")


@dataclass(frozen=True, slots=True)
class VllmRequest:
    """One completion to sample from token ids.

    Attributes:
        id: unique among the requests in flight.
        ids: the prompt.
        seed: the request's own generator starts from it.
        max_new_tokens: limit, in tokens.
        min_new_tokens: no stop token before this many.
        temperature: 0 is greedy; vLLM takes 2 at most.
        top_k: sample from the k most probable tokens; 0 from all.
        top_p: sample from the most probable tokens that hold this much probability.
        stop_ids: tokens that end the completion; the one sampled is part of it.
        stream: send `partial` events too.
    """

    id: str
    ids: list[int]
    seed: int
    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: list[int] = field(default_factory=list)
    stream: bool = False


@dataclass(slots=True)
class VllmCompletion(Completion):
    """A completion, with the version of the weights that sampled each of its tokens.

    Attributes:
        versions: `(index of the first token, version)`, in order.
    """

    versions: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Partial:
    """Tokens that a streamed request sampled since the last event."""

    id: str
    ids: list[int]
    logprobs: list[float]
    policy_version: int


class VllmProcess:
    """A vLLM engine on one checkpoint directory.

    Args:
        python: interpreter of the environment that `rolloom engines setup vllm` made.
        path: checkpoint directory.
        context: longest sequence, in tokens.
        slots: sequences that decode together.
        dtype: torch dtype name.
        threads: CPU threads of the CPU build.
        kv_bytes: bytes for keys, values and states of the CPU build.
        compiled: let vLLM compile the model, which needs a C++ compiler on a CPU and a minute.
        prefix_caching: keep prompts that requests share. vLLM 0.32's CPU build breaks with it at the first
            prompt longer than a block where the model has Mamba layers: its scan returns final states only.
        chunked_prefill: feed long prompts, and many, in parts. vLLM 0.32's CPU build ends at the first
            part where requests have seeds: it takes a draw back, which CPU generators cannot.
        bound_time_steps: honour the checkpoint's `time_step_min`, which vLLM by itself does not.
        start_s: seconds that loading may take.
        options: further arguments of vLLM's `EngineArgs`, e.g. `{"tensor_parallel_size": 2}`.

    Raises:
        EngineError: vLLM does not start or refuses the checkpoint; the message has its last words.
    """

    def __init__(
        self, python: str | Path, path: str | Path, *, context: int = 512, slots: int = 64,
        dtype: str = "float32", threads: int = 1, kv_bytes: int = 2**28, compiled: bool = False,
        prefix_caching: bool = False, chunked_prefill: bool = False, bound_time_steps: bool = True,
        start_s: float = 300.0, options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._process = subprocess.Popen(
            # -P: the folder of the program holds a types.py, which would hide Python's.
            [str(python), "-P", vllm_worker.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env=_environment(threads, compiled),
        )  # fmt: skip
        self._said: deque[str] = deque(maxlen=60)
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._events: queue.SimpleQueue[VllmCompletion | Partial] = queue.SimpleQueue()
        self._count = 0
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()
        self._version = 0
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._listen, self._listen_errors)
        ]
        for thread in self._threads:
            thread.start()
        chosen: dict[str, Any] = {
            "dtype": dtype, "max_model_len": context, "max_num_seqs": slots, "enforce_eager": not compiled,
            "kv_cache_memory_bytes": kv_bytes, "enable_prefix_caching": prefix_caching,
            "enable_chunked_prefill": chunked_prefill, "max_num_batched_tokens": max(8192, context),
            **(options or {}),
        }  # fmt: skip
        try:
            self.loaded = self.call("load", start_s, path=str(path), options=chosen, bound=bound_time_steps)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once the worker has ended."""
        return self._process.poll() is None

    def call(self, op: str, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Order something and wait for the answer.

        Raises:
            EngineError: the worker refused or failed, has ended, or did not answer in time.
        """
        answer = self._order(op, fields)
        try:
            result = answer.result(timeout_s)
        except TimeoutError:
            raise EngineError(f"vLLM: {op}: no answer within {timeout_s:g} s (process {self.pid})") from None
        if "error" in result:
            trace = f"\n{result['trace']}" if result.get("trace") else ""
            raise EngineError(f"vLLM: {result['error']}{trace}")
        return result

    def _order(self, op: str, fields: dict[str, Any]) -> Future[dict[str, Any]]:
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._count += 1
            self._answers[self._count] = answer
            line = json.dumps({"op": op, "n": self._count, **fields})
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                self._answers.pop(self._count, None)
                raise EngineError(self._last_words()) from None
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self._events.put(self._event(message))
            else:
                with self._lock:
                    answer = self._answers.pop(message.pop("n"))
                answer.set_result(message)
        self._process.wait()
        self._threads[1].join(5)
        # Whoever waits learns that nothing more will come.
        with self._lock:
            waiting, self._answers = list(self._answers.values()), {}
            lost, self._in_flight = sorted(self._in_flight), set()
        for answer in waiting:
            answer.set_exception(EngineError(self._last_words()))
        for id in lost:
            self._events.put(
                VllmCompletion(
                    id, [], np.zeros(0, np.float32), None, "error", self._version, self._last_words()
                )
            )

    def _listen_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.rstrip())

    def _event(self, message: dict[str, Any]) -> VllmCompletion | Partial:
        if message["event"] == "partial":
            return Partial(message["id"], message["ids"], message["logprobs"], message["version"])
        with self._lock:
            self._in_flight.discard(message["id"])
        versions = [(start, version) for start, version in message["versions"]]
        return VllmCompletion(
            message["id"], message["ids"], np.asarray(message["logprobs"], np.float32), None,
            message["finish"], versions[-1][1] if versions else self._version, message["error"], versions,
        )  # fmt: skip

    def _last_words(self) -> str:
        telling = [line for line in self._said if "Error" in line or "ERROR" in line][-6:]
        shown = "\n    ".join(telling or list(self._said)[-8:])
        status = self._process.poll()
        return f"vLLM's process {self.pid} has ended with status {status}; its last words:\n    {shown}"

    def submit(self, requests: Iterable[VllmRequest]) -> None:
        """Queue requests; `next_event` hands out what comes of them.

        Raises:
            EngineError: the worker refused all of them, or has ended.
        """
        rows = [asdict(request) for request in requests]
        with self._lock:
            new = {row["id"] for row in rows} - self._in_flight
            self._in_flight |= new
        try:
            self.call("generate", requests=rows)
        except EngineError:
            with self._lock:
                self._in_flight -= new
            raise

    def next_event(self, timeout_s: float) -> VllmCompletion | Partial | None:
        """Wait for the next completion, or part of a streamed one; None if none came in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def generate(self, requests: Sequence[VllmRequest], timeout_s: float = 600.0) -> list[VllmCompletion]:
        """Sample completions and return them in the order of the requests; nothing else may be in flight.

        Raises:
            EngineError: the worker ended, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        self.submit(requests)
        done: dict[str, VllmCompletion] = {}
        while len(done) < len(requests):
            event = self.next_event(max(0.0, deadline - time.monotonic()))
            if event is None:
                raise EngineError(
                    f"vLLM: {len(requests) - len(done)} requests not done within {timeout_s:g} s"
                )
            if isinstance(event, VllmCompletion):
                done[event.id] = event
        return [done[request.id] for request in requests]

    def score(self, sequences: Sequence[Sequence[int]], timeout_s: float = 600.0) -> list[np.ndarray]:
        """Return log-probabilities at temperature 1 of each sequence but its first token, fp32 `[T - 1]`."""
        answer = self.call("score", timeout_s, sequences=[list(ids) for ids in sequences])
        return [np.asarray(row, np.float32) for row in answer["logprobs"]]

    def abort(self, ids: Iterable[str] | None = None) -> int:
        """End requests (all for None): each is answered by a completion `abort` with its tokens so far."""
        return self.call("abort", ids=None if ids is None else list(ids))["aborted"]

    def update_weights(
        self, state: Mapping[str, torch.Tensor], version: int,
        in_flight: Literal["continue", "recompute", "abort"] = "abort", timeout_s: float = 600.0,
    ) -> dict[str, Any]:  # fmt: skip
        """Replace the weights between two tokens, through shared memory, and forget cached prompts.

        Args:
            state: tensors in the layout of the checkpoint that was loaded, `policy.checkpoint.to_released`'s.
            version: theirs.
            in_flight: what becomes of running requests: they go on with the keys, values and states they have
                (`continue`), with those computed anew under the new weights (`recompute`), or end (`abort`).
            timeout_s: seconds the update may take.

        Returns:
            `version`, `checksum` (of the tensors received), `held` (of what vLLM now has), `update_s`.

        Raises:
            EngineError: the tensors do not fit or are not what was sent; the old weights are still in place.
        """
        from safetensors.torch import save_file

        from rolloom.rollout.weights import to_arrays, weights_checksum

        if in_flight not in IN_FLIGHT:
            raise EngineError(f"in_flight: expected one of {', '.join(IN_FLIGHT)}, got {in_flight!r}")
        place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        folder = Path(tempfile.mkdtemp(prefix="rolloom-weights-", dir=place))
        try:
            save_file(dict(state), str(folder / "model.safetensors"), metadata={"format": "pt"})
            answer = self.call(
                "update", timeout_s, path=str(folder), version=version,
                checksum=weights_checksum(to_arrays(state)), in_flight=in_flight,
            )  # fmt: skip
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._version = version
        return answer

    def health(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """Return state and counters; waits for the step that is being taken."""
        return self.call("health", timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """End the worker, kindly first."""
        if self.alive:
            with contextlib.suppress(EngineError, subprocess.TimeoutExpired):
                self._order("shutdown", {})
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the worker at once."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> VllmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _environment(threads: int, compiled: bool) -> dict[str, str]:
    """Variables of the worker: ours without what points into our own packages."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    return variables | {
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # vLLM's sampler is compiled at the first token even where its model is not: 20 s on a CPU.
        **({} if compiled else {"TORCHDYNAMO_DISABLE": "1"}),
    }
