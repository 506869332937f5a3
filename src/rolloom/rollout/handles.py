"""One way to call a component, whether it lives in this process or in a Ray actor.

`Handle.call(method, ...)` returns a `concurrent.futures.Future`. Only this file and `cluster.py` know Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from rolloom.errors import RolloomError

IDS = ("class_name:", "actor_id:", "pid:", "name:", "namespace:", "ip:")
"""How the lines of Ray's messages begin that say nothing to a person."""


class ActorLostError(RolloomError):
    """The process of a component is gone."""


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
        """Submit the method to the actor.

        The future's error is the component's own (a `RolloomError`) where it raised one, and an
        `ActorLostError` where its process is gone.
        """
        answer: Future[Any] = Future()

        def pass_on(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                answer.set_exception(_own_error(error, self.name, method))

        getattr(self.actor, method).remote(*args, **kwargs).future().add_done_callback(pass_on)
        return answer


def _own_error(error: BaseException, name: str, method: str) -> BaseException:
    from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

    if isinstance(error, RayTaskError) and isinstance(error.cause, RolloomError):
        return error.cause
    if isinstance(error, ActorDiedError | ActorUnavailableError):
        lost = ActorLostError(f"{name} is gone, so {method}() has no answer: {_reason(error)}")
        lost.__cause__ = error
        return lost
    return error


def _reason(error: BaseException) -> str:
    """Return Ray's account of a death in one line, without the ids that come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if getattr(error, "actor_init_failed", False):
        return f"it could not start: {lines[-1]}"
    return " ".join(line for line in lines if not line.startswith(IDS))[:500] or type(error).__name__


def when_done(future: Future[Any], callback: Callable[[Future[Any]], None]) -> None:
    """Call back once, from whatever thread, when a future is done."""
    future.add_done_callback(callback)
