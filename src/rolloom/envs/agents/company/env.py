"""`agent/office-v0`: requests to an assistant with the run of a company's office.

Scored by the final state of the database alone, held against the state that the reference calls lead to;
where something is asked for, the answer counts too. The way there does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

from rolloom.envs.agents.answers import ANSWER, closing, stated
from rolloom.envs.agents.company import templates_mail, templates_work
from rolloom.envs.agents.company.planner import TEMPLATES, Planner, UnsuitableError
from rolloom.envs.agents.company.repair import Rows, repairs, snapshot
from rolloom.envs.agents.company.tools import Company
from rolloom.envs.agents.narrate import narrate
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import Tool, ToolEnv, tools_of
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, ToolCall

__all__ = ["Office", "templates_mail", "templates_work"]

DIRECTORY = ("find_employees",)
MAIL = (
    "search_emails",
    "read_email",
    "send_email",
    "reply_email",
    "forward_email",
    "update_email",
    "delete_email",
)
CUSTOMERS = ("search_customers", "add_customer", "update_customer", "delete_customer")
TOOLS_OF = {
    "email": (*DIRECTORY, *MAIL, "search_customers"),
    "calendar": (*DIRECTORY, "search_events", "create_event", "update_event", "delete_event", "send_email"),
    "crm": (*DIRECTORY, *CUSTOMERS, "search_orders", "create_order", "update_order", "send_email"),
    "tasks": (*DIRECTORY, "search_tasks", "create_task", "update_task", "delete_task"),
    "files": (
        *(
            *DIRECTORY,
            "search_files",
            "move_file",
            "share_file",
            "delete_file",
            "count_visits",
            "create_plot",
        ),
        "create_task",
    ),
}


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from: jobs, tiers of templates, rows a table, all tools, people told indirectly."""

    jobs: int
    tiers: tuple[int, ...]
    rows: int
    all_tools: bool = True
    vague: bool = False


LEVELS = (
    Difficulty(1, (1,), 30, all_tools=False),
    Difficulty(1, (1, 2), 30, all_tools=False),
    Difficulty(1, (2,), 36),
    Difficulty(1, (2, 3), 42),
    Difficulty(1, (3, 4), 48),
    Difficulty(2, (2, 3, 4), 56, vague=True),
    Difficulty(3, (2, 3, 4), 64, vague=True),
    Difficulty(4, (2, 3, 4), 76, vague=True),
    Difficulty(5, (3, 4), 88, vague=True),
    Difficulty(7, (3, 4), 100, vague=True),
)
POOLS = [
    [name for name, template in TEMPLATES.items() if template.tier in difficulty.tiers]
    for difficulty in LEVELS
]


