"""Speculative decoding against plain decoding: the same greedy tokens, distribution and records."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.policy.mtp_training import boost
from rolloom.rollout.boosting import contexts, rollouts
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, EngineError, Request

VOCAB, STOPS, CONTEXT = 31, (0, 1), 72
SIZES: dict[str, Any] = {
    "pattern": "M*EM*-ME", "vocab_size": VOCAB, "hidden_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 40, "ssm_state_size": 8,
    "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2, "n_routed_experts": 6,
    "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24, "num_nextn_predict_layers": 1,
}  # fmt: skip


def policy(**changes: Any) -> HybridLM:
    """A random policy whose distribution is far from uniform."""
    model = HybridLM(preset("tiny", **{**SIZES, **changes}), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 4
    return model


def prompt(length: int, seed: int, vocabulary: int = VOCAB) -> list[int]:
    return np.random.default_rng([length, seed]).integers(2, vocabulary, length).tolist()


@pytest.fixture(scope="module")
def model() -> HybridLM:
    """The random policy with a block that has learnt something of what it says."""
    made = policy()
    said = rollouts(made, [prompt(6, seed) for seed in range(32)], (), seed=0, new_tokens=24)
    boost(made, said, 60, 3, 400)
    return made


def requests(count: int, temperature: float, longest: int = 40) -> list[Request]:
    """Requests of mixed prompts and limits."""
    rng = np.random.default_rng(count)
    return [
        Request(
            f"r{i}", prompt(int(rng.integers(1, longest)), i), i * 7919, int(rng.integers(1, 40)), temperature
        )
        for i in range(count)
    ]


def answer(engine: NativeEngine, asked: Iterable[Request]) -> list[Completion]:
    asked = list(asked)
    engine.submit(asked)
    answers: dict[str, Completion] = {}
    while engine.busy:
        for completion in engine.step():
            assert completion.id not in answers
            answers[completion.id] = completion
    return [answers[request.id] for request in asked]


def speculating(model: HybridLM, tokens: int, slots: int = 6, stops: tuple[int, ...] = STOPS) -> NativeEngine:
    return NativeEngine(model, stops, slots, CONTEXT, speculative_tokens=tokens)


@pytest.mark.parametrize("tokens,exact", [(1, False), (3, True), (7, False), (7, True)])
def test_greedy_answers_are_those_of_plain_decoding(model: HybridLM, tokens: int, exact: bool) -> None:
    with deterministic(exact):
        engine, plain = speculating(model, tokens), NativeEngine(model, STOPS, 6, CONTEXT)
        asked = requests(16, temperature=0)
        for mine, theirs in zip(answer(engine, asked), answer(plain, asked), strict=True):
            assert (mine.ids, mine.finish) == (theirs.ids, theirs.finish)
            assert mine.experts is not None and theirs.experts is not None
            assert np.array_equal(mine.experts, theirs.experts)
            if exact:
                assert np.array_equal(mine.logprobs, theirs.logprobs)
            else:
                assert np.abs(mine.logprobs - theirs.logprobs).max() < 1e-4
    assert engine.speculation is not None
    assert 0.1 < engine.speculation.acceptance[0] < 0.95, "drafts must be kept and must be rejected"
    assert engine.steps < plain.steps


def test_logprobs_are_those_the_learner_computes(model: HybridLM) -> None:
    engine = speculating(model, 3)
    asked = [
        replace(request, temperature=(0.0, 0.7, 1.0, 1.3)[index % 4])
        for index, request in enumerate(requests(16, 1.0))
    ]
    for request, completion in zip(asked, answer(engine, asked), strict=True):
        ids = [*request.ids, *completion.ids[:-1]]
        assert completion.experts is not None and len(completion.experts) == len(ids)
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), replay=torch.from_numpy(completion.experts)[None])[0]
            logp, _ = linear_logprob(
                hidden[len(request.ids) - 1 :], model.lm_head.weight, torch.tensor(completion.ids),
                request.temperature or 1.0,
            )  # fmt: skip
        assert len(completion.logprobs) == len(completion.ids)
        assert (logp - torch.from_numpy(completion.logprobs)).abs().max() < 1e-4
    assert engine.generated_tokens == sum(len(each.ids) for each in answer(speculating(model, 3), asked))


def test_limits_end_a_completion_within_a_round(model: HybridLM) -> None:
    asked = [Request(f"r{i}", prompt(3, i), i, 1 + i % 11, 0.0) for i in range(22)]
    for request, completion in zip(asked, answer(speculating(model, 7, stops=()), asked), strict=True):
        assert len(completion.ids) == request.max_new_tokens and completion.finish == "length"
    full = Request("full", prompt(CONTEXT - 3, 0), 0, 50, 0.0)
    (mine,) = answer(speculating(model, 7, stops=()), [full])
    (plain,) = answer(NativeEngine(model, (), 2, CONTEXT), [full])
    assert mine.ids == plain.ids and len(mine.ids) == 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_turns_of_an_episode_go_on_as_if_never_parked(model: HybridLM, temperature: float) -> None:
    # Fewer slots than episodes: rows move, and turns end within a round.
    first = [Request(f"a{i}", prompt(5 + i, i), i, 40, temperature, f"s{i}") for i in range(5)]
    stops = tuple(range(6))
    with deterministic():
        engines = [speculating(model, 3, 3, stops), speculating(model, 3, 3, stops)]
        turns = [answer(engine, first) for engine in engines]
        going = [i for i, done in enumerate(turns[0]) if done.finish == "stop"]
        assert len(going) >= 3
        added = {i: prompt(4, 100 + i) for i in going}
        second = [Request(f"b{i}", added[i], 50 + i, 12, temperature, f"s{i}", continues=True) for i in going]
        whole = [
            Request(f"c{i}", [*first[i].ids, *turns[1][i].ids, *added[i]], 50 + i, 12, temperature)
            for i in going
        ]
        continued, anew = answer(engines[0], second), answer(engines[1], whole)
        for mine, theirs in zip(continued, anew, strict=True):
            assert mine.ids == theirs.ids and np.array_equal(mine.logprobs, theirs.logprobs)


def test_an_answer_does_not_depend_on_its_company(model: HybridLM) -> None:
    with deterministic():
        asked = requests(8, temperature=1.0)
        together = answer(speculating(model, 3), asked)
        for request, completion in zip(asked, together, strict=True):
            (alone,) = answer(speculating(model, 3), [request])
            assert alone.ids == completion.ids and np.array_equal(alone.logprobs, completion.logprobs)


def test_engines_that_cannot_speculate_say_so() -> None:
    with pytest.raises(EngineError, match=r"speculative_tokens.*num_nextn_predict_layers.*got 3"):
        NativeEngine(policy(num_nextn_predict_layers=0), (), speculative_tokens=3)
    with pytest.raises(EngineError, match=r"speculative_tokens.*got -1"):
        NativeEngine(policy(), (), speculative_tokens=-1)


def test_contexts_are_what_stands_before_completions(model: HybridLM) -> None:
    said = rollouts(model, [[5, 6, 7], [8, 9]], (), seed=0, new_tokens=4)
    assert [len(each.ids) for each in said] == [7, 6] and contexts(said) == [[5, 6, 7], [8, 9]]


WORDS, START, NEW = 6, [2, 5, 3, 4], 4


@torch.no_grad()
def exact_distribution(model: HybridLM, temperature: float) -> dict[tuple[int, ...], float]:
    """The probability of every possible completion of `NEW` tokens, by full forward passes."""
    every = list(itertools.product(range(WORDS), repeat=NEW))
    ids = torch.tensor([[*START, *words] for words in every])
    logits = model.logits(model(ids)[:, len(START) - 1 : -1].flatten(0, 1)).double()
    logp = (logits.view(len(every), NEW, WORDS) / temperature).log_softmax(-1)
    totals = logp.gather(2, ids[:, len(START) :, None]).sum((1, 2)).exp()
    assert float(totals.sum()) == pytest.approx(1, abs=1e-9)
    return dict(zip(every, totals.tolist(), strict=True))


def p_value(statistic: float, freedom: int) -> float:
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def against_exact(counts: Counter[tuple[int, ...]], exact: dict[tuple[int, ...], float]) -> float:
    """The p-value of Pearson's test; cells of fewer than 5 expected are one."""
    total, statistic, cells = sum(counts.values()), 0.0, 0
    rare = [0.0, 0.0]
    for words, share in exact.items():
        if total * share < 5:
            rare[0] += counts[words]
            rare[1] += total * share
        else:
            statistic += (counts[words] - total * share) ** 2 / (total * share)
            cells += 1
    if rare[1] >= 5:
        statistic += (rare[0] - rare[1]) ** 2 / rare[1]
        cells += 1
    return p_value(statistic, cells - 1)


