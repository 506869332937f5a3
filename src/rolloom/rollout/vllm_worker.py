"""vLLM behind JSON lines: run by the interpreter of vLLM's own environment, so it imports nothing of rolloom.

One order a line on standard input, one answer or event a line on standard output; whatever vLLM prints goes
to standard error. `vllm_client.VllmProcess` is the other end and says what the orders mean. Between two steps
of vLLM's own engine every order that has arrived is carried out; the end of standard input ends the process.
"""

# pyright: reportMissingImports=false
# (vLLM is not installed where types are checked.)
from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

NUMPY_TYPE = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
}
"""Types of safetensors as numpy's; numpy has no bfloat16, and counts such bits as uint16."""

COUNTED = ("steps", "generated_tokens", "prompt_tokens", "cached_tokens", "requests", "aborted", "updates")


class Refused(Exception):
    """An order that cannot be carried out; the worker goes on."""


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file says of its tensors, and where their bytes begin."""
    with open(file, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def checksum_of(directory: Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return the digest `rollout.weights.weights_checksum` computes of the same tensors, and their shapes."""
    places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        header, start = read_header(file)
        places.update({name: (file, start, entry) for name, entry in header.items()})
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(places):
        file, start, entry = places[name]
        begin, end = entry["data_offsets"]
        digest.update(f"{name} {NUMPY_TYPE[entry['dtype']]} {tuple(entry['shape'])}\n".encode())
        with open(file, "rb") as stream:
            stream.seek(start + begin)
            digest.update(stream.read(end - begin))
    return digest.hexdigest(), {name: tuple(entry["shape"]) for name, (_, _, entry) in places.items()}


def bound_time_steps(low: float) -> None:
    """Have vLLM's Mamba-2 layers keep a time step at `low` or more, as transformers and rolloom do.

    vLLM itself ignores `time_step_min`: with 0.001 and weights of some size log-probabilities move by 0.1.
    softplus(x + bias) >= low where x >= log(exp(low) - 1) - bias, so x is bounded before vLLM reads it.
    The method patched is called by vLLM's own operation, outside of what it compiles.
    """
    from vllm.model_executor.layers.mamba.mamba_mixer2 import MambaMixer2

    original, least = MambaMixer2.conv_ssm_forward, math.log(math.expm1(low))

    def bounded(self: Any, projected_states: Any, output: Any) -> Any:
        steps = projected_states[..., -self.tped_dt_size :]
        steps.copy_(steps.maximum((least - self.dt_bias.float()).to(steps.dtype)))
        return original(self, projected_states=projected_states, output=output)

    MambaMixer2.conv_ssm_forward = bounded


class _Running:
    """A request in vLLM: what was sampled so far, and under which weights."""

    def __init__(self, stream: bool) -> None:
        self.stream = stream
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.versions: list[list[int]] = []
        self.sent = 0

    def take(self, tokens: list[int], logprobs: list[float], version: int) -> None:
        if tokens and (not self.versions or self.versions[-1][1] != version):
            self.versions.append([len(self.tokens), version])
        self.tokens += tokens
        self.logprobs += logprobs


