"""Algebra with a symbolic answer: expand, factor, differentiate, integrate, find the roots.

Any equivalent form is right, as math-verify sees it, as long as it is an answer: an expansion has no brackets
left, a factorisation is a product of linear factors, and a derivative is no longer written with d/dx.
Polynomials are lists of integer coefficients, lowest power first.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.math import shapes
from rolloom.envs.math.notation import Unreadable, normal_form, tokens
from rolloom.envs.math.regions import render_end
from rolloom.envs.math.single import QuestionEnv, Step
from rolloom.envs.math.verify import same_answer

Poly = list[int]


@dataclass(frozen=True, slots=True)
class Level:
    """Knobs of one level.

    Attributes:
        kinds: what may be asked.
        factors: number of linear factors, or of factors to expand.
        largest: largest coefficient or root.
        leading: largest leading coefficient of a factor.
    """

    kinds: tuple[str, ...]
    factors: int
    largest: int
    leading: int = 1


LEVELS = (
    Level(("expand", "derivative"), 2, 9),
    Level(("expand", "derivative", "roots"), 2, 12),
    Level(("expand", "factor", "roots", "derivative"), 2, 15, 2),
    Level(("factor", "roots", "integral", "product_rule"), 2, 20, 3),
    Level(("expand", "factor", "roots", "integral"), 3, 7),
    Level(("factor", "roots", "area", "product_rule"), 3, 9, 2),
    Level(("factor", "roots", "area", "chain_rule"), 3, 12, 3),
    Level(("expand", "factor", "roots", "area", "quotient_rule"), 4, 7),
    Level(("factor", "roots", "quotient_rule", "chain_rule"), 4, 9, 3),
    Level(("expand", "factor", "roots", "quotient_rule"), 5, 12, 4),
)
MAX_TRIES = 1_000


class Polynomials(QuestionEnv):
    """Single-turn algebra; reward 1.0 for a right answer in the form asked for, else 0.0.

    | level | adds |
    |---|---|
    | 1 | products of two linear factors, derivatives |
    | 2-3 | roots and factors of quadratics, leading coefficients |
    | 4 | antiderivatives, derivatives of products |
    | 5-7 | cubics, definite integrals, the chain rule |
    | 8-10 | quartics and quintics, derivatives of quotients |

    Args:
        kwargs: see `TextEnv`.
    """

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"kind", "factors": [[c0, c1], ...], "number": ...}`.

        Raises:
            EnvError: the level's bounds left nothing to draw.
        """
        knobs = LEVELS[level - 1]
        kind = str(rng.choice(knobs.kinds))
        for _ in range(MAX_TRIES):
            factors = [_linear(rng, knobs) for _ in range(knobs.factors)]
            roots = {Fraction(-c0, c1) for c0, c1 in factors}
            if len(roots) == len(factors) and all(math.gcd(*factor) == 1 for factor in factors):
                return {
                    "kind": kind,
                    "factors": [list(factor) for factor in factors],
                    "number": int(rng.integers(2, 6)),
                }
        raise EnvError(f"no polynomial of level {level} in {MAX_TRIES} draws")

    @property
    def polynomial(self) -> Poly:
        """The product of the problem's factors."""
        return multiply(*self.problem["factors"])

    def question(self) -> str:
        """Return the question."""
        kind, factors, number = (self.problem[name] for name in ("kind", "factors", "number"))
        text, integrand = render(self.polynomial), render(scaled(self.polynomial))
        first, rest = render(factors[0]), render(multiply(*factors[1:]))
        return {
            "expand": f"Expand {_product(factors)}.",
            "factor": f"Factor {text} into linear factors with integer coefficients.",
            "roots": f"Find all roots of {text}. Answer with the set of roots, \\{{a, b, ...\\}}.",
            "derivative": f"Differentiate {text} with respect to x.",
            "integral": f"Find the antiderivative F(x) of {integrand} with F(0) = {number}.",
            "area": f"Work out the integral of {text} from x = 0 to x = {number}, an exact number.",
            "product_rule": f"Differentiate ({text}) * e^x with respect to x.",
            "chain_rule": f"Differentiate ({rest})^{number} with respect to x.",
            "quotient_rule": f"Differentiate ({rest}) / ({first}) with respect to x.",
        }[kind]

    def gold(self) -> str:
        """Return the answer in the plainest form."""
        kind, factors, number = (self.problem[name] for name in ("kind", "factors", "number"))
        p = self.polynomial
        first, rest = factors[0], multiply(*factors[1:])
        if kind == "factor":
            return _product(factors)
        if kind == "roots":
            return f"\\{{{', '.join(render_end(root) for root in self.roots())}\\}}"
        if kind == "derivative":
            return render(derivative(p))
        if kind == "integral":
            return render([number, *(Fraction(c, k) for k, c in enumerate(scaled(p), 1))])
        if kind == "area":
            return render_end(integral(p, number))
        if kind == "product_rule":
            return f"({render(add(p, derivative(p)))})e^x"
        if kind == "chain_rule":
            power = f"^{number - 1}" if number > 2 else ""
            return f"{number}({render(derivative(rest))})({render(rest)}){power}"
        if kind == "quotient_rule":
            top = add(multiply(derivative(rest), first), [-c for c in multiply(rest, derivative(first))])
            return f"\\frac{{{render(top)}}}{{({render(first)})^2}}"
        return render(p)

    def roots(self) -> list[Fraction]:
        """Return the roots in ascending order."""
        return sorted(Fraction(-c0, c1) for c0, c1 in self.problem["factors"])

    def steps(self) -> list[Step]:
        """Return the worked steps."""
        kind, factors, number = (self.problem[name] for name in ("kind", "factors", "number"))
        p, rest = self.polynomial, multiply(*factors[1:])
        if kind == "expand":
            products = list(itertools.accumulate(factors, multiply))
            return [
                (f"({render(a)})({render(f)})", render(b))
                for a, f, b in zip(products, factors[1:], products[1:], strict=False)
            ]
        if kind in ("factor", "roots"):
            left, steps = p, []
            for factor in factors[:-1]:
                quotient = divide(left, factor)
                root = render_end(Fraction(-factor[0], factor[1]))
                steps.append(
                    (f"x = {root} is a root: ({render(left)}) / ({render(factor)})", render(quotient))
                )
                left = quotient
            return [*steps, ("the last root", render_end(Fraction(-left[0], left[1])))]
        if kind == "area":
            at_number = render([0, *(Fraction(c, k) for k, c in enumerate(p, 1))])
            return [("antiderivative", at_number), (f"at x = {number}", self.gold())]
        if kind == "integral":
            terms = list(enumerate(scaled(p), 1))
            return [(f"integral of {_term(c, k - 1)}", _term(Fraction(c, k), k)) for k, c in terms if c] + [
                ("constant", str(number))
            ]
        terms = [
            (f"derivative of {_term(c, k)}", _term(c * k, k - 1) if k else "0")
            for k, c in enumerate(p if kind in ("derivative", "product_rule") else rest)
            if c
        ]
        return [*terms, ("together", self.gold())]

    def right(self, answer: str) -> bool:
        """Return True for an equal answer in the form asked for."""
        kind = self.problem["kind"]
        try:
            written = shapes.assigned(normal_form(answer))[1]
        except Unreadable:
            return False
        if not _letters(written) <= {"x", "e"}:
            return False
        if kind == "expand" and _bracketed(written):
            return False
        if kind == "factor" and not is_factored(written, len(self.problem["factors"])):
            return False
        return same_answer(answer, self.gold())

    def attacks(self) -> dict[str, str]:
        """Return the question's own expression, and operators that would work it out."""
        text = render(self.polynomial)
        return {
            "polynomial": text if self.problem["kind"] != "expand" else _product(self.problem["factors"]),
            "derivative sign": f"\\boxed{{\\frac{{d}}{{dx}}({text})}}",
            "upright derivative sign": f"\\boxed{{\\frac{{\\mathrm{{d}}}}{{\\mathrm{{d}}x}} ({text})}}",
            "integral sign": f"\\boxed{{\\int ({text}) dx}}",
            "one factor": f"1*({text})" if self.problem["kind"] == "factor" else "x",
            "solution set": f"\\boxed{{\\{{x : {text} = 0\\}}}}",
        }


