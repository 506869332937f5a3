"""Gold for environments with tools: a solution is a plain function that calls tools, replayed on an episode.

`solution(tools)` asks `tools.call(name, why, **arguments)` for what it needs and returns the answer.
`next_move` runs it over the results that the episode has brought so far: either it comes to a call that has
not been made yet, which is the next move, or it ends with the answer. A failed call is made again.
`SolvedEnv` is the base of the environments here that work so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rolloom.envs.parsing import render_call
from rolloom.envs.tool import ToolEnv
from rolloom.envs.types import Style, ToolCall

MAX_SHOWN = 80


class Tools(Protocol):
    """What a solution is given."""

    def call(self, name: str, why: str, /, **arguments: Any) -> Any:
        """Return a call's result: parsed if it is a JSON object or array, else text."""


class _Wanted(Exception):
    """A solution needs the result of a call that has not been made."""

    def __init__(self, move: Move) -> None:
        super().__init__(move)
        self.move = move


@dataclass(frozen=True, slots=True)
class Move:
    """A solution's next turn.

    Attributes:
        call: name and arguments, or None when the answer is known.
        why: a sentence on what the call is for.
        answer: the final content, without a call.
        last: what the episode's last call brought, "" before any.
    """

    call: tuple[str, dict[str, Any]] | None
    why: str = ""
    answer: str = ""
    last: str = ""

    def content(self) -> str:
        """Return the turn's content."""
        return self.answer if self.call is None else render_call(*self.call)


class _Replay:
    def __init__(self, calls: Sequence[tuple[ToolCall, str]]) -> None:
        self._left = list(calls)

    def call(self, name: str, why: str, /, **arguments: Any) -> Any:
        while self._left:
            call, text = self._left.pop(0)
            if (call.name, call.arguments) == (name, arguments) and not text.startswith("error"):
                return parsed(text)
        raise _Wanted(Move((name, arguments), why))


def parsed(text: str) -> Any:
    """Return a tool's JSON object or array, or its text."""
    return json.loads(text) if text[:1] in ("{", "[") else text


def next_move(solution: Callable[[Tools], Any], calls: Sequence[tuple[ToolCall, str]]) -> Move:
    """Return what a solution does next in an episode.

    Args:
        solution: gives the answer; makes the same calls whenever it gets the same results.
        calls: the episode's calls so far with the texts they brought.
    """
    last = calls[-1][1] if calls else ""
    try:
        return Move(None, answer=str(solution(_Replay(calls))), last=last)
    except _Wanted as wanted:
        return Move(wanted.move.call, wanted.move.why, last=last)


def think(move: Move, style: Style, rng: np.random.Generator, reminder: str = "") -> str:
    """Return the thought before a move.

    Args:
        move: the next turn.
        style: verbose tells what came back, why and checks; medium names the step; compact says next to
            nothing.
        rng: decides which checks a verbose thought has.
        reminder: what the whole task is, for verbose thoughts before the first call.
    """
    if style == "compact":
        return ""
    if move.call is None:
        step = f"the answer is {move.answer}."
    else:
        name, arguments = move.call
        step = f"call {name} with {', '.join(f'{k} {v}' for k, v in arguments.items()) or 'nothing'}."
    if style == "medium":
        return step
    parts = [f"The last call brought {move.last[:MAX_SHOWN]}." if move.last else reminder]
    parts += [move.why if move.call else "Everything that was asked for is done and known.", f"So {step}"]
    if rng.random() < 0.7:
        parts.append(f"Wait, let me check: {step} That is right.")
    return " ".join(filter(None, parts))


class SolvedEnv(ToolEnv):
    """A `ToolEnv` whose gold and thoughts come from `solution`.

    Attributes:
        reminder: what a verbose thought says first.
        spare_turns: turns beyond one for each call of the solution and one for the answer.
    """

    reminder: str = "Let me work through this one call at a time."
    spare_turns: int = 3

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._turns_given = kwargs.get("max_turns") is not None

    def solution(self, tools: Tools) -> Any:
        """Solve `self.problem` through `tools` and return the answer."""
        raise NotImplementedError

    def limit_turns(self, calls: int) -> None:
        """Set the limit of an episode whose solution makes so many calls, unless the user has set one."""
        if not self._turns_given:
            turns = calls + 1 + self.spare_turns
            self.max_turns = turns  # pyright: ignore[reportAttributeAccessIssue]  # depends on the problem

    def gold(self) -> str:
        """Return the next call that the results so far leave to be made, or the answer."""
        return next_move(self.solution, self.calls).content()

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the thought before `gold`."""
        return think(next_move(self.solution, self.calls), style, rng, self.reminder)


class CountingTools:
    """Tools that answer at once, counted: `call(name)` is `functions[name]`."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions, self.count = functions, 0

    def call(self, name: str, why: str, /, **arguments: Any) -> Any:
        """Return what the function returns."""
        self.count += 1
        return self._functions[name](**arguments)
