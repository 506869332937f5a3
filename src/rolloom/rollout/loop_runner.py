"""Environment calls that wait, on the shared event loop: thousands at a time without a thread each.

A call that overstays is cancelled. One that blocks the loop cannot be: it is found out by a heartbeat that
the loop no longer answers; the loop is given up, and what ran on it beside the culprit has to be tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rolloom.envs import aio

BEAT_S = 0.1


class LoopJob:
    """One call on the loop; the attributes of `rolloom.rollout.daemon_pool.Job`."""

    __slots__ = ("abandoned", "done", "finished", "function", "seconds", "started", "task")

    def __init__(self, function: Callable[[], Awaitable[Any]], done: Callable[..., None]) -> None:
        self.function, self.done = function, done
        self.abandoned = self.finished = False
        self.started: float | None = None
        self.seconds = 0.0
        self.task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Hung:
    """What was lost with a loop that no longer answered.

    Attributes:
        culprit: the call that blocks it, or None where it cannot be told.
        others: calls that were under way beside it.
    """

    culprit: LoopJob | None
    others: list[LoopJob]


class LoopRunner:
    """Starts coroutines on the loop of `rolloom.envs.aio` and reports each result by callback.

    Attributes:
        replaced: loops given up so far.
    """

    def __init__(self) -> None:
        self.replaced = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._incoming: deque[LoopJob] = deque()
        self._running: set[LoopJob] = set()
        self._beat_sent: float | None = None
        self._beat_due = 0.0

    @property
    def busy(self) -> bool:
        """True while calls are under way or a heartbeat is unanswered."""
        return bool(self._running or self._incoming or self._beat_sent is not None)

    def submit(self, function: Callable[[], Awaitable[Any]], done: Callable[..., None]) -> LoopJob:
        """Start `await function()`; `done(job, result, error)` is called on the loop and must not raise."""
        job = LoopJob(function, done)
        self._incoming.append(job)
        if len(self._incoming) == 1:
            self._wake()
        return job

    def _wake(self) -> None:
        if self._loop is None:
            self._loop = aio.loop()
        self._loop.call_soon_threadsafe(self._start_all, self._loop)

    def _start_all(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        # Popped one by one: `submit` wakes the loop again only where it finds the queue empty.
        while self._incoming:
            job = self._incoming.popleft()
            if not job.abandoned:
                job.started = time.monotonic()
                self._running.add(job)
                job.task = loop.create_task(self._run(job))

    async def _run(self, job: LoopJob) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = await job.function()
        # A SystemExit that reached the loop would end its thread.
        except BaseException as caught:
            error = caught
        self._running.discard(job)
        if job.abandoned:
            return
        assert job.started is not None
        job.seconds = time.monotonic() - job.started
        job.finished = True
        job.done(job, result, error)

    def abandon(self, job: LoopJob) -> None:
        """Give up a job: one that waits never starts, one that runs is cancelled."""
        if job.finished or job.abandoned:
            return
        job.abandoned = True
        if job.task is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(job.task.cancel)

    def silent(self, now: float) -> bool:
        """Return True while the loop owes an answer; a call that overstays then may not be to blame."""
        return self._beat_sent is not None and now - self._beat_sent > BEAT_S / 2

    def watch(self, now: float, limit_s: float) -> Hung | None:
        """Send or check the heartbeat; called often while calls are under way.

        Args:
            now: monotonic time.
            limit_s: seconds after which a loop that does not answer is given up.
        """
        if self._loop is None:
            return None
        if self._beat_sent is None:
            if now >= self._beat_due and (self._running or self._incoming):
                self._beat_sent, self._beat_due = now, now + BEAT_S
                self._loop.call_soon_threadsafe(self._answer, self._loop)
            return None
        if now - self._beat_sent <= limit_s:
            return None
        hung, self._loop, self._beat_sent = self._loop, None, None
        self.replaced += 1
        task = asyncio.current_task(hung)
        aio.abandon(hung)
        lost, self._running = self._running, set()
        culprit = next((job for job in lost if job.task is task and task is not None), None)
        for job in lost:
            job.abandoned = job.abandoned or not job.finished
        if self._incoming:
            self._wake()
        return Hung(culprit, [job for job in lost if job is not culprit])

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._loop:
            self._beat_sent = None
