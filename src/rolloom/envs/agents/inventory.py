"""`agent/inventory-v0`: run a warehouse for weeks; only a plan that looks ahead is cheap enough.

Each product is a lot-sizing problem with prices by the day, so a dynamic program over (day, stock) gives the
least cost exactly, and gives the gold agent its next order from whatever state the warehouse is in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from rolloom.envs.agents.narrate import narrate
from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import ToolEnv, tool
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

GOODS = ("bolts", "paint", "rope", "glue", "tiles", "nails", "cable", "soap", "candles", "gloves")
MOST_ORDER = 1000
SHOWN_DAYS = 10


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from.

    Attributes:
        days: how long the warehouse is run.
        products: how many.
        lead: most days an order takes.
        slack: how far above the least cost the budget is.
        prices: prices change from day to day.
        closed: share of days on which suppliers take no orders.
        tight: shelves hold only some days' demand.
    """

    days: int
    products: int
    lead: int
    slack: float
    prices: bool = False
    closed: float = 0.0
    tight: bool = False


LEVELS = (
    Difficulty(5, 1, 0, 0.12),
    Difficulty(6, 1, 1, 0.12),
    Difficulty(8, 1, 2, 0.10),
    Difficulty(8, 2, 2, 0.08, prices=True),
    Difficulty(10, 2, 2, 0.07, True, 0.2),
    Difficulty(12, 2, 3, 0.06, True, 0.2, True),
    Difficulty(14, 3, 3, 0.05, True, 0.25, True),
    Difficulty(18, 3, 3, 0.04, True, 0.25, True),
    Difficulty(22, 4, 3, 0.03, True, 0.3, True),
    Difficulty(28, 5, 4, 0.02, True, 0.3, True),
)


