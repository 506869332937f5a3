"""Data and questions of `tools/multi_step-v0`: users, orders, products, suppliers, parcels, weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.tools.call_kinds import CITIES, FIRST, LAST, pick
from rolloom.envs.tools.solver import Tools

Job = dict[str, Any]
Problem = dict[str, Any]

# What can be asked of an order: words, and the tools' results to go through.
FIELDS: dict[str, str] = {
    "total": "the total in cents of {}",
    "price": "the price in cents of the product in {}",
    "weight": "the weight in grams of the product in {}",
    "parcel": "the weight in grams of the parcel of {}",
    "extension": "the phone extension of the supplier of the product in {}",
    "station": "the number of the weather station in the city where the parcel of {} is",
    "supplier_station": "the number of the weather station in the city of the supplier of the product in {}",
}
SHORT, MIDDLE, LONG = ("price", "weight", "parcel"), ("extension", "station"), ("supplier_station", "station")
PICKS = {
    "only": "the order of {}",
    "highest": "the order of {} with the highest total",
    "lowest": "the order of {} with the lowest total",
    "latest": "the latest order of {}",
}
WRITES = ("cancel_order", "hold_parcel", "open_ticket", "set_city")


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from.

    Attributes:
        users: users in the world.
        orders: fewest and most orders of a user.
        fields: what is asked.
        by_name: users are named; otherwise the order's id is given.
        jobs: values to add up.
        writes: changes to make.
        extra: misleading tools are on offer.
        flaky: tools that fail the first time.
        page: entries on a page of a list; 0 for no pages.
        namesakes: users share names and are told apart by their city.
    """

    users: int
    orders: tuple[int, int]
    fields: tuple[str, ...]
    by_name: bool = True
    jobs: int = 1
    writes: int = 0
    extra: bool = False
    flaky: int = 0
    page: int = 0
    namesakes: bool = False


LEVELS = (
    Difficulty(4, (1, 1), SHORT, by_name=False),
    Difficulty(4, (1, 1), MIDDLE, by_name=False),
    Difficulty(5, (1, 1), ("total", *SHORT)),
    Difficulty(6, (2, 4), SHORT, extra=True),
    Difficulty(6, (2, 4), MIDDLE, writes=1, extra=True),
    Difficulty(8, (2, 4), MIDDLE, writes=1, extra=True, flaky=2),
    Difficulty(8, (4, 8), LONG, writes=1, extra=True, flaky=2, page=3),
    Difficulty(10, (4, 8), (*MIDDLE, *LONG), jobs=2, writes=2, extra=True, flaky=3, page=3),
    Difficulty(12, (5, 9), LONG, jobs=2, writes=2, extra=True, flaky=4, page=3, namesakes=True),
    Difficulty(14, (6, 12), LONG, jobs=3, writes=3, extra=True, flaky=5, page=4, namesakes=True),
)
FLAKY = ("find_users", "list_orders", "get_order", "get_product", "get_supplier", "get_parcel", "get_weather")


def draw(rng: np.random.Generator, level: int) -> Problem:
    """Return a problem: the world, `jobs`, `writes`, `flaky`, `page` and `extra`."""
    drawn = LEVELS[level - 1]
    world = _world(rng, drawn)
    owners = [str(user) for user in rng.permutation(sorted(world["users"]))][: drawn.jobs]
    jobs = [_job(rng, drawn, world, owner) for owner in owners]
    writes: list[Job] = []
    for index in range(drawn.writes):
        kind = pick(rng, WRITES)
        writes.append({"kind": kind, "job": index % len(jobs)})
    unique = {(one["kind"], one["job"]): one for one in writes}
    flaky = [FLAKY[int(i)] for i in rng.choice(len(FLAKY), size=drawn.flaky, replace=False)]
    rest = {"flaky": flaky, "page": drawn.page, "extra": drawn.extra}
    return {**world, "jobs": jobs, "writes": list(unique.values()), **rest}


