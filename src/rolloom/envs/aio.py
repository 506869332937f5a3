"""One event loop a process, in a thread of its own, for environments and tools that wait rather than compute.

A coroutine that blocks the loop holds up every other one on it: whoever watches deadlines gives the loop up
with `abandon`, and the next call starts a fresh one.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from rolloom.envs.errors import EnvError

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def loop() -> asyncio.AbstractEventLoop:
    """Return the process's running loop, started on first use."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="env-loop", daemon=True)
            _thread.start()
        return _loop


def abandon(hung: asyncio.AbstractEventLoop) -> None:
    """Stop handing out a loop that a coroutine blocks; what still runs on it is lost."""
    global _loop, _thread
    with _lock:
        if _loop is hung:
            _loop = _thread = None


def _forget() -> None:
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


os.register_at_fork(after_in_child=_forget)


def spawn(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop and return its future; cancelling that cancels the coroutine."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop())


async def settled(value: T | Awaitable[T]) -> T:
    """Return a value, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value  # type: ignore[return-value]


def drive(coroutine: Coroutine[Any, Any, T], waits: bool) -> T:
    """Run a coroutine to its end from synchronous code.

    Args:
        coroutine: not started.
        waits: it may really wait, so it needs the loop; False runs it here, without one.

    Raises:
        EnvError: it waited although it was said not to, or this is the loop's own thread.
    """
    if waits:
        if threading.current_thread() is _thread:
            coroutine.close()
            raise EnvError("reset() and step() would block the event loop; await areset() and astep() there")
        return spawn(coroutine).result()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except RuntimeError as error:
        if "no running event loop" not in str(error):
            raise
    coroutine.close()
    raise EnvError("an environment that is not declared asynchronous waited; set `asynchronous = True`")
