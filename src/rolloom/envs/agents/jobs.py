"""Draws a workplace problem: the office's tables, the jobs asked for, the policies that bind them.

A problem is JSON: `{"tables", "tools", "columns", "jobs", "policies", "request", "plan", "max_turns"}`;
the plan is worked out by `planner.py` from the tables, the jobs and the policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.agents.office import FIRST_HOUR, LAST_HOUR, TOOLS, Office, Tables
from rolloom.envs.agents.planner import POLICIES, plan
from rolloom.envs.types import ToolCall

NAMES = (
    "ana",
    "bob",
    "eve",
    "ian",
    "joe",
    "kim",
    "leo",
    "mia",
    "ned",
    "pam",
    "ray",
    "sue",
    "tom",
    "zoe",
    "amy",
    "dan",
)
SURNAMES = ("lee", "li", "lea", "leigh")
CITIES = ("paris", "rome", "oslo", "cairo")
ITEMS = ("lamp", "desk", "cup", "bell", "coat", "ring", "book", "shoe", "hat", "key", "fork", "door")
DAYS = ("monday", "tuesday", "friday")
WORDS = ("late", "thanks", "welcome", "soon")
ALL_COLUMNS = ["id", "item", "price", "paid", "status"]
ORDER_TOOLS = ["find_orders", "cancel_order", "ship_order"]
SELECTORS = ("cheapest", "dearest", "all paid", "all unpaid")
SPARE_TURNS = 4


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from.

    Attributes:
        jobs: how many jobs; the kinds are drawn, each kind on offer at most once more than the others.
        kinds: kinds of job on offer.
        tools: tools on offer, at least those the kinds need.
        orders: most orders of a customer.
        policies: number of policies that bind the jobs.
        customers: customers in the office.
        surnames: customers share first names, so that requests give the city or the surname.
        selectors: orders are chosen by a condition instead of by their item.
    """

    jobs: int
    kinds: tuple[str, ...]
    tools: list[str]
    orders: int = 3
    policies: int = 0
    customers: int = 4
    surnames: bool = False
    selectors: bool = True


_EMAIL_TOOLS = [*ORDER_TOOLS, "find_customers", "send_email"]
_ALL = ("order", "email", "meet", "city", "move")
LEVELS = (
    Difficulty(1, ("order",), ORDER_TOOLS, orders=2, selectors=False),
    Difficulty(1, ("order",), ORDER_TOOLS),
    Difficulty(2, ("order",), ORDER_TOOLS),
    Difficulty(2, ("order", "email"), _EMAIL_TOOLS),
    Difficulty(3, ("order", "email", "meet"), list(TOOLS)[:-1]),
    Difficulty(3, _ALL, list(TOOLS), customers=6, surnames=True),
    Difficulty(4, _ALL, list(TOOLS), 4, 2, 8, True),
    Difficulty(5, _ALL, list(TOOLS), 4, 4, 10, True),
    Difficulty(7, _ALL, list(TOOLS), 5, 5, 12, True),
    Difficulty(10, _ALL, list(TOOLS), 6, len(POLICIES), 16, True),
)


