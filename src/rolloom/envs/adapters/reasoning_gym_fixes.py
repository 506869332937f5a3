"""What has to be known of single generators to score hostile answers with reasoning-gym's own scorers.

Read from the package's source, version 0.1.25:

- Four scorers call `eval` on the answer, with the oracle's among their local variables; they get one that
  reads literals only.
- Five hand the answer to sympy's `parse_expr`, which is `eval` too. Their answers may only consist of
  numbers, operators and the names that an honest answer needs: `Integral(f, x)` is no integral found.
- `coin_flip` takes `0` for every chance that is written `0.` and something, `complex_arithmetic` takes NaN,
  and `time_intervals` finds a time in any heap of numbers.
- `game_of_life_halting` pays any text that is not empty, `puzzle24` does not look which numbers were used,
  `propositional_logic` takes a premise for a conclusion, `rush_hour` and `boxnet` a thousand moves that try
  everything for a solution.
- Five bring no oracle answer; the right ones are made here.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

FULL = 0.999
"""A score from which an answer counts as right."""

MAX_LITERAL_CHARS = 50_000
TRUSTED = frozenset({"rush_hour"})
"""Generators whose own answer is not scored when a problem is drawn, because finding it takes long."""

EVALUATED = {
    "string_insertion": "reasoning_gym.algorithmic.string_insertion",
    "spiral_matrix": "reasoning_gym.algorithmic.spiral_matrix",
    "binary_matrix": "reasoning_gym.algorithmic.binary_matrix",
    "n_queens": "reasoning_gym.games.n_queens",
}
ARITHMETIC = frozenset("0123456789+-*/(). \n\t")
FUNCTIONS = frozenset(
    (
        "exp",
        "log",
        "ln",
        "sqrt",
        "sin",
        "cos",
        "tan",
        "sec",
        "csc",
        "cot",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
    )
)
PARSED = {
    "puzzle24": frozenset(),
    "countdown": frozenset(),
    "simple_integration": FUNCTIONS,
    "intermediate_integration": FUNCTIONS,
    "polynomial_multiplication": frozenset(),
}
"""Generators whose answers sympy parses, and the names of more than one letter that they may use."""

ONE_LETTER = frozenset({"simple_integration", "intermediate_integration", "polynomial_multiplication"})


def literal(text: Any) -> Any:
    """Return the Python literal that a text is; stands in for `eval` in the package's scorers.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or len(text) > MAX_LITERAL_CHARS:
        raise ValueError("no literal")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError("no literal") from error


def readable(name: str, text: str) -> bool:
    """Return whether a text is arithmetic over the names that a generator's answers may use."""
    word = ""
    for at, character in enumerate(text + " "):
        if character.isascii() and character.isalpha():
            word += character
            continue
        if word and not (len(word) == 1 and name in ONE_LETTER) and word not in PARSED[name]:
            return False
        if word and character in "0123456789":
            return False
        # A point may only stand in a number: `x.free_symbols` would be looked up.
        if character == "." and not (text[at - 1 : at].isdigit() and at):
            return False
        word = ""
        if character not in ARITHMETIC:
            return False
    return not _towers(text)


def _towers(text: str) -> bool:
    """Return whether a text has a power that no honest answer has: of a power, or above 999."""
    parts = text.replace(" ", "").split("**")
    for at, exponent in enumerate(parts[1:], 1):
        digits = exponent.lstrip("(-")
        length = next((i for i, c in enumerate(digits) if c not in "0123456789"), len(digits))
        if length > 3 or (at + 1 < len(parts) and not digits[length:].strip("()")):
            return True
    return False


def _numbers(text: str) -> list[int]:
    found, digits = [], ""
    for character in text + " ":
        if character in "0123456789":
            digits += character
        elif digits:
            found.append(int(digits[:18]))
            digits = ""
    return sorted(found)


def _four_given(answer: str, entry: dict[str, Any]) -> bool:
    return _numbers(answer) == sorted(entry["metadata"]["numbers"])


def _concludes(answer: str, entry: dict[str, Any]) -> bool:
    def bare(text: str) -> str:
        return "".join(character for character in text if character not in " ()")

    return bare(answer) not in {bare(premise) for premise in entry["metadata"]["premises"]}


def _says_so(answer: str, entry: dict[str, Any]) -> bool:
    return answer.strip() == entry["answer"]


def _same_chance(answer: str, entry: dict[str, Any]) -> bool:
    if len(answer) > 40 or not set(answer) <= set("0123456789./ ,"):
        return False
    try:
        said, right = (float(Fraction(text.replace(",", "").strip())) for text in (answer, entry["answer"]))
    except (ValueError, ZeroDivisionError):
        return False
    return abs(said - right) <= 0.01 * right


def _finite(answer: str, entry: dict[str, Any]) -> bool:
    return "n" not in answer.lower()


def _short(answer: str, entry: dict[str, Any]) -> bool:
    return len(answer) <= 64


def _direct(answer: str, entry: dict[str, Any]) -> bool:
    try:
        moves = sum(map(len, json.loads(answer)))
    except (ValueError, TypeError, RecursionError):
        return False
    return moves <= 1.5 * len(_carry(entry["metadata"]["initial_state"])) + 2


