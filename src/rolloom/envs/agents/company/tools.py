"""The company's database and the function tools on it: a private in-memory SQLite and nothing else.

Every value reaches SQL as a parameter, every list comes a page at a time, and `state` is what tasks are
scored by. New rows get ids of their own, which the state leaves out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Literal

from rolloom.envs.agents.company.world import ME, draw_tables, today
from rolloom.envs.errors import ToolError
from rolloom.envs.tool import tool

PAGE = 10
COLUMNS = {
    "employees": ("email TEXT PRIMARY KEY", "name TEXT", "team TEXT", "manager INTEGER"),
    "customers": (
        *("id INTEGER PRIMARY KEY", "name TEXT", "company TEXT", "email TEXT", "stage TEXT", "owner TEXT"),
        "product TEXT",
    ),
    "emails": (
        *("id INTEGER PRIMARY KEY", "folder TEXT", "sender TEXT", "recipient TEXT", "subject TEXT"),
        *("body TEXT", "sent TEXT", "read INTEGER"),
    ),
    "events": (
        *("id INTEGER PRIMARY KEY", "title TEXT", "person TEXT", "day TEXT", "start TEXT"),
        "minutes INTEGER",
    ),
    "orders": (
        *("id INTEGER PRIMARY KEY", "customer INTEGER", "item TEXT", "quantity INTEGER", "price INTEGER"),
        *("status TEXT", "day TEXT"),
    ),
    "tasks": (
        *("id INTEGER PRIMARY KEY", "title TEXT", "owner TEXT", "board TEXT", "status TEXT", "due TEXT"),
    ),
    "files": (
        *("id INTEGER PRIMARY KEY", "name TEXT", "folder TEXT", "owner TEXT", "kb INTEGER", "changed TEXT"),
    ),
    "shares": ("file INTEGER", "person TEXT", "PRIMARY KEY (file, person)"),
    "visits": ("day TEXT", "source TEXT", "visitors INTEGER"),
    "plots": ("id INTEGER PRIMARY KEY", "source TEXT", "first TEXT", "last TEXT"),
}
SCHEMA = ";".join(f"CREATE TABLE {name} ({', '.join(columns)})" for name, columns in COLUMNS.items())
FREE_TEXT = {"emails": (4, 5), "events": (1,), "tasks": (1,)}
FIXED = ("employees", "visits")
GENERATED = 10_000
"""Rows that a policy makes get ids from here on."""

Stage = Literal["lead", "qualified", "proposal", "won", "lost"]
OrderStatus = Literal["pending", "shipped", "delivered", "cancelled"]
TaskStatus = Literal["backlog", "in progress", "in review", "done"]
Board = Literal["website", "mobile", "platform", "marketing"]
MailFolder = Literal["inbox", "archive", "spam"]
FileFolder = Literal["finance", "legal", "design", "archive", "shared"]
Source = Literal["search", "direct", "referral", "social", "newsletter"]
Product = Literal["hosting", "analytics", "support plan", "training", "license"]


class Company:
    """One company and its tools.

    Args:
        seed: see `world.draw_tables`.
        rows: likewise.
    """

    def __init__(self, seed: int, rows: int) -> None:
        # An episode's steps may run on different threads of a worker's pool, but never two at a time.
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.today = today(seed)
        self._db.executescript(SCHEMA)
        self._db.execute("BEGIN")
        for name, values in draw_tables(seed, rows).items():
            if values:
                marks = ", ".join("?" * len(values[0]))
                self._db.executemany(f"INSERT INTO {name} VALUES ({marks})", values)
        self._db.execute("COMMIT")
        self.drawn = (seed, rows)
        self._filled = self._db.total_changes

    @property
    def untouched(self) -> bool:
        """True while nothing has ever been changed for good."""
        return self._db.total_changes == self._filled

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back at the end what is changed within."""
        untouched = self.untouched
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")
            if untouched:
                self._filled = self._db.total_changes

    def close(self) -> None:
        """Drop the database."""
        self._db.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query of our own finds."""
        return self._db.execute(query, values).fetchall()

    def state(self) -> dict[str, list[str]]:
        """Return all that a policy can change, without the order of rows and without new ids."""
        state = {}
        for name in COLUMNS:
            if name in FIXED:
                continue
            rows = self._db.execute(f"SELECT * FROM {name}")
            state[name] = sorted(self.canonical(name, row) for row in rows)
        return state

    def canonical(self, table: str, row: tuple[Any, ...]) -> str:
        """Return a row as the state has it: without a generated id, new texts in plain words."""
        if not isinstance(row[0], int) or row[0] < GENERATED:
            return repr(row)
        free = FREE_TEXT.get(table, ())
        values = [_plain_words(v) if i in free else v for i, v in enumerate(row)]
        return repr([None, *values[1:]])

    # -- shared by the tools ---------------------------------------------------------------------------------

    def _search(self, table: str, shown: str, order: str, page: int, *conditions: tuple[str, Any]) -> str:
        given = [(test, value) for test, value in conditions if value not in ("", None)]
        where = " AND ".join(test for test, _ in given) or "1"
        values = [value for _, value in given]
        total = self._db.execute(f"SELECT count(*) FROM {table} WHERE {where}", values).fetchone()[0]
        pages = max(1, -(-total // PAGE))
        if not 1 <= page <= pages:
            raise ToolError(f"page must lie between 1 and {pages}")
        found = self._db.execute(
            f"SELECT {shown} FROM {table} WHERE {where} ORDER BY {order} LIMIT {PAGE} OFFSET ?",
            (*values, (page - 1) * PAGE),
        )
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return json.dumps({"total": total, "page": page, "pages": pages, "rows": rows})

    def _one(self, table: str, number: int) -> dict[str, Any]:
        found = self._db.execute(f"SELECT * FROM {table} WHERE id = ?", (number,))
        row = found.fetchone()
        if row is None:
            raise ToolError(f"there is no such id in {table}: {number}")
        return dict(zip([column[0] for column in found.description], row, strict=True))

    def _add(self, table: str, *values: Any) -> str:
        last = self._db.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0
        number = max(GENERATED, last + 1)
        marks = ", ".join("?" * (len(values) + 1))
        self._db.execute(f"INSERT INTO {table} VALUES ({marks})", (number, *values))
        return f"ok, id {number}"

    def _set(self, table: str, number: int, **values: Any) -> str:
        given = {name: value for name, value in values.items() if value not in ("", None)}
        if not given:
            raise ToolError("nothing to change was given")
        self._one(table, number)
        sets = ", ".join(f"{name} = ?" for name in given)
        self._db.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*given.values(), number))
        return "ok"

    def _delete(self, table: str, number: int) -> str:
        self._one(table, number)
        self._db.execute(f"DELETE FROM {table} WHERE id = ?", (number,))
        return "ok"

    def _colleague(self, email: str) -> str:
        email = email.strip().lower()
        if not self._db.execute("SELECT 1 FROM employees WHERE email = ?", (email,)).fetchone():
            raise ToolError("no employee has that email address; find_employees lists them")
        return email

    # -- directory -------------------------------------------------------------------------------------------

    @tool
    def find_employees(self, name: str = "", team: str = "", page: int = 1) -> str:
        """Find employees by a part of their name or by their team; manager 1 marks a team's manager."""
        part = ("instr(lower(name), ?)", name.strip().lower())
        return self._search("employees", "*", "name", page, part, ("team = ?", team.strip().lower()))

    # -- mail ------------------------------------------------------------------------------------------------

    @tool
    def search_emails(
        self,
        sender: str = "",
        text: str = "",
        folder: MailFolder | None = None,
        unread: bool = False,
        page: int = 1,
    ) -> str:
        """Find emails that you got, the newest first.

        Args:
            sender: the sender's address.
            text: part of the subject.
            folder: where to look; everywhere by default.
            unread: unread ones only.
            page: which ten of them.
        """
        return self._search(
            *("emails", "id, folder, sender, subject, sent, read", "sent DESC, id", page),
            *(("recipient = ?", ME), ("sender = ?", sender.strip().lower())),
            *(("instr(lower(subject), ?)", text.strip().lower()), ("folder = ?", folder)),
            ("read = ?", 0 if unread else None),
        )

    @tool
    def read_email(self, id: int) -> str:
        """Read an email with its body."""
        return json.dumps(self._one("emails", id))

    @tool
    def send_email(self, to: str, subject: str, body: str) -> str:
        """Send an email to one address."""
        to = to.strip().lower()
        if "@" not in to:
            raise ToolError("to must be an email address")
        return self._add("emails", "sent", ME, to, subject, body, self._now(), 1)

    @tool
    def reply_email(self, id: int, body: str) -> str:
        """Answer the sender of an email; the subject gets "Re: " in front."""
        mail = self._one("emails", id)
        return self._add("emails", "sent", ME, mail["sender"], f"Re: {mail['subject']}", body, self._now(), 1)

    @tool
    def forward_email(self, id: int, to: str) -> str:
        """Send an email on to an employee; the subject gets "Fwd: " in front."""
        mail, to = self._one("emails", id), self._colleague(to)
        subject = f"Fwd: {mail['subject']}"
        return self._add("emails", "sent", ME, to, subject, mail["body"], self._now(), 1)

    @tool
    def update_email(self, id: int, folder: MailFolder | None = None, read: bool | None = None) -> str:
        """Move an email to a folder, or mark it read or unread."""
        return self._set("emails", id, folder=folder, read=None if read is None else int(read))

    @tool
    def delete_email(self, id: int) -> str:
        """Delete an email for good."""
        return self._delete("emails", id)

    def _now(self) -> str:
        return f"{self.today.isoformat()} 09:00"

    # -- calendar --------------------------------------------------------------------------------------------

    @tool
    def search_events(self, person: str = "", day: str = "", text: str = "", page: int = 1) -> str:
        """Find events in your calendar in the order of their time.

        Args:
            person: email address of whom you meet.
            day: YYYY-MM-DD.
            text: part of the title.
            page: which ten of them.
        """
        return self._search(
            *("events", "*", "day, start, id", page, ("person = ?", person.strip().lower())),
            *(("day = ?", day.strip()), ("instr(lower(title), ?)", text.strip().lower())),
        )

    @tool
    def create_event(self, title: str, person: str, day: str, start: str, minutes: int = 60) -> str:
        """Add an event: with whom (their email address), day as YYYY-MM-DD, start as HH:MM."""
        if not 5 <= minutes <= 600:
            raise ToolError("minutes must lie between 5 and 600")
        return self._add("events", title, self._colleague(person), _day(day), _time(start), minutes)

    @tool
    def update_event(
        self, id: int, title: str = "", day: str = "", start: str = "", minutes: int | None = None
    ) -> str:
        """Change an event's title, day, start or length; what is left out stays."""
        if minutes is not None and not 5 <= minutes <= 600:
            raise ToolError("minutes must lie between 5 and 600")
        day, start = day and _day(day), start and _time(start)
        return self._set("events", id, title=title.strip(), day=day, start=start, minutes=minutes)

    @tool
    def delete_event(self, id: int) -> str:
        """Delete an event."""
        return self._delete("events", id)

    # -- customers and orders --------------------------------------------------------------------------------

    @tool
    def search_customers(
        self,
        name: str = "",
        company: str = "",
        stage: Stage | None = None,
        owner: str = "",
        product: Product | None = None,
        page: int = 1,
    ) -> str:
        """Find customers by a part of their name, their company, stage, product, or the owner's address."""
        return self._search(
            *("customers", "*", "name, id", page, ("instr(lower(name), ?)", name.strip().lower())),
            *(("lower(company) = ?", company.strip().lower()), ("stage = ?", stage)),
            *(("owner = ?", owner.strip().lower()), ("product = ?", product)),
        )

    @tool
    def add_customer(self, name: str, company: str, email: str, product: Product, owner: str) -> str:
        """Add a customer, who starts as a lead; the owner is an employee's email address."""
        values = (name.strip(), company.strip(), email.strip().lower())
        return self._add("customers", *values, "lead", self._colleague(owner), product)

    @tool
    def update_customer(
        self, id: int, stage: Stage | None = None, owner: str = "", product: Product | None = None
    ) -> str:
        """Change a customer's stage, owner (an employee's email address) or product."""
        return self._set(
            "customers", id, stage=stage, owner=owner and self._colleague(owner), product=product
        )

    @tool
    def delete_customer(self, id: int) -> str:
        """Delete a customer."""
        return self._delete("customers", id)

    @tool
    def search_orders(
        self, customer: int | None = None, item: str = "", status: OrderStatus | None = None, page: int = 1
    ) -> str:
        """Find orders by the customer's id, item or status; price is for one piece."""
        return self._search(
            *("orders", "*", "day, id", page, ("customer = ?", customer)),
            *(("item = ?", item.strip().lower()), ("status = ?", status)),
        )

    @tool
    def create_order(self, customer: int, item: str, quantity: int, price: int) -> str:
        """Place an order of today for a customer; it starts as pending."""
        self._one("customers", customer)
        if not (1 <= quantity <= 1000 and 0 <= price <= 100_000):
            raise ToolError("quantity must lie between 1 and 1000, price between 0 and 100000")
        day = self.today.isoformat()
        return self._add("orders", customer, item.strip().lower(), quantity, price, "pending", day)

    @tool
    def update_order(self, id: int, status: OrderStatus | None = None, quantity: int | None = None) -> str:
        """Change an order's status or quantity."""
        if quantity is not None and not 1 <= quantity <= 1000:
            raise ToolError("quantity must lie between 1 and 1000")
        return self._set("orders", id, status=status, quantity=quantity)

    # -- tasks -----------------------------------------------------------------------------------------------

    @tool
    def search_tasks(
        self,
        text: str = "",
        owner: str = "",
        board: Board | None = None,
        status: TaskStatus | None = None,
        due_before: str = "",
        page: int = 1,
    ) -> str:
        """Find project tasks in the order of their due date.

        Args:
            text: part of the title.
            owner: the owner's email address.
            board: the board it is on.
            status: its status; any but done counts as open.
            due_before: due before this day, YYYY-MM-DD.
            page: which ten of them.
        """
        return self._search(
            *("tasks", "*", "due, id", page, ("instr(lower(title), ?)", text.strip().lower())),
            *(("owner = ?", owner.strip().lower()), ("board = ?", board), ("status = ?", status)),
            ("due < ?", due_before.strip()),
        )

    @tool
    def create_task(self, title: str, owner: str, board: Board, due: str) -> str:
        """Add a task to a board's backlog; the owner is an employee's email address, due is YYYY-MM-DD."""
        return self._add("tasks", title, self._colleague(owner), board, "backlog", _day(due))

    @tool
    def update_task(
        self,
        id: int,
        owner: str = "",
        status: TaskStatus | None = None,
        due: str = "",
        board: Board | None = None,
    ) -> str:
        """Change a task's owner, status, due date or board; what is left out stays."""
        owner, due = owner and self._colleague(owner), due and _day(due)
        return self._set("tasks", id, owner=owner, status=status, due=due, board=board)

    @tool
    def delete_task(self, id: int) -> str:
        """Delete a task."""
        return self._delete("tasks", id)

    # -- files and visits ------------------------------------------------------------------------------------

    @tool
    def search_files(
        self, text: str = "", folder: FileFolder | None = None, owner: str = "", page: int = 1
    ) -> str:
        """Find files by a part of their name, their folder, or the owner's email address; kb is the size."""
        return self._search(
            *("files", "*", "name, id", page, ("instr(lower(name), ?)", text.strip().lower())),
            *(("folder = ?", folder), ("owner = ?", owner.strip().lower())),
        )

    @tool
    def move_file(self, id: int, folder: FileFolder) -> str:
        """Move a file to another folder."""
        return self._set("files", id, folder=folder)

    @tool
    def share_file(self, id: int, person: str) -> str:
        """Share a file with an employee, by their email address."""
        self._one("files", id)
        self._db.execute("INSERT OR IGNORE INTO shares VALUES (?, ?)", (id, self._colleague(person)))
        return "ok"

    @tool
    def delete_file(self, id: int) -> str:
        """Delete a file for good."""
        return self._delete("files", id)

    @tool
    def count_visits(self, first: str, last: str, source: Source | None = None) -> str:
        """Count the site's visitors from one day to another (both included), by source."""
        found = self.rows(
            "SELECT source, sum(visitors) FROM visits WHERE day BETWEEN ? AND ? AND (? IS NULL OR source = ?)"
            " GROUP BY source ORDER BY source",
            *(_day(first), _day(last), source, source),
        )
        return json.dumps(dict(found))

    @tool
    def create_plot(self, source: Source, first: str, last: str) -> str:
        """Draw the visitors of a source from one day to another."""
        return self._add("plots", source, _day(first), _day(last))


def _plain_words(text: Any) -> Any:
    return " ".join(text.lower().split()).rstrip(".!") if isinstance(text, str) else text


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text.strip()[:32]).isoformat()
    except ValueError:
        raise ToolError("a day is written YYYY-MM-DD") from None


def _time(text: str) -> str:
    try:
        return datetime.strptime(text.strip()[:16], "%H:%M").strftime("%H:%M")
    except ValueError:
        raise ToolError("a time is written HH:MM") from None
