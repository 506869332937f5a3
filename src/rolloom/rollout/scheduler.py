"""The driver's side of a batch: hands out episodes, collects each exactly once, retries, never hangs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from rolloom.configs.schema import RolloutConfig
from rolloom.envs.types import StopReason, Task
from rolloom.rollout.handles import Handle
from rolloom.rollout.types import Assignment, StallError, Trajectory, derive_seed

COLLECT_S = 0.5
STATUS_S = 5.0


class Interrupted(Exception):
    """The person asked the run to stop while a batch was under way."""


class Scheduler:
    """Runs batches of episodes.

    Args:
        workers: environment workers.
        engines: asked for their state when nothing moves.
        config: sampling limits and deadlines.
        seed: root of the sampling seeds.
        stop_requested: polled; a batch under way is given up when it returns True.
    """

    def __init__(
        self, workers: Sequence[Handle], engines: Sequence[Handle], config: RolloutConfig, seed: int,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.workers, self.engines, self.config, self.seed = list(workers), list(engines), config, seed
        self.stop_requested = stop_requested

    def assignments(
        self, tasks: Sequence[Task], samples: int, batch: str, temperature: float
    ) -> list[Assignment]:
        """Return the episodes of a batch; seeds depend on (seed, batch, task, sample, attempt) only."""
        return [
            Assignment(
                batch, group, index, task, self._seed(batch, group, index, 0), temperature, 0,
                group % len(self.engines),
            )
            for group, task in enumerate(tasks)
            for index in range(samples)
        ]  # fmt: skip

    def _seed(self, batch: str, group: int, index: int, attempt: int) -> int:
        return derive_seed(self.seed, batch, group, index, attempt)

    def run(
        self,
        assignments: Sequence[Assignment],
        progress: Callable[[int, int], None] = lambda done, total: None,
        finished: Callable[[Trajectory], None] = lambda trajectory: None,
    ) -> list[Trajectory]:
        """Run episodes and return their trajectories in order.

        A rollout whose machinery failed is tried again with a fresh seed, up to `max_attempts`; the last
        failure is returned as it is. A late or second answer is dropped.

        Args:
            assignments: the episodes.
            progress: called with episodes done and episodes in all.
            finished: called with each trajectory of the result as it arrives.

        Raises:
            StallError: for `stall_s` seconds no rollout ended and no worker took a turn.
            Interrupted: `stop_requested` returned True.
            RolloomError: a worker or an engine is lost; the message names it.
        """
        open_: dict[tuple[int, int], Assignment] = {(a.group, a.sample): a for a in assignments}
        results: dict[tuple[int, int], Trajectory] = {}
        owners: dict[tuple[int, int], Handle] = {}
        by_worker: dict[int, list[Assignment]] = {}
        for assignment in assignments:
            place = assignment.group % len(self.workers)
            by_worker.setdefault(place, []).append(assignment)
            owners[assignment.group, assignment.sample] = self.workers[place]
        submitted = [self.workers[place].call("submit", "driver", part) for place, part in by_worker.items()]
        for future in submitted:
            self._accepted(future, assignments)
        collecting: dict[Future[list[Trajectory]], Handle] = {}
        last_progress = time.monotonic()
        while open_:
            for worker in {id(owners[key]): owners[key] for key in open_}.values():
                if worker not in collecting.values():
                    collecting[worker.call("collect", "driver", COLLECT_S)] = worker
            done, _ = wait(collecting, timeout=COLLECT_S * 2, return_when=FIRST_COMPLETED)
            for future in done:
                worker = collecting.pop(future)
                again = []
                trajectories = future.result()
                self._check_engines(trajectories)
                for trajectory in trajectories:
                    retry = self._record(trajectory, open_, results)
                    last_progress = time.monotonic()
                    key = (trajectory.assignment.group, trajectory.assignment.sample)
                    if retry is not None:
                        again.append(retry)
                    elif results.get(key) is trajectory:
                        finished(trajectory)
                if again:
                    self._accepted(worker.call("submit", "driver", again), again)
                progress(len(results), len(assignments))
            if self.stop_requested():
                for worker in self.workers:
                    worker.call("reset")
                raise Interrupted
            if time.monotonic() - last_progress > self.config.stall_s:
                idle_s = self._idle_s({id(owners[key]): owners[key] for key in open_}.values())
                if idle_s is None:
                    raise StallError(self._stall_report(list(open_.values())))
                last_progress = time.monotonic() - idle_s
        return [results[a.group, a.sample] for a in assignments]

    def _idle_s(self, workers: Iterable[Handle]) -> float | None:
        """Return for how long no turn has ended in any worker; None if that is longer than it may be.

        Long episodes move without one of them ending, and an environment may allow its steps more than
        `stall_s`.
        """
        moved: list[float] = []
        for worker in workers:
            status = _status(worker)
            if isinstance(status, dict) and "idle_s" in status:
                idle_s, allowed = float(status["idle_s"]), float(status.get("step_allows_s", 0.0))
                if idle_s <= max(self.config.stall_s, allowed):
                    moved.append(min(idle_s, self.config.stall_s))
        return min(moved, default=None)

    def _accepted(self, submitted: Future[None], assignments: Sequence[Assignment]) -> None:
        try:
            submitted.result(self.config.stall_s)
        except FutureTimeout:
            raise StallError(self._stall_report(list(assignments))) from None

    def _check_engines(self, trajectories: Sequence[Trajectory]) -> None:
        """Ask the engines that failed an episode whether they live; a dead one fails every retry as well."""
        suspects = {t.assignment.engine for t in trajectories if t.stop is StopReason.ENGINE_ERROR}
        for index in sorted(suspects):
            # An engine that is merely slow to answer is left to the stall limit.
            with contextlib.suppress(FutureTimeout):
                self.engines[index].call("status").result(STATUS_S)

    def _record(
        self, trajectory: Trajectory, open_: dict[tuple[int, int], Assignment],
        results: dict[tuple[int, int], Trajectory],
    ) -> Assignment | None:  # fmt: skip
        done = trajectory.assignment
        key = (done.group, done.sample)
        expected = open_.get(key)
        if expected is None or expected.id != done.id:
            return None
        if trajectory.failed and done.attempt + 1 < self.config.max_attempts:
            attempt = done.attempt + 1
            seed = self._seed(done.batch, done.group, done.sample, attempt)
            open_[key] = dataclasses.replace(expected, attempt=attempt, seed=seed)
            return open_[key]
        del open_[key]
        results[key] = trajectory
        return None

    def _stall_report(self, missing: list[Assignment]) -> str:
        lines = [f"no rollout finished for stall_s={self.config.stall_s:g} s; {len(missing)} are missing:"]
        for handle in [*self.workers, *self.engines]:
            lines.append(f"  {handle.name}: {_status(handle)}")
        names = ", ".join(f"{a.task.env_id} seed {a.task.seed} ({a.id})" for a in missing[:5])
        lines.append(f"  first missing: {names}")
        return "\n".join(lines)


def _status(handle: Handle) -> Any:
    try:
        return handle.call("status").result(STATUS_S)
    except FutureTimeout:
        return f"does not answer within {STATUS_S:.0f} s"
    except Exception as error:
        # Of a traceback, the last line says what went wrong.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return "dead: " + " ".join(dict.fromkeys((lines[0], lines[-1])))
