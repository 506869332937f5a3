"""Threads for environment calls: one for the quick ones, as many as it takes for those that block.

A quick call costs no more than a place in a queue: one thread takes them in turn, so that the interpreter's
lock is not fought over. A call that blocks gets a thread of its own. Hung threads are written off, and
replaced.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

BURST = 16
"""Threads that blocking calls get at once; more only while the processor has time for them."""
GROW_S = 0.003
BUSY = 0.8
"""Cores in use above which more threads would only fight over the interpreter's lock."""


class Job:
    """One call in the pool.

    Attributes:
        started: monotonic time at which a thread took it, or None while it waits.
        seconds: how long it took, once finished.
        abandoned: its result is no longer wanted.
        finished: it returned or raised before it was abandoned.
        kind: calls that share it are expected to take about the same time.
        inline: run by the caller's own thread, not by the pool's.
    """

    __slots__ = ("abandoned", "done", "finished", "function", "inline", "kind", "seconds", "started")

    def __init__(
        self, function: Callable[[], Any], done: Callable[..., None], kind: str = "", inline: bool = False
    ) -> None:
        self.function, self.done, self.kind, self.inline = function, done, kind, inline
        self.abandoned = False
        self.finished = False
        self.started: float | None = None
        self.seconds = 0.0


class DaemonPool:
    """Runs jobs on daemon threads, at most `threads` blocking ones at a time, and reports each by callback.

    A job that overstays is abandoned: its result is dropped, and a fresh thread takes the place of its own,
    so that blocking environments use up neither the pool nor the process's exit.

    Attributes:
        replaced: threads written off so far.
    """

    def __init__(self, threads: int) -> None:
        self._slow_limit = threads
        self._quick: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._slow: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._slow_threads = 0
        # Slow threads without a job, less the slow jobs that wait for one.
        self._free = 0
        self._quick_job: Job | None = None
        self._seen: tuple[float, float] = (0.0, 0.0)
        self.replaced = 0
        self._spawn(self._quick)

    @property
    def threads(self) -> int:
        """Threads alive that take jobs."""
        return 1 + self._slow_threads

    @property
    def quick_busy(self) -> bool:
        """True while the quick lane has something to do."""
        return self._quick_job is not None or not self._quick.empty()

    @property
    def quick_job(self) -> Job | None:
        """The call that the quick thread is busy with."""
        return self._quick_job

    @property
    def short(self) -> bool:
        """True while blocking calls wait for a thread that may still be made."""
        return self._free < 0 and self._slow_threads < self._slow_limit

    def _spawn(self, jobs: queue.SimpleQueue[Job]) -> None:
        threading.Thread(target=self._work, args=(jobs,), daemon=True, name="env-step").start()

    def _work(self, jobs: queue.SimpleQueue[Job]) -> None:
        while True:
            job = jobs.get()
            with self._lock:
                if job.abandoned:
                    self._free += jobs is self._slow
                    continue
                job.started = started = time.monotonic()
                if jobs is self._quick:
                    self._quick_job = job
            result: Any = None
            error: BaseException | None = None
            try:
                result = job.function()
            # SystemExit and KeyboardInterrupt raised by an environment are its failure, not the worker's.
            except BaseException as caught:
                error = caught
            with self._lock:
                if job.abandoned:
                    return
                job.seconds = time.monotonic() - started
                job.finished = True
                if self._quick_job is job:
                    self._quick_job = None
                elif jobs is self._quick:
                    # `make_way` has put another thread in this one's place.
                    jobs = self._slow
                self._free += jobs is self._slow
            job.done(job, result, error)
            # A waiting thread must not keep the last episode's environment alive.
            del job, result, error

    def submit(
        self, function: Callable[[], Any], done: Callable[..., None], quick: bool = False, kind: str = ""
    ) -> Job:
        """Queue a call.

        Args:
            function: the call.
            done: `done(job, result, error)` is called from the pool's thread and must not raise.
            quick: the call is not expected to block.
            kind: name for calls that take about the same time.
        """
        job = Job(function, done, kind)
        if quick:
            self._quick.put(job)
        else:
            self._give_thread(job)
        return job

    def take(self, job: Job) -> None:
        """Queue an inline call after all, as one that blocks."""
        job.inline = False
        self._give_thread(job)

    def _give_thread(self, job: Job) -> None:
        with self._lock:
            self._free -= 1
            if self._free < 0 and self._slow_threads < min(self._slow_limit, BURST):
                self._add(1)
        self._slow.put(job)

    def _add(self, threads: int) -> None:
        self._slow_threads += threads
        self._free += threads
        for _ in range(threads):
            self._spawn(self._slow)

    def grow(self) -> None:
        """Make more threads where blocking calls wait for one; called every few milliseconds meanwhile.

        Their number doubles while the processor is idle, since the calls then wait for something else; a busy
        one gets one more at a time.
        """
        if not self.short:
            return
        now, used = time.monotonic(), time.process_time()
        if now - self._seen[0] < GROW_S:
            return
        busy = (used - self._seen[1]) / (now - self._seen[0]) > BUSY
        self._seen = (now, used)
        with self._lock:
            wanted = min(-self._free, self._slow_limit - self._slow_threads)
            self._add(min(wanted, 1 if busy else self._slow_threads))

    def make_way(self, job: Job) -> bool:
        """Take a call that turned out to block out of the quick lane, and what waits behind it as well.

        Returns:
            False where the job is not the one in the lane, or no further thread is allowed.
        """
        with self._lock:
            if self._quick_job is not job or self._slow_threads >= self._slow_limit:
                return False
            self._slow_threads += 1
            self._quick_job = None
        while True:
            try:
                self._give_thread(self._quick.get_nowait())
            except queue.Empty:
                break
        self._spawn(self._quick)
        return True

    def abandon(self, job: Job) -> None:
        """Give up a job: one that waits never runs, one that hangs has its thread replaced."""
        with self._lock:
            if job.finished or job.abandoned:
                return
            job.abandoned = True
            if job.started is None:
                return
            self.replaced += 1
            if job.inline:
                return
            if self._quick_job is job:
                self._quick_job = None
                self._spawn(self._quick)
            else:
                self._free += 1
                self._spawn(self._slow)