def _letters(written: str) -> set[str]:
    """Return the symbols in a normal form: no `d` of a derivative or an integral may be left."""
    return {letter for token in tokens(written) if token.isalpha() for letter in token}


def _bracketed(written: str) -> bool:
    """Return True when brackets or braces hold a sum with the unknown in it."""
    groups: list[list[str]] = []
    for token in tokens(written):
        if token in ("(", "[", "{"):
            groups.append([])
        elif token in (")", "]", "}"):
            inside = groups.pop() if groups else []
            if any(t.isalpha() for t in inside) and any(t in "+-" for t in inside):
                return True
            if groups:
                groups[-1] += inside
        elif groups:
            groups[-1].append(token)
    return False


def is_factored(written: str, count: int) -> bool:
    """Return True for a product of exactly `count` linear factors, powers counted, and at most a number."""
    found, depth, inner = 0, 0, ""
    listed = list(tokens(written))
    for index, token in enumerate(listed):
        if token == "(":
            depth += 1
            inner = ""
            if depth > 1:
                return False
        elif token == ")":
            depth -= 1
            power = "".join(listed[index + 1 : index + 5])
            exponent = int(listed[index + 3]) if power.startswith("^{") and listed[index + 3].isdigit() else 1
            if "x" in inner:
                if "^" in inner or inner.count("x") > 1 or exponent > count:
                    return False
                found += exponent
        elif depth:
            inner += token
        elif token in "+-/" and index:
            return False
        elif token == "x":
            # A bare x is a factor of its own; a power of it counts as often.
            following = listed[index + 1 : index + 4]
            power = following[:2] == ["^", "{"] and following[-1].isdigit()
            found += int(following[-1]) if power and len(following[-1]) < 3 else 1
        elif token.isalpha():
            return False
    return found == count


