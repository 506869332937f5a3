"""One way to call a component, whether it lives in this process or in a Ray actor.

`Handle.call(method, ...)` returns a `concurrent.futures.Future`. Only this file and `cluster.py` know Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class Handle(Protocol):
    """Something with methods that answer by futures."""

    name: str

    def call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a method and return its future."""
        ...


class LocalHandle:
    """Calls an object of this process, at once."""

    def __init__(self, target: Any, name: str) -> None:
        self.target, self.name = target, name

    def call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the method now; its result or error is in the future."""
        future: Future[Any] = Future()
        try:
            future.set_result(getattr(self.target, method)(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class RayHandle:
    """Calls a Ray actor. Picklable, so that an environment worker can hold its engines."""

    def __init__(self, actor: Any, name: str) -> None:
        self.actor, self.name = actor, name

    def call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit the method to the actor."""
        return getattr(self.actor, method).remote(*args, **kwargs).future()


def when_done(future: Future[Any], callback: Callable[[Future[Any]], None]) -> None:
    """Call back once, from whatever thread, when a future is done."""
    future.add_done_callback(callback)
