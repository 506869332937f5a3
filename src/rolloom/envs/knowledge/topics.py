"""Topics of generated multiple-choice questions: facts, a question, one right and nine wrong options.

A topic is a function `(rng, size) -> Drawn`; `size` (3 to 26) says how much there is to read and how
many steps lead to the answer. No two options are equal, and the right one follows from the text alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rolloom.envs.knowledge.words import CITIES, COLOURS, NAMES, THINGS, as_ints, coined, one, ordinal, pick

WRONG = 9


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question.

    Attributes:
        facts: what is given.
        question: what is asked.
        right: the right option.
        wrong: nine others.
        steps: `(short, full)` steps of the solution.
    """

    facts: str
    question: str
    right: str
    wrong: list[str]
    steps: list[list[str]]


def around(rng: np.random.Generator, below: list[int], above: list[int]) -> list[int]:
    """Return nine numbers of which any count is below: the right one's rank must not give it away."""
    fewest, most = max(0, WRONG - len(above)), min(WRONG, len(below))
    count = int(rng.integers(fewest, most + 1))
    return pick(rng, below, count) + pick(rng, above, WRONG - count)


SCALES = (("older", "oldest"), ("taller", "tallest"), ("faster", "fastest"), ("richer", "richest"))


def ordering(rng: np.random.Generator, size: int) -> Drawn:
    """People compared in pairs; who comes k-th?"""
    people = pick(rng, NAMES, size + 1 + WRONG)
    order, strangers = people[: size + 1], people[size + 1 :]
    more, most = one(rng, SCALES)
    pairs = [f"{a} is {more} than {b}." for a, b in pairwise(order)]
    place = int(rng.integers(1, size))
    others = [name for name in order if name != order[place]]
    wrong = (pick(rng, others, WRONG) + strangers)[:WRONG]
    steps = [[f"{a} > {b}", f"{a} is {more} than {b}."] for a, b in pairwise(order[: place + 1])]
    steps.append([f"{ordinal(place + 1)}: {order[place]}", f"So the {ordinal(place + 1)} is {order[place]}."])
    question = f"Sort everyone from {most} down. Who is {ordinal(place + 1)}?"
    return Drawn(" ".join(pick(rng, pairs, len(pairs))), question, order[place], wrong, steps)


def kinds(rng: np.random.Generator, size: int) -> Drawn:
    """Made-up kinds of things that contain each other; which statement must be true?"""
    length = 2 + size // 2
    nouns = coined(rng, length + size)
    chain, side = nouns[:length], nouns[length:]
    parents = dict(pairwise(chain))
    for index, noun in enumerate(side):
        parents[noun] = one(rng, [*chain[1:], *side[:index]])
    above: dict[str, set[str]] = {}
    for noun in nouns:
        above[noun], at = set(), noun
        while at in parents:
            at = parents[at]
            above[noun].add(at)
    start, end = 0, int(rng.integers(2, length))
    right = f"Every {chain[start]} is a {chain[end]}."
    wrong: dict[str, None] = {}
    while len(wrong) < WRONG:
        a, b = pick(rng, nouns, 2)
        if b not in above[a]:
            wrong[f"Every {a} is a {b}."] = None
    facts = [f"Every {a} is a {b}." for a, b in parents.items()]
    steps = [[f"{a} -> {b}", f"Every {a} is a {b}."] for a, b in pairwise(chain[: end + 1])]
    steps.append([f"{chain[start]} -> {chain[end]}", f"So every {chain[start]} is a {chain[end]}."])
    question = "Which of these statements follows?"
    return Drawn(" ".join(pick(rng, facts, len(facts))), question, right, list(wrong), steps)