def _linear(rng: np.random.Generator, knobs: Level) -> Poly:
    c0 = int(rng.integers(1, knobs.largest + 1)) * int(rng.choice([-1, 1]))
    return [c0, int(rng.integers(1, knobs.leading + 1))]


def multiply(*polynomials: Poly) -> Poly:
    """Return the product of polynomials."""
    product = [1]
    for p in polynomials:
        out = [0] * (len(product) + len(p) - 1)
        for i, a in enumerate(product):
            for j, b in enumerate(p):
                out[i + j] += a * b
        product = out
    return product


def add(p: Poly, q: Poly) -> Poly:
    """Return the sum of two polynomials, without leading zeros."""
    total = [a + b for a, b in itertools.zip_longest(p, q, fillvalue=0)]
    while len(total) > 1 and total[-1] == 0:
        total.pop()
    return total


def divide(p: Poly, linear: Poly) -> Poly:
    """Return p / linear where it leaves no remainder."""
    left, quotient = list(p), []
    for power in range(len(p) - 1, 0, -1):
        factor = left[power] // linear[1]
        quotient.append(factor)
        left[power - 1] -= factor * linear[0]
    return quotient[::-1]


def derivative(p: Poly) -> Poly:
    """Return the derivative of a polynomial."""
    return [k * c for k, c in enumerate(p)][1:] or [0]


def scaled(p: Poly) -> Poly:
    """Return p with each coefficient times its power + 1, so that its antiderivative has integers but one."""
    return [c * (k + 1) if k % 2 else c for k, c in enumerate(p)]


def integral(p: Poly, top: int) -> Fraction:
    """Return the integral of p from 0 to `top`."""
    return sum((Fraction(c, k) * top**k for k, c in enumerate(p, 1)), Fraction(0))


def _term(c: Any, k: int) -> str:
    symbol = "" if k == 0 else ("x" if k == 1 else f"x^{k}" if k < 10 else f"x^{{{k}}}")
    if symbol and abs(c) == 1:
        return f"-{symbol}" if c < 0 else symbol
    return f"{render_end(Fraction(c))}{symbol}"


def render(p: list[Any]) -> str:
    """Return a polynomial as text, highest power first: `2x^2 - x + 3`."""
    text = ""
    for k in range(len(p) - 1, -1, -1):
        if p[k] == 0:
            continue
        term = _term(p[k], k)
        if text:
            term = f" - {term[1:]}" if term.startswith("-") else f" + {term}"
        text += term
    return text or "0"


def _product(factors: list[Poly]) -> str:
    return "".join(f"({render(factor)})" for factor in factors)
