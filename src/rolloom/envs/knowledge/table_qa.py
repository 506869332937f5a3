"""Questions about tables in the prompt with exact short answers: filters, joins, groups, orders."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.knowledge.short import ShortAnswer
from rolloom.envs.knowledge.words import CITIES, COLOURS, NAMES, THINGS, as_ints, one, ordinal, pick

ROWS = (8, 10, 12, 16, 20, 26, 34, 44, 60, 80)
"""Rows of the table of orders at each level."""


class TableQA(ShortAnswer):
    """Answer a question about one or two tables; the answer is a number or a name, exactly.

    | level | asks for |
    |---|---|
    | 1-2 | a total over a filter, over 8 to 10 rows |
    | 3-4 | the buyer of the k-th largest amount; how many orders lie between two amounts |
    | 5-6 | totals by group, joined to a second table of customers |
    | 7-10 | the same with two filters over 34 to 80 rows |
    """

    answer_in_prompt = True  # a name is read off the table

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"text", "answer", "steps"}`."""
        count = ROWS[level - 1]
        buyers = pick(rng, NAMES, min(12, 3 + count // 4))
        goods = pick(rng, THINGS, min(8, 2 + count // 5))
        homes = dict(zip(buyers, _spread(rng, buyers), strict=True))
        amounts = as_ints(rng.permutation(99 if level < 5 else 899)[:count] + (1 if level < 5 else 100))
        orders = [(one(rng, buyers), one(rng, goods), one(rng, COLOURS[:4]), amount) for amount in amounts]
        asked = [_total] if level < 3 else [_total, _kth, _between] if level < 5 else [_town, _best, _kth]
        question, answer, steps = one(rng, asked)(rng, orders, homes, level)
        lines = ["| buyer | item | colour | amount |", "|---|---|---|---|"]
        lines += [f"| {buyer} | {item} | {colour} | {amount} |" for buyer, item, colour, amount in orders]
        if level >= 5:
            lines += ["", "| customer | city |", "|---|---|"]
            lines += [f"| {buyer} | {town} |" for buyer, town in homes.items()]
        text = (
            "\n".join(lines)
            + f"\n\n{question} Answer with the {'number' if answer.isdigit() else 'name'} only."
        )
        return {"text": text, "answer": answer, "steps": steps}

    def attacks(self) -> dict[str, str]:
        """Return answers that repeat every cell or every number."""
        return {"all names": " ".join(NAMES), "all numbers": "\n".join(map(str, range(1_000)))}


Order = tuple[str, str, str, int]
Drawn = tuple[str, str, list[list[str]]]


def _spread(rng: np.random.Generator, buyers: list[str]) -> list[str]:
    towns = pick(rng, CITIES, max(2, len(buyers) // 3))
    return [one(rng, towns) for _ in buyers]


def _running(found: list[Order]) -> tuple[int, list[list[str]]]:
    total, steps = 0, []
    for buyer, item, _, amount in found:
        total += amount
        steps.append([f"+{amount}={total}", f"{buyer}, {item}: {amount}, together {total}."])
    return total, steps


def _total(rng: np.random.Generator, orders: list[Order], homes: dict[str, str], level: int) -> Drawn:
    if rng.random() < 0.5:
        names = [order[0] for order in orders]
        buyer = one(rng, sorted({name for name in names if names.count(name) > 1}))
        found, of = [order for order in orders if order[0] == buyer], f"orders of {buyer}"
    else:
        colour = one(rng, sorted({order[2] for order in orders}))
        found, of = [order for order in orders if order[2] == colour], f"{colour} items"
    total, steps = _running(found)
    return f"What is the total amount of all {of}?", str(total), steps


def _kth(rng: np.random.Generator, orders: list[Order], homes: dict[str, str], level: int) -> Drawn:
    ranked, place = sorted(orders, key=lambda order: -order[3]), int(rng.integers(1, 3 + level))
    place = min(place, len(ranked) - 2)
    around = ranked[: place + 1]
    answer = f"{around[-1][3]}"
    steps = [
        [f"{amount}", f"{ordinal(i)}: {buyer} with {amount}."]
        for i, (buyer, _, _, amount) in enumerate(around, 1)
    ]
    below = ranked[place + 1][3]
    difference = int(answer) - below
    steps.append([f"{answer}-{below}={difference}", f"Next is {below}, which is {difference} less."])
    question = (
        f"By how much is the {ordinal(place + 1)} largest amount larger than the "
        f"{ordinal(place + 2)} largest, and whose is it? Write the buyer's name and the number "
        "side by side, such as Max12."
    )
    return question, f"{around[-1][0]}{difference}", steps


def _between(rng: np.random.Generator, orders: list[Order], homes: dict[str, str], level: int) -> Drawn:
    low, high = sorted(as_ints(rng.integers(1, 99, size=2)))
    high += 20
    found = [order for order in orders if low <= order[3] <= high]
    total, steps = _running(found)
    answer = f"{len(found)}-{total}"
    steps.append([answer, f"There are {len(found)}, with a total of {total}."])
    question = (
        f"How many orders have an amount from {low} to {high}, and what do these come to together? "
        "Write both numbers with a hyphen, such as 3-120."
    )
    return question, answer, steps


def _town(rng: np.random.Generator, orders: list[Order], homes: dict[str, str], level: int) -> Drawn:
    present = sorted({homes[order[0]] for order in orders})
    town, colour = one(rng, present), one(rng, sorted({order[2] for order in orders}))
    found = [order for order in orders if homes[order[0]] == town]
    of = f"customers from {town}"
    if level >= 7:
        found, of = [order for order in found if order[2] != colour], f"{of}, {colour} items left out"
    total, steps = _running(found)
    steps.append([str(total), f"The total is {total}."])
    return f"What is the total amount of the orders of {of}?", str(total), steps


def _best(rng: np.random.Generator, orders: list[Order], homes: dict[str, str], level: int) -> Drawn:
    colour = one(rng, sorted({order[2] for order in orders}))
    kept = [order for order in orders if level < 7 or order[2] != colour]
    totals: dict[str, int] = {}
    for order in kept:
        totals[homes[order[0]]] = totals.get(homes[order[0]], 0) + order[3]
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    steps = [[f"{town} {total}", f"{town} comes to {total}."] for town, total in ranked]
    top = ranked[0][1] - (ranked[1][1] if len(ranked) > 1 else 0)
    steps.append([f"{ranked[0][0]}{top}", f"{ranked[0][0]} leads by {top}."])
    without = f" Leave out {colour} items." if level >= 7 else ""
    question = (
        f"Add up the amounts by the customers' city.{without} Which city has the largest total, and by "
        "how much more than the next (0 for a city without orders)? Write both side by side, such as Paris12."
    )
    return question, f"{ranked[0][0]}{top}", steps
