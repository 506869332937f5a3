"""The scheduler over hand-made workers: the transport is scripted, every decision is the scheduler's own."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from fault_envs import CHAT, FAULT
from small_runs import Bench

from rolloom.configs.schema import RolloutConfig
from rolloom.envs.types import StopReason, Task
from rolloom.rollout.scheduler import Interrupted, Scheduler
from rolloom.rollout.types import Assignment, EngineError, StallError, Trajectory, derive_seed

Answer = Callable[[list[Assignment]], list[Trajectory]]


def trajectory(assignment: Assignment, stop: StopReason = StopReason.DONE, score: float = 1.0) -> Trajectory:
    empty = np.zeros(0)
    return Trajectory(
        assignment, stop, None if stop.is_failure else score, empty, empty, empty, None, 0, 0, 1, []
    )


class Scripted:
    """A handle whose `collect` answers what `answer` makes of everything submitted since."""

    def __init__(self, name: str, answer: Answer, status: Any = "idle") -> None:
        self.name, self.answer, self.state = name, answer, status
        self.seen: list[Assignment] = []
        self.inbox: list[Assignment] = []
        self.resets = 0

    def call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(getattr(self, f"_{method}")(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _submit(self, owner: str, assignments: list[Assignment]) -> None:
        self.seen += assignments
        self.inbox += assignments

    def _collect(self, owner: str, timeout: float) -> list[Trajectory]:
        new, self.inbox = self.inbox, []
        if not new:
            time.sleep(0.01)
        return self.answer(new)

    def _status(self) -> Any:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def _reset(self) -> None:
        self.resets += 1


def tasks(count: int) -> list[Task]:
    return [Task("math/affine_chain-v0", "train", 1, seed) for seed in range(count)]


def scheduler(workers: Sequence[Any], engines: Sequence[Any] = (), **limits: Any) -> Scheduler:
    engines = engines or [Scripted("engine-0", lambda new: [])]
    return Scheduler(workers, engines, RolloutConfig(**{"stall_s": 5.0, **limits}), seed=1)


def test_results_come_in_the_order_of_the_assignments() -> None:
    workers = [Scripted(f"w{n}", lambda new: [trajectory(a) for a in reversed(new)]) for n in range(3)]
    made = scheduler(workers)
    batch = made.assignments(tasks(7), 4, "b", 1.0)
    progress: list[tuple[int, int]] = []
    results = made.run(batch, lambda done, total: progress.append((done, total)))
    assert [t.assignment for t in results] == batch
    assert [len(w.seen) for w in workers] == [12, 8, 8]
    assert progress[-1] == (28, 28)
    assert progress == sorted(progress)


def test_seeds_depend_on_place_and_attempt_only() -> None:
    one, two = (
        scheduler([Scripted("a", lambda new: [])]),
        scheduler([Scripted(n, lambda new: []) for n in "bc"]),
    )
    batch = one.assignments(tasks(3), 2, "step-4", 1.0)
    assert [a.seed for a in batch] == [a.seed for a in two.assignments(tasks(3), 2, "step-4", 1.0)]
    assert len({a.seed for a in batch}) == 6
    assert batch[3].seed == derive_seed(1, "step-4", 1, 1, 0)


def test_siblings_share_an_engine_and_engines_share_the_work() -> None:
    engines = [Scripted(f"e{n}", lambda new: []) for n in range(2)]
    batch = scheduler([Scripted("w", lambda new: [])], engines).assignments(tasks(4), 3, "b", 1.0)
    assert [a.engine for a in batch] == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3


def test_second_and_late_answers_are_dropped() -> None:
    def doubled(new: list[Assignment]) -> list[Trajectory]:
        first = [trajectory(a, score=0.25) for a in new]
        stale = [trajectory(dataclasses.replace(a, batch="an older one")) for a in new]
        late = [trajectory(dataclasses.replace(a, attempt=a.attempt + 1)) for a in new]
        return [*stale, *late, *first, *[trajectory(a, score=0.75) for a in new], *first]

    made = scheduler([Scripted("w", doubled)])
    results = made.run(made.assignments(tasks(5), 2, "b", 1.0))
    assert [t.score for t in results] == [0.25] * 10
    assert {(t.assignment.batch, t.assignment.attempt) for t in results} == {("b", 0)}


def test_an_answer_to_a_given_up_attempt_is_not_taken_for_its_retry() -> None:
    failed: list[Assignment] = []

    def answer(new: list[Assignment]) -> list[Trajectory]:
        if not failed:
            failed.extend(new)
            return [trajectory(a, StopReason.ENV_TIMEOUT) for a in new]
        # The attempt that timed out answers after all, before its retry does.
        return [trajectory(a, score=0.1) for a in failed] + [trajectory(a, score=0.9) for a in new]

    made = scheduler([Scripted("w", answer)])
    results = made.run(made.assignments(tasks(2), 2, "b", 1.0))
    assert [(t.score, t.assignment.attempt) for t in results] == [(0.9, 1)] * 4
    assert all(
        t.assignment.seed == derive_seed(1, "b", t.assignment.group, t.assignment.sample, 1) for t in results
    )


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_poison_task_is_given_up_and_the_others_finish(attempts: int) -> None:
    def answer(new: list[Assignment]) -> list[Trajectory]:
        return [trajectory(a, StopReason.ENV_ERROR if a.group == 1 else StopReason.DONE) for a in new]

    worker = Scripted("w", answer)
    made = scheduler([worker], max_attempts=attempts)
    results = made.run(made.assignments(tasks(3), 2, "b", 1.0))
    assert [t.failed for t in results] == [False, False, True, True, False, False]
    assert len(worker.seen) == 4 + 2 * attempts
    assert len({a.seed for a in worker.seen}) == len(worker.seen)


def test_policy_failures_are_not_retried() -> None:
    worker = Scripted("w", lambda new: [trajectory(a, StopReason.MAX_TOKENS, 0.0) for a in new])
    made = scheduler([worker])
    made.run(made.assignments(tasks(2), 2, "b", 1.0))
    assert len(worker.seen) == 4


def test_a_stall_names_every_part_and_what_is_missing() -> None:
    stuck = Scripted("env-worker-0", lambda new: [], {"waits_on": {"engine engine-0": 2}})
    dead = Scripted(
        "engine-0", lambda new: [], EngineError("the engine's loop stopped:\nFile x\nMemoryError: full")
    )
    made = scheduler([stuck], [dead], stall_s=0.3)
    with pytest.raises(StallError) as stall:
        made.run(made.assignments(tasks(1), 2, "step-9", 1.0))
    text = str(stall.value)
    assert "stall_s=0.3 s; 2 are missing" in text
    assert "env-worker-0: {'waits_on': {'engine engine-0': 2}}" in text
    assert "engine-0: dead: the engine's loop stopped: MemoryError: full" in text
    assert "math/affine_chain-v0 seed 0 (step-9.0.0.0)" in text


def test_progress_of_any_rollout_puts_the_stall_off() -> None:
    class Slow(Scripted):
        def _collect(self, owner: str, timeout: float) -> list[Trajectory]:
            time.sleep(0.12)
            return [trajectory(self.inbox.pop())] if self.inbox else []

    made = scheduler([Slow("w", lambda new: [])], stall_s=0.3)
    assert len(made.run(made.assignments(tasks(3), 2, "b", 1.0))) == 6


def test_a_lost_worker_ends_the_batch() -> None:
    def lost(new: list[Assignment]) -> list[Trajectory]:
        raise EngineError("w is gone")

    made = scheduler([Scripted("w", lost)])
    with pytest.raises(EngineError, match="w is gone"):
        made.run(made.assignments(tasks(1), 2, "b", 1.0))


def test_a_dead_engine_ends_the_batch_instead_of_failing_every_retry() -> None:
    worker = Scripted("w", lambda new: [trajectory(a, StopReason.ENGINE_ERROR) for a in new])
    engine = Scripted("engine-0", lambda new: [], EngineError("engine-0 is gone"))
    made = scheduler([worker], [engine])
    with pytest.raises(EngineError, match="engine-0 is gone"):
        made.run(made.assignments(tasks(1), 2, "b", 1.0))
    assert len(worker.seen) == 2
    # An engine that lives has merely failed these.
    engine.state = "fine"
    assert all(t.failed for t in made.run(made.assignments(tasks(1), 2, "b", 1.0)))


def test_a_stop_gives_the_batch_up_at_once() -> None:
    workers = [Scripted("a", lambda new: []), Scripted("b", lambda new: [])]
    made = scheduler(workers)
    made.stop_requested = lambda: True
    with pytest.raises(Interrupted):
        made.run(made.assignments(tasks(2), 2, "b", 1.0))
    assert [worker.resets for worker in workers] == [1, 1]


def test_a_real_stall_says_who_waits_on_whom(bench: Callable[..., Bench]) -> None:
    made = bench({FAULT: {"how": "hangs"}}, stall_s=0.8, step_deadline_s=60.0)
    with pytest.raises(StallError) as stall:
        made.run(FAULT, samples=1)
    text = str(stall.value)
    assert "env-worker-0: {" in text
    assert "'waits_on': {'environment test/fault-v0': 1}" in text
    assert "engine-0: {" in text


def test_what_an_interrupted_batch_leaves_in_the_engine_does_not_reach_the_next(
    bench: Callable[..., Bench],
) -> None:
    made = bench({CHAT: {"jitter": 0.01}}, stall_s=10.0, max_new_tokens=200)
    stop = threading.Event()
    made.scheduler.stop_requested = stop.is_set
    for number in range(6):
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(Interrupted):
            while True:
                made.run(CHAT, samples=12, batch=f"given-up-{number}-{time.monotonic_ns()}")
        stop.clear()
        # More of them than the engine has slots, so that some start while the leftovers end.
        results = made.run(CHAT, CHAT, samples=16, batch=f"batch-{number}")
        assert {t.assignment.batch for t in results} == {f"batch-{number}"}
        assert all(t.score is not None for t in results)


def test_a_turn_puts_the_stall_off_and_so_does_an_environment_that_allows_more(
    bench: Callable[..., Bench],
) -> None:
    # Three turns of 0.6 s each: no rollout ends within stall_s, yet something moves.
    made = bench({CHAT: {"seconds": 0.6}}, stall_s=1.6, max_new_tokens=200)
    assert not any(t.failed for t in made.run(CHAT, samples=2))
    # One step longer than stall_s, which the mixture allows this environment.
    made = bench({CHAT: {"seconds": 1.5}}, stall_s=0.8, step_deadline_s=0.7, max_new_tokens=200)
    made.worker.deadlines = {CHAT: (5.0, 60.0)}
    assert not any(t.failed for t in made.run(CHAT, samples=1))
