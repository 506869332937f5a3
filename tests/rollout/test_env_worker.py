"""Environments that fail in every way, run by a real worker against a real engine: each failure is data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fault_envs import CHAT, FAULT, PARITY, WAITING, Chat, Waiting
from small_runs import Bench

from rolloom.configs.schema import RewardConfig, TrainerConfig
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, StopReason, Task, ToolSpec
from rolloom.rollout.episode import MAX_REPLY_CHARS, checked_reply
from rolloom.rollout.grpo import shape_batch

MakeBench = Callable[..., Bench]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", "ValueError: the environment is broken"),
        ("raises_in_reset", "ValueError: the environment is broken"),
        ("exits", "SystemExit: 3"),
        ("exits_in_reset", "SystemExit: 3"),
        ("unpicklable", "_Unpicklable: holds a function"),
        ("unspeakable", "_Unspeakable: (its message cannot be shown)"),
        ("nan", "an episode's reward must lie in [0, 1], got nan"),
        ("above_one", "an episode's reward must lie in [0, 1], got 2.0"),
        ("huge", "expected at most 200000 characters in a reply, got 1000000000"),
        ("lying_length", "expected at most 200000 characters in a reply, got 1000000"),
        ("no_messages", "expected a tuple of messages, got str"),
        ("foreign_role", "expected a message's role to be one of system, user, assistant, tool"),
        ("many_components", "expected at most 64 finite numbers, got 1000"),
    ],
)
def test_a_failing_environment_is_an_env_error_and_the_worker_goes_on(
    bench: MakeBench, how: str, words: str
) -> None:
    # A gigabyte is made once; everything else fails twice, for both siblings.
    count = 1 if how == "huge" else 2
    made = bench({FAULT: {"how": how}}, max_attempts=count, env_threads=count)
    failed = made.run(FAULT, samples=count)
    assert [t.stop for t in failed] == [StopReason.ENV_ERROR] * count
    assert [t.score for t in failed] == [None] * count
    assert all(words in t.error for t in failed), failed[0].error
    assert {t.assignment.attempt for t in failed} == {count - 1}
    assert all(len(t.error) < 2100 for t in failed)
    fine = made.run(PARITY, samples=2, batch="next")
    assert all(t.score in (0.0, 1.0) for t in fine)
    assert made.worker.status()["episodes"] == 0


def test_a_hanging_environment_is_timed_out_and_its_thread_replaced(bench: MakeBench) -> None:
    made = bench(
        {FAULT: {"how": "hangs"}}, max_attempts=1, env_threads=2, step_deadline_s=0.4, episode_deadline_s=20.0
    )
    # More hanging episodes than threads: without replacements the last ones could not even begin.
    trajectories = made.run(FAULT, FAULT, FAULT, PARITY, samples=2)
    assert [t.stop for t in trajectories[:6]] == [StopReason.ENV_TIMEOUT] * 6
    assert all("step_deadline_s=0.4" in t.error for t in trajectories[:6])
    assert all(t.score is not None for t in trajectories[6:])
    assert made.worker.status()["threads_written_off"] == 6


def test_an_episode_that_ends_while_its_environment_hangs_costs_no_thread(bench: MakeBench) -> None:
    # The episode's deadline strikes first; the step that still hangs must be written off all the same.
    made = bench(
        {FAULT: {"how": "hangs"}}, max_attempts=1, env_threads=1, step_deadline_s=60.0, episode_deadline_s=0.6
    )
    timed_out = made.run(FAULT, samples=1)
    assert [t.stop for t in timed_out] == [StopReason.ENV_TIMEOUT]
    assert "episode_deadline_s=0.6: environment test/fault-v0" in timed_out[0].error
    assert made.run(PARITY, samples=1, batch="next")[0].score is not None


def test_fast_episodes_overtake_a_slow_environment_whose_steps_overlap(bench: MakeBench) -> None:
    made = bench({CHAT: {"seconds": 0.5}}, env_threads=8, max_new_tokens=200)
    Chat.most = 0
    tasks = [
        Task(CHAT, "train", 1, 1),
        Task(PARITY, "train", 1, 2),
        Task("math/affine_chain-v0", "train", 1, 3),
    ]
    batch = made.scheduler.assignments(tasks, 6, "mixed", 1.0)
    made.worker.submit("driver", batch)
    order: list[str] = []
    while len(order) < len(batch):
        order += [trajectory.assignment.task.env_id for trajectory in made.worker.collect("driver", 1.0)]
    assert order[-6:] == [CHAT] * 6
    assert Chat.most > 1


def test_a_passing_failure_is_retried_with_another_seed(bench: MakeBench, tmp_path: Path) -> None:
    counter = tmp_path / "failures"
    made = bench(
        {FAULT: {"how": "raises", "times": 2, "counter": str(counter)}}, max_attempts=3, env_threads=1
    )
    (trajectory,) = made.run(FAULT, samples=1)
    first = made.scheduler.assignments([trajectory.assignment.task], 1, "test", 1.0)[0]
    assert trajectory.score is not None
    assert trajectory.assignment.attempt == 2
    assert trajectory.assignment.seed != first.seed
    assert counter.read_text().count("failed") == 2


def test_failures_enter_no_baseline_and_no_training(bench: MakeBench, tmp_path: Path) -> None:
    # One thread and one counted failure: exactly one sibling fails, for good.
    counter = tmp_path / "failures"
    made = bench(
        {FAULT: {"how": "raises", "times": 1, "counter": str(counter)}}, max_attempts=1, env_threads=1
    )
    trajectories = made.run(FAULT, samples=6)
    failed = [t.failed for t in trajectories]
    assert failed.count(True) == 1
    reward, trainer = RewardConfig(efficiency="none"), TrainerConfig()
    shaped = shape_batch(trajectories, reward, trainer)
    alone = shape_batch([t for t in trajectories if not t.failed], reward, trainer)
    at = failed.index(True)
    assert np.isnan(shaped.rewards[at])
    assert shaped.advantages[at] == 0
    assert [a for a, bad in zip(shaped.advantages, failed, strict=True) if not bad] == alone.advantages
    assert len(shaped.sequences) == len(alone.sequences) == 5


def test_trajectories_hold_the_tokens_as_sampled(bench: MakeBench) -> None:
    made = bench()
    for trajectory in made.run(CHAT, PARITY, samples=4):
        ids, mask = trajectory.ids, trajectory.mask
        assert trajectory.completion_tokens == mask.sum() == np.count_nonzero(trajectory.logprobs)
        assert not mask[0]
        assert trajectory.experts is not None
        assert trajectory.experts.shape[0] == len(ids)
        # What lies between two completions is what the environment said, in the template's words.
        tokenizer = made.worker.tokenizer
        opening = tokenizer.prompt_ids(trajectory.messages[:1])
        assert ids[: len(opening)].tolist() == opening
        said = [tokenizer.decode(part.tolist()) for part in np.split(ids, np.flatnonzero(np.diff(mask)) + 1)]
        assert len(said) == 2 * trajectory.turns
        assert all("again" in text for text in said[2::2])


def test_the_deadline_of_a_finished_step_that_waits_to_be_read_does_not_strike(bench: MakeBench) -> None:
    # In one process a fast environment's answer waits while another hangs, longer than its own deadline.
    made = bench({FAULT: {"how": "hangs_in_reset"}}, threaded=False, step_deadline_s=0.4, max_attempts=1)
    trajectories = made.run(PARITY, FAULT)
    assert all(t.score is not None for t in trajectories[:2])
    assert [t.stop for t in trajectories[2:]] == [StopReason.ENV_TIMEOUT] * 2


def test_in_one_process_the_order_of_answers_does_not_reach_the_batch(bench: MakeBench) -> None:
    def tokens(jitter: float) -> list[tuple[list[int], list[float]]]:
        made = bench({CHAT: {"jitter": jitter}}, threaded=False, episodes_per_worker=7, slots=5)
        return [(t.ids.tolist(), t.logprobs.tolist()) for t in made.run(CHAT, PARITY, CHAT, samples=5)]

    assert tokens(0.05) == tokens(0.05) == tokens(0.0)


def test_a_worker_says_what_its_episodes_wait_for(bench: MakeBench) -> None:
    made = bench({CHAT: {"seconds": 1.0}}, env_threads=1)
    made.worker.submit("driver", made.scheduler.assignments([Task(CHAT, "train", 1, 1)], 3, "wait", 1.0))
    deadline = time.monotonic() + 10
    while "environment test/chat-v0" not in made.worker.status()["waits_on"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.worker.status()["episodes"] == 3
    made.worker.reset()
    while made.worker.status()["episodes"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.worker.collect("driver", 1.5) == []


def test_a_dead_worker_loop_is_an_error_for_whoever_waits(bench: MakeBench) -> None:
    made = bench()
    # The one thing the loop cannot survive is a broken assignment; a hostile environment never makes one.
    made.worker.submit("driver", [None])  # type: ignore[list-item]
    with pytest.raises(Exception, match="environment worker env-worker-0 stopped"):
        made.worker.collect("driver", 10)
    with pytest.raises(Exception, match="environment worker env-worker-0 stopped"):
        made.worker.submit("driver", [])


class Odd(str):
    """Says it equals everything."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True


