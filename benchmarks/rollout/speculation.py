"""Speculative decoding against plain decoding: the same engine, weights, prompts and machine.

`python -m benchmarks.rollout.speculation [--json PATH] [--quick]`. Both sides sample at temperature 1 until a
stop token or `NEW` tokens. Prompts are turns of tasks the block was not trained on. Rows without a peer say
how often a draft is kept at each position (of k = 7), and how many tokens a pass of the policy gives.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.harness import Bench, ParityError, Rates, main, seconds_of, torch_threads
from rolloom.policy.checkpoint import load_policy
from rolloom.policy.model import HybridLM
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.boosting import contexts
from rolloom.rollout.demonstrations import demonstrations, to_sequence
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, Request
from rolloom.rollout.warmstart import ENVS, SHIPPED

NAME = "rollout.speculation"
NEW, CONTEXT, SEED = 96, 512, 2**20
DRAFTS, BATCHES, LONGEST = (1, 3, 5, 7), (1, 32), 7


def measure(bench: Bench) -> None:
    """Measure every case.

    Raises:
        ParityError: the shipped policy has no block, or greedy answers differ from plain decoding's.
    """
    model, tokenizer = load_policy(SHIPPED), ChatTokenizer.load(SHIPPED)
    if model.mtp is None:
        raise ParityError("expected a shipped policy with a multi-token prediction block")
    prompts = held_out(tokenizer, 2 if bench.quick else 64)
    check_greedy(model, prompts, tokenizer.stop_ids)
    with torch_threads(1):
        for batch in (2,) if bench.quick else BATCHES:
            for drafts in (2,) if bench.quick else DRAFTS:
                _compare(bench, model, tokenizer.stop_ids, prompts, batch, drafts)
        for temperature in (1.0, 0.0):
            _acceptance(bench, model, tokenizer.stop_ids, prompts, temperature)


def held_out(tokenizer: ChatTokenizer, count: int) -> list[list[int]]:
    """Return the tokens before turns of tasks that no recipe uses."""
    demos = [to_sequence(tokenizer, demo) for demo in demonstrations(ENVS, (1,), max(1, count // 4), SEED)]
    found = contexts(demos)
    return found[:: max(1, len(found) // count)][:count]


def answers(
    engine: NativeEngine, prompts: Sequence[list[int]], temperature: float, first: int
) -> list[Completion]:
    """Complete every prompt."""
    engine.submit(
        Request(str(index), ids, first + index, NEW, temperature) for index, ids in enumerate(prompts)
    )
    done: list[Completion] = []
    while engine.busy:
        done += engine.step()
    return sorted(done, key=lambda completion: int(completion.id))


def check_greedy(model: HybridLM, prompts: Sequence[list[int]], stops: Sequence[int]) -> None:
    """Hold greedy answers with speculation to those without.

    Raises:
        ParityError: one differs.
    """
    want = answers(NativeEngine(model, stops, 32, CONTEXT), prompts, 0.0, 0)
    got = answers(NativeEngine(model, stops, 32, CONTEXT, LONGEST), prompts, 0.0, 0)
    differ = [index for index, (a, b) in enumerate(zip(want, got, strict=True)) if a.ids != b.ids]
    if differ:
        raise ParityError(f"greedy answers to prompts {differ} differ from plain decoding's")


def _compare(
    bench: Bench, model: HybridLM, stops: Sequence[int], prompts: Sequence[list[int]], batch: int, drafts: int
) -> None:
    plain = NativeEngine(model, stops, batch, CONTEXT)
    ours = NativeEngine(model, stops, batch, CONTEXT, drafts)
    count = batch if batch > 1 else 3

    def side(engine: NativeEngine, index: int) -> Rates:
        chosen = [prompts[(index * count + at) % len(prompts)] for at in range(count)]
        before = engine.generated_tokens
        seconds = seconds_of(lambda: answers(engine, chosen, 1.0, index * 10_000))
        return {"generated tokens/s": (engine.generated_tokens - before) / seconds}

    case = f"shipped {model.config.pattern}, {batch} slots, k = {drafts}, temperature 1"
    bench.compare(
        case, lambda index: side(ours, index), lambda index: side(plain, index), "ours without speculation"
    )


def _acceptance(
    bench: Bench, model: HybridLM, stops: Sequence[int], prompts: Sequence[list[int]], temperature: float
) -> None:
    def kept(index: int) -> Rates:
        engine = NativeEngine(model, stops, 32, CONTEXT, LONGEST)
        answers(engine, prompts, temperature, 10**6 + index * 10_000)
        assert engine.speculation is not None
        shares = engine.speculation.acceptance
        rates = {f"share of drafts {at} kept": share for at, share in enumerate(shares, 1)}
        return {**rates, "tokens a pass": engine.speculation.acceptance_length}

    bench.compare(
        f"shipped {model.config.pattern}, k = {LONGEST}, temperature {temperature:g}", kept, None, "-"
    )


if __name__ == "__main__":
    sys.exit(main(NAME, measure))
