"""Sets of numbers: finite sets, intervals, and inequalities whose solutions are sets.

Everything is worked out exactly with `regions`; the answer is read as a set and compared as one. It has to be
worked out: a union of pieces that overlap or touch is not.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math import regions, shapes
from rolloom.envs.math.notation import Unreadable, normal_form
from rolloom.envs.math.regions import Piece, Region
from rolloom.envs.math.single import QuestionEnv, Step

OPERATIONS = {
    "union": ("\\cup", regions.union),
    "intersection": ("\\cap", regions.intersection),
    "difference": ("\\setminus", regions.difference),
    "symmetric": ("\\triangle", regions.symmetric_difference),
}
NAMES = "ABCDE"


@dataclass(frozen=True, slots=True)
class Level:
    """Knobs of one level.

    Attributes:
        kinds: what may be asked: `finite`, `intervals`, `absolute`, `product`, `quotient`.
        largest: numbers drawn from `-largest` to `largest`.
        sets: sets combined with one another.
        pieces: elements of a finite set, or intervals of each set.
        denominators: largest denominator of an end.
        factors: linear factors of an inequality.
    """

    kinds: tuple[str, ...]
    largest: int
    sets: int = 2
    pieces: int = 1
    denominators: int = 1
    factors: int = 2


LEVELS = (
    Level(("finite",), 20, 2, 6),
    Level(("finite", "intervals"), 30, 2, 9),
    Level(("finite", "intervals", "absolute"), 30, 3, 8),
    Level(("intervals", "absolute", "product"), 20, 3, 2),
    Level(("intervals", "absolute", "product"), 25, 3, 2, 3),
    Level(("intervals", "product", "quotient"), 25, 3, 3, 3, 3),
    Level(("intervals", "product", "quotient"), 30, 4, 3, 4, 3),
    Level(("intervals", "product", "quotient"), 30, 4, 3, 6, 4),
    Level(("intervals", "product", "quotient"), 40, 5, 4, 6, 5),
    Level(("intervals", "product", "quotient"), 60, 5, 6, 9, 6),
)
MAX_TRIES = 1_000


class Sets(QuestionEnv):
    r"""Single-turn questions whose answer is a set; reward 1.0 for the right set, else 0.0.

    | level | adds |
    |---|---|
    | 1 | union, intersection, difference of two finite sets |
    | 2-3 | intervals, three sets, inequalities with an absolute value |
    | 4-5 | unions of intervals, quadratic inequalities, fractions |
    | 6-8 | products and quotients of three and four factors |
    | 9-10 | five sets of many pieces, up to six factors |

    Answers are written as `\{1, 2\}`, `(0, 1]`, `(-\infty, 0) \cup [2, 3)`, `\emptyset` or as inequalities
    `0 < x \le 1`.

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"kind", ...}` with the sets or the factors as integers and fractions in text.

        Raises:
            EnvError: the level's bounds left nothing to draw.
        """
        knobs = LEVELS[level - 1]
        kind = str(rng.choice(knobs.kinds))
        for _ in range(MAX_TRIES):
            problem: dict[str, Any] = _DRAWS[kind](rng, knobs) | {"kind": kind}
            answer = solve(problem)
            given = [_region(pieces) for pieces in problem.get("sets", [])]
            # Where nothing overlaps, a union is worked out by writing it down.
            trivial = kind == "intervals" and len(answer) == sum(map(len, given))
            if answer and answer != regions.REALS and answer not in given and not trivial:
                return problem
        raise EnvError(f"no sets of level {level} in {MAX_TRIES} draws")

    def question(self) -> str:
        """Return the question."""
        return ask(self.problem)

    def form(self) -> str:
        r"""Return the form of the answer."""
        braces = "\\{1, 2\\}" if self.problem["kind"] == "finite" else "(0, 1] \\cup \\{2\\}"
        return f"Finish with the set alone, written like {braces}, or put it in \\boxed{{}}."

    def gold(self) -> str:
        """Return the set in LaTeX."""
        return regions.render(solve(self.problem))

    def right(self, answer: str) -> bool:
        """Return True when the answer is the same set of numbers, all operations carried out."""
        try:
            shape = shapes.read(normal_form(answer))
        except Unreadable:
            return False
        if shape.kind == "list":
            # `1, 2` is a set without its braces, `x < 1 or x > 3` a union.
            areas = [shapes.region(item) for item in shape.items]
            shape = shapes.Shape("set" if None in areas else "union", shape.text, shape.items)
        if shape.kind == "difference" or (shape.kind == "union" and self.problem["kind"] == "finite"):
            return False
        solution = solve(self.problem)
        return shapes.region(shape) == solution and _written(shape) == len(solution)

    def steps(self) -> list[Step]:
        """Return the worked steps."""
        if "sets" in self.problem:
            sets = [_region(pieces) for pieces in self.problem["sets"]]
            steps, done = [], sets[0]
            for operation, name, other in zip(self.problem["operations"], NAMES[1:], sets[1:], strict=False):
                done = OPERATIONS[operation][1](done, other)
                sign = OPERATIONS[operation][0]
                steps.append((f"... {sign} {name}" if steps else f"A {sign} {name}", regions.render(done)))
            return steps
        points = cuts(self.problem)
        steps = [("where a side changes its sign", ", ".join(map(regions.render_end, points)))]
        solution = solve(self.problem)
        for low, high in zip([-math.inf, *points], [*points, math.inf], strict=True):
            inside = any(piece.low <= low and high <= piece.high for piece in solution)
            steps.append(
                (
                    f"between {regions.render_end(low)} and {regions.render_end(high)}",
                    "yes" if inside else "no",
                )
            )
        ends = [regions.render_end(x) for x in points if any(piece.has(x) for piece in solution)]
        return [*steps, ("points themselves", ", ".join(ends) or "none"), ("together", self.gold())]

    def attacks(self) -> dict[str, str]:
        """Return the given sets, the operations not carried out, and sets that hold everything."""
        attempts: dict[str, str] = {
            "everything": "\\mathbb{R}",
            "nothing": "\\emptyset",
            "both": "\\mathbb{R}, \\emptyset",
        }
        if "sets" in self.problem:
            given: list[list[list[Any]]] = self.problem["sets"]
            written = [regions.render(_region(pieces)) for pieces in given]
            signs = [OPERATIONS[name][0] for name in self.problem["operations"]]
            chain = written[0] + "".join(f" {s} {w}" for s, w in zip(signs, written[1:], strict=True))
            attempts |= {"first set": written[0], "not carried out": f"\\boxed{{{chain}}}"}
        return attempts


def _written(shape: shapes.Shape) -> int:
    """Return the number of pieces a set is written in; repeated elements of a finite set count once."""
    if shape.kind == "union":
        return sum(map(_written, shape.items))
    return len(shapes.region(shape) or ()) if shape.kind != "tuple" else 1


def _region(pieces: list[list[Any]]) -> Region:
    """Return the region of pieces in JSON: `[low, high, low_in, high_in]`, ends as text."""
    return regions.union([Piece(_end(a), _end(b), bool(c), bool(d)) for a, b, c, d in pieces])


def _end(text: str) -> regions.End:
    return float(text) if text.endswith("inf") else Fraction(text)


def _rational(rng: np.random.Generator, knobs: Level) -> Fraction:
    return Fraction(
        int(rng.integers(-knobs.largest, knobs.largest + 1)), int(rng.integers(1, knobs.denominators + 1))
    )


def _draw_finite(rng: np.random.Generator, knobs: Level) -> dict[str, Any]:
    sets = []
    for _ in range(knobs.sets):
        size = int(rng.integers(knobs.pieces - 2, knobs.pieces + 1))
        low = -knobs.largest if knobs.largest > 20 else 1
        # Half of the numbers are there to be drawn, so that sets overlap.
        values = sorted(
            int(v) for v in rng.choice(np.arange(low, low + 2 * knobs.pieces), size, replace=False)
        )
        sets.append([[str(v), str(v), 1, 1] for v in values])
    shift = int(rng.integers(0, knobs.largest))
    sets = [[[str(int(v) + shift), str(int(v) + shift), 1, 1] for v, *_ in pieces] for pieces in sets]
    names = ("union", "intersection", "difference")[: 3 if knobs.sets == 2 else 2]
    return {"sets": sets, "operations": [str(rng.choice(names)) for _ in sets[1:]]}


def _draw_intervals(rng: np.random.Generator, knobs: Level) -> dict[str, Any]:
    sets = []
    count = min(knobs.pieces, 6) if knobs.largest < 30 or knobs.sets > 3 else 1
    for _ in range(knobs.sets):
        ends = sorted({_rational(rng, knobs) for _ in range(2 * count)})
        pieces = []
        for low, high in zip(ends[::2], ends[1::2], strict=False):
            pieces.append([str(low), str(high), int(rng.integers(2)), int(rng.integers(2))])
        if pieces and rng.random() < 0.2:
            pieces[-1][1], pieces[-1][3] = "inf", 0
        sets.append(pieces or [["0", "1", 0, 0]])
    names = list(OPERATIONS)[:3]
    return {"sets": sets, "operations": [str(rng.choice(names)) for _ in sets[1:]]}


def _draw_absolute(rng: np.random.Generator, knobs: Level) -> dict[str, Any]:
    a, bound = int(rng.integers(1, 6)), int(rng.integers(1, 2 * knobs.largest))
    b = int(rng.integers(1, knobs.largest)) * int(rng.choice([-1, 1]))
    return {"a": a, "b": b, "bound": bound, "sign": str(rng.choice(["<", "<=", ">", ">="]))}


def _draw_factors(rng: np.random.Generator, knobs: Level) -> dict[str, Any]:
    factors = [
        [int(rng.integers(1, 2 + knobs.denominators)), int(rng.integers(-knobs.largest, knobs.largest + 1))]
        for _ in range(knobs.factors)
    ]
    return {"factors": factors, "sign": str(rng.choice(["<", "<=", ">", ">="]))}


_DRAWS = {
    "finite": _draw_finite,
    "intervals": _draw_intervals,
    "absolute": _draw_absolute,
    "product": _draw_factors,
    "quotient": _draw_factors,
}


def cuts(problem: dict[str, Any]) -> list[Fraction]:
    """Return the points where an inequality may change from true to false, ascending."""
    if problem["kind"] == "absolute":
        a, b, bound = problem["a"], problem["b"], problem["bound"]
        return sorted({Fraction(bound - b, a), Fraction(-bound - b, a)})
    return sorted({Fraction(-b, a) for a, b in problem["factors"]})


def solve(problem: dict[str, Any]) -> Region:
    """Return the answer of a problem."""
    if "sets" in problem:
        sets = [_region(pieces) for pieces in problem["sets"]]
        done = sets[0]
        for operation, other in zip(problem["operations"], sets[1:], strict=True):
            done = OPERATIONS[operation][1](done, other)
        return regions.union(done)
    points = cuts(problem)
    ends = [-math.inf, *points, math.inf]
    pieces = [regions.point(x) for x in points if holds(problem, x)]
    for low, high in itertools.pairwise(ends):
        if holds(problem, _inside(low, high)):
            pieces.append(Piece(low, high))
    return regions.union(pieces)


def _inside(low: Any, high: Any) -> Fraction:
    if low == -math.inf:
        return high - 1
    return low + 1 if high == math.inf else (low + high) / 2


def holds(problem: dict[str, Any], x: Fraction) -> bool:
    """Return True when a number solves an inequality; False where it divides by zero."""
    if problem["kind"] == "absolute":
        value, bound = abs(problem["a"] * x + problem["b"]), problem["bound"]
    else:
        factors = [a * x + b for a, b in problem["factors"]]
        if problem["kind"] == "quotient" and factors[-1] == 0:
            return False
        value, bound = math.prod(factors), 0
    return {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}[
        problem["sign"]
    ]


def ask(problem: dict[str, Any]) -> str:
    """Return the question of a problem."""
    if "sets" in problem:
        lines = [
            f"{name} = {regions.render(_region(pieces))}"
            for name, pieces in zip(NAMES, problem["sets"], strict=False)
        ]
        text = "A"
        for count, (operation, name) in enumerate(zip(problem["operations"], NAMES[1:], strict=False)):
            text = f"({text})" if count else text
            text += f" {OPERATIONS[operation][0]} {name}"
        return "\n".join(lines) + f"\nFind {text}."
    sign = problem["sign"].replace("<=", "\\le").replace(">=", "\\ge")
    if problem["kind"] == "absolute":
        return f"Solve |{_linear(problem['a'], problem['b'])}| {sign} {problem['bound']} for real x."
    written = [f"({_linear(a, b)})" for a, b in problem["factors"]]
    if problem["kind"] == "product":
        return f"Solve {''.join(written)} {sign} 0 for real x."
    return f"Solve {''.join(written[:-1])} / {written[-1]} {sign} 0 for real x."


def _linear(a: int, b: int) -> str:
    x = "x" if a == 1 else f"{a}x"
    return x if b == 0 else f"{x} {'-' if b < 0 else '+'} {abs(b)}"
