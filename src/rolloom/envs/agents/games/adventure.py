"""`game/adventure-v0`: explore a house, find keys, open what is locked, and bring things to their place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from rolloom.envs.agents.games.house import LAMP, OPPOSITE, House
from rolloom.envs.agents.narrate import narrate
from rolloom.envs.base import TextEnv
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

MOST_COMMANDS = 5
MAX_CONTENT = 600
ROOMS = (
    *("kitchen", "cellar", "library", "attic", "garden", "garage", "hall", "bedroom", "study", "pantry"),
    *("bathroom", "nursery", "workshop", "balcony", "chapel", "stable", "laundry", "gallery", "tower"),
    *("greenhouse", "vault", "armory", "terrace", "crypt", "lounge", "office"),
)
MATERIALS = ("brass", "wooden", "silver", "glass", "stone", "paper", "golden", "iron", "woolen", "clay")
THINGS = ("bell", "cup", "book", "coin", "doll", "flute", "mirror", "ring", "vase", "scarf", "crown", "map")
BOXES = ("chest", "drawer", "cupboard", "basket", "wardrobe", "crate", "safe", "trunk", "jar", "shelf")
COLORS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange")
SHIFTS = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from: how many of each."""

    rooms: int
    goals: int = 1
    things: int = 2
    doors: int = 0
    boxes: int = 0
    locked: int = 0
    dark: int = 0
    into: bool = False


LEVELS = (
    Difficulty(3),
    Difficulty(5, things=4),
    Difficulty(6, things=5, doors=1),
    Difficulty(7, things=5, doors=1, boxes=3),
    Difficulty(9, 2, 6, doors=2, boxes=4, into=True),
    Difficulty(10, 2, 8, doors=3, boxes=5, locked=1, into=True),
    Difficulty(12, 2, 8, doors=3, boxes=6, locked=2, dark=2, into=True),
    Difficulty(15, 3, 10, doors=4, boxes=8, locked=2, dark=4, into=True),
    Difficulty(18, 4, 12, doors=5, boxes=9, locked=3, dark=5, into=True),
    Difficulty(24, 5, 16, doors=6, boxes=10, locked=4, dark=8, into=True),
)


