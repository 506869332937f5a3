r"""Writes the packaged problems: `python -m rolloom.envs.math.problems_make > problems.jsonl`.

Each family draws small numbers, tells a problem and works its answer out with fractions or sympy. A test
holds the file and this program together. No problem writes its own answer, or a formula that merely has to be
copied. One long file, because it is a flat list of 43 families and nothing else.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

SEED = 20_260
EACH = 25
Drawn = tuple[str, str] | None
"""A question and its answer; None when the numbers do not fit."""

x, n = sympy.symbols("x n")
FAMILIES: list[tuple[int, Callable[[Callable[[int, int], int]], Drawn]]] = []


def family(level: int) -> Callable[[Any], Any]:
    """Register a family of problems of a level."""

    def add(function: Any) -> Any:
        FAMILIES.append((level, function))
        return function

    return add


def tex(value: Any) -> str:
    """Return a value in LaTeX."""
    if isinstance(value, Fraction):
        value = sympy.Rational(value.numerator, value.denominator)
    return sympy.latex(sympy.sympify(value), ln_notation=True)


def braces(*values: Any) -> str:
    """Return a set in LaTeX."""
    return f"\\{{{', '.join(map(tex, values))}\\}}"


def polynomial(*coefficients: int) -> str:
    """Return a polynomial in LaTeX, lowest power first."""
    return tex(sum(c * x**k for k, c in enumerate(coefficients)))


# Level 1: geometry and chance.


@family(1)
def rectangle_diagonal(d: Any) -> Drawn:
    """Pythagoras."""
    a, b = d(3, 15), d(3, 15)
    question = f"A rectangle is {a} cm long and {b} cm wide. How long is its diagonal, in cm?"
    return question, tex(sympy.sqrt(a * a + b * b))


@family(1)
def other_leg(d: Any) -> Drawn:
    """Pythagoras, for a leg."""
    a, c = d(3, 12), d(13, 25)
    question = f"A right triangle has a leg of {a} and a hypotenuse of {c}. How long is the other leg?"
    return question, tex(sympy.sqrt(c * c - a * a))


@family(1)
def ring(d: Any) -> Drawn:
    """Area between two circles."""
    a, b = d(2, 9), d(10, 20)
    question = f"Two circles share their center; their radii are {a} and {b}. What is the area between them?"
    return question, tex(sympy.pi * (b * b - a * a))


@family(1)
def midpoint(d: Any) -> Drawn:
    """Midpoint of a segment."""
    a, b, c, e = d(-9, 9), d(-9, 9), d(-9, 9), d(-9, 9)
    if (a, b) == (c, e):
        return None
    question = f"What is the midpoint of the segment from ({a}, {b}) to ({c}, {e})?"
    return question, f"({tex(Fraction(a + c, 2))}, {tex(Fraction(b + e, 2))})"


@family(1)
def point_distance(d: Any) -> Drawn:
    """Distance of two points."""
    a, b, c, e = d(-9, 9), d(-9, 9), d(-9, 9), d(-9, 9)
    if a == c or b == e:
        return None
    question = f"How far apart are the points ({a}, {b}) and ({c}, {e})?"
    return question, tex(sympy.sqrt((a - c) ** 2 + (b - e) ** 2))


@family(1)
def line_through(d: Any) -> Drawn:
    """Equation of a line."""
    slope, start, a, b = d(-6, 6), d(-9, 9), d(-5, 0), d(1, 5)
    if slope == 0:
        return None
    question = (
        f"Which line passes through ({a}, {slope * a + start}) and ({b}, {slope * b + start})? "
        "Give its equation in the form y = mx + b."
    )
    return question, f"y = {tex(slope * x + start)}"


@family(1)
def what_percent(d: Any) -> Drawn:
    """A share in percent."""
    whole, share = d(2, 30) * 20, d(3, 95)
    if whole * share % 100:
        return None
    question = f"What percentage of {whole} is {whole * share // 100}? Write it with a percent sign."
    return question, f"{share}\\%"


@family(1)
def marbles(d: Any) -> Drawn:
    """Chance of not drawing a colour."""
    a, b, c = d(3, 20), d(3, 20), d(3, 20)
    question = (
        f"A jar holds {a} green, {b} yellow and {c} white marbles. One is drawn at random. "
        "What is the probability that it is not white?"
    )
    return question, tex(Fraction(a + b, a + b + c))


@family(1)
def polygon_angle(d: Any) -> Drawn:
    """Inner angle of a regular polygon."""
    sides = d(5, 40)
    question = f"How large is each inner angle of a regular polygon with {sides} sides, in degrees?"
    return question, tex(Fraction(180 * (sides - 2), sides))


@family(1)
def square_roots(d: Any) -> Drawn:
    """Both solutions of a pure quadratic equation."""
    a, c = d(2, 7), d(8, 60)
    root = sympy.sqrt(sympy.Rational(c, a))
    if root.is_rational:
        return None
    return f"Solve {a}x^2 = {c} over the reals. Give the set of all solutions.", braces(-root, root)


@family(1)
def cube_edges(d: Any) -> Drawn:
    """Diagonal of a cube from its surface."""
    edge = d(3, 30)
    question = (
        f"The surface of a cube measures {6 * edge * edge} square cm. How long is its space diagonal, in cm?"
    )
    return question, tex(edge * sympy.sqrt(3))


# Level 2: functions and series.


@family(2)
def exponential_equation(d: Any) -> Drawn:
    """An equation that a logarithm solves."""
    base, value, times = d(2, 7), d(5, 60), d(2, 5)
    answer = sympy.log(value) / (times * sympy.log(base))
    if sympy.simplify(answer).is_rational:
        return None
    question = f"Solve {base}^{{{times}x}} = {value} for real x. Give the exact solution with logarithms."
    return question, f"\\frac{{\\ln({value})}}{{{times}\\ln({base})}}"


@family(2)
def standard_angle(d: Any) -> Drawn:
    """Exact values of trigonometric functions."""
    name, function = (("sine", sympy.sin), ("cosine", sympy.cos), ("tangent", sympy.tan))[d(0, 2)]
    angle = sympy.Rational(d(1, 23), (3, 4, 6)[d(0, 2)]) * sympy.pi
    value = function(angle)
    if value.is_rational or not value.is_finite:
        return None
    question = f"What is the exact value of the {name} of an angle of {tex(angle)} radians?"
    return question, tex(value)


@family(2)
def quadratic_roots(d: Any) -> Drawn:
    """Irrational roots of a quadratic equation."""
    b, c = d(-9, 9), d(-12, 12)
    square = b * b - 4 * c
    if square <= 0 or math.isqrt(square) ** 2 == square:
        return None
    roots = [(-b + sign * sympy.sqrt(square)) / 2 for sign in (-1, 1)]
    question = f"Solve {polynomial(c, b, 1)} = 0 over the reals. Give the set of all solutions."
    return question, braces(*roots)


@family(2)
def vertex(d: Any) -> Drawn:
    """Vertex of a parabola."""
    a, b, c = d(1, 4), d(-9, 9), d(-9, 9)
    if b == 0:
        return None
    at = Fraction(-b, 2 * a)
    question = f"Where is the vertex of the parabola y = {polynomial(c, b, a)}? Give the point."
    return question, f"({tex(at)}, {tex(a * at * at + b * at + c)})"


@family(2)
def inverse_function(d: Any) -> Drawn:
    """Inverse of a linear function."""
    a, b, c = d(2, 9), d(-9, 9), d(2, 9)
    if b == 0:
        return None
    question = (
        f"What is the inverse function of f(x) = ({tex(a * x + b)})/{c}? Give it as an expression in x."
    )
    return question, tex((c * x - b) / a)


@family(2)
def composition(d: Any) -> Drawn:
    """One function of another, expanded."""
    a, b, c, e = d(2, 6), d(-7, 7), d(2, 5), d(-7, 7)
    if b == 0 or e == 0:
        return None
    question = (
        f"Let f(x) = {polynomial(b, 0, a)} and g(x) = {polynomial(e, c)}. Write f(g(x)) as a polynomial in x."
    )
    return question, tex(sympy.expand(a * (c * x + e) ** 2 + b))


@family(2)
def arithmetic_formula(d: Any) -> Drawn:
    """The formula of an arithmetic sequence."""
    first, step = d(-9, 20), d(2, 12)
    terms = ", ".join(str(first + step * k) for k in range(4))
    question = (
        f"An arithmetic sequence begins {terms}. Give a formula for its n-th term (n = 1 for the first)."
    )
    return question, tex(sympy.expand(first + step * (n - 1)))


@family(2)
def geometric_sum(d: Any) -> Drawn:
    """Sum of an infinite geometric series."""
    first, top, bottom = d(2, 12), d(1, 6), d(7, 12)
    if math.gcd(top, bottom) > 1:
        return None
    ratio = Fraction(top, bottom)
    question = f"An infinite geometric series starts with {first} and has the ratio {ratio}. What is its sum?"
    return question, tex(first / (1 - ratio))


@family(2)
def equilateral(d: Any) -> Drawn:
    """Area of an equilateral triangle from its perimeter."""
    side = d(3, 30)
    question = f"An equilateral triangle has a perimeter of {3 * side}. What is its area?"
    return question, tex(sympy.sqrt(3) * side * side / 4)


@family(2)
def cone(d: Any) -> Drawn:
    """Volume of a cone."""
    radius, height = d(2, 12), d(4, 20)
    question = f"A cone has a base of radius {radius} and a height of {height}. What is its volume?"
    return question, tex(sympy.pi * radius**2 * height / 3)


@family(2)
def rule_of_three_dice(d: Any) -> Drawn:
    """At least one success in several throws."""
    sides, throws = d(4, 12), d(2, 4)
    question = (
        f"A die with {sides} equal sides is thrown {throws} times. "
        "What is the probability that its highest number comes at least once?"
    )
    return question, tex(1 - Fraction(sides - 1, sides) ** throws)


# Level 3: vectors, limits, domains.


@family(3)
def complex_size(d: Any) -> Drawn:
    """Absolute value of a complex product."""
    a, b, c, e = d(1, 7), d(1, 7), d(1, 7), d(1, 7)
    value = sympy.sqrt((a * a + b * b) * (c * c + e * e))
    if value.is_rational:
        return None
    question = f"What is the absolute value of the product of the complex numbers {a} + {b}i and {c} - {e}i?"
    return question, tex(value)


@family(3)
def law_of_cosines(d: Any) -> Drawn:
    """The third side of a triangle."""
    a, b, angle = d(3, 15), d(3, 15), (30, 45, 60, 120, 135, 150)[d(0, 5)]
    square = a * a + b * b - 2 * a * b * sympy.cos(sympy.rad(angle))
    question = (
        f"Two sides of a triangle measure {a} and {b} and enclose an angle of {angle} degrees. "
        "How long is the third side?"
    )
    return question, tex(sympy.sqrt(square))


@family(3)
def sum_and_product(d: Any) -> Drawn:
    """A symmetric function of two numbers."""
    s, p = d(3, 15), d(-20, 20)
    if p == 0:
        return None
    question = f"Two numbers have the sum {s} and the product {p}. What is the sum of their cubes?"
    return question, str(s**3 - 3 * s * p)


@family(3)
def series_formula(d: Any) -> Drawn:
    """The sum of an arithmetic sequence as a formula."""
    first, step = d(1, 12), d(2, 9)
    question = (
        f"An arithmetic sequence starts with {first} and has the difference {step}. "
        "Give a formula for the sum of its first n terms."
    )
    return question, tex(sympy.factor(n * (2 * first + (n - 1) * step) / 2))


@family(3)
def root_domain(d: Any) -> Drawn:
    """Where a function is defined."""
    a, b, c = d(2, 9), d(-20, 20), d(1, 9)
    edge, hole = Fraction(-b, a), c
    if edge >= hole or b == 0:
        return None
    question = (
        f"For which real x is f(x) = \\sqrt{{{tex(a * x + b)}}} / ({tex(x - c)}) defined? "
        "Give the set as intervals."
    )
    return question, f"[{tex(edge)}, {hole}) \\cup ({hole}, \\infty)"


@family(3)
def quadratic_range(d: Any) -> Drawn:
    """The values that a quadratic function takes."""
    a, b, c = d(1, 4), d(-9, 9), d(-9, 9)
    if b == 0:
        return None
    low = c - Fraction(b * b, 4 * a)
    question = f"Which values does f(x) = {polynomial(c, b, a)} take for real x? Give an interval."
    return question, f"[{tex(low)}, \\infty)"


@family(3)
def vector_angle(d: Any) -> Drawn:
    """Cosine of the angle between two vectors."""
    u, v = [d(-5, 5) for _ in range(3)], [d(-5, 5) for _ in range(3)]
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    sizes = sum(a * a for a in u) * sum(a * a for a in v)
    if dot == 0 or math.isqrt(sizes) ** 2 == sizes:
        return None
    question = f"What is the cosine of the angle between the vectors ({str(u)[1:-1]}) and ({str(v)[1:-1]})?"
    return question, tex(dot / sympy.sqrt(sizes))


@family(3)
def rational_limit(d: Any) -> Drawn:
    """A limit where numerator and denominator vanish."""
    a, b, c = d(-7, 7), d(-7, 7), d(-7, 7)
    if len({a, b, c}) < 3 or 0 in (a, b, c):
        return None
    top, bottom = polynomial(a * b, -a - b, 1), polynomial(a * c, -a - c, 1)
    question = f"What is the limit of ({top}) / ({bottom}) as x approaches {a}?"
    return question, tex(Fraction(a - b, a - c))


@family(3)
def crossing(d: Any) -> Drawn:
    """Where two lines meet."""
    a, b, c, e = d(-6, 6), d(-9, 9), d(-6, 6), d(-9, 9)
    if a == c or b == e:
        return None
    at = Fraction(e - b, a - c)
    question = f"Where do the lines y = {polynomial(b, a)} and y = {polynomial(e, c)} meet? Give the point."
    return question, f"({tex(at)}, {tex(a * at + b)})"


@family(3)
def binomial_coefficient(d: Any) -> Drawn:
    """One coefficient of a power."""
    a, b, power = d(2, 5), d(-5, 5), d(5, 9)
    k = d(2, power - 2)
    if b == 0:
        return None
    question = f"What is the coefficient of x^{k} in the expansion of ({tex(a * x + b)})^{power}?"
    return question, str(math.comb(power, k) * a**k * b ** (power - k))


# Level 4: calculus and trigonometric equations.


@family(4)
def by_parts(d: Any) -> Drawn:
    """An antiderivative found by parts."""
    a, b = d(2, 6), d(1, 9)
    answer = sympy.integrate(b * x * sympy.exp(a * x), x)
    constant = -answer.subs(x, 0)
    question = f"Which antiderivative F of {tex(b * x * sympy.exp(a * x))} has F(0) = 0? Give F(x)."
    return question, tex(sympy.expand(answer + constant))


@family(4)
def log_product(d: Any) -> Drawn:
    """Derivative of a power times a logarithm."""
    a, power = d(2, 9), d(2, 7)
    question = f"Differentiate f(x) = {a}x^{power} \\ln(x) for x > 0."
    return question, tex(sympy.expand(sympy.diff(a * x**power * sympy.log(x), x)))


@family(4)
def sine_equation(d: Any) -> Drawn:
    """All solutions of a trigonometric equation on an interval."""
    function = (sympy.sin, sympy.cos)[d(0, 1)]
    times = d(1, 2)
    value = (sympy.Rational(1, 2), sympy.sqrt(2) / 2, sympy.sqrt(3) / 2)[d(0, 2)] * (1, -1)[d(0, 1)]
    angles = [sympy.Rational(k, 12) * sympy.pi for k in range(24)]
    angles += [sympy.Rational(k, 8) * sympy.pi for k in range(16) if k % 2]
    angles = sorted(set(angles))
    solutions = [angle for angle in angles if function(times * angle) == value]
    argument = "x" if times == 1 else f"{times}x"
    equation = f"{function.__name__}({argument}) = {tex(value)}"
    question = f"Solve {equation} for 0 \\le x < 2\\pi. Give the set of solutions."
    return question, braces(*solutions)


@family(4)
def eigenvalues(d: Any) -> Drawn:
    """Eigenvalues of a two by two matrix."""
    a, b, c, e = d(-5, 5), d(-5, 5), d(-5, 5), d(-5, 5)
    square = (a - e) ** 2 + 4 * b * c
    if square <= 0 or b == 0 or c == 0:
        return None
    values = sorted(((a + e) + sign * sympy.sqrt(square)) / 2 for sign in (-1, 1))
    question = f"What are the eigenvalues of the matrix with rows ({a}, {b}) and ({c}, {e})? Give their set."
    return question, braces(*values)


@family(4)
def tangent_line(d: Any) -> Drawn:
    """The tangent of a cubic."""
    a, b, at = d(1, 3), d(-5, 5), d(-3, 3)
    f = a * x**3 + b * x
    slope = sympy.diff(f, x).subs(x, at)
    if at == 0 or slope == 0:
        return None
    question = f"Which line touches y = {tex(f)} at x = {at}? Give its equation in the form y = mx + b."
    return question, f"y = {tex(sympy.expand(slope * (x - at) + f.subs(x, at)))}"


@family(4)
def point_line(d: Any) -> Drawn:
    """Distance of a point from a line."""
    a, b, c, px, py = d(1, 7), d(1, 7), d(-9, 9), d(-6, 6), d(-6, 6)
    top, square = abs(a * px + b * py - c), a * a + b * b
    if top == 0 or math.isqrt(square) ** 2 == square:
        return None
    question = f"How far is the point ({px}, {py}) from the line {a}x + {b}y = {c}?"
    return question, tex(top / sympy.sqrt(square))


@family(4)
def growth(d: Any) -> Drawn:
    """A differential equation of growth."""
    rate, start = d(-7, 7), d(2, 9)
    if rate in (0, 1, -1):
        return None
    question = f"Which function y(x) solves y' = {rate}y with y(0) = {start}?"
    return question, f"y = {tex(start * sympy.exp(rate * x))}"


@family(4)
def log_equation(d: Any) -> Drawn:
    """An exponential equation quadratic in e^x."""
    a, b = d(2, 9), d(2, 9)
    if a == b:
        return None
    low, high = sorted((a, b))
    question = f"Solve e^{{2x}} - {a + b}e^x + {a * b} = 0 over the reals. Give the set of exact solutions."
    return question, f"\\{{\\ln({low}), \\ln({high})\\}}"


@family(4)
def area_between(d: Any) -> Drawn:
    """Area between a parabola and a line."""
    a, b, slope = d(-6, 2), d(3, 9), d(-4, 4)
    parabola = sympy.expand((x - a) * (x - b) + slope * x)
    if slope == 0:
        return None
    question = f"What is the area enclosed by y = {tex(parabola)} and y = {tex(slope * x)}?"
    return question, tex(Fraction((b - a) ** 3, 6))


@family(4)
def half_life(d: Any) -> Drawn:
    """When an exponential decay reaches a share."""
    hours, share = d(3, 30), d(3, 15)
    if share in (4, 8):
        return None
    question = (
        f"A substance halves every {hours} hours. After how many hours is 1/{share} of it left? "
        "Give the exact value with logarithms."
    )
    return question, f"\\frac{{{hours}\\ln({share})}}{{\\ln(2)}}"


@family(4)
def inscribed(d: Any) -> Drawn:
    """Area of the circle inscribed in a triangle."""
    a, b, c = d(4, 15), d(4, 15), d(4, 15)
    if a + b <= c or a + c <= b or b + c <= a:
        return None
    square = Fraction((b + c - a) * (a + c - b) * (a + b - c), 4 * (a + b + c))
    question = f"A triangle has sides {a}, {b} and {c}. What is the area of the circle inscribed in it?"
    return question, tex(sympy.pi * sympy.Rational(square.numerator, square.denominator))


def make() -> list[dict[str, Any]]:
    """Return the rows, the same each time."""
    rows: list[dict[str, Any]] = []
    for index, (level, function) in enumerate(FAMILIES):
        rng = np.random.default_rng([SEED, index])
        found: dict[str, str] = {}
        for _ in range(400):
            drawn = function(lambda low, high, rng=rng: int(rng.integers(low, high + 1)))
            if drawn is None or drawn[0] in found:
                continue
            question, answer = drawn
            if answer not in question and (not answer.isdigit() or len(answer) > 1):
                found[question] = answer
            if len(found) == EACH:
                break
        rows += [
            {"level": level, "topic": function.__name__, "question": question, "answer": answer}
            for question, answer in found.items()
        ]
    return rows


if __name__ == "__main__":
    for made in make():
        sys.stdout.write(json.dumps(made) + "\n")
