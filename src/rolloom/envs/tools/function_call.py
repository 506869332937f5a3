"""Say in one turn which functions to call, and with what: `Book a table at Casa Verde for 4 people ...`.

The functions are generated families with typed, optional and nested parameters (`call_functions`); what
counts as the same call is written down in `call_match`. Nothing is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.parsing import render_call
from rolloom.envs.tools.call_functions import FUNCTIONS
from rolloom.envs.tools.call_kinds import Function
from rolloom.envs.tools.call_match import same_calls
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, ToolSpec

NONE_FITS = "N/A"
NONE_RATE = 0.04
"""Share of requests that no function fits, from level 5 on: refusing always must not pay."""

BY_NAME = {function.name: function for function in FUNCTIONS}


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from.

    Attributes:
        offered: functions on offer.
        calls: fewest and most calls.
        extras: chance of each optional argument.
        spoken: dates, times, enums and small numbers are in words.
        nested: objects and arrays may be needed.
        near: share of the other functions that are of the same family.
        repeats: chance that a further call is of the same function as the first.
        none: some requests fit no function.
    """

    offered: int
    calls: tuple[int, int] = (1, 1)
    extras: float = 0.0
    spoken: bool = False
    nested: bool = False
    near: float = 0.0
    repeats: float = 0.0
    none: bool = False


LEVELS = (
    Difficulty(2),
    Difficulty(3, extras=0.4),
    Difficulty(4, extras=0.5, spoken=True),
    Difficulty(5, extras=0.5, spoken=True, near=0.6),
    Difficulty(6, (1, 2), 0.5, True, near=0.6, none=True),
    Difficulty(7, (2, 3), 0.5, True, near=0.6, repeats=0.6, none=True),
    Difficulty(8, (1, 2), 0.6, True, True, 0.7, 0.3, True),
    Difficulty(9, (2, 3), 0.6, True, True, 0.7, 0.4, True),
    Difficulty(10, (3, 4), 0.7, True, True, 0.8, 0.5, True),
    Difficulty(12, (4, 6), 0.8, True, True, 0.9, 0.5, True),
)