class Worker:
    """Carries out orders; `answers` is where lines go."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._scores: dict[str, tuple[int, int]] = {}
        self._scoring: dict[int, list[list[float] | None]] = {}
        self._version = 0
        self._checksum = ""
        self._broken = ""
        self._dead = ""
        self._paused = False
        self._counts = dict.fromkeys(COUNTED, 0)
        self._busy_s = 0.0
        self.engine: Any = None

    def serve(self, lines: Any) -> None:
        """Work until standard input ends or `shutdown` is ordered."""
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        while True:
            while not self._can_step or not self._orders.empty():
                order = self._orders.get()
                if order is None or order["op"] == "shutdown":
                    return
                self._carry_out(order)
            self._step()

    def _read(self, lines: Any) -> None:
        for line in lines:
            if line.strip():
                self._orders.put(json.loads(line))
        self._orders.put(None)

    def _say(self, **fields: Any) -> None:
        self._answers.write(json.dumps(fields) + "\n")
        self._answers.flush()

    def _carry_out(self, order: dict[str, Any]) -> None:
        name, number = order.pop("op"), order.pop("n")
        try:
            if self.engine is None and name not in ("load", "health"):
                raise Refused(f"{name}: nothing is loaded")
            if self._dead and name != "health":
                raise Refused(f"{name}: vLLM's engine failed, start another worker: {self._dead}")
            if self._broken and name not in ("health", "update"):
                raise Refused(f"{name}: the weights are unusable since an update failed: {self._broken}")
            result = getattr(self, f"do_{name}")(number=number, **order)
        except Refused as error:
            self._say(n=number, error=str(error), kind="refused")
        except Exception as error:
            trace = traceback.format_exc(limit=-6)
            self._say(n=number, error=f"{type(error).__name__}: {error}", kind="failed", trace=trace)
            if self._broken:
                self._give_up(self._broken)
        else:
            if result is not None:
                self._say(n=number, **result)

    @property
    def _can_step(self) -> bool:
        return not self._paused and bool(self._running or self._scores) and not (self._broken or self._dead)

    def _step(self) -> None:
        started = time.perf_counter()
        try:
            outputs = self.engine.step()
        except Exception as error:
            self._dead = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"
            self._give_up(self._dead)
            return
        for output in outputs:
            if output.request_id in self._scores:
                self._scored(output)
            elif output.request_id in self._running:
                self._sampled(output)
        self._counts["steps"] += 1
        self._busy_s += time.perf_counter() - started

    def _give_up(self, reason: str) -> None:
        """Answer everything in flight with an error."""
        if not self._dead:
            self.engine.abort_request([*self._running, *self._scores])
        for id in list(self._running):
            self._finish(id, "error", reason)
        for number in list(self._scoring):
            self._say(n=number, error=reason, kind="failed")
        self._scores.clear()
        self._scoring.clear()

    def _sampled(self, output: Any) -> None:
        row, part = self._running[output.request_id], output.outputs[0]
        tokens = list(part.token_ids)
        logprobs = [entry[token].logprob for entry, token in zip(part.logprobs or [], tokens, strict=True)]
        row.take(tokens, logprobs, self._version)
        self._counts["generated_tokens"] += len(tokens)
        if not all(map(math.isfinite, logprobs)):
            self.engine.abort_request([output.request_id])
            reason = f"the policy's log-probabilities are not finite (weights version {self._version})"
            self._finish(output.request_id, "error", reason)
        elif output.finished:
            self._counts["prompt_tokens"] += len(output.prompt_token_ids)
            self._counts["cached_tokens"] += output.num_cached_tokens or 0
            said = [[span.start, int(span.version)] for span in part.weight_versions or []]
            if said and said != row.versions:
                self._finish(
                    output.request_id, "error", f"vLLM stamps versions {said}, the worker {row.versions}"
                )
            else:
                self._finish(output.request_id, part.finish_reason or "length")
        elif row.stream:
            self._say(event="partial", id=output.request_id, ids=row.tokens[row.sent :],
                      logprobs=row.logprobs[row.sent :], version=self._version)  # fmt: skip
            row.sent = len(row.tokens)

    def _finish(self, id: str, finish: str, error: str = "") -> None:
        row = self._running.pop(id)
        self._say(event="completion", id=id, ids=row.tokens, logprobs=row.logprobs, versions=row.versions,
                  finish=finish, error=error)  # fmt: skip

    def _scored(self, output: Any) -> None:
        if not output.finished:
            return
        number, index = self._scores.pop(output.request_id)
        ids = output.prompt_token_ids
        entries = output.prompt_logprobs[1:]
        results = self._scoring[number]
        results[index] = [entry[token].logprob for entry, token in zip(entries, ids[1:], strict=True)]
        if all(result is not None for result in results):
            self._say(n=number, logprobs=self._scoring.pop(number), version=self._version)

    def do_load(self, number: int, path: str, options: dict[str, Any], bound: bool) -> dict[str, Any]:
        """Start vLLM on a checkpoint directory."""
        if self.engine is not None:
            raise Refused("load: a checkpoint is loaded already; start another worker")
        started = time.perf_counter()
        low = json.loads((Path(path) / "config.json").read_text()).get("time_step_min", 0.0) if bound else 0.0
        if low > 1e-12:
            if options.get("tensor_parallel_size", 1) > 1:
                raise Refused(
                    f"load: time_step_min: {low} cannot be honoured with tensor_parallel_size > 1; "
                    "write one below 1e-12 into the checkpoint's config.json, or pass bound_time_steps=False"
                )
            bound_time_steps(low)
        from vllm import EngineArgs, __version__
        from vllm.v1.engine.llm_engine import LLMEngine

        args = EngineArgs(
            model=path, skip_tokenizer_init=True, generation_config="vllm", async_scheduling=False,
            logprobs_mode="processed_logprobs", **options,
        )  # fmt: skip
        self.engine = LLMEngine.from_engine_args(args)
        self.engine.set_weight_version("0")
        self._checksum, self._shapes = checksum_of(Path(path))
        return {
            "vllm": __version__,
            "load_s": round(time.perf_counter() - started, 2),
            "checksum": self._checksum,
            "held": self._held(),
            "context": self.engine.model_config.max_model_len,
        }

    def _held(self) -> str:
        """Digest of the parameters as vLLM keeps them, fused and repacked, on every rank."""
        digest = hashlib.blake2b(digest_size=16)
        for rank in self.engine.engine_core.collective_rpc("compute_weight_checksums"):
            digest.update(json.dumps(rank, sort_keys=True).encode())
        return digest.hexdigest()

    def do_generate(self, number: int, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Queue requests; each is answered by a `completion` event."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        twice = [request["id"] for request in requests if request["id"] in self._running]
        if twice:
            raise Refused(
                f"generate: request {twice[0]!r} is in flight already; none of {len(requests)} is queued"
            )
        for request in requests:
            id, stream = request["id"], request.pop("stream", False)
            try:
                params = SamplingParams(
                    seed=request["seed"] % 2**63, temperature=request["temperature"], top_k=request["top_k"],
                    top_p=request["top_p"], stop_token_ids=request["stop_ids"], ignore_eos=True,
                    max_tokens=request["max_new_tokens"], min_tokens=request["min_new_tokens"], logprobs=0,
                    detokenize=False, output_kind=RequestOutputKind.DELTA,
                )  # fmt: skip
                self._running[id] = _Running(stream)
                self.engine.add_request(id, {"prompt_token_ids": request["ids"]}, params)
            # vLLM's own validation errors have no root but Exception.
            except Exception as error:
                self._running.setdefault(id, _Running(False))
                self._finish(id, "error", str(error))
            else:
                self._counts["requests"] += 1
        return {"queued": len(requests)}

    def do_score(self, number: int, sequences: list[list[int]]) -> dict[str, Any] | None:
        """Queue sequences for their own log-probabilities at temperature 1; answered when all are done."""
        from vllm import SamplingParams

        short = [index for index, ids in enumerate(sequences) if len(ids) < 2]
        if short:
            raise Refused(
                f"score: expected sequences of at least 2 tokens, got sequences {short[:8]} shorter"
            )
        if not sequences:
            return {"logprobs": [], "version": self._version}
        self._scoring[number] = [None] * len(sequences)
        params = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, ignore_eos=True
        )
        for index, ids in enumerate(sequences):
            id = f"\0score-{number}-{index}"
            self._scores[id] = (number, index)
            try:
                self.engine.add_request(id, {"prompt_token_ids": ids}, params)
            except Exception as error:
                queued = [other for other, (owner, _) in self._scores.items() if owner == number]
                for other in queued:
                    del self._scores[other]
                self.engine.abort_request([other for other in queued if other != id])
                del self._scoring[number]
                raise Refused(f"score: sequence {index}: {error}") from error
        return None

    def do_abort(self, number: int, ids: list[str] | None) -> dict[str, Any]:
        """End requests with what they have; all of them for None."""
        chosen = [id for id in (list(self._running) if ids is None else ids) if id in self._running]
        self.engine.abort_request(chosen)
        for id in chosen:
            self._finish(id, "abort")
        self._counts["aborted"] += len(chosen)
        return {"aborted": len(chosen)}

    def do_update(
        self, number: int, path: str, version: int, checksum: str, in_flight: str
    ) -> dict[str, Any]:
        """Replace the weights by those of a directory in shared memory, between two steps."""
        found, shapes = checksum_of(Path(path))
        if found != checksum:
            raise Refused(
                f"update: weights version {version}: expected checksum {checksum}, {path} has {found}"
            )
        wrong = [name for name in {**shapes, **self._shapes} if shapes.get(name) != self._shapes.get(name)]
        if wrong:
            shown = "; ".join(
                f"{n}: expected {self._shapes.get(n)}, got {shapes.get(n)}" for n in sorted(wrong)[:6]
            )
            raise Refused(f"update: weights version {version}: {len(wrong)} tensors do not fit: {shown}")
        if in_flight == "abort":
            self.do_abort(number, None)
        started = time.perf_counter()
        self._broken = f"the update to version {version} did not end"
        self.engine.collective_rpc(
            "reload_weights", kwargs={"weights_path": path, "is_checkpoint_format": True}
        )
        self.engine.set_weight_version(str(version))
        self.engine.reset_prefix_cache(reset_running_requests=in_flight == "recompute")
        self._version, self._checksum, self._broken = version, checksum, ""
        self._counts["updates"] += 1
        return {"version": version, "checksum": found, "held": self._held(), "in_flight": len(self._running),
                "update_s": round(time.perf_counter() - started, 4)}  # fmt: skip

    def do_reset_prefix_cache(self, number: int) -> dict[str, Any]:
        """Forget cached prompts."""
        return {"reset": bool(self.engine.reset_prefix_cache())}

    def do_pause(self, number: int) -> dict[str, Any]:
        """Stop stepping; orders are still carried out, requests still queued."""
        self._paused = True
        return {"in_flight": len(self._running)}

    def do_resume(self, number: int) -> dict[str, Any]:
        """Go on stepping."""
        self._paused = False
        return {"in_flight": len(self._running)}

    def do_sleep(self, number: int, level: int) -> dict[str, Any]:
        """Free memory between rollouts; the weights of level 2 come back with an update."""
        if self._running or self._scores:
            raise Refused(
                f"sleep: {len(self._running) + len(self._scores)} requests are in flight; abort or drain"
            )
        self._paused = True
        self.engine.sleep(level)
        return {"level": level}

    def do_wake(self, number: int) -> dict[str, Any]:
        """Undo `sleep`."""
        self.engine.wake_up()
        self._paused = False
        return {}

    def do_health(self, number: int) -> dict[str, Any]:
        """Tell state and counters."""
        return {
            **self._counts, "version": self._version, "checksum": self._checksum, "paused": self._paused,
            "broken": self._dead or self._broken, "in_flight": len(self._running),
            "scoring": len(self._scores), "busy_s": round(self._busy_s, 3), "pid": os.getpid(),
            "loaded": self.engine is not None,
        }  # fmt: skip


def main() -> None:
    """Serve standard input."""
    # Everything that prints, vLLM's C++ included, writes to descriptor 1: that becomes standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Worker(answers).serve(sys.stdin)
    answers.flush()
    # vLLM's threads and gloo's do not always end.
    os._exit(0)


if __name__ == "__main__":
    main()
