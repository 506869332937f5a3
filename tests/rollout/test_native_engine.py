"""The engine against the full forward, against itself in other company, and against hostile requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, Request

VOCAB = 53
STOPS = tuple(range(5))
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 40, "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2,
    "n_routed_experts": 6, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24,
}  # fmt: skip
POLICIES: dict[str, dict[str, Any]] = {
    "hybrid": {"pattern": "M*EM*-ME"},
    "no-experts": {"pattern": "M*-"},
    "many-experts": {"pattern": "ME", "n_routed_experts": 300, "moe_intermediate_size": 4},
}


def policy(name: str = "hybrid", seed: int = 0) -> HybridLM:
    """A random policy whose distribution is far from uniform."""
    model = HybridLM(preset("tiny", **{**SIZES, **POLICIES[name]}), seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 5
    return model


def prompt(length: int, seed: int) -> list[int]:
    return np.random.default_rng([length, seed]).integers(5, VOCAB, length).tolist()


def requests(count: int, temperature: float = 1.0, longest: int = 40) -> list[Request]:
    """Requests of mixed prompts and limits."""
    rng = np.random.default_rng(count)
    return [
        Request(
            f"r{i}", prompt(int(rng.integers(1, longest)), i), i * 7919, int(rng.integers(1, 30)), temperature
        )
        for i in range(count)
    ]


def drain(engine: NativeEngine, limit: int = 3000) -> dict[str, Completion]:
    """Step until nothing is left; every answer comes once."""
    answers: dict[str, Completion] = {}
    for _ in range(limit):
        if not engine.busy:
            return answers
        for completion in engine.step():
            assert completion.id not in answers
            answers[completion.id] = completion
    raise AssertionError(f"the engine was still busy after {limit} steps")


def answer(engine: NativeEngine, *asked: Request) -> list[Completion]:
    engine.submit(asked)
    answers = drain(engine)
    return [answers[request.id] for request in asked]


@torch.no_grad()
def full_logits(model: HybridLM, ids: list[int], experts: np.ndarray | None = None) -> torch.Tensor:
    """Logits after each of the tokens, by the training pass."""
    replay = None if experts is None else torch.from_numpy(experts)[None]
    return model.lm_head(model(torch.tensor([ids]), replay=replay)[0])


@pytest.mark.parametrize("name", POLICIES)
def test_greedy_tokens_are_the_argmax(name: str) -> None:
    model = policy(name)
    engine = NativeEngine(model, STOPS, slots=4, context=96)
    asked = requests(10, temperature=0)
    for request, completion in zip(asked, answer(engine, *asked), strict=True):
        logits = full_logits(model, [*request.ids, *completion.ids[:-1]])[len(request.ids) - 1 :]
        assert completion.ids == logits.argmax(-1).tolist()


@pytest.mark.parametrize("name", POLICIES)
def test_logprobs_equal_the_learners(name: str) -> None:
    model = policy(name)
    engine = NativeEngine(model, STOPS, slots=5, context=96)
    asked = [
        replace(request, temperature=(0.0, 0.7, 1.0, 1.3)[index % 4])
        for index, request in enumerate(requests(16))
    ]
    for request, completion in zip(asked, answer(engine, *asked), strict=True):
        ids = [*request.ids, *completion.ids[:-1]]
        if model.config.moe_layers:
            assert completion.experts is not None
            shape = (len(ids), model.config.moe_layers, model.config.num_experts_per_tok)
            assert completion.experts.shape == shape
        else:
            assert completion.experts is None
        replay = None if completion.experts is None else torch.from_numpy(completion.experts)[None]
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), replay=replay)[0, len(request.ids) - 1 :]
        targets = torch.tensor(completion.ids)
        logp, _ = linear_logprob(hidden, model.lm_head.weight, targets, request.temperature or 1.0)
        assert completion.logprobs.dtype == np.float32 and len(completion.logprobs) == len(completion.ids)
        assert (logp.detach() - torch.from_numpy(completion.logprobs)).abs().max() <= 1e-4


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_first_tokens_follow_the_softmax(temperature: float) -> None:
    model = policy()
    engine = NativeEngine(model, STOPS, slots=256, context=32)
    ids, draws = prompt(9, 0), 2048
    asked = [Request(str(i), ids, i, 1, temperature) for i in range(draws)]
    counts = np.bincount([completion.ids[0] for completion in answer(engine, *asked)], minlength=VOCAB)
    p = (full_logits(model, ids)[-1].double() / temperature).softmax(-1).numpy()
    common = p * draws >= 5
    assert common.sum() >= 8
    cells, expected = counts[common], p[common] * draws
    assert abs(counts[~common].sum() - p[~common].sum() * draws) < 20
    freedom = len(cells)
    assert ((cells - expected) ** 2 / expected).sum() < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("slots", [2, 7, 40])
def test_the_company_changes_nothing(slots: int) -> None:
    model = policy()
    asked = requests(24)
    together = answer(NativeEngine(model, STOPS, slots=slots, context=96), *asked)
    reordered = answer(NativeEngine(model, STOPS, slots=slots, context=96), *asked[::-1])[::-1]
    for request, first, second in zip(asked, together, reordered, strict=True):
        (alone,) = answer(NativeEngine(model, STOPS, slots=1, context=96), request)
        for completion in (first, second):
            assert (completion.ids, completion.finish) == (alone.ids, alone.finish)
            np.testing.assert_allclose(completion.logprobs, alone.logprobs, atol=1e-4)


def test_requests_join_and_leave_and_are_answered_once() -> None:
    engine = NativeEngine(policy(), STOPS, slots=4, context=96)
    asked = requests(30)
    answers: dict[str, Completion] = {}
    left = list(asked)
    for step in range(2000):
        if step % 3 == 0 and left:
            engine.submit([left.pop(0), *([left.pop(0)] if left and step % 2 else [])])
        for completion in engine.step():
            assert completion.id not in answers
            answers[completion.id] = completion
        if not left and not engine.busy:
            break
    assert answers.keys() == {request.id for request in asked}
    assert {completion.finish for completion in answers.values()} == {"stop", "length"}
    for request in asked:
        completion = answers[request.id]
        stopped = completion.ids[-1] in STOPS
        assert not set(completion.ids[:-1]) & set(STOPS)
        assert completion.finish == ("stop" if stopped else "length")
        assert len(completion.ids) == request.max_new_tokens or stopped
        assert len(completion.ids) <= request.max_new_tokens
    assert engine.generated_tokens == sum(len(completion.ids) for completion in answers.values())


def test_twins_are_prefilled_once_and_sample_apart() -> None:
    model, ids = policy(), prompt(30, 1)
    engine = NativeEngine(model, STOPS, slots=8, context=96)
    asked = [Request(f"t{i}", ids, i, 12) for i in range(6)]
    other = Request("other", prompt(11, 2), 0, 12)
    together = answer(engine, *asked[:3], other, *asked[3:])
    assert engine.prefilled_tokens == len(ids) + len(other.ids)
    assert len({tuple(completion.ids) for completion in together}) > 3
    for request, completion in zip([*asked[:3], other, *asked[3:]], together, strict=True):
        (alone,) = answer(NativeEngine(model, STOPS, slots=1, context=96), request)
        assert completion.ids == alone.ids
        assert completion.experts is not None and alone.experts is not None
        np.testing.assert_array_equal(np.sort(completion.experts), np.sort(alone.experts))


OFTEN = tuple(range(0, VOCAB, 2))
"""So many stop tokens that a completion soon ends by one."""


def until_stop(engine: NativeEngine, ids: list[int], session: str) -> Completion:
    (completion,) = answer(engine, Request("opening", ids, 1, 60, session=session))
    assert completion.finish == "stop"
    return completion


@pytest.mark.parametrize("name", POLICIES)
def test_a_continued_session_equals_one_request_over_the_whole_context(name: str) -> None:
    model = policy(name)
    engine = NativeEngine(model, OFTEN, slots=3, context=256)
    opening, crowd = prompt(17, 3), requests(4)
    first = until_stop(engine, opening, "a")
    context = [*opening, *first.ids]
    for turn, length in enumerate((1, 9, 33)):
        delta, fed = prompt(length, 100 + turn), engine.prefilled_tokens
        request = Request(f"turn{turn}", delta, turn, 60, session="a", continues=True)
        continued = answer(engine, request, *crowd)[0]
        whole = Request("whole", [*context, *delta], turn, 60)
        (expected,) = answer(NativeEngine(model, OFTEN, slots=1, context=256), whole)
        assert (continued.ids, continued.finish) == (expected.ids, "stop")
        np.testing.assert_allclose(continued.logprobs, expected.logprobs, atol=1e-4)
        if expected.experts is not None:
            assert continued.experts is not None
            # The last token of a turn is fed by the turn after it.
            tail = expected.experts[len(context) - 1 :]
            np.testing.assert_array_equal(np.sort(continued.experts), np.sort(tail))
        assert engine.prefilled_tokens - fed == length + 1 + sum(len(other.ids) for other in crowd)
        context += [*delta, *continued.ids]


def test_a_session_is_held_only_between_its_turns() -> None:
    engine = NativeEngine(policy(), OFTEN, slots=3, context=96)
    until_stop(engine, prompt(8, 1), "s")
    go_on = Request("on", prompt(3, 2), 0, 1, session="s", continues=True)
    assert answer(engine, go_on)[0].finish in ("stop", "length")
    engine.release(["s", "never-seen"])
    (refused,) = answer(engine, replace(go_on, id="late"))
    assert refused.finish == "error" and "session s " in refused.error


def test_one_session_cannot_be_continued_twice_at_once() -> None:
    engine = NativeEngine(policy(), OFTEN, slots=4, context=96)
    until_stop(engine, prompt(8, 1), "s")
    twice = [Request(f"x{i}", prompt(3, 2), i, 5, session="s", continues=True) for i in range(2)]
    first, second = answer(engine, *twice)
    assert first.finish in ("stop", "length") and first.ids
    assert second.finish == "error" and not second.ids


def endless(context: int, slots: int = 4) -> NativeEngine:
    return NativeEngine(policy(), (), slots=slots, context=context)


@pytest.mark.parametrize(
    "length,limit,sampled", [(10, 5, 5), (10, 100, 22), (31, 100, 1), (1, 1, 1), (30, 2, 2)]
)
def test_limit_and_full_context_end_by_length(length: int, limit: int, sampled: int) -> None:
    engine = endless(context=32)
    company = Request("company", prompt(4, 9), 5, 60)
    completion, other = answer(engine, Request("r", prompt(length, 1), 3, limit), company)
    assert (len(completion.ids), completion.finish, completion.error) == (sampled, "length", "")
    assert (len(other.ids), other.finish) == (28, "length")


@pytest.mark.parametrize("length", [32, 33, 500])
def test_a_prompt_that_fills_the_context_is_answered_by_length(length: int) -> None:
    good = Request("good", prompt(5, 2), 1, 4)
    refused, fine = answer(endless(context=32), Request("big", prompt(length, 1), 3, 9), good)
    assert (refused.ids, refused.finish) == ([], "length")
    assert len(refused.logprobs) == 0 and str(length) in refused.error and "32" in refused.error
    assert len(fine.ids) == 4


@pytest.mark.parametrize("request_,named", [
    (Request("bad", [], 0, 4), "empty prompt"),
    (Request("bad", [7, 8], 0, 4, session="ghost", continues=True), "ghost"),
    (Request("bad", [7, 8], 0, 4, session=None, continues=True), "None"),
])  # fmt: skip
@pytest.mark.parametrize("slots", [1, 4])
def test_bad_requests_are_answered_and_stop_nobody(request_: Request, named: str, slots: int) -> None:
    engine = endless(context=64, slots=slots)
    good = [Request(f"g{i}", prompt(6, i), i, 5) for i in range(3)]
    first, bad, *rest = answer(engine, good[0], request_, *good[1:])
    assert (bad.ids, bad.finish, bad.experts) == ([], "error", None) and named in bad.error
    assert [len(completion.ids) for completion in (first, *rest)] == [5, 5, 5]


def test_a_continuation_that_overflows_ends_by_length() -> None:
    engine = NativeEngine(policy(), OFTEN, slots=2, context=64)
    until_stop(engine, prompt(8, 1), "s")
    (completion,) = answer(engine, Request("r", prompt(63, 2), 0, 5, session="s", continues=True))
    assert (completion.ids, completion.finish) == ([], "length")


def state(model: HybridLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def in_flight(engine: NativeEngine, asked: Iterable[Request]) -> None:
    engine.submit(asked)
    for _ in range(3):
        assert not engine.step()


def test_new_weights_drop_what_is_in_flight_and_stamp_their_version() -> None:
    old, new = policy(seed=0), policy(seed=1)
    engine = NativeEngine(old, OFTEN, slots=2, context=96)
    before = until_stop(engine, prompt(8, 1), "s")
    assert before.policy_version == 0
    engine.stop_ids = frozenset()
    in_flight(engine, [Request(f"r{i}", prompt(5, i), i, 30) for i in range(4)])
    engine.load_weights(state(new), 7)
    assert not engine.busy and engine.step() == []
    engine.stop_ids = frozenset(STOPS)
    go_on = Request("on", [9], 0, 3, session="s", continues=True)
    asked = requests(8)
    *after, forgotten = answer(engine, *asked, go_on)
    assert forgotten.finish == "error"
    expected = answer(NativeEngine(policy(seed=1), STOPS, slots=2, context=96), *asked)
    assert [c.ids for c in after] == [c.ids for c in expected]
    assert {c.policy_version for c in (*after, forgotten)} == {7}
    stale = answer(NativeEngine(policy(seed=0), STOPS, slots=2, context=96), *asked)
    assert [c.ids for c in after] != [c.ids for c in stale]


def test_abort_answers_everything_in_flight_once() -> None:
    engine = endless(context=64, slots=2)
    asked = [Request(f"r{i}", prompt(5, i), i, 30) for i in range(5)]
    in_flight(engine, asked)
    aborted = engine.abort_all()
    assert sorted(c.id for c in aborted) == [r.id for r in asked]
    assert {(c.finish, len(c.ids)) for c in aborted} == {("abort", 0)}
    assert not engine.busy and engine.abort_all() == []
    assert [len(c.ids) for c in answer(engine, *asked)] == [30] * 5
