"""Questions about whole numbers: divisors, remainders, bases, congruences and Diophantine equations.

Each kind of question is a `Kind`: how its numbers are drawn, how it is asked, solved and shown step by step.
Where many answers are right, the policy's own is substituted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math import shapes
from rolloom.envs.math.notation import Unreadable, normal_form
from rolloom.envs.math.single import QuestionEnv, Step
from rolloom.envs.math.units import number
from rolloom.envs.math.verify import same_answer

Numbers = list[int]
DIGITS = "0123456789abcdef"
SIZES = (12, 20, 30, 50, 90, 150, 300, 700, 2_000, 8_000)
"""About how large the numbers of each level are."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of question.

    Attributes:
        levels: first and last level it is asked at.
        draw: numbers of a question, given chance and the level's size.
        ask: the question.
        solve: the answer, as text.
        steps: worked steps.
        right: whether an answer is right, where it is not simply the one of `solve`.
    """

    levels: tuple[int, int]
    draw: Callable[[np.random.Generator, int], Numbers]
    ask: Callable[..., str]
    solve: Callable[..., str]
    steps: Callable[..., list[Step]]
    right: Callable[[str, Numbers], bool] | None = None


class NumberTheory(QuestionEnv):
    """Single-turn number theory; reward 1.0 for a right answer, else 0.0.

    | level | adds |
    |---|---|
    | 1 | gcd, lcm, remainders, sums of squared digits |
    | 2 | sum of divisors, writing a number in another base |
    | 3 | number of divisors times the number, powers modulo m |
    | 4 | modular inverses, reading a number in another base |
    | 5 | Diophantine equations a*x + b*y = c (any solution) |
    | 6 | two congruences at once |
    | 7 | Euler's totient of a product |
    | 8 | three congruences at once |
    | 9-10 | larger numbers, the hardest kinds |

    The numbers grow with the level.

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"kind", "numbers"}`.

        Raises:
            EnvError: the kind's numbers cannot be drawn at this size.
        """
        names = [name for name, kind in KINDS.items() if kind.levels[0] <= level <= kind.levels[1]]
        name = str(rng.choice(names))
        for _ in range(1_000):
            numbers = [int(n) for n in KINDS[name].draw(rng, SIZES[level - 1])]
            problem = {"kind": name, "numbers": numbers}
            # A number that stands in the question, 0 or 1 would be a blind policy's answer.
            if numbers and not _shown(KINDS[name].ask(*numbers), KINDS[name].solve(*numbers)):
                return problem
        raise EnvError(f"no question of kind {name} at level {level}")

    @property
    def kind(self) -> Kind:
        """The kind of the current problem."""
        return KINDS[self.problem["kind"]]

    def question(self) -> str:
        """Return the question."""
        return self.kind.ask(*self.problem["numbers"])

    def gold(self) -> str:
        """Return a right answer."""
        return self.kind.solve(*self.problem["numbers"])

    def steps(self) -> list[Step]:
        """Return the worked steps of the kind."""
        return self.kind.steps(*self.problem["numbers"])

    def right(self, answer: str) -> bool:
        """Return True for a right answer: equal to the one of `gold`, or by the kind's own check."""
        if self.kind.right:
            return self.kind.right(answer, self.problem["numbers"])
        return same_answer(answer, self.gold())


def _shown(question: str, answer: str) -> bool:
    words = question.replace("^", " ").replace("x", " ").split()
    return answer in ("0", "1") or answer in (word.strip("?.,") for word in words)


def factors(n: int) -> dict[int, int]:
    """Return the prime factors of n with their powers, by trial division."""
    found: dict[int, int] = {}
    p = 2
    while p * p <= n:
        while n % p == 0:
            found[p] = found.get(p, 0) + 1
            n //= p
        p += 1
    if n > 1:
        found[n] = found.get(n, 0) + 1
    return found


def in_base(n: int, base: int) -> str:
    """Return the digits of a positive n in a base up to 16."""
    text = ""
    while n:
        n, digit = divmod(n, base)
        text = DIGITS[digit] + text
    return text


def congruence(moduli: Numbers, remainders: Numbers) -> int:
    """Return the least x >= 0 with the given remainders; the moduli share no factor."""
    x, step = 0, 1
    for modulus, remainder in zip(moduli, remainders, strict=True):
        while x % modulus != remainder:
            x += step
        step *= modulus
    return x


def bezout(a: int, b: int) -> tuple[int, int, int]:
    """Return (g, x, y) with a*x + b*y = g, the greatest common divisor."""
    x, next_x, y, next_y = 1, 0, 0, 1
    while b:
        quotient = a // b
        a, b = b, a - quotient * b
        x, next_x = next_x, x - quotient * next_x
        y, next_y = next_y, y - quotient * next_y
    return a, x, y


def _euclid(a: int, b: int) -> list[Step]:
    steps: list[Step] = []
    while b:
        steps.append((f"{a} mod {b}", str(a % b)))
        a, b = b, a % b
    return [*steps, ("the last divisor", str(a))]


def _factored(n: int) -> str:
    return " * ".join(f"{p}^{k}" if k > 1 else str(p) for p, k in factors(n).items())


def _two_multiples(rng: np.random.Generator, size: int) -> Numbers:
    g = int(rng.integers(6, 4 * size))
    a, b = rng.integers(2, size, size=2)
    return [g * int(a), g * int(b)] if a != b else []


def _two_numbers(rng: np.random.Generator, size: int) -> Numbers:
    g = int(rng.integers(2, size))
    a, b = rng.integers(2, size, size=2)
    return [g * int(a), g * int(b)] if a != b else []


def _pow_steps(a: int, k: int, m: int) -> list[Step]:
    steps: list[Step] = []
    result, square = 1, a % m
    for position in range(k.bit_length()):
        if position:
            steps.append((f"{square}^2 mod {m}", str(square * square % m)))
            square = square * square % m
        if k >> position & 1:
            if result != 1:
                steps.append((f"{result} * {square} mod {m}", str(result * square % m)))
            result = result * square % m
    return [*steps, (f"{a}^{k} mod {m}", str(result))]


def _draw_inverse(rng: np.random.Generator, size: int) -> Numbers:
    m, a = int(rng.integers(size, 3 * size)), int(rng.integers(3, size))
    return [a, m] if math.gcd(a, m) == 1 else []


def _draw_congruences(count: int) -> Callable[[np.random.Generator, int], Numbers]:
    def draw(rng: np.random.Generator, size: int) -> Numbers:
        top = min(40, 8 + size // 20)
        moduli = [int(m) for m in rng.integers(4, top + 4, size=count)]
        if math.lcm(*moduli) != math.prod(moduli):
            return []
        return [n for m in moduli for n in (m, int(rng.integers(1, m)))]

    return draw


def _ask_congruences(*numbers: int) -> str:
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    conditions = " and ".join(f"remainder {r} when divided by {m}" for m, r in pairs)
    return f"What is the smallest positive integer that leaves {conditions}?"


def _solve_congruences(*numbers: int) -> str:
    return str(congruence(list(numbers[::2]), list(numbers[1::2])))


def _congruence_steps(*numbers: int) -> list[Step]:
    steps: list[Step] = []
    moduli, remainders = list(numbers[::2]), list(numbers[1::2])
    for count in range(2, len(moduli) + 1):
        x = congruence(moduli[:count], remainders[:count])
        named = " and ".join(f"x mod {m} = {r}" for m, r in zip(moduli[:count], remainders, strict=False))
        steps.append((f"{named}: x", f"{x} (mod {math.prod(moduli[:count])})"))
    return steps


def _draw_diophantine(rng: np.random.Generator, size: int) -> Numbers:
    a, b = (int(n) for n in rng.integers(5, size + 5, size=2))
    x, y = (int(n) for n in rng.integers(2, size, size=2) * rng.choice([-1, 1], size=2))
    c = a * x + b * y
    # A multiple of a or b would be solved by a division, with a zero in the answer.
    return [a, b, c] if a != b and c % a and c % b and max(a, b) > math.gcd(a, b) else []


def _solve_diophantine(a: int, b: int, c: int) -> str:
    g, x, _ = bezout(a, b)
    x = x * (c // g) % (b // g)
    return f"({x}, {(c - a * x) // b})"


def _check_diophantine(answer: str, numbers: Numbers) -> bool:
    a, b, c = numbers
    try:
        shape = shapes.read(normal_form(answer))
    except Unreadable:
        return False
    if shape.kind not in ("tuple", "list") or len(shape.items) != 2 or shape.brackets not in ("", "()"):
        return False
    named = [shapes.assigned(item.text) for item in shape.items]
    if [name for name, _ in named] not in (["", ""], ["x", "y"]):
        return False
    x, y = (number(value) for _, value in named)
    if x is None or y is None or x.denominator != 1 or y.denominator != 1:
        return False
    return a * x + b * y == c


def _check_base(answer: str, numbers: Numbers) -> bool:
    n, base = numbers
    digits, _, written_base = answer.strip().strip("$").lower().replace(" ", "").partition("_")
    if len(answer) > 200 or written_base.strip("{}()") not in ("", str(base)):
        return False
    return digits.strip("(){}").lstrip("0") == in_base(n, base)


def _base_steps(n: int, base: int) -> list[Step]:
    steps: list[Step] = []
    left = n
    while left:
        steps.append((f"{left} / {base}", f"{left // base} remainder {DIGITS[left % base]}"))
        left //= base
    return [*steps, ("remainders upwards", in_base(n, base))]


def _read_steps(n: int, base: int) -> list[Step]:
    steps: list[Step] = []
    value = 0
    for digit in in_base(n, base):
        step = f"{value} * {base} + {DIGITS.index(digit)}"
        value = value * base + DIGITS.index(digit)
        steps.append((step, str(value)))
    return steps


def _sigma(n: int) -> int:
    return math.prod((p ** (k + 1) - 1) // (p - 1) for p, k in factors(n).items())


def _divisor_count(n: int) -> int:
    return math.prod(k + 1 for k in factors(n).values())


def _totient(n: int) -> int:
    return math.prod((p - 1) * p ** (k - 1) for p, k in factors(n).items())


def _sigma_steps(n: int) -> list[Step]:
    parts = [(f"sum of the powers of {p} up to {p}^{k}", str(_sigma(p**k))) for p, k in factors(n).items()]
    return [(f"factors of {n}", _factored(n)), *parts, ("product of the sums", str(_sigma(n)))]


def _count_steps(n: int) -> list[Step]:
    exponents = " * ".join(f"({k} + 1)" for k in factors(n).values())
    count = _divisor_count(n)
    return [(f"factors of {n}", _factored(n)), (exponents, str(count)), (f"{n} * {count}", str(n * count))]


def _totient_steps(a: int, b: int) -> list[Step]:
    n = a * b
    parts = [(f"phi({p}^{k})", str(_totient(p**k))) for p, k in factors(n).items()]
    return [(f"{a} * {b}", str(n)), (f"factors of {n}", _factored(n)), *parts, ("product", str(_totient(n)))]


def _squared_digits(n: int) -> int:
    return sum(int(digit) ** 2 for digit in str(n))


KINDS: dict[str, Kind] = {
    "gcd": Kind(
        (1, 5),
        _two_multiples,
        lambda a, b: f"What is the greatest common divisor of {a} and {b}?",
        lambda a, b: str(math.gcd(a, b)),
        lambda a, b: _euclid(a, b),
    ),
    "lcm": Kind(
        (1, 6),
        _two_numbers,
        lambda a, b: f"What is the least common multiple of {a} and {b}?",
        lambda a, b: str(math.lcm(a, b)),
        lambda a, b: [
            *_euclid(a, b),
            (f"{a} * {b} / {math.gcd(a, b)}", str(math.lcm(a, b))),
        ],
    ),
    "remainder": Kind(
        (1, 3),
        lambda rng, size: [int(rng.integers(100, 90 * size)), int(rng.integers(30, 90))],
        lambda a, m: f"What is the remainder when {a} is divided by {m}?",
        lambda a, m: str(a % m),
        lambda a, m: [(f"{a} / {m} rounded down", str(a // m)), (f"{a} - {a // m} * {m}", str(a % m))],
    ),
    "squared_digits": Kind(
        (1, 3),
        lambda rng, size: [int(rng.integers(10**4, 10**7))],
        lambda n: f"What is the sum of the squares of the digits of {n}?",
        lambda n: str(_squared_digits(n)),
        lambda n: [(" + ".join(str(int(d) ** 2) for d in str(n)), str(_squared_digits(n)))],
    ),
    "divisor_sum": Kind(
        (2, 7),
        lambda rng, size: [int(rng.integers(2, 4 * size)) * int(rng.integers(2, 12))],
        lambda n: f"What is the sum of all positive divisors of {n}, 1 and {n} included?",
        lambda n: str(_sigma(n)),
        _sigma_steps,
    ),
    "to_base": Kind(
        (2, 7),
        lambda rng, size: [
            int(rng.integers(20 * size, 200 * size)),
            int(rng.choice([2, 3, 4, 5, 6, 7, 8, 16])),
        ],
        lambda n, base: (
            f"Write {n} (base ten) in base {base}. Give the digits only"
            + (", a to f for ten to fifteen." if base == 16 else ".")
        ),
        in_base,
        _base_steps,
        _check_base,
    ),
    "divisor_count": Kind(
        (3, 8),
        lambda rng, size: [int(rng.integers(2, 2 * size)) * int(rng.integers(2, 2 * size))],
        lambda n: f"How many positive divisors does {n} have? Multiply their number by {n}.",
        lambda n: str(n * _divisor_count(n)),
        _count_steps,
    ),
    "power": Kind(
        (3, 10),
        lambda rng, size: [
            int(rng.integers(2, size)),
            int(rng.integers(5, 2 * size)),
            int(rng.integers(2 * size, 5 * size)),
        ],
        lambda a, k, m: f"What is the remainder when {a}^{k} is divided by {m}?",
        lambda a, k, m: str(pow(a, k, m)),
        _pow_steps,
    ),
    "inverse": Kind(
        (4, 9),
        _draw_inverse,
        lambda a, m: f"Which x with 0 < x < {m} makes {a} * x leave remainder 1 when divided by {m}?",
        lambda a, m: str(pow(a, -1, m)),
        lambda a, m: [
            *_euclid(m, a),
            (f"inverse of {a} modulo {m}", str(pow(a, -1, m))),
            (f"{a} * {pow(a, -1, m)} mod {m}", "1"),
        ],
    ),
    "from_base": Kind(
        (4, 7),
        lambda rng, size: [int(rng.integers(100, 90 * size)), int(rng.choice([3, 5, 6, 7, 9, 11, 13, 16]))],
        lambda n, base: f"Which number (base ten) is written {in_base(n, base)} in base {base}?",
        lambda n, base: str(n),
        _read_steps,
    ),
    "diophantine": Kind(
        (5, 10),
        _draw_diophantine,
        lambda a, b, c: f"Find integers x and y with {a}x + {b}y = {c}. Answer with any such pair (x, y).",
        _solve_diophantine,
        lambda a, b, c: [
            *_euclid(a, b),
            (f"{a}x + {b}y = {math.gcd(a, b)} for (x, y)", "({}, {})".format(*bezout(a, b)[1:])),
            (f"times {c // math.gcd(a, b)}, reduced: (x, y)", _solve_diophantine(a, b, c)),
        ],
        _check_diophantine,
    ),
    "two_congruences": Kind(
        (6, 8), _draw_congruences(2), _ask_congruences, _solve_congruences, _congruence_steps
    ),
    "totient": Kind(
        (7, 10),
        lambda rng, size: [int(rng.integers(20, size)), int(rng.integers(20, size))],
        lambda a, b: f"How many positive integers up to {a} * {b} have no factor above 1 in common with it?",
        lambda a, b: str(_totient(a * b)),
        _totient_steps,
    ),
    "three_congruences": Kind(
        (8, 10), _draw_congruences(3), _ask_congruences, _solve_congruences, _congruence_steps
    ),
}
"""Kinds of questions by name."""
