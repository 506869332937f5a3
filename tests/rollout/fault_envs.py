"""Environments for tests: two that can be learned from a little, and one that fails in any way it is told to.

Registered by entry-point string under `test/`. Run as a script it registers them and hands over to the
command line, so that a child process can train on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

PARITY, CHAT, FAULT = "test/parity-v0", "test/chat-v0", "test/fault-v0"
WAITING = "test/waiting-v0"


def register_all() -> None:
    for id, name in ((PARITY, "Parity"), (CHAT, "Chat"), (FAULT, "Fault"), (WAITING, "Waiting")):
        registry.register(id, f"fault_envs:{name}", kind="test")


class Parity(TextEnv):
    """Full marks for an answer of an even number of characters: about half of all random ones."""

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        return {"number": int(rng.integers(1_000_000))}

    def prompt(self) -> Messages:
        return (Message(role="user", content=f"{self.problem['number']}: write evenly."),)

    def respond(self, turn: AssistantTurn) -> Reply:
        return Reply(reward=float(len(turn.text) % 2 == 0), done=True)

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        return "<think>\n\n</think>."


class Chat(Parity):
    """Three turns, a third of the score each; the reply takes `seconds`, and up to `jitter` seconds more.

    Attributes:
        most: how many waited at once.
    """

    max_turns = 3
    waiting = most = 0
    _counting = threading.Lock()

    def __init__(self, seconds: float = 0.0, jitter: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds, self.jitter = seconds, jitter

    def respond(self, turn: AssistantTurn) -> Reply:
        # Not from the problem's seed: real replies do not take the same time twice.
        with self.counted():
            time.sleep(self.seconds + self.jitter * random.random())
        over = self.turn_index == self.max_turns - 1
        reward = float(len(turn.text) % 2 == 0) / self.max_turns
        return Reply(() if over else (Message(role="user", content="again"),), reward, over)

    @classmethod
    @contextlib.contextmanager
    def counted(cls) -> Iterator[None]:
        """Count one more that waits."""
        with cls._counting:
            cls.waiting += 1
            cls.most = max(cls.most, cls.waiting)
        try:
            yield
        finally:
            with cls._counting:
                cls.waiting -= 1


class _Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a function")
        self.held = lambda: None

    def __reduce__(self) -> Any:
        raise TypeError("this exception cannot be pickled")


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message for you")


class _Liar(str):
    __slots__ = ()

    def __len__(self) -> int:
        return 0


class Fault(Parity):
    """Fails as `how` says, in its first step (or in `reset`, for `how` ending in `_in_reset`).

    Args:
        how: the failure.
        times: only while the file `counter` has fewer lines than this; each failure writes one.
        counter: that file.
    """

    def __init__(self, how: str, times: int = 10**9, counter: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how, self.times, self.counter = how, times, counter

    def _due(self) -> bool:
        if not self.counter:
            return True
        with Path(self.counter).open("a+") as file:
            file.seek(0)
            if len(file.readlines()) >= self.times:
                return False
            file.write("failed\n")
        return True

    def begin(self) -> None:
        if self.how.endswith("_in_reset") and self._due():
            self._fail(self.how.removesuffix("_in_reset"))

    def respond(self, turn: AssistantTurn) -> Reply:
        if not self.how.endswith("_in_reset") and self._due():
            return self._fail(self.how)
        return super().respond(turn)

    def _fail(self, how: str) -> Reply:
        match how:
            case "raises":
                raise ValueError("the environment is broken")
            case "exits":
                raise SystemExit(3)
            case "unpicklable":
                raise _Unpicklable
            case "unspeakable":
                raise _Unspeakable
            case "hangs":
                while True:
                    time.sleep(0.05)
            case "dies":
                os._exit(7)
            case "nan":
                return Reply(reward=math.nan, done=True)
            case "above_one":
                return Reply(reward=2.0, done=True)
            case "huge":
                return Reply((Message(role="user", content="x" * 10**9),))
            case "lying_length":
                return Reply((Message(role="user", content=_Liar("x" * 10**6)),))
            case "no_messages":
                return Reply("not messages")  # type: ignore[arg-type]
            case "foreign_role":
                return Reply(({"role": "developer", "content": "obey"},))  # type: ignore[arg-type]
            case "many_components":
                return Reply(reward=1.0, done=True, components={str(n): 1.0 for n in range(1000)})
        raise AssertionError(f"no such failure: {how}")


class Waiting(Chat):
    """`Chat` on the event loop; in its first step it may overstay, block the loop or fail.

    Args:
        how: "" for none of these, `sleeps`, `blocks` or `exits`.
        times: only while the file `counter` has fewer lines than this; each failure writes one.
        counter: that file.
        seconds: that every turn waits.
        step_s: its own deadline of a step.

    Attributes:
        closed: how many were closed.
    """

    closed = 0

    def __init__(
        self, how: str = "", times: int = 10**9, counter: str = "", step_s: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.how, self.times, self.counter, self.step_deadline_s = how, times, counter, step_s

    async def respond(self, turn: AssistantTurn) -> Reply:  # type: ignore[override]
        if self.how and self.turn_index == 0 and Fault._due(self):  # type: ignore[arg-type]
            match self.how:
                case "sleeps":
                    await asyncio.sleep(3600)
                case "blocks":
                    time.sleep(3)
                case "exits":
                    raise SystemExit(3)
        with self.counted():
            await asyncio.sleep(self.seconds)
        over = self.turn_index == self.max_turns - 1
        return Reply(
            () if over else (Message(role="user", content="again"),),
            float(len(turn.text) % 2 == 0) / self.max_turns,
            over,
        )

    def close(self) -> None:
        type(self).closed += 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    # The registered entry point names the module, not the script: both must be the same environments.
    import fault_envs

    from rolloom.rollout.cli import main

    fault_envs.register_all()
    sys.exit(main())
