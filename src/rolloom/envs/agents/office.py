"""The office of the workplace environment: a private in-memory SQLite database and the tools on it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from rolloom.envs.tools.schema import arguments_schema, check_arguments, plain
from rolloom.envs.types import ToolCall, ToolSpec

Row = list[Any]
Tables = dict[str, list[Row]]
State = dict[str, list[tuple[Any, ...]]]

SCHEMA = {
    "customers": "name TEXT PRIMARY KEY, city TEXT, email TEXT",
    "orders": "id INTEGER PRIMARY KEY, customer TEXT, item TEXT, price INTEGER, paid TEXT, status TEXT",
    "emails": "recipient TEXT, text TEXT",
    "events": "day TEXT, hour INTEGER, customer TEXT, UNIQUE (day, hour)",
}
FIRST_HOUR, LAST_HOUR = 9, 17


def _spec(name: str, description: str, **types: str) -> ToolSpec:
    return ToolSpec(name, description, arguments_schema(**types))


TOOLS = {
    spec.name: spec
    for spec in (
        _spec("find_orders", "orders of a customer", customer="string"),
        _spec("cancel_order", "cancel an order", order="integer"),
        _spec("ship_order", "ship an order", order="integer"),
        _spec("find_customers", "name, city, email of customers whose name or city starts so", text="string"),
        _spec("send_email", "send an email", to="string", text="string"),
        _spec("list_events", "hour, customer of each event of a day", day="string"),
        _spec("add_event", "add an event, 9 to 17", day="string", hour="integer", customer="string"),
        _spec("remove_event", "remove an event", day="string", hour="integer"),
    )
}


class ToolError(Exception):
    """A call that cannot be done; its text goes to the policy as the tool's message."""


class Office:
    """One database and the tools on offer.

    Args:
        tables: initial rows of each table.
        tools: names of the tools on offer.
        columns: columns of an order that `find_orders` shows.
    """

    def __init__(self, tables: Tables, tools: list[str], columns: list[str]) -> None:
        self.tools = tuple(TOOLS[name] for name in tools)
        self._columns = ", ".join(columns)
        # An episode's steps may run on different threads of a worker's pool, but never two at a time.
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for name, columns_of_table in SCHEMA.items():
            self._db.execute(f"CREATE TABLE {name} ({columns_of_table})")
            for row in tables.get(name, []):
                self._db.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
        self._handlers: dict[str, Callable[..., str]] = {
            "find_orders": self._find_orders,
            "cancel_order": lambda order: self._set_status(order, "cancelled"),
            "ship_order": lambda order: self._set_status(order, "shipped"),
            "find_customers": self._find_customers,
            "send_email": self._send_email,
            "list_events": self._list_events,
            "add_event": self._add_event,
            "remove_event": self._remove_event,
        }

    def close(self) -> None:
        """Drop the database."""
        self._db.close()

    def state(self) -> State:
        """Return every row of every table, sorted, so that the order of actions does not count."""
        return {name: sorted(self._db.execute(f"SELECT * FROM {name}").fetchall()) for name in SCHEMA}

    def call(self, call: ToolCall) -> tuple[str, bool]:
        """Return a call's result as terse text, and whether it succeeded; no call raises."""
        spec = next((tool for tool in self.tools if tool.name == call.name), None)
        if spec is None:
            return f"error: no tool {plain(call.name)}", False
        problem = check_arguments(spec, call.arguments)
        if problem is not None:
            return f"error: {problem}", False
        try:
            return self._handlers[call.name](**call.arguments), True
        except ToolError as error:
            return f"error: {error}", False
        except (sqlite3.Error, UnicodeError):
            return "error: bad value", False

    def _rows(self, query: str, *values: Any) -> str:
        return json.dumps([list(row) for row in self._db.execute(query, values)])

    def _change(self, query: str, *values: Any, missing: str) -> str:
        if self._db.execute(query, values).rowcount == 0:
            raise ToolError(missing)
        return "ok"

    def _find_orders(self, customer: str) -> str:
        return self._rows(f"SELECT {self._columns} FROM orders WHERE customer = ? ORDER BY id", customer)

    def _set_status(self, order: int, status: str) -> str:
        query = "UPDATE orders SET status = ? WHERE id = ?"
        return self._change(query, status, order, missing=f"no order {order}")

    def _find_customers(self, text: str) -> str:
        query = "SELECT * FROM customers WHERE substr(name, 1, length(?1)) = ?1 OR city = ?1 ORDER BY name"
        return self._rows(query, text)

    def _send_email(self, to: str, text: str) -> str:
        self._db.execute("INSERT INTO emails VALUES (?, ?)", (to.strip().lower(), text.strip().lower()))
        return "ok"

    def _list_events(self, day: str) -> str:
        return self._rows("SELECT hour, customer FROM events WHERE day = ? ORDER BY hour", day)

    def _add_event(self, day: str, hour: int, customer: str) -> str:
        if not FIRST_HOUR <= hour <= LAST_HOUR:
            raise ToolError(f"hour must be {FIRST_HOUR} to {LAST_HOUR}")
        query = "INSERT OR IGNORE INTO events VALUES (?, ?, ?)"
        return self._change(query, day, hour, customer, missing=f"{hour} is taken")

    def _remove_event(self, day: str, hour: int) -> str:
        return self._change(
            "DELETE FROM events WHERE day = ? AND hour = ?", day, hour, missing="no such event"
        )
