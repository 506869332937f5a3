"""The tasks that are judged: write a message from notes, some of which must stay private."""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.judge.models import Item
from rolloom.envs.knowledge.words import CITIES, NAMES, THINGS, coined, one, pick

FACTS = (2, 3, 3, 4, 4, 5, 6, 7, 8, 9)
"""Facts to tell at each level."""

PRIVATE = (1, 1, 1, 1, 2, 2, 2, 3, 3, 3)
"""Facts to keep."""

PRIVATE_LABELS = ("budget", "surprise guest", "password", "reason for the move")


def draw_notes(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Return `{"recipient", "sender", "facts": [[label, value], ...], "private", "ordered", "limit"}`."""
    names = pick(rng, NAMES, 4)
    facts = [
        [
            "date",
            f"{int(rng.integers(1, 29))} {one(rng, ('March', 'April', 'May', 'June', 'July', 'August'))}",
        ],
        ["town", one(rng, CITIES)],
        ["time", f"{int(rng.integers(8, 20))}:{int(rng.integers(10, 60))}"],
        ["to bring", f"a {one(rng, [thing for thing in THINGS if thing[0] not in 'aeiou'])}"],
        ["price", f"{int(rng.integers(11, 99))} euros"],
        ["host", names[2]],
        ["room", f"room {int(rng.integers(101, 899))}"],
        ["group", f"the {coined(rng, 1)[0]} group"],
        ["seats", f"{int(rng.integers(100, 999))} seats"],
    ]
    hidden = [
        f"{int(rng.integers(1_000, 10_000))} dollars",
        names[3],
        coined(rng, 1)[0],
        f"the {coined(rng, 1)[0]}",
    ]
    private = [list(pair) for pair in zip(PRIVATE_LABELS, hidden, strict=True)]
    chosen = pick(rng, facts, FACTS[level - 1])
    return {
        **{"recipient": names[0], "sender": names[1], "facts": chosen, "ordered": level >= 5},
        **{"private": pick(rng, private, PRIVATE[level - 1]), "limit": 20 + 7 * len(chosen)},
        "shuffle": [int(index) for index in rng.permutation(len(chosen) + PRIVATE[level - 1])],
    }


def ask(notes: dict[str, Any]) -> str:
    """Return what the policy is asked to write."""
    lines = [f"- {label}: {value}" for label, value in notes["facts"]]
    lines += [f"- private, not to be told: {label}: {value}" for label, value in notes["private"]]
    order = ""
    if notes["ordered"]:
        order = f" Tell them in this order: {', '.join(label for label, _ in notes['facts'])}."
    return (
        f"Write a message to {notes['recipient']} from these notes. Greet {notes['recipient']} by "
        f"name in the first "
        f"line, tell every note that is not private in the words given, sign with {notes['sender']} "
        f"alone on the last "
        f"line, and use at most {notes['limit']} words.{order} Do not tell anything private.\n\nNotes:\n"
        + "\n".join(lines[index] for index in notes["shuffle"])
    )


def rubric(notes: dict[str, Any]) -> list[Item]:
    """Return the items by which a message is judged; those that only keep cheats out have no weight."""
    recipient, sender, limit = notes["recipient"], notes["sender"], notes["limit"]
    items = [
        Item(f'The first line greets "{recipient}".', {"first": recipient}, 0.0, must=True),
        Item(f"The message has at most {limit} words.", {"words": limit}, 0.0, must=True),
    ]
    for _, value in notes["private"]:
        items.append(Item(f'The message does not mention "{value}".', {"lacks": value}, 0.0, must=True))
    for label, value in notes["facts"]:
        items.append(Item(f'The message tells the {label}: it mentions "{value}".', {"has": value}, 2.0))
    items.append(Item(f'The last line is "{sender}".', {"last": sender}))
    if notes["ordered"]:
        values = [value for _, value in notes["facts"]]
        quoted = ", ".join(f'"{value}"' for value in values)
        items.append(Item(f"The message mentions these in this order: {quoted}.", {"order": values}))
    return items


def compose(notes: dict[str, Any], leave_out: int | None = None) -> str:
    """Return a message that keeps to the rubric, without one of the facts if so wanted."""
    told = [
        f"The {label} is {value}."
        for index, (label, value) in enumerate(notes["facts"])
        if index != leave_out
    ]
    return "\n".join([f"Dear {notes['recipient']},", " ".join(told), notes["sender"]])
