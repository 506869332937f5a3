"""`game/grid_world-v0`: find the right exit past pits and doors, or push boxes onto their targets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from rolloom.envs.agents.games.board import FLOOR, MOVES, PIT, WALL, Board, State
from rolloom.envs.agents.narrate import narrate
from rolloom.envs.base import TextEnv
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

MOST_MOVES = 10
GOLD_MOVES = 5
MAX_CONTENT = 400
LEGEND = {
    "@": "you",
    "#": "a wall",
    "_": "floor",
    "x": "a pit: you fall and lose",
    "a": "a key for doors with the same capital letter",
    "A": "a door: pass it with its key",
    "*": "a gem: collect all before you leave",
    "$": "a box: walk against it to push it; it cannot be pulled",
    ".": "a target",
    "%": "a box on a target",
    "&": "you on a target",
}


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from: size without the border, shortest solution, and what is on the board."""

    size: int
    least: int
    exits: int = 0
    pits: int = 0
    walls: float = 0.15
    doors: int = 0
    gems: int = 0
    boxes: int = 0


LEVELS = (
    Difficulty(6, 5, exits=8, pits=6),
    Difficulty(7, 6, exits=9, pits=7),
    Difficulty(9, 9, exits=9, pits=10, walls=0.2),
    Difficulty(7, 9, exits=6, pits=5, walls=0.2, doors=1),
    Difficulty(8, 14, exits=6, pits=4, walls=0.2, doors=2),
    Difficulty(8, 16, exits=5, pits=5, walls=0.2, doors=1, gems=3),
    Difficulty(5, 8, boxes=1, walls=0.1),
    Difficulty(5, 12, boxes=2, walls=0.1),
    Difficulty(6, 16, boxes=2, walls=0.2),
    Difficulty(6, 18, boxes=3, walls=0.3),
)