class Inventory(ToolEnv):
    """A warehouse to be run over days or weeks within a budget.

    Every product has a demand that is known for every day. An order costs a fixed amount and a price for each
    piece, and comes after the product's lead time; what lies in store over night costs as well. The policy
    reads forecasts and prices, orders, and lets days pass, by tools; it ends the episode with a message
    without calls after the last day.

    Reward: 1.0 when every day is over, no piece of demand was missed, no shelf overflowed and the total cost
    lies within the budget, which is the least possible cost and a little more; else 0.0. Neither ordering for
    each day nor all at once fits into it.

    | level | what it adds |
    |---|---|
    | 1-3 | one product over five to eight days; orders take up to two days; 12-10% above the least cost |
    | 4-5 | two products, prices by the day, days without orders; 8-7% |
    | 6-8 | shelves that hold only some days' demand, three products, 18 days; 6-4% |
    | 9-10 | five products over four weeks; 3-2% |
    """

    system = (
        "You run a warehouse with the tools. On each day: what was ordered for it arrives, you may order,"
        " then next_day sells the day's demand and stores the rest over night. Never miss demand and never"
        " exceed the shelf. When the last day is over, end with a message without tool calls."
    )
    max_turns = 20

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limited = "max_turns" in kwargs
        self.day = 0
        self.cost = 0
        self.failures: list[str] = []
        self.stock: dict[str, int] = {}
        self.coming: dict[str, dict[int, int]] = {}

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"days", "products": {name: {...}}, "budget", "least"}`; see `_product`."""
        chance, drawn = Random(int(rng.integers(2**62))), LEVELS[level - 1]
        products = {name: _worth_planning(chance, drawn) for name in chance.sample(GOODS, drawn.products)}
        least = int(sum(map(_least, products.values())))
        budget = int(least * (1 + drawn.slack))
        return {"days": drawn.days, "products": products, "budget": budget, "least": least}

    def begin(self) -> None:
        """Fill the shelves."""
        self.day, self.cost, self.failures = 1, 0, []
        self.stock = {name: row["stock"] for name, row in self.problem["products"].items()}
        self.coming = {name: {} for name in self.stock}
        if not self._limited:
            turns = 3 * self.problem["days"] + 4 * len(self.stock) + 4
            self.max_turns = turns  # pyright: ignore[reportAttributeAccessIssue]  # by problem

    def prompt(self) -> Messages:
        """Return the task."""
        days, budget = self.problem["days"], self.problem["budget"]
        names = ", ".join(self.problem["products"])
        text = f"Run the warehouse for {days} days at a total cost of at most {budget}. Products: {names}."
        return (Message(role="user", content=text),)

    # -- tools -----------------------------------------------------------------------------------------------

    def _row(self, product: str) -> dict[str, Any]:
        row = self.problem["products"].get(product.strip().lower())
        if row is None:
            raise ToolError(f"no such product, expected one of {', '.join(self.problem['products'])}")
        return row

    @tool
    def overview(self) -> dict[str, Any]:
        """Return the day, the cost so far, and what each product has in stock and on its way."""
        return {
            **{"day": min(self.day, self.problem["days"]), "over": self._over(), "cost": self.cost},
            "stock": self.stock,
            "coming": {
                name: {f"day {d}": n for d, n in sorted(c.items())} for name, c in self.coming.items()
            },
        }

    @tool
    def terms(self, product: str) -> dict[str, int]:
        """Return a product's fixed cost of an order, lead time, cost of a piece a night, and shelf."""
        row = self._row(product)
        return {name: row[name] for name in ("fixed", "lead", "night", "shelf")}

    @tool
    def forecast(self, product: str, first: int = 1) -> list[dict[str, Any]]:
        """Return demand and price (null: no orders are taken) of ten days.

        Args:
            product: its name.
            first: the first of these days.
        """
        row = self._row(product)
        if not 1 <= first <= self.problem["days"]:
            raise ToolError(f"first must lie between 1 and {self.problem['days']}")
        days = range(first, min(first + SHOWN_DAYS, self.problem["days"] + 1))
        return [
            {"day": day, "demand": row["demand"][day - 1], "price": row["prices"][day - 1]} for day in days
        ]

    @tool
    def order(self, product: str, quantity: int) -> str:
        """Order pieces today."""
        row, name = self._row(product), product.strip().lower()
        price = None if self._over() else row["prices"][self.day - 1]
        if price is None:
            raise ToolError("no orders are taken today")
        if not 1 <= quantity <= MOST_ORDER:
            raise ToolError(f"quantity must lie between 1 and {MOST_ORDER}")
        self.cost += row["fixed"] + price * quantity
        arrives = self.day + row["lead"]
        if row["lead"]:
            self.coming[name][arrives] = self.coming[name].get(arrives, 0) + quantity
        else:
            self.stock[name] += quantity
        return f"ok, it comes on day {arrives}"

    @tool
    def next_day(self, days: int = 1) -> dict[str, Any]:
        """Let days pass.

        Args:
            days: how many, one or more.
        """
        if not 1 <= days <= self.problem["days"]:
            raise ToolError(f"days must lie between 1 and {self.problem['days']}")
        if self._over():
            raise ToolError("the last day is over")
        for _ in range(days):
            if not self._over():
                self._pass()
        return {**self.overview(), "failures": self.failures[-3:]}

    def _over(self) -> bool:
        return self.day > self.problem["days"]

    def _pass(self) -> None:
        for name, row in self.problem["products"].items():
            left = self.stock[name] - row["demand"][self.day - 1]
            if left < 0:
                self.failures.append(f"day {self.day}: {-left} {name} missed")
            if left > row["shelf"]:
                self.failures.append(f"day {self.day}: {name} overflowed")
            self.stock[name] = max(0, left)
            self.cost += row["night"] * self.stock[name]
            self.stock[name] += self.coming[name].pop(self.day + 1, 0)
        self.day += 1

    # -- the verdict and the gold agent ----------------------------------------------------------------------

    def answer(self, turn: AssistantTurn) -> Reply:
        """End the episode."""
        parts = {
            "all_days": float(self._over()),
            "nothing_missed": float(not self.failures),
            "within_budget": float(self.cost <= self.problem["budget"]),
        }
        above = self.cost / max(1, self.problem["least"])
        return Reply(reward=min(parts.values()), done=True, components={**parts, "cost_ratio": above})

    def _due(self, name: str, day: int, stock: int) -> int:
        """Return what a least-cost plan orders of a product on a day, with so much in stock."""
        row = self.problem["products"][name]
        coming = {d: n for d, n in self.coming[name].items() if d > day}
        return _plan(row, day, stock, coming)[1]

    def _next(self) -> tuple[list[tuple[str, dict[str, Any]]], str]:
        read = {json.dumps([call.name, call.arguments]) for call, _ in self.calls}
        for name in self.stock:
            wanted = [("terms", {"product": name})]
            days = range(1, self.problem["days"] + 1, SHOWN_DAYS)
            wanted += [("forecast", {"product": name, "first": day}) for day in days]
            calls = [call for call in wanted if json.dumps(list(call)) not in read]
            if calls:
                return calls, f"the terms and the demand of {name} have to be known"
        if self._over():
            return [], "the last day is over"
        calls, told = [], []
        for name in self.stock:
            quantity = self._due(name, self.day, self.stock[name])
            if quantity:
                calls.append(("order", {"product": name, "quantity": quantity}))
                told.append(f"{quantity} {name} today are cheaper than to wait")
        return [*calls, ("next_day", {"days": 1})], "; ".join(told) or "nothing has to be ordered today"

    def gold(self) -> str:
        """Return the next calls of a least-cost plan from the warehouse as it is."""
        calls, _ = self._next()
        return "\n".join(render_call(*call) for call in calls) if calls else "All days are over."

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return why."""
        return narrate([self._next()[1]], style, rng, "" if self.calls else self.prompt()[0]["content"])

    def attacks(self) -> dict[str, str]:
        """Return what claims success, skips the days, or bends quantities."""
        name = next(iter(self.problem["products"]), "bolts") if self.problem else "bolts"
        return {
            "claim": "All days are over, the cost is within the budget.",
            "skip": render_call("next_day", {"days": 10**9}) + render_call("next_day", {"days": 5}),
            "negative": render_call("order", {"product": name, "quantity": -100}),
            "all at once": render_call("order", {"product": name, "quantity": MOST_ORDER}),
        }


def _worth_planning(chance: Random, drawn: Difficulty) -> dict[str, Any]:
    """Return a product that can be kept in stock, but within the slack only by looking ahead."""
    while True:
        row = _product(chance, drawn)
        least = _least(row)
        if least < min(_day_by_day(row), _at_once(row)) / (1 + drawn.slack) - 1:
            return row


def _product(chance: Random, drawn: Difficulty) -> dict[str, Any]:
    """Return `{"demand", "prices", "fixed", "lead", "night", "shelf", "stock"}` of a product."""
    lead = chance.randrange(drawn.lead + 1)
    demand = [chance.choice((0, 0, *range(1, 10))) for _ in range(drawn.days)]
    base = chance.randrange(3, 12)
    prices: list[int | None] = [base + chance.randrange(5) if drawn.prices else base for _ in demand]
    for day in range(1, drawn.days):
        if chance.random() < drawn.closed:
            prices[day] = None
    night = chance.randrange(1, 4)
    shelf = chance.randrange(12, 25) if drawn.tight else 1000
    return {
        **{"demand": demand, "prices": prices, "fixed": chance.randrange(5, 25) * night, "lead": lead},
        **{"night": night, "shelf": shelf, "stock": sum(demand[:lead]) if lead else 0},
    }


def _plan(row: dict[str, Any], day: int, stock: int, coming: dict[int, int]) -> tuple[float, int]:
    """Return the least cost from a day on, and what is to be ordered on that day for it.

    Backwards over the days; the state is what is in stock and on its way, of which all but the orders that
    the plan itself makes is known. With an order made on day t for what arrives on day t + lead, the stock on
    arrival decides all that follows, so the program runs over the days of arrival.
    """
    demand, prices, lead, last = row["demand"], row["prices"], row["lead"], len(row["demand"])
    fixed, night, shelf = row["fixed"], row["night"], row["shelf"]
    first = day + lead
    for today in range(day, min(first, last + 1)):
        # What is sold before anything ordered now arrives cannot be changed any more.
        stock = max(0, stock + (coming.get(today, 0) if today > day else 0) - demand[today - 1])
    if first > last:
        return 0.0, 0
    stock += coming.get(first, 0) if first > day else 0
    top = max(sum(demand[first - 1 :]), stock + sum(n for d, n in coming.items() if d > first)) + 1
    levels = np.arange(top + 1)
    after = np.zeros(top + 1)
    choice = np.zeros(top + 1, dtype=int)
    for arrival in range(last, first - 1, -1):
        left = levels - demand[arrival - 1]
        arriving = coming.get(arrival + 1, 0)
        valid = (left >= 0) & (left <= shelf)
        index = np.clip(left + arriving, 0, top)
        kept = np.where(valid, np.maximum(left, 0) * night + after[index], np.inf)
        price = prices[arrival - lead - 1]
        best, choice = kept.copy(), np.zeros(top + 1, dtype=int)
        if price is not None:
            # Going up to level m from level s costs fixed + price * (m - s).
            reach = kept + price * levels
            cheapest, where = np.inf, 0
            for level in range(top, -1, -1):
                if cheapest + fixed - price * level < best[level]:
                    best[level] = cheapest + fixed - price * level
                    choice[level] = where - level
                if reach[level] < cheapest:
                    cheapest, where = reach[level], level
        after = best
    start = min(stock, top)
    return float(after[start]), int(choice[start])


def _least(row: dict[str, Any]) -> float:
    return _given(row) + _plan(row, 1, row["stock"], {})[0]


def _day_by_day(row: dict[str, Any]) -> float:
    """Return the cost of an order for each day with demand, as late as can be."""
    cost, waiting = 0.0, 0
    for day in range(len(row["demand"]), row["lead"], -1):
        waiting += row["demand"][day - 1]
        price = row["prices"][day - row["lead"] - 1]
        if price is None:
            cost += waiting * row["night"]
        elif waiting:
            cost += row["fixed"] + price * waiting
            waiting = 0
    return cost + _given(row)


def _at_once(row: dict[str, Any]) -> float:
    """Return the cost of one order on the first day for everything; shelves are not looked at."""
    rest = row["demand"][row["lead"] :]
    cost = float(row["fixed"] + row["prices"][0] * sum(rest)) if sum(rest) else 0.0
    stock = sum(rest)
    for demand in rest:
        stock -= demand
        cost += stock * row["night"]
    return cost + _given(row)


def _given(row: dict[str, Any]) -> float:
    stock, cost = row["stock"], 0.0
    for demand in row["demand"][: row["lead"]]:
        stock -= demand
        cost += stock * row["night"] if stock <= row["shelf"] else float("inf")
    return cost