def _few_moves(answer: str, entry: dict[str, Any]) -> bool:
    return len(answer.split()) <= 3 * entry["metadata"]["min_moves"] + 10 and len(answer) < 2_000


HONEST: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "puzzle24": _four_given,
    "propositional_logic": _concludes,
    "rush_hour": _few_moves,
    "boxnet": _direct,
    "game_of_life_halting": _says_so,
    "coin_flip": _same_chance,
    "complex_arithmetic": _finite,
    "time_intervals": _short,
}


def score(made: Any, name: str, answer: str, entry: dict[str, Any]) -> float:
    """Return what the generator's own scorer gives an answer, 0.0 for one that is refused before it.

    Args:
        made: the generator.
        name: its name; a composite's entries name the part.
        answer: of the policy.
        entry: the problem as the generator made it.
    """
    name = entry["metadata"].get("source_dataset", name)
    if name in EVALUATED:
        importlib.import_module(EVALUATED[name]).eval = literal  # type: ignore[attr-defined]
    if name in PARSED and not readable(name, answer):
        return 0.0
    if name in HONEST and not HONEST[name](answer, entry):
        return 0.0
    try:
        return float(made.score_answer(answer=answer, entry=entry))
    except (
        ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
        ValueError,
    ):  # fmt: skip
        return 0.0  # scorers that were not written for answers of this kind


# -- right answers -------------------------------------------------------------------------------------------


def gold(name: str, entry: dict[str, Any]) -> str | None:
    """Return the oracle answer of a problem, made here where the generator has none; None for `solve`."""
    name = entry["metadata"].get("source_dataset", name)
    if entry.get("answer") is not None:
        return str(entry["answer"])
    meta = entry["metadata"]
    if name == "graph_color":
        return json.dumps({str(vertex): colour for vertex, colour in meta["possible_answer"].items()})
    if name == "propositional_logic":
        return meta["example_answer"]
    if name == "rubiks_cube":
        return " ".join(_inverse(move) for move in reversed(meta["scramble_moves"].split()))
    if name == "boxnet":
        return json.dumps(_carry(meta["initial_state"]))
    return None


def solve(name: str, entry: dict[str, Any]) -> str:
    """Return a right answer that takes long to find."""
    if name != "rush_hour":
        raise ValueError(f"{name} brings its own answer")
    return _drive_out(entry["metadata"]["board_config"])


def _inverse(move: str) -> str:
    return move[:-1] if move.endswith("'") else f"{move}'"


def _carry(squares: dict[str, list[str]]) -> list[dict[str, str]]:
    """Return a plan that carries one box after the other to the nearest free target of its colour."""
    plan: list[dict[str, str]] = []
    targets = [
        (tuple(map(float, square.split("_"))), item) for square, items in squares.items()
        for item in items if item.startswith("target_")
    ]  # fmt: skip
    for square, items in squares.items():
        for box in (item for item in items if item.startswith("box_")):
            at = tuple(map(float, square.split("_")))
            goal = min(
                (place for place in targets if place[1] == "target_" + box[4:]),
                key=lambda place: abs(place[0][0] - at[0]) + abs(place[0][1] - at[1]),
            )
            targets.remove(goal)
            row, column = at
            while (row, column) != goal[0]:
                before = f"Agent[{row}, {column}]"
                if row != goal[0][0]:
                    row += 1 if goal[0][0] > row else -1
                else:
                    column += 1 if goal[0][1] > column else -1
                plan.append({before: f"move({box}, square[{row}, {column}])"})
            plan.append({f"Agent[{row}, {column}]": f"move({box}, {goal[1]})"})
    return plan


def _drive_out(board: str, size: int = 6) -> str:
    """Return the moves of a shortest way to bring car A to the right edge of its row."""
    cells: dict[str, list[int]] = {}
    walls = {at for at, label in enumerate(board) if label == "x"}
    for at, label in enumerate(board):
        if label not in "ox":
            cells.setdefault(label, []).append(at)
    cars = sorted(cells)
    strides = [cells[car][1] - cells[car][0] for car in cars]
    lengths = [len(cells[car]) for car in cars]
    start = tuple(cells[car][0] for car in cars)
    came: dict[tuple[int, ...], tuple[tuple[int, ...], str]] = {start: (start, "")}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if state[0] % size == size - lengths[0]:
            moves = []
            while came[state][1]:
                state, move = came[state]
                moves.append(move)
            return " ".join(reversed(moves))
        taken = walls | {
            state[i] + strides[i] * k for i in range(len(cars)) for k in range(lengths[i])
        }  # fmt: skip
        for i in range(len(cars)):
            for way in (-1, 1):
                position = state[i]
                for steps in range(1, size):
                    edge = position if way < 0 else position + strides[i] * (lengths[i] - 1)
                    after = edge + way * strides[i]
                    off = (
                        after < 0
                        or after >= size * size
                        or (strides[i] == 1 and after // size != edge // size)
                    )
                    if off or after in taken:
                        break
                    position += way * strides[i]
                    moved = (*state[:i], position, *state[i + 1 :])
                    if moved not in came:
                        came[moved] = (state, f"{chr(65 + i)}{'+' if way > 0 else '-'}{steps}")
                        queue.append(moved)
    raise ValueError("the board has no way out")
