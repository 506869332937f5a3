"""A thread pool for environment steps whose hung threads can be written off and replaced."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any


class Job:
    """One call in the pool.

    Attributes:
        started: monotonic time at which a thread took it, or None while it waits.
        abandoned: its result is no longer wanted.
        finished: it returned or raised before it was abandoned.
    """

    def __init__(
        self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        self.function, self.done = function, done
        self.abandoned = False
        self.finished = False
        self.started: float | None = None


class DaemonPool:
    """Runs jobs on `threads` daemon threads and reports each result by callback.

    A job that overstays is abandoned: its result is dropped, and a fresh thread takes the place of its own,
    so that blocking environments use up neither the pool nor the process's exit.
    """

    def __init__(self, threads: int) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.replaced = 0
        for _ in range(threads):
            self._spawn()

    def _spawn(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="env-step").start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                if job.abandoned:
                    continue
                job.started = time.monotonic()
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
                job.finished = True
            job.done(result, error)
            # A waiting thread must not keep the last episode's environment alive.
            del job, result, error

    def submit(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> Job:
        """Queue a call; `done(result, error)` is called from the pool's thread and must not raise."""
        job = Job(function, done)
        self._jobs.put(job)
        return job

    def abandon(self, job: Job) -> None:
        """Give up a job: one that waits never runs, one that hangs has its thread replaced."""
        with self._lock:
            if job.finished or job.abandoned:
                return
            job.abandoned = True
            if job.started is None:
                return
            self.replaced += 1
        self._spawn()