def _world(rng: np.random.Generator, drawn: Difficulty) -> Problem:
    cities = [CITIES[int(i)] for i in rng.choice(len(CITIES), size=14, replace=False)]
    weather = {city: int(n) for city, n in zip(cities, _ids(rng, 14, 5), strict=True)}
    suppliers = {
        f"S-{n}": {"city": pick(rng, cities), "extension": int(rng.integers(1_000, 9_999))}
        for n in _ids(rng, 6, 3)
    }
    products = {
        f"P-{n}": {
            "price_cents": int(rng.integers(1_000, 99_999)),
            "weight_g": int(rng.integers(1_000, 30_000)),
            "supplier_id": pick(rng, sorted(suppliers)),
        }
        for n in _ids(rng, 10, 4)
    }
    names: list[str] = []
    while len(names) < drawn.users:
        name = f"{pick(rng, FIRST)} {pick(rng, LAST)}"
        names += [name] * (3 if drawn.namesakes else 1) if name not in names else []
    users, orders, parcels = {}, {}, {}
    counts = rng.integers(drawn.orders[0], drawn.orders[1] + 1, size=len(names))
    numbers = iter(_ids(rng, int(counts.sum()), 5))
    boxes = iter(_ids(rng, int(counts.sum()), 6))
    homes: dict[str, list[str]] = {}
    for number, name, count in zip(_ids(rng, len(names), 4), names, counts, strict=True):
        user = f"U-{number}"
        city = pick(rng, [one for one in cities if one not in homes.get(name, ())])
        homes.setdefault(name, []).append(city)
        users[user] = {"name": name, "city": city}
        days, totals = (
            rng.choice(700, size=count, replace=False),
            rng.choice(90_000, size=count, replace=False),
        )
        for day, total in zip(days, totals, strict=True):
            parcel = f"B-{next(boxes)}"
            parcels[parcel] = {"city": pick(rng, cities), "weight_g": int(rng.integers(1_000, 60_000))}
            orders[f"O-{next(numbers)}"] = {
                "user_id": user,
                "placed": str(np.datetime64("2025-01-01") + int(day)),
                "total_cents": int(total) + 1_000,
                "product_id": pick(rng, sorted(products)),
                "parcel_id": parcel,
            }
    return {
        **{"users": users, "orders": orders, "products": products, "suppliers": suppliers},
        **{"parcels": parcels, "weather": weather},
    }


def _ids(rng: np.random.Generator, count: int, digits: int) -> list[int]:
    low = 10 ** (digits - 1)
    found: dict[int, None] = {}
    while len(found) < count:
        found.update(dict.fromkeys(int(n) for n in rng.integers(low, 10 * low, size=count)))
    return list(found)[:count]


def _job(rng: np.random.Generator, drawn: Difficulty, world: Problem, owner: str) -> Job:
    own = [order for order, data in world["orders"].items() if data["user_id"] == owner]
    job: Job = {"field": pick(rng, drawn.fields)}
    if not drawn.by_name:
        return {**job, "order": pick(rng, own)}
    user = world["users"][owner]
    picked = "only" if len(own) == 1 else pick(rng, ("highest", "lowest", "latest"))
    return {**job, "user": user["name"], "city": user["city"] if drawn.namesakes else "", "pick": picked}


# -- in words ------------------------------------------------------------------------------------------------


def order_words(job: Job) -> str:
    """Return how a request names a job's order."""
    return f"order {job['order']}" if "order" in job else PICKS[job["pick"]].format(user_words(job))


def user_words(job: Job) -> str:
    """Return how a request names a job's user."""
    return job["user"] + (f" from {job['city']}" if job["city"] else "")


def write_words(job: Job, kind: str) -> str:
    """Return a change in words."""
    order = order_words(job)
    if kind == "cancel_order":
        return f"cancel {order}"
    if kind == "hold_parcel":
        return f"hold the parcel of {order}"
    if kind == "open_ticket":
        return f"open a ticket for {order}, with {FIELDS[job['field']].format('it')} as its code"
    return f"set the city of {user_words(job)} to the city where the parcel of {order} is"


