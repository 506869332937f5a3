"""Draws a company: who works there and the rows of every table, all from one seed.

Names, days and numbers are drawn by column, which keeps a company of a few hundred rows under a millisecond.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np

FIRST = (
    *("Ada", "Ben", "Carla", "Dmitri", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Luca"),
    *("Mina", "Noor", "Oskar", "Petra", "Quentin", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wim", "Yuki"),
)
LAST = (
    *("Abe", "Berg", "Costa", "Dahl", "Eriks", "Faber", "Grant", "Holm", "Ito", "Jansen", "Klein", "Lund"),
    *("Moreau", "Novak", "Okafor", "Patel", "Quist", "Rossi", "Silva", "Tanaka", "Urban", "Vogel", "Weiss"),
)
TEAMS = ("sales", "design", "frontend", "backend", "finance", "support")
TOPICS = (
    *("budget", "launch", "hiring", "pricing", "security", "travel", "contract", "roadmap", "website"),
    *("invoice", "training", "warehouse", "survey", "newsletter", "audit", "onboarding"),
)
KINDS = ("review", "plan", "update", "question", "summary", "report", "draft", "checklist")
MEETINGS = ("sync", "review", "workshop", "interview", "demo", "planning", "retrospective", "call")
VERBS = ("write", "fix", "test", "design", "clean up", "document", "translate", "measure")
STAGES = ("lead", "qualified", "proposal", "won", "lost")
PRODUCTS = ("hosting", "analytics", "support plan", "training", "license")
ITEMS = (
    "desk",
    "chair",
    "lamp",
    "monitor",
    "keyboard",
    "headset",
    "cabinet",
    "whiteboard",
    "router",
    "printer",
)
ORDER_STATES = ("pending", "shipped", "delivered", "cancelled")
BOARDS = ("website", "mobile", "platform", "marketing")
TASK_STATES = ("backlog", "in progress", "in review", "done")
FOLDERS = ("finance", "legal", "design", "archive", "shared")
ENDINGS = ("pdf", "xlsx", "docx", "png")
SOURCES = ("search", "direct", "referral", "social", "newsletter")
MAIL_FOLDERS = ("inbox", "archive", "spam")
COMPANIES = (
    "Acme",
    "Borealis",
    "Cobalt",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
)
ME = "you@ourco.example"
VISIT_DAYS = 14

Tables = dict[str, list[tuple[Any, ...]]]


def _take(rng: np.random.Generator, options: tuple[Any, ...], count: int) -> list[Any]:
    return [options[i] for i in rng.integers(len(options), size=count).tolist()]


def _people(rng: np.random.Generator, count: int) -> list[str]:
    """Return distinct full names."""
    numbers = rng.choice(len(FIRST) * len(LAST), size=count, replace=False).tolist()
    return [f"{FIRST[n % len(FIRST)]} {LAST[n // len(FIRST)]}" for n in numbers]


def _ids(rng: np.random.Generator, count: int, base: int) -> list[int]:
    return (base + np.sort(rng.choice(900, size=count, replace=False))).tolist()


def today(seed: int) -> date:
    """Return the day on which a company's requests are made: a Monday."""
    return date(2025, 1, 6) + timedelta(weeks=seed % 40)


