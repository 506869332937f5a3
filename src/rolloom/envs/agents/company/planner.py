"""Draws a request and works out what a right solution does, by doing it on a company of its own.

A template looks at the company, words a request and calls the tools that fulfil it. What these calls leave
behind is the state that an episode is scored by; nobody else ever writes an expected state down.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any

from rolloom.envs.agents.company.tools import Company
from rolloom.envs.agents.company.world import MEETINGS, TOPICS

DAILY = ("here is what we agreed on", "please have a look at it today", "thank you, that works for us")
MORE = ("we will come back to you next week", "can you send me the numbers", "the delivery is late, sorry")
PHRASES = DAILY + MORE


class UnsuitableError(Exception):
    """The company drawn has nothing that a template could be about."""


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of request.

    Attributes:
        write: given a planner, does what the request asks for and returns the request.
        domain: email, calendar, crm, tasks, files or cross.
        tier: 1 direct, 2 with look-ups, 3 bulk, 4 conditional.
    """

    write: Callable[[Planner], str]
    domain: str
    tier: int


TEMPLATES: dict[str, Template] = {}


def template(domain: str, tier: int) -> Callable[[Callable[[Planner], str]], Callable[[Planner], str]]:
    """Register a template under its function's name."""

    def add(write: Callable[[Planner], str]) -> Callable[[Planner], str]:
        TEMPLATES[write.__name__] = Template(write, domain, tier)
        return write

    return add


class Planner:
    """What a template works with.

    Attributes:
        company: changed by every step.
        chance: where templates draw from.
        vague: people and days may be told indirectly.
        steps: `{"tool", "args", "why"}` of each call so far.
        answers: what has to be told at the end, in order.
    """

    def __init__(self, company: Company, chance: Random, vague: bool) -> None:
        self.company, self.chance, self.vague = company, chance, vague
        self.steps: list[dict[str, Any]] = []
        self.answers: list[str] = []

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds in the company as it is now."""
        return self.company.rows(query, *values)

    def one(self, query: str, *values: Any) -> tuple[Any, ...]:
        """Return a random row of a query.

        Raises:
            UnsuitableError: there is none.
        """
        return self.pick(self.rows(query, *values))

    def pick(self, options: Any) -> Any:
        """Return a random one of some options, of which there has to be one."""
        if not options:
            raise UnsuitableError
        return options[self.chance.randrange(len(options))]

    def need(self, condition: Any) -> None:
        """Give up this template unless a condition holds."""
        if not condition:
            raise UnsuitableError

    def do(self, tool: str, why: str, **arguments: Any) -> Any:
        """Take a step and return what it brings."""
        result = getattr(self.company, tool)(**arguments)
        self.steps.append({"tool": tool, "args": arguments, "why": why})
        return json.loads(result) if result.startswith("{") else result

    def read(self, tool: str, why: str, **arguments: Any) -> None:
        """Read every page of a search, unless that has been done before."""
        if any(step["tool"] == tool and step["args"] == arguments for step in self.steps):
            return
        pages = self.do(tool, why, **arguments)["pages"]
        for page in range(2, pages + 1):
            self.do(tool, f"page {page} of {pages} may have more", **arguments, page=page)

    def tell(self, answer: Any) -> None:
        """Note an answer that the last message has to give."""
        self.answers.append(str(answer))

    # -- who and when ----------------------------------------------------------------------------------------

    def name_of(self, email: str) -> str:
        """Return an employee's name."""
        return self.rows("SELECT name FROM employees WHERE email = ?", email)[0][0]

    def someone(self, besides: str = "") -> str:
        """Return the address of a random employee."""
        return self.one("SELECT email FROM employees WHERE email != ? ORDER BY email", besides)[0]

    def employee(self, email: str) -> str:
        """Return how a request names an employee, and look the address up."""
        name, team = self.rows("SELECT name, team FROM employees WHERE email = ?", email)[0]
        first = name.split()[0]
        like = "SELECT count(*) FROM employees WHERE instr(lower(name), lower(?)) AND team = ?"
        if self.vague and self.chance.random() < 0.6 and self.rows(like, first, team)[0][0] == 1:
            self.read("find_employees", f"the address of {first} of {team} is not known yet", name=first)
            return f"{first} of the {team} team"
        self.read("find_employees", f"the address of {name} is not known yet", name=name)
        return name

    def customer(self, number: int) -> str:
        """Return how a request names a customer, and look the row up."""
        name, company = self.rows("SELECT name, company FROM customers WHERE id = ?", number)[0]
        first = name.split()[0]
        like = "SELECT count(*) FROM customers WHERE instr(lower(name), lower(?)) AND company = ?"
        if self.vague and self.chance.random() < 0.6 and self.rows(like, first, company)[0][0] == 1:
            self.read("search_customers", f"look up {first} of {company}", name=first, company=company)
            return f"the customer {first} of {company}"
        self.read("search_customers", f"look up the customer {name}", name=name)
        return f"the customer {name}"

    def sender(self, address: str) -> str:
        """Return how a request names who wrote an email, and look the address up."""
        found = self.rows("SELECT id FROM customers WHERE email = ?", address)
        return self.customer(found[0][0]) if found else self.employee(address)

    def day(self, text: str) -> str:
        """Return how a request names a day."""
        ahead = (date.fromisoformat(text) - self.company.today).days
        if self.vague and ahead > 0 and self.chance.random() < 0.6:
            return "tomorrow" if ahead == 1 else f"in {ahead} days"
        return f"on {text}"

    def coming_day(self) -> str:
        """Return a random day of the next two weeks."""
        return (self.company.today + timedelta(days=self.chance.randrange(1, 12))).isoformat()

    def title(self) -> str:
        """Return a title for a new event."""
        return f"{self.pick(TOPICS)} {self.pick(MEETINGS)}"

    def phrase(self) -> str:
        """Return the text of a new email."""
        return self.pick(PHRASES)
