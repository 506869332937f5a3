"""The board of the grid world: what moves do, how it is drawn, and shortest solutions.

A state is `(player, items, boxes)`: a cell, the frozen set of item cells already picked up, the frozen set of
box cells. Cells are numbers, row times width plus column.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOVES = ("up", "down", "left", "right")
WALL, PIT, FLOOR = "#", "x", " "
State = tuple[int, frozenset[int], frozenset[int]]


@dataclass(frozen=True, slots=True)
class Board:
    """What does not change within an episode.

    Attributes:
        width: columns.
        cells: one letter a cell: wall, pit, floor, `a`-`c` keys, `A`-`C` doors, `*` gems, digits exits,
            `.` targets of boxes.
        goal: the digit of the right exit, or "" when boxes have to be pushed onto targets.
        start: the state at the beginning.
    """

    width: int
    cells: str
    goal: str
    start: State

    @classmethod
    def of(cls, problem: dict[str, Any]) -> Board:
        """Return the board of a problem."""
        state = (problem["player"], frozenset[int](), frozenset(problem["boxes"]))
        return cls(problem["width"], problem["cells"], problem["goal"], state)

    def shifts(self) -> tuple[int, int, int, int]:
        """Return what each move adds to a cell."""
        return (-self.width, self.width, -1, 1)

    def move(self, state: State, shift: int) -> State | None:
        """Return the state after a step, or None when it is blocked; stepping into a pit is not blocked."""
        player, items, boxes = state
        to = player + shift
        cell = self.cells[to]
        if cell == WALL or (cell in "ABC" and not self._open(cell, items)):
            return None
        if to in boxes:
            beyond = to + shift
            if self.cells[beyond] not in " ." or beyond in boxes:
                return None
            return to, items, (boxes - {to}) | {beyond}
        if cell in "abc*":
            items = items | {to}
        return to, items, boxes

    def _open(self, door: str, items: frozenset[int]) -> bool:
        return any(self.cells[item] == door.lower() for item in items)

    def won(self, state: State) -> bool:
        """Return whether a state is the goal."""
        player, items, boxes = state
        if not self.goal:
            return all(self.cells[box] == "." for box in boxes)
        gems = self.cells.count("*")
        return self.cells[player] == self.goal and sum(self.cells[item] == "*" for item in items) == gems

    def lost(self, state: State) -> bool:
        """Return whether a state ends the game: a pit, the wrong exit, or the right one too early."""
        cell = self.cells[state[0]]
        return cell == PIT or (cell.isdigit() and not self.won(state))

    def solve(self, state: State, most: int = 60_000) -> list[str] | None:
        """Return the moves of a shortest solution, or None when there is none within `most` states."""
        if self.won(state):
            return []
        shifts = self.shifts()
        dead = self._dead() if state[2] else frozenset()
        came: dict[State, tuple[State, int] | None] = {state: None}
        queue = deque([state])
        while queue and len(came) < most:
            now = queue.popleft()
            for index, shift in enumerate(shifts):
                then = self.move(now, shift)
                if then is None or then in came or self.lost(then):
                    continue
                if then[2] is not now[2] and then[2] & dead:
                    continue
                came[then] = (now, index)
                if self.won(then):
                    return list(_back(came, then))[::-1]
                queue.append(then)
        return None

    def _dead(self) -> frozenset[int]:
        """Return corners from which no box ever comes away."""
        found = set()
        for cell, letter in enumerate(self.cells):
            if letter == FLOOR:
                up, down, left, right = (self.cells[cell + shift] == WALL for shift in self.shifts())
                if (up or down) and (left or right):
                    found.add(cell)
        return frozenset(found)

    def draw(self, state: State) -> str:
        """Return the board as text."""
        player, items, boxes = state
        letters = [FLOOR if i in items else letter for i, letter in enumerate(self.cells)]
        for box in boxes:
            letters[box] = "%" if self.cells[box] == "." else "$"
        letters[player] = "@" if self.cells[player] != "." else "&"
        return "\n".join(
            "".join(letters[i : i + self.width]).replace(FLOOR, "_")
            for i in range(0, len(letters), self.width)
        )


def _back(came: dict[State, tuple[State, int] | None], state: State) -> Iterator[str]:
    step = came[state]
    while step is not None:
        yield MOVES[step[1]]
        step = came[step[0]]
