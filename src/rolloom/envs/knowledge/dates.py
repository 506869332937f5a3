"""Questions about dates with exact short answers: shifts, differences, weekdays, working days."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np

from rolloom.envs.knowledge.short import ShortAnswer
from rolloom.envs.knowledge.words import one, ordinal

SPANS = (30, 60, 120, 300, 700, 1_500, 4_000, 9_000, 20_000, 40_000)
"""Days that a shift or a difference of each level may span."""

Drawn = tuple[str, str, list[list[str]]]
DAY = datetime.timedelta(1)


class Dates(ShortAnswer):
    """Reckon with dates; the answer is a date (`2024-03-01`) or a number of days, exactly.

    | level | asks for |
    |---|---|
    | 1-2 | the date some days or weeks later or earlier |
    | 3-4 | months as well; days between two dates |
    | 5-6 | working days (Monday to Friday) later, and the n-th given weekday of a month |
    | 7-10 | chains of two to five such steps over up to a century, leap years included |
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"text", "answer", "steps"}`."""
        start = datetime.date(1990, 1, 1) + datetime.timedelta(int(rng.integers(20_000)))
        if level >= 3 and rng.random() < 0.3:
            text, answer, steps = _between(rng, level, start)
        else:
            text, answer, steps = _moved(rng, level, start)
        return {"text": text, "answer": answer, "steps": steps}

    def attacks(self) -> dict[str, str]:
        """Return answers that name many."""
        return {"two dates": "2024-01-01 2024-01-02", "every day": "\n".join(map(str, range(400)))}


def _between(rng: np.random.Generator, level: int, start: datetime.date) -> Drawn:
    days = int(rng.integers(5, SPANS[level - 1]))
    end = start + datetime.timedelta(days)
    steps = []
    at = start
    hop = 1 + (end.year - start.year) // 10
    while at.year + hop <= end.year:
        turn = datetime.date(at.year + hop, 1, 1)
        steps.append(
            [f"+{(turn - at).days}: {turn}", f"From {at} to {turn} there are {(turn - at).days} days."]
        )
        at = turn
    if at < end:
        steps.append([f"+{(end - at).days}: {end}", f"From {at} to {end} there are {(end - at).days} days."])
    steps.append([str(days), f"Together that is {days}."])
    asked = f"How many days are there from {start} to {end}? (From a day to the next is 1.)"
    text = f"{asked} Answer with the number only."
    return text, str(days), steps


def _moved(rng: np.random.Generator, level: int, start: datetime.date) -> Drawn:
    moves: list[Callable[..., tuple[str, datetime.date]]] = [_days, _weeks]
    moves += [_months] if level >= 3 else []
    moves += [_working, _nth] if level >= 5 else []
    at, said, steps = start, [f"Start at {start} ({start:%A})."], []
    for _ in range(1 + (level >= 4) + max(0, level - 7)):
        told, after = one(rng, moves)(rng, level, at)
        steps.append([f"{after} {after:%a}", f"{told} That is {after}, a {after:%A}."])
        said.append(told)
        at = after
    text = " ".join(said) + " Which date is it then? Answer with the date only, as YYYY-MM-DD."
    return text, str(at), steps


def _signed(rng: np.random.Generator, at: datetime.date) -> int:
    return 1 if at.year < 2000 or (at.year < 2045 and rng.random() < 0.6) else -1


def _words(sign: int) -> str:
    return "on" if sign > 0 else "back"


def _days(rng: np.random.Generator, level: int, at: datetime.date) -> tuple[str, datetime.date]:
    count, sign = int(rng.integers(5, SPANS[level - 1])), _signed(rng, at)
    return f"Go {count} days {_words(sign)}.", at + datetime.timedelta(sign * count)


def _weeks(rng: np.random.Generator, level: int, at: datetime.date) -> tuple[str, datetime.date]:
    count, sign = int(rng.integers(2, 3 + SPANS[level - 1] // 7)), _signed(rng, at)
    return f"Go {count} weeks {_words(sign)}.", at + datetime.timedelta(7 * sign * count)


def _months(rng: np.random.Generator, level: int, at: datetime.date) -> tuple[str, datetime.date]:
    count, sign = int(rng.integers(2, 4 + SPANS[level - 1] // 30)), _signed(rng, at)
    index = at.year * 12 + at.month - 1 + sign * count
    year, month = index // 12, index % 12 + 1
    day = min(at.day, calendar.monthrange(year, month)[1])
    told = f"Go {count} months {_words(sign)} (to the month's last day where it has no day {at.day})."
    return told, datetime.date(year, month, day)


def _working(rng: np.random.Generator, level: int, at: datetime.date) -> tuple[str, datetime.date]:
    count = int(rng.integers(3, 10 * level))
    after, left = at, count
    while left:
        after += DAY
        left -= after.weekday() < 5
    return f"Go {count} working days on (Monday to Friday, the start not counted).", after


def _nth(rng: np.random.Generator, level: int, at: datetime.date) -> tuple[str, datetime.date]:
    number, weekday = int(rng.integers(1, 5)), int(rng.integers(7))
    index = at.year * 12 + at.month
    first = datetime.date(index // 12, index % 12 + 1, 1)
    after = first + datetime.timedelta((weekday - first.weekday()) % 7 + 7 * (number - 1))
    return f"Go to the {ordinal(number)} {calendar.day_name[weekday]} of the following month.", after
