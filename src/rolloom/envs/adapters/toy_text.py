"""Gymnasium's tabular worlds with drawn problems and a proof that each can be solved.

Their own defaults are one map and few starts: here the map, the start or the words for the actions are drawn,
so that there is something to generalise to. Everything is deterministic, so that the shortest way always
scores 1.0.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rolloom.envs.adapters.gymnasium_env import GymnasiumEnv, shortest_way
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Style

LETTERS = "bcdfghjkmnpqrstvwxz"


class TabularEnv(GymnasiumEnv):
    """What the tabular worlds share: a drawn start, a turn limit that fits it, thoughts that name the way."""

    levels = (1, 10)
    answer_in_prompt = True  # the moves are listed: choosing among them is the task
    spare = 4
    """Turns allowed beyond the shortest way."""
    moves: ClassVar[tuple[str, ...]] = ()
    """Names of the actions, in order."""

    def begin(self) -> None:
        """Put the inner environment into the problem's state and set the turn limit."""
        self.place()
        self.max_turns = len(self.way()) + self.spare
        self.opening = self.scene()

    def place(self) -> None:
        """Put the inner environment into the problem's state."""
        self.rewards = []
        self.observation, _ = self.inner.reset(seed=0)
        self.inner.unwrapped.s = self.problem["state"]  # type: ignore[attr-defined]
        self.observation = self.problem["state"]

    def labels(self) -> tuple[str, ...]:
        """Return the words for the actions: the problem's letters where it has them."""
        return tuple(self.problem["letters"]) if "letters" in self.problem else self.moves

    def legend(self) -> str:
        """Return what the problem's letters mean."""
        pairs = zip(self.labels(), self.moves, strict=True)
        return ", ".join(f"{letter} = {move}" for letter, move in pairs)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the way that is left: step by step, as a list, or just the next move."""
        way = [self.moves[action] for action in self.way()]
        if style == "compact":
            return f"{way[0]} next.\n"
        if style == "medium":
            return f"{len(way)} to go: {', '.join(way)}.\n"
        steps = "".join(f" Step {i + 1}: {move}." for i, move in enumerate(way))
        return (
            f"Let me plan the way that is left.{steps} Wait, let me count: {len(way)} steps. So {way[0]}.\n"
        )


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(map(str, rng.choice(list(LETTERS), size=count, replace=False)))


class FrozenLake(TabularEnv):
    """FrozenLake on a drawn map: walk from S to G over the ice without falling into a hole.

    One move a turn; the ice does not slip. Reward 1.0 for reaching the goal within the shortest way plus four
    turns, else 0.0. A fall ends the episode.

    | level | map | share of ice |
    |---|---|---|
    | 1 to 3 | 4 x 4 | 0.75, 0.70, 0.65 |
    | 4 to 6 | 5 x 5 to 7 x 7 | 0.70 |
    | 7 to 10 | 8 x 8 to 14 x 14 | 0.65 |
    """

    moves = ("left", "down", "right", "up")

    def __init__(self, **kwargs: Any) -> None:
        instruction = (
            "Walk over the frozen lake from S to G. F is ice, H is a hole, and [ ] marks where you are. "
            "Rows go down, one move a turn."
        )
        given = {
            "env_id": "FrozenLake-v1",
            "env_kwargs": {"is_slippery": False},
            "instruction": instruction,
            "max_turns": 100,
        }
        super().__init__(**{**given, **kwargs})

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"map", "state"}`; a map has a way from its first cell to its last."""
        size = (4, 4, 4, 5, 6, 7, 8, 10, 12, 14)[level - 1]
        ice = (0.75, 0.7, 0.65, 0.7, 0.7, 0.7, 0.65, 0.65, 0.65, 0.65)[level - 1]
        for _ in range(10_000):
            cells = np.where(rng.random((size, size)) < ice, "F", "H")
            cells[0, 0], cells[-1, -1] = "S", "G"
            rows = ["".join(row) for row in cells]
            if shortest_way(_lake(rows), 0, 1.0):
                return {"map": rows, "state": 0}
        raise EnvError("no map with a way was drawn")

    def place(self) -> None:
        """Lay out the problem's map: the table of moves is replaced, which is all that a map is."""
        lake: Any = self.inner.unwrapped
        lake.__init__(render_mode="ansi", desc=self.problem["map"], is_slippery=False)
        super().place()


def _lake(rows: list[str]) -> dict[int, dict[int, list[Any]]]:
    """Return the table of a lake without slipping, as Gymnasium lays it out."""
    size = len(rows)
    table: dict[int, dict[int, list[Any]]] = {}
    for row in range(size):
        for column in range(size):
            here = row * size + column
            table[here] = {}
            for action, (down, right) in enumerate(((0, -1), (1, 0), (0, 1), (-1, 0))):
                a, b = min(max(row + down, 0), size - 1), min(max(column + right, 0), size - 1)
                over = rows[a][b] in "GH"
                table[here][action] = [(1.0, a * size + b, float(rows[a][b] == "G"), over)]
    return table