def draw_tables(seed: int, rows: int) -> Tables:
    """Return the initial rows of every table.

    Args:
        seed: the company.
        rows: rows of the large tables, 30 to 100.
    """
    rng = np.random.default_rng(seed)
    now = today(seed)
    near = [(now + timedelta(days=offset)).isoformat() for offset in range(-30, 12)]
    staff = _people(rng, 10 + rows // 8)
    mails = [f"{name.lower().replace(' ', '.')}@ourco.example" for name in staff]
    teams = [TEAMS[i % len(TEAMS)] for i in range(len(staff))]
    employees = [(mails[i], staff[i], teams[i], int(i < len(TEAMS))) for i in range(len(staff))]

    clients = _people(rng, rows // 2 + 10)
    firms = _take(rng, COMPANIES, len(clients))
    client_mails = [
        f"{name.lower().replace(' ', '.')}@{firm.lower()}.example"
        for name, firm in zip(clients, firms, strict=True)
    ]
    owners = mails[: max(5, len(mails) // 2)]
    customers = list(
        zip(
            *(_ids(rng, len(clients), 1000), clients, firms, client_mails),
            *(_take(rng, STAGES, len(clients)), _take(rng, tuple(owners), len(clients))),
            _take(rng, PRODUCTS, len(clients)),
            strict=True,
        )
    )
    senders = tuple(mails[: rows // 6] + client_mails[: rows // 8])
    minutes = np.sort(rng.choice(28 * 24 * 60, size=rows, replace=False)).tolist()
    sent = [
        f"{(now - timedelta(days=28) + timedelta(minutes=m)).isoformat()} {m % 1440 // 60:02}:{m % 60:02}"
        for m in minutes
    ]
    subjects = [f"{a} {b}" for a, b in zip(_take(rng, TOPICS, rows), _take(rng, KINDS, rows), strict=True)]
    codes = rng.integers(100, 1000, size=rows).tolist()
    emails = list(
        zip(
            *(_ids(rng, rows, 2000), _take(rng, ("inbox", "inbox", "inbox", "archive"), rows)),
            *(_take(rng, senders, rows), [ME] * rows, subjects),
            [f"Here is the {s}, reference {c}. Let me know." for s, c in zip(subjects, codes, strict=True)],
            *(sent, rng.integers(2, size=rows).tolist()),
            strict=True,
        )
    )
    return {
        "employees": employees,
        "customers": customers,
        "emails": emails,
        "events": _events(rng, rows, tuple(mails[: rows // 5]), near[26:]),
        "orders": _orders(rng, rows, [row[0] for row in customers], near),
        "tasks": _tasks(rng, rows, tuple(owners), near[18:]),
        "files": _files(rng, rows, tuple(owners), near),
        "shares": [],
        "visits": _visits(rng, now),
        "plots": [],
    }


def _events(rng: np.random.Generator, rows: int, people: tuple[str, ...], days: list[str]) -> list[Any]:
    slots = len(people) * len(days) * 8
    drawn = rng.choice(slots, size=rows, replace=False).tolist()
    titles = zip(_take(rng, TOPICS, rows), _take(rng, MEETINGS, rows), strict=True)
    lengths = _take(rng, (30, 60), rows)
    return [
        (
            *(number, f"{topic} {kind}", people[slot % len(people)]),
            days[slot // len(people) % len(days)],
            f"{9 + slot // (len(people) * len(days)):02}:00",
            length,
        )
        for number, slot, (topic, kind), length in zip(
            _ids(rng, rows, 3000), drawn, titles, lengths, strict=True
        )
    ]


def _orders(rng: np.random.Generator, rows: int, customers: list[int], days: list[str]) -> list[Any]:
    return list(
        zip(
            *(
                _ids(rng, rows, 4000),
                _take(rng, tuple(customers[: rows // 3]), rows),
                _take(rng, ITEMS, rows),
            ),
            *(rng.integers(1, 10, size=rows).tolist(), rng.integers(20, 400, size=rows).tolist()),
            *(_take(rng, ORDER_STATES, rows), _take(rng, tuple(days[:30]), rows)),
            strict=True,
        )
    )


def _tasks(rng: np.random.Generator, rows: int, owners: tuple[str, ...], days: list[str]) -> list[Any]:
    pairs = rng.choice(len(VERBS) * len(TOPICS) * 2, size=rows, replace=False).tolist()
    titles = [
        f"{VERBS[p % 8]} the {TOPICS[p // 8 % len(TOPICS)]} {'page' if p // 8 // len(TOPICS) else 'form'}"
        for p in pairs
    ]
    return list(
        zip(
            *(_ids(rng, rows, 5000), titles, _take(rng, owners, rows), _take(rng, BOARDS, rows)),
            *(_take(rng, TASK_STATES, rows), _take(rng, tuple(days), rows)),
            strict=True,
        )
    )


def _files(rng: np.random.Generator, rows: int, owners: tuple[str, ...], days: list[str]) -> list[Any]:
    pairs = rng.choice(len(TOPICS) * len(KINDS), size=rows, replace=False).tolist()
    endings = _take(rng, ENDINGS, rows)
    names = [
        f"{TOPICS[p % len(TOPICS)]}-{KINDS[p // len(TOPICS)]}.{end}"
        for p, end in zip(pairs, endings, strict=True)
    ]
    return list(
        zip(
            *(_ids(rng, rows, 6000), names, _take(rng, FOLDERS, rows), _take(rng, owners, rows)),
            *(rng.integers(5, 5000, size=rows).tolist(), _take(rng, tuple(days[:30]), rows)),
            strict=True,
        )
    )


def _visits(rng: np.random.Generator, now: date) -> list[Any]:
    counts = rng.integers(20, 900, size=VISIT_DAYS * len(SOURCES)).tolist()
    return [
        ((now - timedelta(days=VISIT_DAYS - day)).isoformat(), source, counts[day * len(SOURCES) + i])
        for day in range(VISIT_DAYS)
        for i, source in enumerate(SOURCES)
    ]
