"""Generated tokens a second: the native engine against transformers' `generate`, on the same checkpoint.

Both sample at temperature 1 from the whole distribution, from the same prompts, in fp32, to the same length,
which nothing ends earlier. Ours also returns the log-probability of every sampled token, which RL needs; the
peer is not asked for it. First the engine's log-probabilities are held to the peer's full forward pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Bench, ParityError, Rates, fewer_pairs, seconds_of, torch_threads
from benchmarks.policies import MODELS, checkpoint, load_transformers
from rolloom.kernels.dispatch import deterministic
from rolloom.policy.checkpoint import load_policy
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, Request

TOLERANCE = 1e-4
PROMPT, NEW = 64, 64
BATCHES = (16, 64)
GROUPS, SIBLINGS = 8, 8


def measure(bench: Bench) -> None:
    """Measure every case."""
    for model in MODELS[:1] if bench.quick else MODELS:
        with checkpoint(model) as (label, path):
            _measure_model(bench, label, path)


def _measure_model(bench: Bench, label: str, path: Path) -> None:
    hf, version = load_transformers(path)
    hf.eval()
    model = load_policy(path)
    length, new = (8, 32) if bench.quick else (PROMPT, NEW)
    check_logprobs(model, hf, random_prompts(4, length, model.config.vocab_size), new)
    small = "MEMEM" in label
    if not bench.quick:
        _measure_modes(bench, label, path, new)
    for threads in (1,) if bench.quick or small else (1, 2):
        with torch_threads(threads):
            for batch in (4,) if bench.quick else BATCHES[-1:] if small else BATCHES:
                prompts = random_prompts(batch, length, model.config.vocab_size)
                case = f"{label}, {batch} prompts, {length}+{new} tokens"
                _compare(bench, case, model, hf, version, prompts, new, threads)
            groups, siblings = (2, 2) if bench.quick else (GROUPS, SIBLINGS)
            prompts = random_prompts(groups, length, model.config.vocab_size)
            case = (f"{label}, {groups} prompts x {siblings} siblings (ours prefills a prompt once), "
                    f"{length}+{new} tokens")  # fmt: skip
            _compare(bench, case, model, hf, version, prompts.repeat_interleave(siblings, 0), new, threads,
                     whole_only=True)  # fmt: skip


def _measure_modes(bench: Bench, label: str, path: Path, new: int) -> None:
    """Measure what deterministic mode costs."""
    model = load_policy(path)
    prompts = random_prompts(BATCHES[-1], PROMPT, model.config.vocab_size)
    fast = NativeEngine(model, (), slots=len(prompts))
    with deterministic():
        pinned = NativeEngine(model, (), slots=len(prompts))
    tokens = len(prompts) * new

    def ours(index: int) -> Rates:
        with deterministic():
            return {
                "generated tokens/s": tokens / seconds_of(lambda: sample_ours(pinned, prompts, new, index))
            }

    def mode(index: int) -> Rates:
        return {"generated tokens/s": tokens / seconds_of(lambda: sample_ours(fast, prompts, new, index))}

    case = f"{label}, {len(prompts)} prompts, {PROMPT}+{new} tokens, deterministic mode"
    with torch_threads(1), fewer_pairs(bench):
        bench.compare(case, ours, mode, "our fast mode")


def _compare(
    bench: Bench, case: str, model: Any, hf: Any, version: str, prompts: torch.Tensor, new: int, threads: int,
    whole_only: bool = False,
) -> None:  # fmt: skip
    engine = NativeEngine(model, (), slots=len(prompts))
    count, length = prompts.shape

    def rates(first: float, whole: float) -> Rates:
        # The first token falls out of the prefill; the others take one decode step each.
        parts = {
            "prompt tokens/s, prefill": count * length / first,
            "tokens/s, decode": count * (new - 1) / (whole - first),
        }
        return {"generated tokens/s": count * new / whole, **({} if whole_only else parts)}

    def ours(index: int) -> Rates:
        first = seconds_of(lambda: sample_ours(engine, prompts, 1, index))
        return rates(first, seconds_of(lambda: sample_ours(engine, prompts, new, index)))

    def peer(index: int) -> Rates:
        torch.manual_seed(index)
        first = seconds_of(lambda: sample_peer(hf, prompts, 1))
        return rates(first, seconds_of(lambda: sample_peer(hf, prompts, new)))

    bench.compare(case, ours, peer, f"{version} generate", threads)


def random_prompts(count: int, length: int, vocabulary: int) -> torch.Tensor:
    """Return distinct prompts `[count, length]`."""
    return torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(0))


def sample_ours(engine: NativeEngine, prompts: torch.Tensor, new: int, seed: int) -> list[Completion]:
    """Sample `new` tokens after every prompt.

    Raises:
        ParityError: a completion has another length.
    """
    engine.submit(
        Request(str(index), ids, seed * len(prompts) + index, new)
        for index, ids in enumerate(prompts.tolist())
    )
    done: list[Completion] = []
    while engine.busy:
        done += engine.step()
    if any(len(completion.ids) != new for completion in done) or len(done) != len(prompts):
        raise ParityError(f"ours: expected {len(prompts)} completions of {new} tokens")
    return done


def sample_peer(hf: Any, prompts: torch.Tensor, new: int) -> torch.Tensor:
    """Sample `new` tokens after every prompt; return prompts and completions `[count, length + new]`.

    Raises:
        ParityError: the completions have another length.
    """
    ids = hf.generate(
        prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        max_new_tokens=new, use_cache=True,
    )  # fmt: skip
    if ids.shape[1] != prompts.shape[1] + new:
        raise ParityError(
            f"peer: expected completions of {new} tokens, got {ids.shape[1] - prompts.shape[1]}"
        )
    return ids


@torch.no_grad()
def check_logprobs(model: Any, hf: Any, prompts: torch.Tensor, new: int) -> float:
    """Return the largest difference between the engine's log-probs and the peer's full forward pass.

    Raises:
        ParityError: it is above `TOLERANCE`.
    """
    engine = NativeEngine(model, (), slots=len(prompts))
    done = {completion.id: completion for completion in sample_ours(engine, prompts, new, 0)}
    sampled = torch.tensor([done[str(index)].ids for index in range(len(prompts))])
    ours = torch.stack([torch.from_numpy(done[str(index)].logprobs) for index in range(len(prompts))])
    logits = hf(torch.cat((prompts, sampled), 1)).logits[:, prompts.shape[1] - 1 : -1]
    peer = torch.log_softmax(logits.float(), -1).gather(2, sampled[..., None]).squeeze(2)
    worst = float((ours - peer).abs().max())
    if not worst <= TOLERANCE:
        raise ParityError(f"log-probs of ours and the peer differ by {worst:.2e}, expected <= {TOLERANCE}")
    return worst
