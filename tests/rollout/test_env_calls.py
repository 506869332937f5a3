"""What calls environments: lanes for quick and blocking calls, written-off threads, cached openings."""

from __future__ import annotations

import threading
import time

import pytest

from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, ToolSpec
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.daemon_pool import DaemonPool
from rolloom.rollout.env_calls import EnvCalls
from rolloom.rollout.episode import MAX_OPENING_CHARS, MAX_REPLY_CHARS, checked_reply
from rolloom.rollout.prompts import ENTRIES, LONG_CHARS, PromptCache


def test_an_opening_may_be_long_and_a_reply_may_not() -> None:
    long = [Message(role="user", content="x" * (MAX_REPLY_CHARS + 1))]
    assert checked_reply(long, 0.0, False, False, {}, MAX_OPENING_CHARS).messages[0] == long[0]
    with pytest.raises(EnvError, match="expected at most 200000"):
        checked_reply(long, 0.0, False, False, {})


def test_a_long_opening_is_tokenised_once_for_all_siblings_beside_the_loop(
    policy_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PromptCache(ChatTokenizer.load(policy_path))
    plain, calls = cache.tokenizer.prompt_ids, []
    monkeypatch.setattr(cache.tokenizer, "prompt_ids", lambda *a: calls.append(1) or plain(*a))
    long = (Message(role="user", content="a b " * LONG_CHARS),)
    threads = [threading.Thread(target=cache.opening, args=(long, ())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert cache.opening(long, ()) == plain(long, ())
    assert cache.opening(long, (ToolSpec("f", "d", {}).to_openai(),)) != cache.opening(long, ())
    for number in range(ENTRIES + 10):
        cache.continuation((Message(role="user", content=str(number)),))
    assert len(cache._kept) == ENTRIES


def test_a_call_that_blocks_makes_way_for_quick_ones() -> None:
    calls, done = EnvCalls(8), []
    release = threading.Event()
    blocked = calls.call("slow", release.wait, lambda job, *answer: done.append("slow"))
    others = [calls.call("quick", lambda: 1, lambda job, *answer: done.append("quick")) for _ in range(5)]
    deadline = time.monotonic() + 5
    while not all(job.finished for job in others):
        assert time.monotonic() < deadline
        time.sleep(calls.patience or 0.001)
        calls.tend(waited=True)
    assert not blocked.finished
    assert done == ["quick"] * 5
    release.set()
    # From now on the slow ones have a thread of their own from the start.
    gate = threading.Barrier(5, timeout=5)
    slow = [calls.call("slow", gate.wait, lambda *answer: None) for _ in range(4)]
    gate.wait()
    while not all(job.finished for job in slow):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_are_made_as_blocking_calls_need_them_and_no_more_than_allowed() -> None:
    calls, release = EnvCalls(60), threading.Event()
    calls._seconds["slow"] = 1.0
    jobs = [calls.call("slow", release.wait, lambda *answer: None) for _ in range(100)]
    deadline = time.monotonic() + 10
    while sum(job.started is not None for job in jobs) < 60:
        assert time.monotonic() < deadline
        time.sleep(0.004)
        calls.tend(waited=True)
    time.sleep(0.05)
    calls.tend(waited=True)
    assert sum(job.started is not None for job in jobs) == 60
    assert calls.pool.threads == 61
    release.set()
    while not all(job.finished for job in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_pool_survives_any_number_of_abandoned_jobs() -> None:
    pool, release = DaemonPool(2), threading.Event()
    results: list[tuple[object, ...]] = []
    hanging = [pool.submit(release.wait, lambda *answer: results.append(answer)) for _ in range(2)]
    waiting = [pool.submit(lambda: "never", lambda *answer: results.append(answer)) for _ in range(3)]
    while any(job.started is None for job in hanging):
        time.sleep(0.001)
    for job in [*waiting, *hanging, *hanging]:
        pool.abandon(job)
    # Those that never began hold no thread, and none is replaced twice.
    assert pool.replaced == 2
    both_run = threading.Barrier(3, timeout=5)
    done = [pool.submit(both_run.wait, lambda *answer: results.append(answer)) for _ in range(2)]
    both_run.wait()
    while not all(job.finished for job in done):
        time.sleep(0.001)
    release.set()
    time.sleep(0.05)
    assert len(results) == 2
    assert all(error is None for _, _, error in results)