def against_each_other(one: Counter[tuple[int, ...]], two: Counter[tuple[int, ...]]) -> float:
    """The p-value of the test of homogeneity of two samples of one size; rare cells are one."""
    assert sum(one.values()) == sum(two.values())
    pairs = [(one[words], two[words]) for words in one.keys() | two.keys()]
    common = [pair for pair in pairs if sum(pair) >= 10]
    rare = [sum(pair[side] for pair in pairs if sum(pair) < 10) for side in range(2)]
    if sum(rare) >= 10:
        common.append((rare[0], rare[1]))
    return p_value(sum((a - b) ** 2 / (a + b) for a, b in common), len(common) - 1)


def sampled(engine: NativeEngine, count: int, temperature: float, first: int) -> Counter[tuple[int, ...]]:
    asked = [Request(str(seed), START, first + seed, NEW, temperature) for seed in range(count)]
    return Counter(tuple(completion.ids) for completion in answer(engine, asked))


@pytest.mark.parametrize(
    "count,temperature,tokens",
    [
        (4_000, 1.0, 2),
        (4_000, 0.8, 3),
        pytest.param(100_000, 1.0, 3, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_the_distribution_is_the_policys(count: int, temperature: float, tokens: int) -> None:
    model = policy(vocab_size=WORDS, pattern="M*E")
    exact = exact_distribution(model, temperature)
    drafting = NativeEngine(model, (), 256, 16, speculative_tokens=tokens)
    mine = sampled(drafting, count, temperature, first=1)
    plain = sampled(NativeEngine(model, (), 256, 16), count, temperature, first=10**7)
    assert against_exact(mine, exact) > 1e-3
    assert against_exact(plain, exact) > 1e-3
    assert against_each_other(mine, plain) > 1e-3
    # Drafts are often wrong, so that a distribution bent towards them would show; and the tests can tell.
    assert drafting.speculation is not None and 0.2 < drafting.speculation.acceptance[0] < 0.9
    assert against_exact(mine, exact_distribution(model, temperature * 1.3)) < 1e-6