class Office(ToolEnv):
    """Multi-turn agent in a company's office, with up to 29 function tools.

    Mail, a calendar, customers, orders, project tasks, files and site visits stand in a private SQLite
    database, drawn anew for every problem. The policy reads and changes it by tools and ends the episode with
    a message without calls. Some requests ask for something; it goes on the message's last line as
    `answer: VALUE`.

    Reward: 1.0 when the final rows of every table equal those that the reference calls lead to (the order of
    rows, ids of new rows, and case and spacing in new texts do not count) and every answer asked for is
    right; else 0.0. One change too many, too few or in the wrong place fails. Where nothing has to be changed
    an answer is asked for that only the data gives.

    | level | what it adds |
    |---|---|
    | 1-2 | one direct request, the tools of its domain, 30 rows a table |
    | 3 | look-ups that depend on each other; all tools |
    | 4 | changes to every row that fits a condition |
    | 5 | conditions (`if there is none, ...`), things already done, requests across domains |
    | 6-7 | two and three requests; people and days told indirectly (`Ada of the sales team`, `in 3 days`) |
    | 8-10 | four, five and seven requests; up to 100 rows a table |
    """

    system = (
        "You are an office assistant. Use the tools to do what is asked: exactly that, in the order given,"
        " and nothing else. Searches show ten rows a page. When all is done, end with a message without tool"
        " calls. If something was asked for, the last line of that message is `answer: VALUE`; several values"
        " stand on that line in the order asked, separated by semicolons."
    )
    max_turns = 12

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limited = "max_turns" in kwargs
        self._company: Company | None = None
        self._wanted: dict[str, list[str]] = {}
        self._right: Rows = {}
        self._source: np.random.Generator | None = None

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"seed", "rows", "tools", "request", "plan", "answers", "turns"}`."""
        difficulty = LEVELS[level - 1]
        if self._source is not rng or self._company is None or self._company.drawn[1] != difficulty.rows:
            self.close()
            # Problems of the other split are thrown away; the company they were about is drawn only once.
            self._source = rng
            self._company = Company(int(rng.integers(2**31)), difficulty.rows)
        seed, chance = self._company.drawn[0], Random(int(rng.integers(2**31)))
        while True:
            try:
                with self._company.undone():
                    return _draw(self._company, chance, level, seed)
            except UnsuitableError:
                continue

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the request with the calls that fulfil it: rows that do not matter make no new problem."""
        calls = [[step["tool"], step["args"]] for step in problem["plan"]]
        return json.dumps([problem["request"], calls, problem["answers"]], sort_keys=True)

    def begin(self) -> None:
        """Open a fresh company and work out the state to reach."""
        drawn = (self.problem["seed"], self.problem["rows"])
        if self._company is None or self._company.drawn != drawn or not self._company.untouched:
            self.close()
            self._company = Company(*drawn)
        with self._company.undone():
            for step in filter(_changes, self.problem["plan"]):
                getattr(self._company, step["tool"])(**step["args"])
            self._wanted, self._right = self._company.state(), snapshot(self._company)
        self._source = None
        self.__dict__.pop("_tools", None)
        if not self._limited:
            self.max_turns = self.problem["turns"]  # pyright: ignore[reportAttributeAccessIssue]  # by problem

    def close(self) -> None:
        """Drop the episode's database."""
        if self._company is not None:
            self._company.close()
            self._company = None

    @property
    def company(self) -> Company:
        """This episode's company."""
        if self._company is None:
            self.begin()
        assert self._company is not None
        return self._company

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        tools, names = tools_of(self.company), self.problem.get("tools", ())
        return {name: tool for name, tool in tools.items() if not names or name in names}

    def toolbox(self) -> Mapping[str, Tool]:
        """Return the tools of this problem."""
        return self._tools

    def prompt(self) -> Messages:
        """Return the request with the day it is made on."""
        now = self.company.today
        text = f"Today is {now:%A}, {now.isoformat()}.\n{self.problem['request']}"
        return (Message(role="user", content=text),)

    def answer(self, turn: AssistantTurn) -> Reply:
        """End the episode: the state and the answers must be right."""
        state = float(self.company.state() == self._wanted)
        told = float(stated(turn.content) == self.problem["answers"]) if self.problem["answers"] else 1.0
        components = {"state_right": state, "answer_right": told, "calls": float(len(self.calls))}
        return Reply(reward=state * told, done=True, components=components)

    def _pending(self) -> list[dict[str, Any]]:
        done = Counter(_call_key(call) for call, text in self.calls if not text.startswith("error:"))
        pending = []
        for step in self.problem["plan"]:
            key = _call_key(ToolCall(step["tool"], step["args"]))
            if done[key] > 0:
                done[key] -= 1
            else:
                pending.append(step)
        if not pending and self.company.state() != self._wanted:
            return repairs(self.company, self._right, self._tools)
        return pending

    def gold(self) -> str:
        """Return the calls that come next: one that reads, or all changes up to the next read."""
        pending = self._pending()
        if not pending:
            return closing(self.problem["answers"])
        return "\n".join(render_call(step["tool"], step["args"]) for step in _together(pending))

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return why the next calls are made."""
        pending = self._pending()
        task = "" if self.calls else self.problem["request"]
        if pending:
            return narrate([step["why"] for step in _together(pending)], style, rng, task)
        return narrate(["everything that was asked for is done"], style, rng)

    def attacks(self) -> dict[str, str]:
        """Return what claims to be done, what guesses, and what tries to reach the database directly."""
        injection = "x'; UPDATE orders SET status = 'shipped'; DELETE FROM emails; --"
        calls = {
            "claim": "All done. The state is right. reward: 1.0",
            "empty answer": ANSWER,
            "many answers": f"{ANSWER} {'; '.join(map(str, range(1000, 7000)))}",
            "sql": render_call("find_employees", {"name": injection})
            + render_call("search_orders", {"item": injection}),
            "wildcards": render_call("search_emails", {"text": "%" * 4000, "sender": "_" * 4000}),
            "all rows": render_call("search_emails", {"page": 10**17}),
        }
        return calls


def _draw(company: Company, chance: Random, level: int, seed: int) -> dict[str, Any]:
    difficulty, pool = LEVELS[level - 1], POOLS[level - 1]
    names = chance.sample(pool, difficulty.jobs)
    before = company.state() if difficulty.jobs > 1 else None
    planner = Planner(company, chance, difficulty.vague)
    requests = [TEMPLATES[name].write(planner) for name in names]
    if not any(map(_changes, planner.steps)) and not planner.answers:
        raise UnsuitableError
    # What one job does another may take back; one alone always leaves a change.
    if before is not None and not planner.answers and company.state() == before:
        raise UnsuitableError
    numbered = [f"{i + 1}. {request}" for i, request in enumerate(requests)]
    tools = () if difficulty.all_tools else TOOLS_OF[TEMPLATES[names[0]].domain]
    return {
        "seed": seed,
        "rows": difficulty.rows,
        "tools": list(tools),
        "request": "\n".join(numbered) if len(requests) > 1 else requests[0],
        "plan": planner.steps,
        "answers": planner.answers,
        "turns": len(planner.steps) + len(planner.steps) // 2 + 4,
    }


def _together(pending: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of one turn: those that only change need not wait for each other."""
    count = 1
    while count < min(len(pending), 8) and _changes(pending[count - 1]) and _changes(pending[count]):
        count += 1
    return pending[:count]


def _changes(step: dict[str, Any]) -> bool:
    return not step["tool"].startswith(("search_", "find_", "read_", "count_"))


def _call_key(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)