def test_replies_come_out_as_exact_types() -> None:
    message = {"role": Odd("user"), "content": Odd("hello"), "name": Odd("n"), "held": lambda: None}
    info = {
        "tools": (ToolSpec("f", "d", {"type": "object"}),),
        "key": 7,
        "components": {Odd("a"): np.float32(1)},
    }
    reply = checked_reply([message], np.float64(0.5), np.bool_(True), 0, info)
    (plain,) = reply.messages
    assert plain == {"role": "user", "content": "hello", "name": "n"}
    assert {type(value) for value in plain.values()} == {str}
    assert reply.tools[0]["function"]["name"] == "f"
    assert (reply.key, reply.components, reply.terminated, reply.truncated) == ("7", {"a": 1.0}, True, False)
    assert type(reply.reward) is float


@pytest.mark.parametrize(
    ("messages", "reward", "info", "expected"),
    [
        ("text", 0.0, {}, "expected a tuple of messages, got str"),
        ([{"role": "user"}], 0.0, {}, "string 'content'"),
        ([{"role": Odd("root"), "content": ""}], 0.0, {}, "got 'root'"),
        ([{"role": 3, "content": ""}], 0.0, {}, "role to be one of"),
        (
            [Message(role="user", content="x" * (MAX_REPLY_CHARS // 2 + 1))] * 2,
            0.0,
            {},
            "expected at most 200000",
        ),
        ([], float("inf"), {}, "finite reward, got inf"),
        ([], 0.0, {"tools": [{"f": {1, 2}}]}, r"info\['tools'\]: expected JSON types"),
        ([], 0.0, {"tools": [{"f": "x" * MAX_REPLY_CHARS}]}, "expected at most 200000"),
        ([], 0.0, {"components": {"a": float("nan")}}, r"info\['components'\]: expected at most 64 finite"),
    ],
)
def test_replies_of_another_shape_are_refused(
    messages: object, reward: float, info: dict, expected: str
) -> None:
    with pytest.raises(EnvError, match=expected):
        checked_reply(messages, reward, False, False, info)


def test_awaited_steps_overlap_without_threads(bench: MakeBench) -> None:
    made = bench({WAITING: {"seconds": 0.3}}, env_threads=1, slots=64, max_new_tokens=4)
    Waiting.most = 0
    trajectories = made.run(WAITING, samples=40)
    assert Waiting.most > 4
    assert not any(t.failed for t in trajectories)
    assert made.worker.status()["threads"] == 1


def test_an_awaited_step_that_overstays_is_cancelled_and_closed(bench: MakeBench, tmp_path: Path) -> None:
    closed = Waiting.closed
    counter = tmp_path / "failures"
    kwargs = {"how": "sleeps", "times": 2, "counter": str(counter)}
    made = bench({WAITING: kwargs}, step_deadline_s=0.3, max_attempts=1, max_new_tokens=200)
    trajectories = made.run(WAITING, WAITING, samples=2)
    assert [t.stop for t in trajectories].count(StopReason.ENV_TIMEOUT) == 2
    assert all("step_deadline_s=0.3" in t.error for t in trajectories if t.failed)
    assert made.worker.status()["loops_written_off"] == 0
    deadline = time.monotonic() + 5
    while Waiting.closed < closed + 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_step_that_blocks_the_loop_costs_the_loop_and_the_others_are_retried(
    bench: MakeBench, tmp_path: Path
) -> None:
    counter = tmp_path / "failures"
    kwargs = {"how": "blocks", "times": 1, "counter": str(counter), "seconds": 0.2}
    made = bench({WAITING: kwargs}, step_deadline_s=0.5, max_attempts=3, max_new_tokens=200)
    trajectories = made.run(WAITING, PARITY, samples=4)
    assert all(t.score is not None for t in trajectories)
    assert made.worker.status()["loops_written_off"] == 1
    attempts = [t.assignment.attempt for t in trajectories if t.assignment.task.env_id == WAITING]
    assert max(attempts) >= 1
    # Without another attempt the culprit is a timeout, and what it took along an error that names it.
    counter.unlink()
    made = bench({WAITING: kwargs}, step_deadline_s=0.5, max_attempts=1, max_new_tokens=200)
    stops = [(t.stop, t.error) for t in made.run(WAITING, samples=4) if t.failed]
    assert [stop for stop, _ in stops].count(StopReason.ENV_TIMEOUT) == 1
    assert all("blocked by test/waiting-v0" in e for stop, e in stops if stop is StopReason.ENV_ERROR)


def test_an_exit_on_the_loop_is_an_error_like_any_other(bench: MakeBench) -> None:
    made = bench({WAITING: {"how": "exits"}}, max_attempts=1, max_new_tokens=200)
    assert {t.error for t in made.run(WAITING, samples=2) if t.failed} == {"SystemExit: 3"}
    assert made.worker.status()["loops_written_off"] == 0


@pytest.mark.parametrize("threaded", [True, False])
def test_in_one_process_awaited_steps_give_the_same_tokens(bench: MakeBench, threaded: bool) -> None:
    first, second = (
        [(t.ids.tolist(), t.score) for t in bench(threaded=threaded).run(WAITING, CHAT, samples=3)]
        for _ in range(2)
    )
    if not threaded:
        assert first == second
    assert len(first) == 6


def test_the_deadline_of_an_environment_goes_before_the_one_of_the_run(bench: MakeBench) -> None:
    made = bench(
        {FAULT: {"how": "hangs"}, WAITING: {"how": "sleeps", "step_s": 0.3}}, max_attempts=1,
        step_deadline_s=60.0, max_new_tokens=200,
    )  # fmt: skip
    made.worker.deadlines = {FAULT: (0.4, 0.0)}
    trajectories = made.run(FAULT, WAITING, samples=1)
    assert [t.stop for t in trajectories] == [StopReason.ENV_TIMEOUT] * 2
    assert "step_deadline_s=0.4" in trajectories[0].error
    assert "step_deadline_s=0.3" in trajectories[1].error
    # What the run says of an environment goes before what the environment says.
    made.worker.deadlines = {WAITING: (0.2, 5.0)}
    assert "step_deadline_s=0.2" in made.run(WAITING, samples=1, batch="next")[0].error


def test_a_trajectory_has_the_reward_of_every_turn_and_the_seconds_in_the_environment(
    bench: MakeBench,
) -> None:
    made = bench({CHAT: {"seconds": 0.05}})
    trajectories = made.run(CHAT, samples=6)
    assert any(t.turns == 3 for t in trajectories)
    for t in trajectories:
        assert len(t.turn_rewards) == t.turns
        assert sum(t.turn_rewards) == pytest.approx(t.score)
        answered = t.turns - (t.stop is StopReason.MAX_TOKENS)
        assert 0.05 * answered <= t.env_s <= t.seconds
        row = t.to_row(1)
        assert (row["turn_rewards"], row["env_s"]) == (t.turn_rewards, round(t.env_s, 4))


def test_another_thread_takes_over_the_loop_from_a_call_that_blocks_it(bench: MakeBench) -> None:
    made = bench({CHAT: {"seconds": 0.4}}, max_new_tokens=200)
    first = made.worker._thread
    chat, parity = (
        made.scheduler.assignments([Task(env_id, "train", 1, 1)], 1, env_id[5:9], 1.0)
        for env_id in (CHAT, PARITY)
    )
    made.worker.submit("driver", [*chat, *parity])
    order: list[str] = []
    while len(order) < 2:
        order += [t.assignment.task.env_id for t in made.worker.collect("driver", 5.0)]
    assert order == [PARITY, CHAT]
    assert made.worker._thread is not first
    assert first is not None
    # The thread that was held up has left the loop.
    first.join(5)
    assert not first.is_alive()
    assert not any(t.failed for t in made.run(CHAT, samples=4, batch="again"))
    assert made.worker.status()["threads_written_off"] == 0