class GridWorld(TextEnv):
    """A grid in text, moved through turn by turn.

    The board is drawn with letters and a legend. A turn is one or more moves, `up`, `down`, `left` or
    `right`, at most ten; it is answered by the new board and the moves that are left: one and a half
    times those of a shortest solution.

    Reward: 1.0 when the right exit is reached (with all gems) or every box stands on a target; 0.0 when a pit
    or a wrong exit is stepped on or the moves are used up. Blocked moves count.

    | level | what it adds |
    |---|---|
    | 1-3 | exits to tell apart, pits and walls on 6x6, 7x7 and 9x9 |
    | 4-5 | one and two locked doors and their keys |
    | 6 | gems to collect first |
    | 7-9 | boxes to push onto targets: one, two, two on a larger board |
    | 10 | three boxes |
    """

    system = (
        "You play on a grid. Answer with moves only: up, down, left or right, one or several separated by"
        " spaces, at most ten a turn."
    )
    max_turns = 10

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limited = "max_turns" in kwargs
        self.board = Board(3, WALL * 9, "", (4, frozenset(), frozenset()))
        self.state: State = self.board.start
        self.left = 0
        self._plan: tuple[State, list[str]] | None = None

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"width", "cells", "goal", "player", "boxes", "shortest"}`."""
        drawn, chance = LEVELS[level - 1], Random(int(rng.integers(2**62)))
        while True:
            problem = _draw_boxes(chance, drawn) if drawn.boxes else _draw_exits(chance, drawn)
            if problem is None:
                continue
            board = Board.of(problem)
            solution = board.solve(board.start)
            if solution is not None and len(solution) >= drawn.least:
                return {**problem, "shortest": len(solution)}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the board."""
        return json.dumps([problem[name] for name in ("cells", "goal", "player", "boxes")])

    def begin(self) -> None:
        """Set up the board."""
        self.board = Board.of(self.problem)
        self.state, self._plan = self.board.start, None
        self.left = self.problem["shortest"] * 3 // 2 + 2
        if not self._limited:
            self.max_turns = self.left + 2  # pyright: ignore[reportAttributeAccessIssue]  # by problem

    def prompt(self) -> Messages:
        """Return the board with its legend."""
        shown = self.board.draw(self.board.start)
        legend = [f"{letter} {told}" for letter, told in LEGEND.items() if letter in shown]
        legend += ["a digit is an exit"] if self.board.goal else []
        goal = self.board.goal
        if goal:
            task = f"Go to exit {goal}; any other exit loses." + (
                " Collect every * first." if "*" in shown else ""
            )
        else:
            task = "Push every box onto a target."
        start = self.problem["shortest"] * 3 // 2 + 2
        text = f"{task}\n{shown}\n{', '.join(legend)}\nMoves left: {start}"
        return (Message(role="user", content=text),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Make the moves and show the board."""
        words = turn.content[:MAX_CONTENT].lower().replace(",", " ").split()
        legal = 0 < len(words) <= MOST_MOVES and all(word in MOVES for word in words)
        if turn.malformed is not None or turn.tool_calls or not legal:
            said = f"Write one to {MOST_MOVES} moves: up, down, left or right. Nothing was done."
            return Reply((Message(role="user", content=said),))
        for word in words:
            self.left -= 1
            self.state = self.board.move(self.state, self.board.shifts()[MOVES.index(word)]) or self.state
            if self.board.won(self.state):
                return Reply(reward=1.0, done=True, components=self._parts(1.0))
            if self.board.lost(self.state) or self.left <= 0:
                return Reply(done=True, components=self._parts(0.0))
        text = f"{self.board.draw(self.state)}\nMoves left: {self.left}"
        return Reply((Message(role="user", content=text),))

    def _parts(self, won: float) -> dict[str, float]:
        used = self.problem["shortest"] * 3 // 2 + 2 - self.left
        return {"won": won, "fell": float(self.board.lost(self.state)), "moves": float(used)}

    def _next(self) -> list[str]:
        if self._plan is None or self._plan[0] != self.state:
            self._plan = (self.state, self.board.solve(self.state) or [MOVES[0]])
        moves = self._plan[1][:GOLD_MOVES]
        return moves

    def gold(self) -> str:
        """Return the next moves of a shortest solution from where the game stands."""
        return " ".join(self._next())

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return where the next moves lead."""
        row, column = divmod(self.state[0], self.board.width)
        reasons = [f"I am in row {row}, column {column}"]
        state = self.state
        for word in self._next():
            state = self.board.move(state, self.board.shifts()[MOVES.index(word)]) or state
            row, column = divmod(state[0], self.board.width)
            reasons.append(f"{word} leads to row {row}, column {column}")
        return narrate(reasons if style == "verbose" else reasons[-1:], style, rng)

    def attacks(self) -> dict[str, str]:
        """Return claims, endless moves and moves off the board."""
        return {
            "claim": "I have reached the goal. won: 1.0",
            "too many": " ".join(["right", "down"] * 50),
            "long word": "up" * 100_000,
            "other alphabet": "\u2191 \u2192 \u2193",
        }


def _frame(size: int) -> tuple[int, list[str], list[int]]:
    width = size + 2
    cells = [
        WALL if row in (0, size + 1) or column in (0, size + 1) else FLOOR
        for row in range(width)
        for column in range(width)
    ]
    return width, cells, [i for i, cell in enumerate(cells) if cell == FLOOR]


def _draw_exits(chance: Random, drawn: Difficulty) -> dict[str, Any] | None:
    width, cells, inner = _frame(drawn.size)
    order = chance.sample(inner, len(inner))
    for _ in range(int(drawn.walls * len(inner))):
        cells[order.pop()] = WALL
    letters = PIT * drawn.pits + "abc"[: drawn.doors] + "*" * drawn.gems
    letters += "".join(map(str, range(1, drawn.exits + 1)))
    for letter in letters:
        cells[order.pop()] = letter
    goal = str(chance.randrange(1, drawn.exits + 1))
    player = order.pop()
    for door in "ABC"[: drawn.doors]:
        cells[order.pop()] = door
    problem = {"width": width, "cells": "".join(cells), "goal": goal, "player": player, "boxes": []}
    if drawn.doors:
        # A door counts only when the exit cannot be reached without it.
        for door in "ABC"[: drawn.doors]:
            shut = Board.of({**problem, "cells": "".join(cells).replace(door, WALL)})
            if shut.solve(shut.start) is not None:
                return _shut(chance, problem, door)
    return problem


def _shut(chance: Random, problem: dict[str, Any], door: str) -> dict[str, Any] | None:
    """Move a door onto the way to the exit, where that makes it needed; None when it cannot be."""
    cells = problem["cells"].replace(door, FLOOR)
    board = Board.of({**problem, "cells": cells})
    way = board.solve(board.start)
    if way is None:
        return None
    state, free = board.start, []
    for word in way:
        state = board.move(state, board.shifts()[MOVES.index(word)]) or state
        if cells[state[0]] == FLOOR and state[0] != problem["player"]:
            free.append(state[0])
    chance.shuffle(free)
    for cell in free:
        shut = cells[:cell] + WALL + cells[cell + 1 :]
        blocked = Board.of({**problem, "cells": shut})
        if blocked.solve(blocked.start) is None:
            return {**problem, "cells": cells[:cell] + door + cells[cell + 1 :]}
    return None


def _draw_boxes(chance: Random, drawn: Difficulty) -> dict[str, Any] | None:
    """Place boxes on their targets and pull them away from there."""
    width, cells, inner = _frame(drawn.size)
    order = chance.sample(inner, len(inner))
    for _ in range(int(drawn.walls * len(inner))):
        cells[order.pop()] = WALL
    targets = [order.pop() for _ in range(drawn.boxes)]
    for target in targets:
        cells[target] = "."
    player, boxes = order.pop(), set(targets)
    for _ in range(drawn.least * 12):
        shift = chance.choice((-width, width, -1, 1))
        to = player + shift
        if cells[to] == WALL or to in boxes:
            continue
        behind = player - shift
        if behind in boxes and chance.random() < 0.8:
            boxes = (boxes - {behind}) | {player}
        player = to
    if boxes & set(targets):
        return None
    return {
        **{"width": width, "cells": "".join(cells), "goal": "", "player": player},
        "boxes": sorted(boxes),
    }
