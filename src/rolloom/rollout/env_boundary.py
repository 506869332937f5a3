"""Calls of environments as the worker makes them: in exact types, and with errors in words."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from rolloom.envs.base import TextEnv
from rolloom.rollout.episode import MAX_OPENING_CHARS, EnvReply, Episode, checked_reply


def _options(episode: Episode) -> dict[str, Any]:
    task = episode.assignment.task
    return {"seed": task.seed, "options": {"split": task.split, "level": task.level}}


def _opening(messages: Any, info: Any) -> EnvReply:
    return checked_reply(messages, 0.0, False, False, info, MAX_OPENING_CHARS)


def reset(env: TextEnv, episode: Episode) -> EnvReply:
    """Set an episode's task up and return its opening."""
    return _opening(*env.reset(**_options(episode)))


async def areset(env: TextEnv, episode: Episode) -> EnvReply:
    """Set an episode's task up on the event loop and return its opening."""
    return _opening(*await env.areset(**_options(episode)))


async def astep(env: TextEnv, text: str) -> EnvReply:
    """Give a completion to an environment on the event loop and return its answer."""
    return checked_reply(*await env.astep(text))


def close(env: TextEnv) -> None:
    """Close an environment; what it raises is of no interest any more."""
    with contextlib.suppress(Exception):
        env.close()


class _EnvFailure(Exception):
    """An environment's error in words, made where the environment ran."""


def guarded(function: Callable[[], Any]) -> Any:
    """Call a function; whatever it raises comes out as words."""
    # The words are made here, inside the deadline: an exception's own `__str__` may raise, hang or be huge.
    try:
        return function()
    except BaseException as error:
        raise _EnvFailure(in_words(error)) from None


async def aguarded(function: Callable[[], Awaitable[Any]]) -> Any:
    """Await a function; whatever it raises comes out as words."""
    try:
        return await function()
    except BaseException as error:
        raise _EnvFailure(in_words(error)) from None


def in_words(error: BaseException) -> str:
    """Return an error as text that is safe to keep."""
    try:
        text = str(error)
    except BaseException:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text[:2000]}"