def _pick(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _tables(rng: np.random.Generator, difficulty: Difficulty) -> Tables:
    if difficulty.surnames:
        firsts = [NAMES[int(i)] for i in rng.permutation(len(NAMES))[: (difficulty.customers + 1) // 2]]
        names = [
            f"{first} {SURNAMES[int(i)]}" for first in firsts for i in rng.permutation(len(SURNAMES))[:2]
        ]
    else:
        names = [NAMES[int(i)] for i in rng.permutation(len(NAMES))[: difficulty.customers]]
    customers = []
    for index, name in enumerate(names[: difficulty.customers]):
        # Two who share a first name live in different cities, so that "ana of rome" is one person.
        city = CITIES[(int(rng.integers(2)) * 2 + index) % len(CITIES)]
        customers.append([name, city, f"{name.replace(' ', '.')}@{city}"])
    ids = iter(int(number) for number in 10 + rng.permutation(90))
    orders = []
    for name, *_ in customers:
        count = int(rng.integers(1 if difficulty.orders < 3 else 2, difficulty.orders + 1))
        items = [ITEMS[int(i)] for i in rng.permutation(len(ITEMS))[:count]]
        prices = rng.permutation(np.arange(5, 150))[:count]
        for item, price in zip(items, prices, strict=True):
            status = "shipped" if difficulty.policies and rng.random() < 0.3 else "new"
            orders.append([next(ids), name, item, int(price), _pick(rng, ("paid", "unpaid")), status])
    events = []
    if "add_event" in difficulty.tools:
        for day in DAYS:
            for hour in range(FIRST_HOUR, LAST_HOUR):
                if rng.random() < (0.7 if hour < FIRST_HOUR + 4 else 0.3):
                    events.append([day, hour, _pick(rng, customers)[0]])
    return {"customers": customers, "orders": sorted(orders), "emails": [], "events": events}


def _job(
    rng: np.random.Generator, kind: str, difficulty: Difficulty, tables: Tables, name: str
) -> dict[str, Any]:
    job: dict[str, Any] = {"kind": kind, "customer": name}
    if kind in ("order", "city"):
        job["action"] = _pick(rng, ("cancel", "ship"))
        own = [row for row in tables["orders"] if row[1] == name]
        if difficulty.selectors:
            job["select"] = _pick(rng, SELECTORS if kind == "order" else SELECTORS[:2])
        else:
            job["select"] = _pick(rng, own)[2]
        if kind == "city":
            job["city"] = _pick(rng, CITIES)
    elif kind == "email":
        job["text"] = _pick(rng, WORDS)
    elif kind == "meet":
        job["day"] = _pick(rng, DAYS)
    else:
        days = [int(i) for i in rng.permutation(len(DAYS))[:2]]
        job["day"], job["to"] = DAYS[days[0]], DAYS[days[1]]
    return job


def _jobs(rng: np.random.Generator, difficulty: Difficulty, tables: Tables) -> list[dict[str, Any]]:
    names = [tables["customers"][int(i)][0] for i in rng.permutation(len(tables["customers"]))]
    kinds = list(difficulty.kinds)
    if difficulty.jobs < len(kinds):
        kinds = [kinds[int(i)] for i in rng.permutation(len(kinds))]
    jobs = []
    for index in range(difficulty.jobs):
        kind = kinds[index] if index < len(kinds) else _pick(rng, kinds)
        jobs.append(_job(rng, kind, difficulty, tables, names[index]))
    if not difficulty.selectors and rng.random() < 0.5:
        others = [row[2] for row in tables["orders"] if row[1] == names[0] and row[2] != jobs[0]["select"]]
        if others:
            second = {**jobs[0], "select": others[0], "action": _pick(rng, ("cancel", "ship"))}
            jobs.append(second)
    return [jobs[int(i)] for i in rng.permutation(len(jobs))]


def job_phrase(job: dict[str, Any], tables: Tables, surnames: bool) -> str:
    """Return a job in words: `cancel the lamp of ana`."""
    who = job["customer"]
    if surnames and job["kind"] in ("email", "meet"):
        city = next(row[1] for row in tables["customers"] if row[0] == who)
        who = f"{who.split()[0]} of {city}"
    if job["kind"] == "email":
        return f"email {who}: {job['text']}"
    if job["kind"] == "meet":
        return f"meet {who} on {job['day']} at the first free hour"
    if job["kind"] == "move":
        return f"move the first event of {job['day']} to the first free hour of {job['to']}"
    chosen = f"the {job['select']}" if job["select"] not in SELECTORS[2:] else job["select"]
    noun = "" if job["select"] in ITEMS else (" orders" if job["select"].startswith("all") else " order")
    who = who if job["kind"] == "order" else f"each customer in {job['city']}"
    return f"{job['action']} {chosen}{noun} of {who}"


def draw(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Return a random problem of a level; doing nothing never solves it."""
    difficulty = LEVELS[level - 1]
    while True:
        tables = _tables(rng, difficulty)
        jobs = _jobs(rng, difficulty, tables)
        policies = [int(i) for i in sorted(rng.permutation(len(POLICIES))[: difficulty.policies])]
        steps = plan(tables, jobs, policies)
        if steps is None:
            continue
        problem = {
            "tables": tables,
            "tools": list(difficulty.tools),
            "columns": ALL_COLUMNS if difficulty.selectors else ALL_COLUMNS[:2],
            "jobs": jobs,
            "policies": policies,
            "request": ", then ".join(job_phrase(job, tables, difficulty.surnames) for job in jobs),
            "plan": steps,
            "max_turns": 6 if level == 1 else len(steps) + len(steps) // 2 + SPARE_TURNS,
        }
        if solves(problem):
            return problem


def solves(problem: dict[str, Any]) -> bool:
    """Return whether the plan runs without an error and leaves another state than it found."""
    office = new_office(problem)
    before = office.state()
    succeeded = all(office.call(ToolCall(step["tool"], step["args"]))[1] for step in problem["plan"])
    after = office.state()
    office.close()
    return succeeded and before != after


def new_office(problem: dict[str, Any]) -> Office:
    """Return the office as it is before the first turn."""
    return Office(problem["tables"], problem["tools"], problem["columns"])
