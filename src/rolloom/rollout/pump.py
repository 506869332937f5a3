"""A queue in, results out, a loop between: run by its own thread, or inline by whoever waits.

The same class serves a Ray actor (threaded) and `--local` debugging (inline, so that a breakpoint stops
everything).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import defaultdict
from typing import Any, Generic, TypeVar

T = TypeVar("T")

STOP_S = 5.0


class Retired(BaseException):
    """Raised by `_pump_once` to end a thread whose place another one has taken."""


class Pump(Generic[T]):
    """Base of the engine host and the environment worker.

    Subclasses implement `_pump_once(wait)`, which does a bounded amount of work, and call `_deliver`.
    """

    def __init__(self, threaded: bool) -> None:
        self._threaded = threaded
        self._changed = threading.Condition()
        self._results: dict[str, list[T]] = defaultdict(list)
        self._failure: str | None = None
        self._stopping = False
        self.last_progress = time.monotonic()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._loop, daemon=True, name=type(self).__name__)
            self._thread.start()

    def _pump_once(self, wait: float) -> bool:
        """Do some work, waiting up to `wait` seconds if there is none; return True on progress."""
        raise NotImplementedError

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self._pump_once(0.05)
            except Retired:
                return
            # A panic of a Rust library (tokenizers) is no Exception; a loop that ends must always say so.
            except BaseException:
                with self._changed:
                    self._failure = traceback.format_exc()
                    self._changed.notify_all()
                return

    def _deliver(self, owner: str, results: list[T]) -> None:
        if not results:
            return
        self.last_progress = time.monotonic()
        with self._changed:
            self._results[owner].extend(results)
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._error(self._failure)

    def _error(self, text: str) -> Exception:
        return RuntimeError(text)

    def collect(self, owner: str, timeout: float) -> list[T]:
        """Return what is finished for an owner, waiting up to `timeout` seconds for something.

        Raises:
            Exception: the loop died; the error carries its traceback.
        """
        deadline = time.monotonic() + timeout
        if not self._threaded:
            self._pump_until(owner, deadline)
            return self._take(owner)
        with self._changed:
            while not self._results.get(owner) and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if not self._results.get(owner):
                self._raise_failure()
            return self._take(owner)

    def _pump_until(self, owner: str, deadline: float) -> None:
        self._raise_failure()
        try:
            while not self._results.get(owner):
                if not self._pump_once(max(0.0, min(0.05, deadline - time.monotonic()))):
                    return
                if time.monotonic() >= deadline:
                    return
        except Exception as error:
            self._failure = traceback.format_exc()
            raise self._error(self._failure) from error

    def _take(self, owner: str) -> list[T]:
        return self._results.pop(owner, [])

    def stop(self) -> None:
        """End the loop and wait for it: torch ends a process in which a thread of its own is cut off."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(STOP_S)

    def status(self) -> dict[str, Any]:
        """Return what this component is doing, for the stall report.

        Raises:
            Exception: the loop died; the error carries its traceback.
        """
        self._raise_failure()
        return {"idle_s": round(time.monotonic() - self.last_progress, 1)}