def request(problem: Problem) -> str:
    """Return the whole request."""
    jobs = problem["jobs"]
    asked = [FIELDS[job["field"]].format(order_words(job)) for job in jobs]
    question = asked[0] if len(asked) == 1 else f"the sum of {', '.join(asked[:-1])} and {asked[-1]}"
    changes = [write_words(jobs[one["job"]], one["kind"]) for one in problem["writes"]]
    if not changes:
        return f"What is {question}? Answer with the number only."
    told = "\n".join(f"- {change}" for change in changes)
    return f"Make these changes, and no others:\n{told}\nThen answer: what is {question}? Number only."


# -- the solution --------------------------------------------------------------------------------------------


def solve(problem: Problem, tools: Tools) -> str:
    """Find each value, make the changes that go with it, and return the sum."""
    total = 0
    for index, job in enumerate(problem["jobs"]):
        user, order, data = _find_order(problem, tools, job)
        why = f"What is wanted is {FIELDS[job['field']].format(order_words(job))}."
        value = _value(tools, why, job["field"], data)
        total += value
        for kind in (one["kind"] for one in problem["writes"] if one["job"] == index):
            change = f"A change to make is to {write_words(job, kind)}."
            if kind == "cancel_order":
                tools.call("cancel_order", change, order_id=order)
            elif kind == "hold_parcel":
                tools.call("hold_parcel", change, parcel_id=data["parcel_id"])
            elif kind == "open_ticket":
                tools.call("open_ticket", change, order_id=order, code=value)
            else:
                city = tools.call("get_parcel", change, parcel_id=data["parcel_id"])["city"]
                tools.call("set_city", change, user_id=user, city=city)
    return str(total)


def _find_order(problem: Problem, tools: Tools, job: Job) -> tuple[str, str, dict[str, Any]]:
    why = f"What has to be found first is {order_words(job)}."
    if "order" in job:
        data = tools.call("get_order", why, order_id=job["order"])
        return data["user_id"], job["order"], data
    found = [
        user["id"]
        for user in _all_pages(problem, tools, "find_users", "users", why, name=job["user"])
        if not job["city"] or user["city"] == job["city"]
    ]
    ids = _all_pages(problem, tools, "list_orders", "orders", why, user_id=found[0])
    orders = {one: tools.call("get_order", why, order_id=one) for one in ids}
    ranks = {
        "only": lambda one: 0,
        "highest": lambda one: -orders[one]["total_cents"],
        "lowest": lambda one: orders[one]["total_cents"],
        "latest": lambda one: -int(orders[one]["placed"].replace("-", "")),
    }
    best = min(ids, key=ranks[job["pick"]])
    return found[0], best, orders[best]


def _all_pages(
    problem: Problem, tools: Tools, name: str, key: str, why: str, /, **arguments: Any
) -> list[Any]:
    found, page = [], 1
    while True:
        more = {"page": page} if problem["page"] else {}
        result = tools.call(name, why, **arguments, **more)
        found += result[key]
        if not result.get("next_page"):
            return found
        page = result["next_page"]


def _value(tools: Tools, why: str, field: str, order: dict[str, Any]) -> int:
    if field == "total":
        return order["total_cents"]
    if field in ("parcel", "station"):
        parcel = tools.call("get_parcel", why, parcel_id=order["parcel_id"])
        if field == "parcel":
            return parcel["weight_g"]
        return tools.call("get_weather", why, city=parcel["city"])["station"]
    product = tools.call("get_product", why, product_id=order["product_id"])
    if field in ("price", "weight"):
        return product["price_cents" if field == "price" else "weight_g"]
    supplier = tools.call("get_supplier", why, supplier_id=product["supplier_id"])
    if field == "extension":
        return supplier["extension"]
    return tools.call("get_weather", why, city=supplier["city"])["station"]
