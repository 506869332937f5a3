"""Calls that depend on each other: users -> orders -> products -> suppliers, and changes to make."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import Tool, tool
from rolloom.envs.tools.shop_world import draw, request, solve
from rolloom.envs.tools.solver import CountingTools, SolvedEnv, Tools
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply

Id = Annotated[str, Field(max_length=20)]
Page = Annotated[int, Field(ge=1, le=1_000)]
MISLEADING = ("get_cached_product", "list_archived_orders", "estimate_weather")
CHANGING = ("cancel_order", "hold_parcel", "open_ticket", "set_city")
MAX_TICKETS = 20


class MultiStep(SolvedEnv):
    """Dependent function calls over a generated shop; reward 1.0 or 0.0 for answer and state together.

    The results of one call are the arguments of the next. The reward is 1.0 when the final number is right
    and exactly the changes asked for were made; the components `answer_right` and `state_right` tell them
    apart. Every problem has its own data.

    | level | what it adds |
    |---|---|
    | 1-2 | two or three calls from an order's id |
    | 3-4 | from a user's name; one of several orders; tools whose data are out of date |
    | 5 | a change to make: cancel, hold, open a ticket with a number found, set a city found |
    | 6 | tools that fail the first time |
    | 7 | lists in pages, up to 8 orders a user |
    | 8-10 | sums of 2-3 values of different users, 2-3 changes, namesakes told apart by city |
    """

    max_turns = 30
    reminder = "Each result is needed for the next call."
    spare_turns = 4

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a problem; see `shop_world.draw`."""
        return draw(rng, level)

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the request and the tables that answer it."""
        return f"{request(problem)} {problem['orders']} {problem['products']} {problem['weather']}"

    def prompt(self) -> Messages:
        """Return the request."""
        return (Message(role="user", content=request(self.problem)),)

    def begin(self) -> None:
        """Work out the answer and the state to reach; then start from the untouched world."""
        self._failed: set[str] = set(self.problem["flaky"])
        self._forget_changes()
        tools = CountingTools({name: made.function for name, made in self.toolbox().items()})
        self._answer = solve(self.problem, tools)
        self._wanted = self._state()
        self._forget_changes()
        self._failed = set()
        self.limit_turns(tools.count + len(self.problem["flaky"]))

    def _forget_changes(self) -> None:
        self._cancelled: set[str] = set()
        self._held: set[str] = set()
        self._tickets: list[tuple[str, int]] = []
        self._cities: dict[str, str] = {}

    def _state(self) -> tuple[Any, ...]:
        return sorted(self._cancelled), sorted(self._held), sorted(self._tickets), dict(self._cities)

    def toolbox(self) -> dict[str, Tool]:
        """Return the level's tools."""
        hidden = () if self.problem["extra"] else MISLEADING
        if not self.problem["writes"] and not self.problem["extra"]:
            hidden += CHANGING
        return {name: made for name, made in super().toolbox().items() if name not in hidden}

    def answer(self, turn: AssistantTurn) -> Reply:
        """Score the number and the changes."""
        answered, state = turn.content == self._answer, self._state() == self._wanted
        right = float(answered and state)
        parts = {"correct": right, "answer_right": float(answered), "state_right": float(state)}
        return Reply(reward=right, done=True, components=parts)

    # -- tools -----------------------------------------------------------------------------------------------

    @tool
    def find_users(self, name: Annotated[str, Field(max_length=60)], page: Page = 1) -> dict:
        """Find users by full name; returns id, name and city."""
        self._may_fail("find_users")
        found = [
            {"id": user, **data}
            for user, data in self.problem["users"].items()
            if data["name"].lower() == name.strip().lower()
        ]
        return self._paged("users", found, page)

    @tool
    def list_orders(self, user_id: Id, page: Page = 1) -> dict:
        """List the ids of a user's orders."""
        self._may_fail("list_orders")
        self._get("users", user_id)
        own = [one for one, data in self.problem["orders"].items() if data["user_id"] == user_id]
        return self._paged("orders", own, page)

    @tool
    def get_order(self, order_id: Id) -> dict:
        """Get an order: user, day, total, product and parcel."""
        self._may_fail("get_order")
        return self._get("orders", order_id)

    @tool
    def get_product(self, product_id: Id) -> dict:
        """Get a product: price, weight and supplier."""
        self._may_fail("get_product")
        return self._get("products", product_id)

    @tool
    def get_supplier(self, supplier_id: Id) -> dict:
        """Get a supplier: city and phone extension."""
        self._may_fail("get_supplier")
        return self._get("suppliers", supplier_id)

    @tool
    def get_parcel(self, parcel_id: Id) -> dict:
        """Get a parcel: the city where it is, and its weight."""
        self._may_fail("get_parcel")
        return self._get("parcels", parcel_id)

    @tool
    def get_weather(self, city: Annotated[str, Field(max_length=60)]) -> dict:
        """Get the weather station of a city and what it measures."""
        self._may_fail("get_weather")
        if city not in self.problem["weather"]:
            raise ToolError("there is no weather station in this city")
        station = self.problem["weather"][city]
        return {"city": city, "station": station, "temperature": station % 37 - 5}

    @tool
    def get_cached_product(self, product_id: Id) -> dict:
        """Get a product from last month's cache; fast, but prices and suppliers may have changed."""
        data = self._get("products", product_id)
        suppliers = sorted(self.problem["suppliers"])
        other = suppliers[(suppliers.index(data["supplier_id"]) + 1) % len(suppliers)]
        stale = {"price_cents": data["price_cents"] + 117, "weight_g": data["weight_g"] - 90}
        return {**data, **stale, "supplier_id": other}

    @tool
    def list_archived_orders(self, user_id: Id) -> dict:
        """List the ids of orders in the archive, which may have been reassigned to other users since."""
        self._get("users", user_id)
        others = [one for one, data in self.problem["orders"].items() if data["user_id"] != user_id]
        return {"orders": sorted(others)[:3]}

    @tool
    def estimate_weather(self, city: Annotated[str, Field(max_length=60)]) -> dict:
        """Estimate the weather of a city from its neighbours' stations."""
        cities = sorted(self.problem["weather"])
        if city not in cities:
            raise ToolError("there is no such city")
        near = self.problem["weather"][cities[(cities.index(city) + 1) % len(cities)]]
        return {"city": city, "station": near, "temperature": near % 31 - 3}

    @tool
    def cancel_order(self, order_id: Id) -> str:
        """Cancel an order."""
        self._get("orders", order_id)
        self._cancelled.add(order_id)
        return f"order {order_id} is cancelled"

    @tool
    def hold_parcel(self, parcel_id: Id) -> str:
        """Hold a parcel where it is."""
        self._get("parcels", parcel_id)
        self._held.add(parcel_id)
        return f"parcel {parcel_id} is on hold"

    @tool
    def open_ticket(self, order_id: Id, code: int) -> str:
        """Open a ticket for an order, with a code."""
        self._get("orders", order_id)
        if len(self._tickets) >= MAX_TICKETS:
            raise ToolError("too many tickets are open")
        self._tickets.append((order_id, code))
        return f"ticket {len(self._tickets)} is open"

    @tool
    def set_city(self, user_id: Id, city: Annotated[str, Field(max_length=60)]) -> str:
        """Set the city of a user."""
        self._get("users", user_id)
        if city not in self.problem["weather"]:
            raise ToolError("there is no such city")
        self._cities[user_id] = city
        return f"user {user_id} lives in {city}"

    def _get(self, table: str, key: str) -> dict[str, Any]:
        if key not in self.problem[table]:
            example = next(iter(self.problem[table]))[:2]
            raise ToolError(f"nothing of that id among the {table}; their ids begin with {example}")
        return {"id": key, **self.problem[table][key]}

    def _paged(self, key: str, found: list[Any], page: int) -> dict[str, Any]:
        size = self.problem["page"]
        if not size:
            return {key: found}
        shown = found[(page - 1) * size : page * size]
        return {key: shown, "next_page": page + 1 if page * size < len(found) else None}

    def _may_fail(self, name: str) -> None:
        if name in self.problem["flaky"] and name not in self._failed:
            self._failed.add(name)
            raise ToolError("the service is busy; call again")

    # -- proof -----------------------------------------------------------------------------------------------

    def solution(self, tools: Tools) -> str:
        """Find each value, make the changes that go with it, and add up."""
        return solve(self.problem, tools)

    def attacks(self) -> dict[str, str]:
        """Return calls on ids that are none, and changes to everything."""
        orders = list(self.problem["orders"])[:30]
        return {
            "cancel all": "\n".join(render_call("cancel_order", {"order_id": one}) for one in orders),
            "path": render_call("get_order", {"order_id": "../users"}),
            "page far off": render_call("find_users", {"name": "", "page": 1_000}),
            "page 0": render_call("find_users", {"name": "Ana Silva", "page": 0}),
            "the request": request(self.problem),
        }
