"""A real engine behind its queues: who gets which answer, and which weights it samples with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_runs import collect

from rolloom.policy.checkpoint import load_policy
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.engine_host import EngineHost
from rolloom.rollout.types import EngineError, Request
from rolloom.rollout.weights import to_arrays, to_tensors, weights_checksum


@pytest.fixture(params=[True, False], ids=["threaded", "inline"])
def host(policy_path: str, request: pytest.FixtureRequest) -> Iterator[EngineHost]:
    made = EngineHost(policy_path, 8, 256, "cpu", "float32", 1, threaded=request.param)
    yield made
    made.stop()


def requests(path: str, prefix: str, count: int, **changes: object) -> list[Request]:
    prompt = ChatTokenizer.load(path).prompt_ids([{"role": "user", "content": prefix}])
    defaults = {"max_new_tokens": 20, **changes}
    return [Request(f"{prefix}.{n}/0", prompt, seed=n, **defaults) for n in range(count)]  # type: ignore[arg-type]


def test_every_owner_gets_its_own_answers(host: EngineHost, policy_path: str) -> None:
    ours, theirs = requests(policy_path, "a", 13), requests(policy_path, "b", 11)
    host.submit("a", ours[:7], [])
    host.submit("b", theirs, [])
    host.submit("a", ours[7:], [])
    assert set(collect(host, "a", 13)) == {request.id for request in ours}
    assert set(collect(host, "b", 11)) == {request.id for request in theirs}
    assert host.collect("a", 0.05) == host.collect("b", 0.05) == host.collect("nobody", 0.05) == []
    assert host.status()["in_flight"] == 0


def test_an_answer_does_not_depend_on_its_company(host: EngineHost, policy_path: str) -> None:
    alone = requests(policy_path, "a", 3)
    host.submit("a", alone, [])
    first = collect(host, "a", 3)
    host.submit("crowd", requests(policy_path, "crowd", 9, temperature=0.7), [])
    host.submit("a", alone, [])
    second = collect(host, "a", 3)
    assert {id: c.ids for id, c in first.items()} == {id: c.ids for id, c in second.items()}
    for id in first:
        np.testing.assert_allclose(first[id].logprobs, second[id].logprobs, atol=1e-5)


def test_new_weights_are_verified_and_stamp_what_they_sample(host: EngineHost, policy_path: str) -> None:
    batch = requests(policy_path, "a", 2)
    host.submit("a", batch, [])
    old = collect(host, "a", 2)
    assert {c.policy_version for c in old.values()} == {0}
    state = to_arrays(load_policy(policy_path).state_dict())
    state["lm_head.weight"] = np.random.default_rng(0).normal(size=state["lm_head.weight"].shape).astype("f4")
    checksum = weights_checksum(state)
    assert host.load_weights(state, 7, checksum) == checksum
    host.submit("a", batch, [])
    new = collect(host, "a", 2)
    assert {c.policy_version for c in new.values()} == {7}
    assert host.status()["policy_version"] == 7
    assert {id: c.ids for id, c in old.items()} != {id: c.ids for id, c in new.items()}


@pytest.mark.parametrize("tamper", ["value", "name"])
def test_weights_that_changed_on_the_way_are_refused(host: EngineHost, policy_path: str, tamper: str) -> None:
    state = to_arrays(load_policy(policy_path).state_dict())
    checksum = weights_checksum(state)
    if tamper == "value":
        bits = state["lm_head.weight"].view(np.uint32)
        bits[3, 5] ^= 1
    else:
        a, b = "model.layers.0.norm.weight", "model.layers.1.norm.weight"
        state[a] = state[a] * 2
        state[a], state[b] = state[b], state[a]
        checksum = weights_checksum({**state, a: state[b], b: state[a]})
    with pytest.raises(EngineError, match="weights version 3: expected checksum"):
        host.load_weights(state, 3, checksum)


def test_what_is_in_flight_when_weights_change_is_answered_not_lost(
    host: EngineHost, policy_path: str
) -> None:
    waiting = requests(policy_path, "a", 30, max_new_tokens=200)
    state = to_arrays(load_policy(policy_path).state_dict())
    checksum = weights_checksum(state)
    host.submit("a", waiting, [])
    host.load_weights(state, 1, checksum)
    answers = collect(host, "a", 30)
    assert "abort" in {c.finish for c in answers.values()}
    host.submit("b", requests(policy_path, "b", 2), [])
    assert {c.policy_version for c in collect(host, "b", 2).values()} == {1}


def test_a_session_continues_where_its_turn_ended(host: EngineHost, policy_path: str) -> None:
    tokenizer = ChatTokenizer.load(policy_path)
    (opening,) = requests(policy_path, "a", 1, session="s")
    host.submit("a", [opening], [])
    (first,) = collect(host, "a", 1).values()
    assert first.finish == "stop"
    more = tokenizer.continuation_ids([{"role": "user", "content": "again"}])
    host.submit("a", [Request("a.0/1", more, 5, 20, 1.0, "s", continues=True)], [])
    (second,) = collect(host, "a", 1).values()
    whole = Request("a.0/2", [*opening.ids, *first.ids, *more], 5, 20)
    host.submit("a", [whole], ["s"])
    (again,) = collect(host, "a", 1).values()
    assert second.ids == again.ids
    np.testing.assert_allclose(second.logprobs, again.logprobs, atol=1e-5)


def test_a_session_that_is_not_there_is_an_error_not_a_guess(host: EngineHost) -> None:
    host.submit("a", [Request("a.0/1", [5, 6], 1, 8, 1.0, "lost", continues=True)], [])
    (answer,) = collect(host, "a", 1).values()
    assert answer.finish == "error"
    assert "session lost is not held by this engine" in answer.error


def test_a_dead_loop_says_so_to_everyone(host: EngineHost) -> None:
    host.submit("a", [Request("a.0/0", [10**9], 1, 8)], [])
    for _ in range(2):
        with pytest.raises(EngineError, match="the engine's loop stopped"):
            host.collect("a", 10)
    for call in (lambda: host.submit("a", [], []), host.status):
        with pytest.raises(EngineError, match="IndexError"):
            call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_weights_survive_the_way_to_numpy_and_back(dtype: torch.dtype) -> None:
    values = torch.randn(7, 5).mul(100).to(dtype)
    state = {"a": values, "b": values.t(), "scalar": values[0, 0]}
    arrays = to_arrays(state)
    for array in arrays.values():
        array.setflags(write=False)
    back = to_tensors(arrays)
    for name, value in state.items():
        assert back[name].dtype is dtype
        assert torch.equal(back[name], value)
    before = weights_checksum(arrays)
    back["a"].zero_()
    assert weights_checksum(arrays) == before
    assert weights_checksum(dict(reversed(arrays.items()))) == before
    assert weights_checksum({**arrays, "a": arrays["a"].reshape(5, 7)}) != before