def lamps(rng: np.random.Generator, size: int) -> Drawn:
    """Lamps that switch each other on; which one is on in the end?"""
    length = 1 + size // 2
    words = pick(rng, [thing for thing in THINGS if thing != "lamp"], length + 2 + WRONG + size // 2)
    chain, given, off = words[: length + 1], words[length + 1], words[length + 2 :]
    rules, steps = [], []
    for a, b in pairwise(chain):
        both = bool(rng.random() < 0.4)
        rules.append(
            f"If the {a} lamp{f' and the {given} lamp are' if both else ' is'} on, so is the {b} lamp."
        )
        steps.append([f"{a} -> {b}", f"The {a} lamp is on, so the {b} lamp is on."])
    for index in range(size // 2 + 3):
        # Every rule of these needs a lamp that nothing switches on.
        cause, head = off[index], off[index + 1]
        known = one(rng, [*chain, given] if rng.random() < 0.4 else [*chain[:-1], given])
        rules.append(f"If the {known} lamp and the {cause} lamp are on, so is the {head} lamp.")
    facts = f"The {chain[0]} lamp and the {given} lamp are switched on; only these rules can light others. "
    question = "Which of these lamps is on?"
    named = size // 2 + 4
    wrong = (pick(rng, off[:named], named) + off[named:])[:WRONG]
    steps.append([chain[-1], f"Of the options, only the {chain[-1]} lamp is on."])
    return Drawn(facts + " ".join(pick(rng, rules, len(rules))), question, chain[-1], wrong, steps)


def units(rng: np.random.Generator, size: int) -> Drawn:
    """Made-up units that convert into each other; how many of the last are so many of the first?"""
    length = 1 + min(size, 24) // 4
    names = coined(rng, length + 1)
    ratios = as_ints(rng.integers(2, 10, size=length))
    amount = int(rng.integers(2, 10 + size))
    facts, steps, total = [], [], amount
    for ratio, big, small in zip(ratios, names, names[1:], strict=False):
        facts.append(f"One {big} is {ratio} {small}s.")
        steps.append([f"{total}*{ratio}={total * ratio}", f"{total} {big}s are {total * ratio} {small}s."])
        total *= ratio
    near: set[int] = set()
    for which in range(length):
        # One factor misread, or the amount: what a slip would lead to.
        for factor in (ratio for ratio in range(1, 13) if ratio != ratios[which]):
            near.add(total // ratios[which] * factor)
    near |= {total // amount * other for other in range(1, 2 * amount + 9) if other != amount}
    wrong = around(rng, [n for n in sorted(near) if n < total], [n for n in sorted(near) if n > total])
    question = f"How many {names[-1]}s are {amount} {names[0]}s?"
    return Drawn(" ".join(pick(rng, facts, length)), question, str(total), [*map(str, wrong)], steps)


def calendar(rng: np.random.Generator, size: int) -> Drawn:
    """A date, moved on and back by days and weeks; which date is it then?"""
    at = datetime.date(int(rng.integers(1990, 2040)), 1, 1) + datetime.timedelta(int(rng.integers(365)))
    facts, steps = [f"A project starts on {written(at)}."], []
    for number in range(1, 2 + size // 5):
        weeks, ahead = bool(rng.random() < 0.4), bool(rng.random() < 0.7)
        count = int(rng.integers(2, 4 + size))
        days = count * (7 if weeks else 1) * (1 if ahead else -1)
        said = f"{count} {'weeks' if weeks else 'days'} {'after' if ahead else 'before'}"
        at += datetime.timedelta(days)
        facts.append(
            f"Milestone {number} is {said} {f'milestone {number - 1}' if number > 1 else 'the start'}."
        )
        steps.append([f"{days:+d}: {written(at)}", f"Milestone {number} is {days:+d} days: {written(at)}."])
    shifts = around(rng, [-31, -30, *range(-12, 0)], [*range(1, 13), 30, 31])
    wrong = [written(at + datetime.timedelta(shift)) for shift in shifts]
    question = f"On which date is milestone {len(steps)}?"
    return Drawn(" ".join(facts), question, written(at), wrong, steps)


def table(rng: np.random.Generator, size: int) -> Drawn:
    """A table of people; who comes k-th in a column among those of one city?"""
    rows = size + 4
    people = pick(rng, NAMES, rows + WRONG)
    towns = pick(rng, CITIES, 2 + size // 6)
    columns = pick(rng, ("points", "age", "books", "trips", "medals", "visits"), 1 + min(size // 4, 3))
    values = {column: as_ints(rng.permutation(90)[:rows] + 10) for column in columns}
    homes = [one(rng, towns) for _ in range(rows)]
    lines = ["| name | city | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for index in range(rows):
        cells = [people[index], homes[index], *(str(values[column][index]) for column in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    town, column = one(rng, sorted(set(homes))), one(rng, columns)
    among = sorted((i for i in range(rows) if homes[i] == town), key=lambda i: -values[column][i])
    place = int(rng.integers(len(among)))
    winner = among[place]
    others = [name for name in people[:rows] if name != people[winner]]
    wrong = (pick(rng, others, WRONG) + people[rows:])[:WRONG]
    steps = [[f"{people[i]} {values[column][i]}", f"{people[i]} has {values[column][i]}."] for i in among]
    steps.append(
        [f"{ordinal(place + 1)}: {people[winner]}", f"The {ordinal(place + 1)} is {people[winner]}."]
    )
    question = f"Among the people from {town}, who has the {ordinal(place + 1)} highest number of {column}?"
    if column == "age":
        question = f"Among the people from {town}, who is the {ordinal(place + 1)} oldest?"
    return Drawn("\n".join(lines), question, people[winner], wrong, steps)


def draws(rng: np.random.Generator, size: int) -> Drawn:
    """Coloured balls in boxes; how many of a colour are in some of the boxes together?"""
    boxes = pick(rng, NAMES, 2 + size // 3)
    colours = pick(rng, COLOURS, 2 + size // 8)
    counts = {(box, colour): int(rng.integers(2, 8 + size)) for box in boxes for colour in colours}
    facts = [
        f"{box} has " + ", ".join(f"{counts[box, colour]} {colour}" for colour in colours) + " balls."
        for box in boxes
    ]
    asked, colour = pick(rng, boxes, max(2, len(boxes) - 1)), one(rng, colours)
    total, steps = 0, []
    for box in asked:
        total += counts[box, colour]
        steps.append([f"+{counts[box, colour]}={total}", f"{box} adds {counts[box, colour]}: {total}."])
    below = [number for number in range(total - 12, total) if number > 0]
    wrong = [str(number) for number in around(rng, below, list(range(total + 1, total + 13)))]
    question = f"How many {colour} balls do {', '.join(asked[:-1])} and {asked[-1]} have together?"
    return Drawn(" ".join(facts), question, str(total), wrong, steps)


def written(date: datetime.date) -> str:
    """Return `3 May 2021`."""
    return f"{date.day} {date:%B} {date.year}"


TOPICS: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    function.__name__: function for function in (ordering, kinds, lamps, units, calendar, table, draws)
}
