"""Where an environment's calls run: at once, on a thread of their own, or on the event loop.

Which of the first two is learned from how long the environment's calls have taken so far. At once means: on
the caller's thread, which another takes over from if the call does not come back; or, where nobody can take
over, in the pool's quick lane.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from rolloom.rollout.daemon_pool import DaemonPool, Job
from rolloom.rollout.loop_runner import Hung, LoopJob, LoopRunner

BLOCKS_S = 0.002
"""Calls that take longer on average get a thread of their own."""
LOOK_S = 0.004
"""How long a call may hold up the quick lane before it is taken for one that blocks."""
PROBE_EVERY, PROBE_BELOW_S = 64, 0.02

AnyJob = Job | LoopJob


class EnvCalls:
    """Runs calls of environments and says which overstay.

    Args:
        threads: calls that may block at the same time.
        inline: quick calls are left to the caller, who runs them with `next_inline`.
    """

    def __init__(self, threads: int, inline: bool = False) -> None:
        self.inline: deque[Job] | None = deque() if inline else None
        self.pool = DaemonPool(threads)
        self.loop = LoopRunner()
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._looked_at: Job | None = None

    def call(
        self, kind: str, function: Callable[[], Any], done: Callable[..., None], blocks: bool = False
    ) -> Job:
        """Run a function.

        Args:
            kind: calls that share it are expected to take about the same time.
            function: the call.
            done: receives the job, its result and its error, maybe on another thread.
            blocks: it is known to take long.
        """
        if blocks:
            return self.pool.submit(function, done, False, kind)
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        mean = self._seconds.get(kind, 0.0)
        quick = mean < BLOCKS_S or (mean < PROBE_BELOW_S and count % PROBE_EVERY == 0)
        if quick and self.inline is not None:
            job = Job(function, done, kind, inline=True)
            self.inline.append(job)
            return job
        return self.pool.submit(function, done, quick, kind)

    def next_inline(self) -> Job | None:
        """Return the next call that the caller should run itself, or None.

        A call whose kind has turned out to block meanwhile goes to a thread.
        """
        while self.inline:
            job = self.inline.popleft()
            if job.abandoned:
                continue
            if self._seconds.get(job.kind, 0.0) < BLOCKS_S:
                return job
            self.pool.take(job)
        return None

    def blocks(self, job: Job) -> None:
        """Take note that a call does not come back at once."""
        self._seconds[job.kind] = max(self._seconds.get(job.kind, 0.0), 2 * BLOCKS_S)

    def wait_for(self, function: Callable[[], Awaitable[Any]], done: Callable[..., None]) -> LoopJob:
        """Run a coroutine function on the event loop; see `call`."""
        return self.loop.submit(function, done)

    def learn(self, job: AnyJob) -> None:
        """Take note of how long a call took."""
        if isinstance(job, Job):
            mean = self._seconds.get(job.kind, 0.0)
            # Clipped: a thread that had to wait for the interpreter's lock says nothing of the environment.
            self._seconds[job.kind] = mean + 0.1 * (min(job.seconds, 4 * mean + 0.0005) - mean)

    def abandon(self, job: AnyJob) -> None:
        """Give a call up."""
        if isinstance(job, Job):
            self.pool.abandon(job)
        else:
            self.loop.abandon(job)

    @property
    def patience(self) -> float | None:
        """Seconds after which `tend` should be called again even if nothing happened; None if at leisure."""
        return LOOK_S if self.pool.short or self.pool.quick_busy else None

    def tend(self, waited: bool) -> None:
        """Give blocking calls the threads they need.

        Args:
            waited: the caller has just slept `patience` seconds, so a call had the interpreter to itself.
        """
        self.pool.grow()
        job = self.pool.quick_job
        if not waited or job is None or job is not self._looked_at:
            self._looked_at = job
            return
        self._looked_at = None
        started = job.started
        if started is not None and time.monotonic() - started > LOOK_S and self.pool.make_way(job):
            self.blocks(job)

    def watch(self, now: float, limit_s: float) -> Hung | None:
        """Return what was lost if the event loop has not answered for `limit_s` seconds."""
        return self.loop.watch(now, limit_s)
