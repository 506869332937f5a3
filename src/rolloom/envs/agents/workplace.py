"""An agent in a small office: `cancel the lamp of ana, then say done`, by tools over several turns.

State lives in a private database for the length of an episode. What counts is the final state of every
table, held against the state that the reference plan leads to; the way there does not count. Doing
nothing scores 0.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rolloom.envs.agents import expert, jobs
from rolloom.envs.agents.office import Office, State
from rolloom.envs.agents.planner import POLICIES, Step
from rolloom.envs.base import TextEnv
from rolloom.envs.parsing import render_call
from rolloom.envs.tools.schema import plain
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, ToolCall, ToolSpec


class Workplace(TextEnv):
    """Multi-turn agent; reward 1.0 when the final database equals the reference's, else 0.0.

    The episode ends with a turn without tool calls, or when the turns of the problem run out.
    """

    max_turns = 6

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._office: Office | None = None
        self._wanted: State = {}
        self._done: Counter[str] = Counter()

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a problem; see `jobs.draw`."""
        return jobs.draw(rng, level)

    def prompt(self) -> Messages:
        """Return the request, with the policies in a system message where there are any."""
        user = Message(role="user", content=f"{self.problem['request']}, then say done")
        if not self.problem["policies"]:
            return (user,)
        rules = [f"{i + 1}. {POLICIES[policy]}." for i, policy in enumerate(self.problem["policies"])]
        text = "policies, earlier ones first; do the jobs in their order:\n" + "\n".join(rules)
        return (Message(role="system", content=text), user)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the level's tools."""
        return self.office.tools

    @property
    def office(self) -> Office:
        """This episode's office."""
        if self._office is None:
            self.begin()
        assert self._office is not None
        return self._office

    def begin(self) -> None:
        """Open a fresh office and work out the state to reach."""
        self.close()
        reference = jobs.new_office(self.problem)
        for step in self.problem["plan"]:
            reference.call(ToolCall(step["tool"], step["args"]))
        self._wanted = reference.state()
        reference.close()
        self._office = jobs.new_office(self.problem)
        self._done = Counter()
        self.max_turns = self.problem["max_turns"]  # pyright: ignore[reportAttributeAccessIssue]

    def close(self) -> None:
        """Drop the episode's database."""
        if self._office is not None:
            self._office.close()
            self._office = None

    def respond(self, turn: AssistantTurn) -> Reply:
        """Do the turn's calls, in order; score the state when the episode ends with this turn."""
        messages: list[Message] = []
        failed = 0
        if turn.malformed is not None:
            messages.append(Message(role="tool", content="error: could not read the turn"))
            failed = 1
        for call in turn.tool_calls:
            text, succeeded = self.office.call(call)
            failed += not succeeded
            if succeeded:
                self._done[render_call(call.name, call.arguments)] += 1
            messages.append(Message(role="tool", content=text, name=plain(call.name)))
        components = {"failed_calls": float(failed), "calls": float(len(turn.tool_calls))}
        ends = turn.malformed is None and not turn.tool_calls
        if not ends and self.turn_index + 1 < self.max_turns:
            return Reply(messages=tuple(messages), components=components)
        right = float(self.office.state() == self._wanted)
        return Reply(tuple(messages), right, ends, {**components, "state_right": right})

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return the next turn of the reference plan, or `done`; see `Style`."""
        pending = self._pending()
        if not pending:
            return f"<think>\n{expert.think_done(self.problem['plan'], style, rng)}</think>\ndone"
        steps = expert.next_steps(pending, style, rng)
        first = len(pending) == len(self.problem["plan"])
        thought = expert.think_before(steps, self.problem["request"], first, style, rng)
        calls = "\n".join(render_call(step["tool"], step["args"]) for step in steps)
        return f"<think>\n{thought}</think>\n{calls}"

    def _pending(self) -> list[Step]:
        """Return the plan's steps that no successful call has done yet."""
        done = Counter(self._done)
        pending = []
        for step in self.problem["plan"]:
            call = render_call(step["tool"], step["args"])
            if done[call] > 0:
                done[call] -= 1
            else:
                pending.append(step)
        return pending
