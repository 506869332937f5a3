"""Undoes what another policy did without being asked, where a tool can: the gold agent ends with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

from rolloom.envs.agents.company.tools import COLUMNS, FIXED, GENERATED, Company

UPDATES: dict[str, tuple[str, dict[str, int]]] = {
    "customers": ("update_customer", {"stage": 4, "owner": 5, "product": 6}),
    "emails": ("update_email", {"folder": 1, "read": 7}),
    "events": ("update_event", {"title": 1, "day": 3, "start": 4, "minutes": 5}),
    "orders": ("update_order", {"quantity": 3, "status": 5}),
    "tasks": ("update_task", {"owner": 2, "board": 3, "status": 4, "due": 5}),
    "files": ("move_file", {"folder": 2}),
}
"""Tool that changes a row of a table, with its arguments and the columns they stand for."""

DELETES = {
    **{"customers": "delete_customer", "emails": "delete_email", "events": "delete_event"},
    **{"tasks": "delete_task"},
}

Rows = dict[str, list[tuple[Any, ...]]]


def snapshot(company: Company) -> Rows:
    """Return every row that a policy can change."""
    return {name: company.rows(f"SELECT * FROM {name}") for name in COLUMNS if name not in FIXED}


def repairs(company: Company, wanted: Rows, tools: Container[str]) -> list[dict[str, Any]]:
    """Return the calls that bring a company nearer to what is wanted; rows that are gone stay gone.

    Args:
        company: as it is.
        wanted: what `snapshot` gave where all was right.
        tools: those on offer.
    """
    steps = []
    for table, (tool, columns) in UPDATES.items():
        right = {row[0]: row for row in wanted[table]}
        extra = Counter(company.canonical(table, row) for row in wanted[table] if row[0] >= GENERATED)
        for row in company.rows(f"SELECT * FROM {table}"):
            if row[0] >= GENERATED:
                words = company.canonical(table, row)
                extra[words] -= 1
                if extra[words] < 0 and DELETES.get(table, "") in tools:
                    steps.append(_step(DELETES[table], id=row[0]))
            elif row[0] in right and row != right[row[0]] and tool in tools:
                changed = {name: i for name, i in columns.items() if row[i] != right[row[0]][i]}
                values = {name: right[row[0]][i] for name, i in changed.items()}
                if "read" in values:
                    values["read"] = bool(values["read"])
                steps.append(_step(tool, id=row[0], **values))
    return steps


def _step(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "args": arguments, "why": f"{arguments['id']} is not as it should be"}