class FunctionCall(TextEnv):
    """Single-turn function calling, scored by call equivalence (in the manner of the Berkeley leaderboard).

    The reward is 1.0 when the calls of the turn are exactly those asked for, whatever their order and
    whatever text stands beside them, else 0.0. Defaults may be given or left out, `3` equals `3.0`, case and
    spacing of free text do not count; see `rolloom.envs.tools.call_match`. Components: `names_right` (the
    functions are right) and `correct`. The functions, 54 in 12 families, are passed as tools.

    | level | what it adds |
    |---|---|
    | 1 | two functions, one call, required arguments only |
    | 2-3 | 3-4 functions, optional arguments, then dates, times and enums in words |
    | 4 | near misses: functions of the same family |
    | 5-6 | 2-3 calls at once, of the same function too; 4% of the requests fit no function |
    | 7-8 | nested objects and arrays |
    | 9-10 | 10-12 functions, 3-6 calls, most optional arguments |
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"request", "functions", "calls", "none"}`; a call is `[name, arguments]`."""
        drawn = LEVELS[level - 1]
        usable = [f for f in FUNCTIONS if drawn.nested or f.plain]
        number = int(rng.integers(drawn.calls[0], drawn.calls[1] + 1))
        functions = [usable[int(rng.integers(len(usable)))]]
        while len(functions) < number:
            again = rng.random() < drawn.repeats
            functions.append(functions[0] if again else usable[int(rng.integers(len(usable)))])
        calls, sentences = [], []
        for function in functions:
            arguments, sentence = function.draw(rng, drawn.spoken, drawn.extras, drawn.nested)
            calls.append([function.name, arguments])
            sentences.append(sentence)
        offered = list(dict.fromkeys(function.name for function in functions))
        families = {function.family for function in functions}
        others = [f.name for f in rng.permutation(np.array(FUNCTIONS, dtype=object)) if f.name not in offered]
        near = [name for name in others if BY_NAME[name].family in families]
        room = max(0, drawn.offered - len(offered))
        offered += [*near[: round(room * drawn.near)], *(name for name in others if name not in near)][:room]
        none = drawn.none and rng.random() < NONE_RATE
        if none:
            wanted = {function.name for function in functions}
            offered = [name for name in offered if name not in wanted] or others[:1]
        order = [offered[int(i)] for i in rng.permutation(len(offered))]
        return {
            "request": " ".join(sentences),
            "functions": order,
            "calls": [] if none else calls,
            "none": drawn.none,
        }

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the request and the functions on offer."""
        return f"{problem['request']} {sorted(problem['functions'])}"

    def prompt(self) -> Messages:
        """Return the request."""
        how = "Call the functions that do this, all in one turn."
        if self.problem["none"]:
            how += f" If the functions cannot do it, call none and answer {NONE_FITS}."
        return (Message(role="user", content=f"{self.problem['request']}\n\n{how}"),)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the functions on offer."""
        return tuple(_spec(name) for name in self.problem["functions"])

    def respond(self, turn: AssistantTurn) -> Reply:
        """Compare the calls with those asked for."""
        got = [(call.name, call.arguments) for call in turn.tool_calls]
        wanted = [(name, arguments) for name, arguments in self.problem["calls"]]
        names = right = False
        if turn.malformed is None:
            names = sorted(name for name, _ in got) == sorted(name for name, _ in wanted)
            schemas = {name: _spec(name).parameters for name, _ in wanted}
            right = names and same_calls(schemas, wanted, got)
            if not wanted:
                right = names = not got and turn.content == NONE_FITS
        parts = {"correct": float(right), "names_right": float(names)}
        return Reply(reward=float(right), done=True, components=parts)

    def gold(self) -> str:
        """Return the calls, or the refusal."""
        calls = [render_call(name, arguments) for name, arguments in self.problem["calls"]]
        return "\n".join(calls) or NONE_FITS

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return which function does what, with its arguments at length."""
        calls = self.problem["calls"]
        if style == "compact":
            return ""
        if not calls:
            short = "none of the functions does this."
            if style == "medium":
                return short
            seen = " ".join(f"{name}: {BY_NAME[name].note}" for name in self.problem["functions"])
            return (
                f"Let me look at what there is. {seen} So {short} Wait, let me check: {short} That is right."
            )
        if style == "medium":
            return " ".join(f"{name}: {_listed(arguments)}." for name, arguments in calls)
        parts = [f"There are {len(self.problem['functions'])} functions, and {len(calls)} calls are needed."]
        for name, arguments in calls:
            parts.append(f"{name} fits: {BY_NAME[name].note} Its arguments are {_listed(arguments)}.")
            if rng.random() < 0.7:
                parts.append(f"Wait, let me check: {name} with {_listed(arguments)}. That is right.")
        return " ".join(parts)

    def attacks(self) -> dict[str, str]:
        """Return calls that are nearly right, and all calls at once."""
        calls = [(name, arguments) for name, arguments in self.problem["calls"]]
        if not calls:
            return {"a call all the same": render_call(self.problem["functions"][0], {})}
        right = [render_call(name, arguments) for name, arguments in calls]
        name, arguments = calls[0]
        first = next(iter(arguments))
        return {
            "one call twice": "\n".join([*right, right[0]]),
            "one call more": "\n".join([*right, render_call(self.problem["functions"][0], {})]),
            "no arguments": "\n".join([render_call(name, {}), *right[1:]]),
            "an argument more": "\n".join([render_call(name, {**arguments, "score": 1}), *right[1:]]),
            "any value": "\n".join([render_call(name, {**arguments, first: ["*"]}), *right[1:]]),
            "every function": "\n".join(
                render_call(n, arguments) for n in [*self.problem["functions"], "eval"]
            ),
            "refusal": NONE_FITS,
            "calls told in words": "\n".join(right).replace("tool_call", "call"),
        }


def _listed(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


@cache
def _spec(name: str) -> ToolSpec:
    function: Function = BY_NAME[name]
    return ToolSpec(name, function.note, function.schema())