class CliffWalking(TabularEnv):
    """CliffWalking from a drawn cell, with drawn letters for the moves: reach T without a fall.

    One letter a turn; which letter is which move is told in the prompt and drawn anew for every problem.
    Reward 1.0 for reaching the target within the shortest way plus four turns, else 0.0. A fall puts you back
    to the lower left corner, from where the turns that are left do not suffice.

    Levels 1 to 10 draw starts farther and farther from the target: level L from L + 3 to L + 7 moves away.
    """

    moves = ("up", "right", "down", "left")

    def __init__(self, **kwargs: Any) -> None:
        instruction = (
            "Walk over the grid to T (row 3, column 11). C is the cliff: do not step on it. "
            "x marks where you are. Row 0 is the top, one move a turn."
        )
        given = {
            "env_id": "CliffWalking-v1",
            "instruction": instruction,
            "rule": {"kind": "success", "high": -1.0},
            "max_turns": 100,
        }
        super().__init__(**{**given, **kwargs})

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"state", "letters"}`."""
        starts = [cell for cell in range(37) if level + 3 <= _cliff_moves(cell) <= level + 7]
        return {"state": int(rng.choice(starts)), "letters": _letters(rng, 4)}

    def scene(self) -> str:
        """Return the grid, where you are in words, and what the letters mean."""
        row, column = divmod(int(self.observation), 12)
        return f"{super().scene()}\nYou are in row {row}, column {column}. {self.legend()}."


def _cliff_moves(cell: int) -> int:
    """Return the fewest moves from a safe cell to the target, which is entered from above."""
    row, column = divmod(cell, 12)
    return (1 if row == 3 else 0) + (11 - column) + (3 - min(row, 2))


class Taxi(TabularEnv):
    """Taxi from a drawn state, with drawn letters for the actions: fetch the passenger, drop them off.

    One letter a turn; the letters are told in the prompt and drawn anew for every problem. Reward 1.0 for the
    passenger delivered within the shortest way plus four turns, else 0.0.

    Levels 1 to 10 draw rides whose shortest way is longer and longer: level L takes L + 3 to L + 9 actions.
    """

    moves = ("south", "north", "east", "west", "pickup", "dropoff")
    stands = ("R (row 0, column 0)", "G (row 0, column 4)", "Y (row 4, column 0)", "B (row 4, column 3)")

    def __init__(self, **kwargs: Any) -> None:
        instruction = (
            "Drive the taxi to the passenger, pick them up, drive them to their destination and drop them "
            "off. One action a turn; | is a wall between two columns, : is none. Row 0 is the top."
        )
        given = {
            "env_id": _newest("Taxi"),
            "instruction": instruction,
            "rule": {"kind": "success", "high": 20.0},
            "max_turns": 100,
        }
        super().__init__(**{**given, **kwargs})
        self.rides: list[int] = []

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"state", "letters"}`."""
        if not self.rides:
            self.rides = self._lengths()
        starts = [state for state, way in enumerate(self.rides) if level + 3 <= way <= level + 9]
        return {"state": int(rng.choice(starts)), "letters": _letters(rng, 6)}

    def _lengths(self) -> list[int]:
        """Return the length of the shortest way of each state, 0 where the passenger is there already."""
        table = self.inner.unwrapped.P  # type: ignore[attr-defined]
        return [
            len(shortest_way(table, state, 20.0)) if state // 4 % 5 != state % 4 else 0
            for state in range(len(table))
        ]

    def scene(self) -> str:
        """Return the map, the state in words, and what the letters mean."""
        taxi: Any = self.inner.unwrapped
        row, column, passenger, destination = map(int, taxi.decode(self.observation))
        grid = "\n".join("".join(map(bytes.decode, line)) for line in taxi.desc)
        where = "in the taxi" if passenger == 4 else f"at {self.stands[passenger]}"
        return (
            f"{grid}\nTaxi: row {row}, column {column}. Passenger: {where}. "
            f"Destination: {self.stands[destination]}.\n{self.legend()}."
        )


def _newest(name: str) -> str:
    """Return the newest registered version of a Gymnasium environment."""
    import gymnasium

    versions = [
        spec.version or 0 for spec in gymnasium.registry.values() if spec.name == name and not spec.namespace
    ]
    if not versions:
        raise EnvError(f"Gymnasium has no {name}")
    return f"{name}-v{max(versions)}"