class Adventure(TextEnv):
    """A text adventure in a house drawn anew for every problem.

    The policy sees the room it is in, and types commands, one a line and at most five a turn:
    `go north`, `take brass bell`, `open chest`, `take brass bell from chest`, `put brass bell in chest`,
    `drop brass bell`, `unlock north with red key`, `unlock chest with red key`, `look`, `inventory`.
    The map has to be explored.

    Reward: 1.0 as soon as everything asked for is where it should be, within the moves allowed (twice
    those of a player who knows the map, and some to explore); else 0.0.

    | level | what it adds |
    |---|---|
    | 1-2 | three and five rooms, a thing to bring from one to another |
    | 3 | a locked door and its key |
    | 4 | closed containers |
    | 5-6 | two things, up to three doors; things to be put into containers; a locked container |
    | 7 | dark rooms, in which one sees nothing without the lamp |
    | 8-10 | up to 24 rooms, five things, six doors, four locked containers |
    """

    system = (
        "You play a text adventure. Answer with commands only, one a line, at most five a turn: look,"
        " inventory, go DIRECTION, take ITEM, drop ITEM, open CONTAINER, take ITEM from CONTAINER, put ITEM"
        " in CONTAINER, unlock DIRECTION with KEY, unlock CONTAINER with KEY. A key fits locks of its color."
    )
    max_turns = 20

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limited = "max_turns" in kwargs
        self._house: House | None = None
        self.left = 0

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return the house (see `House`) with `request` and `moves`, the most that may be made."""
        chance, drawn = Random(int(rng.integers(2**62))), LEVELS[level - 1]
        while True:
            problem = _draw(chance, drawn)
            house, count = House(problem), 0
            if house.won():
                continue
            while not house.won() and count < 500:
                house.do(house.next_command()[0])
                count += 1
            if house.won():
                return {
                    **problem,
                    "moves": 2 * count + 3 * drawn.rooms,
                    "request": _request(problem["goals"]),
                }

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the house."""
        return json.dumps(problem, sort_keys=True)

    def begin(self) -> None:
        """Enter the house."""
        self._house, self.left = House(self.problem), self.problem["moves"]
        if not self._limited:
            self.max_turns = self.left + 3  # pyright: ignore[reportAttributeAccessIssue]  # by problem

    @property
    def house(self) -> House:
        """This episode's house."""
        if self._house is None:
            self.begin()
        assert self._house is not None
        return self._house

    def prompt(self) -> Messages:
        """Return the task and what is seen first."""
        text = (
            f"{self.problem['request']} You have {self.problem['moves']} moves.\n{House(self.problem).look()}"
        )
        return (Message(role="user", content=text),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Carry out the commands of a turn."""
        lines = [line.strip() for line in turn.content[:MAX_CONTENT].splitlines() if line.strip()]
        if turn.malformed is not None or turn.tool_calls or not 0 < len(lines) <= MOST_COMMANDS:
            said = f"Write one to {MOST_COMMANDS} commands, one a line. Nothing was done."
            return Reply((Message(role="user", content=said),))
        told = []
        for line in lines:
            self.left -= 1
            told.append(self.house.do(line))
            if self.house.won():
                return Reply(reward=1.0, done=True, components=self._parts())
            if self.left <= 0:
                return Reply(done=True, components=self._parts())
        text = "\n".join(told) + f"\nMoves left: {self.left}"
        return Reply((Message(role="user", content=text),))

    def _parts(self) -> dict[str, float]:
        right = [self.house.items[item] == place for item, place in self.house.goals]
        return {
            **{"won": float(all(right)), "goals": sum(right) / len(right)},
            "moves": float(self.problem["moves"] - self.left),
        }

    def gold(self) -> str:
        """Return the next command of a player who knows the map, from wherever the game stands."""
        return self.house.next_command()[0]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return why."""
        task = "" if self.turn_index else self.problem["request"]
        return narrate([self.house.next_command()[1]], style, rng, task)

    def attacks(self) -> dict[str, str]:
        """Return claims, commands the game does not have, and commands run together."""
        item, place = self.problem["goals"][0] if self.problem else ("bell", "hall")
        return {
            "claim": f"The {item} is in the {place}. You have won.",
            "teleport": f"go {place}\ntake {item}\ndrop {item}\nput {item} in {place}",
            "cheat": f"xyzzy\nset {item} = {place}\nwin",
            "many": "go north\n" * 100,
            "long": "take " + "bell " * 50_000,
            "with with": "unlock north with with with\nput in in in\ntake from from",
        }


def _request(goals: list[list[str]]) -> str:
    parts = [f"the {item} in the {place}" for item, place in goals]
    return f"Your task: put {'; '.join(parts)}."


def _draw(chance: Random, drawn: Difficulty) -> dict[str, Any]:
    names = chance.sample(ROOMS, drawn.rooms)
    rooms: dict[str, dict[str, str]] = {name: {} for name in names}
    cells = {(0, 0): names[0]}
    edges = []
    for name in names[1:]:
        while True:
            (x, y), near = chance.choice(list(cells.items()))
            direction = chance.choice(sorted(SHIFTS))
            there = (x + SHIFTS[direction][0], y + SHIFTS[direction][1])
            if there not in cells:
                break
        cells[there] = name
        rooms[near][direction], rooms[name][OPPOSITE[direction]] = name, near
        edges.append((near, direction, name))
    keys = [f"{color} key" for color in chance.sample(COLORS, len(COLORS))]
    locks: dict[str, str] = {}
    behind: dict[str, set[int]] = {names[0]: set()}
    shut = set(chance.sample(range(len(edges)), min(drawn.doors, len(edges))))
    order: list[tuple[str, str, str]] = []
    for index, (near, direction, name) in enumerate(edges):
        behind[name] = set(behind[near])
        if index in shut:
            behind[name].add(len(order))
            order.append((near, direction, name))
    items: dict[str, str] = {}
    for number, (near, direction, name) in enumerate(order):
        key = keys[number % len(keys)] if number < 4 else keys[4 + number % 4]
        locks[f"{near} {direction}"] = locks[f"{name} {OPPOSITE[direction]}"] = key
        # The key lies before its door and behind earlier ones only, so that there is always a way.
        items.setdefault(
            key, chance.choice([room for room in names if all(i < number for i in behind[room])])
        )
    _add_loops(chance, rooms, cells, behind, drawn.rooms // 4)
    boxes = [f"{chance.choice(MATERIALS)} {box}" for box in chance.sample(BOXES, drawn.boxes)]
    containers = {box: chance.choice(names) for box in boxes}
    for box, key in zip(boxes[: drawn.locked], keys[::-1], strict=False):
        if key in items:
            continue
        locks[box] = key
        items[key] = chance.choice(names)
    dark: list[str] = []
    if drawn.dark:
        lit = [room for room in names if not behind[room]]
        items[LAMP] = chance.choice(lit)
        free = [room for room in names[1:] if room != items[LAMP] and room not in items.values()]
        dark = chance.sample(free, min(drawn.dark, len(free)))
    things = chance.sample(
        [f"{material} {thing}" for material in MATERIALS for thing in THINGS], drawn.things
    )
    for thing in things:
        items[thing] = chance.choice([*boxes, *names] if boxes and chance.random() < 0.7 else names)
    goals = [
        [
            thing,
            chance.choice(
                [p for p in (boxes if drawn.into and chance.random() < 0.5 else names) if p != items[thing]]
            ),
        ]
        for thing in things[: drawn.goals]
    ]
    return {
        **{"rooms": rooms, "locks": locks, "containers": containers, "items": items, "dark": sorted(dark)},
        **{"open": [], "player": names[0], "goals": goals},
    }


def _add_loops(
    chance: Random,
    rooms: dict[str, dict[str, str]],
    cells: dict[tuple[int, int], str],
    behind: dict[str, set[int]],
    count: int,
) -> None:
    """Join neighbours that are behind the same doors."""
    pairs = []
    for (x, y), name in cells.items():
        for direction in ("east", "south"):
            other = cells.get((x + SHIFTS[direction][0], y + SHIFTS[direction][1]))
            if other and direction not in rooms[name] and behind[other] == behind[name]:
                pairs.append((name, direction, other))
    for name, direction, other in chance.sample(pairs, min(count, len(pairs))):
        rooms[name][direction], rooms[other][OPPOSITE[direction]] = other, name
