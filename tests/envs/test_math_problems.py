"""The mathematics environments: every gold answer worked out again in another way; levels that get harder.

One file, because each environment's part is short and they share how a problem is drawn and answered.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from statistics import mean

import pytest
import sympy
from sympy.ntheory.modular import crt

from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.envs.math import number_theory, problems_make, regions, sets, word_problems
from rolloom.envs.math.notation import normal_form
from rolloom.envs.math.polynomials import is_factored
from rolloom.envs.math.single import QuestionEnv
from rolloom.envs.math.stories import TEMPLATES
from rolloom.envs.math.units import quantity
from rolloom.envs.math.verify import same_answer

x, n = sympy.symbols("x n")


def make(id: str, **kwargs) -> QuestionEnv:
    env = registry.make(id, **kwargs)
    assert isinstance(env, QuestionEnv)
    return env


def drawn(id: str, count: int, levels=range(1, 11)):
    """Yield an environment at `count` problems of each level."""
    env = make(id)
    for level in levels:
        for seed in range(count):
            env.reset(seed=seed, options={"level": level, "split": ("train", "heldout")[seed % 2]})
            yield level, env


def answered(env, answer: str) -> float:
    """Return the reward of an answer to the running problem, which is then asked again."""
    reward = env.step(answer)[1]
    env._live = True
    env._return = 0.0
    return reward


# -- arithmetic


def evaluate(text: str) -> Fraction:
    """Evaluate an expression by Python's own grammar, with fractions."""
    operations = {
        ast.Add: lambda a, b: a + b,
        ast.Sub: lambda a, b: a - b,
        ast.Mult: lambda a, b: a * b,
        ast.Div: lambda a, b: a / b,
    }

    def value(node: ast.AST) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp)
        return operations[type(node.op)](value(node.left), value(node.right))

    return value(ast.parse(text, mode="eval").body)


def test_arithmetic_is_what_python_says():
    operators: dict[int, list[int]] = {}
    for level, env in drawn("math/arithmetic-v0", 40):
        expression = env.question().removeprefix("Evaluate ").removesuffix(".")
        right = evaluate(expression)
        assert Fraction(env.gold()) == right
        assert answered(env, str(right)) == answered(env, f"So \\boxed{{{right}}}.") == 1.0
        assert answered(env, str(right + 1)) == answered(env, str(-right)) == answered(env, expression) == 0.0
        operators.setdefault(level, []).append(len(env.steps()))
        assert (right.denominator > 1) <= (level >= 7)
    assert mean(operators[1]) < mean(operators[3]) < mean(operators[6]) < mean(operators[10])


# -- linear equations


def side(text: str, values: dict[str, Fraction]) -> Fraction:
    """Evaluate a side of an equation as written."""
    text = re.sub(r"(\d|\))(?=[a-z(])", r"\1*", text.strip())
    return evaluate(re.sub(r"[xyzw]", lambda match: f"({values[match[0]]})", text).replace("/1)", ")"))


def test_solutions_of_linear_equations_fit_the_equations_as_written():
    for level, env in drawn("math/linear_equations-v0", 25):
        lines = env.question().partition(":")[2].strip().splitlines()
        solution = [Fraction(part) for part in env.gold().strip("()").split(", ")]
        assert len(solution) == len(lines) == (1, 1, 1, 2, 2, 3, 3, 4, 4, 4)[level - 1]
        for line in lines:
            left, right = line.split(" = ")
            values = dict(zip("xyzw", solution, strict=False))
            assert side(left, values) == side(right, values), line
        named = ", ".join(f"{name} = {value}" for name, value in zip("xyzw", solution, strict=False))
        assert answered(env, named) == 1.0
        wrong = [*solution[:-1], solution[-1] + 1]
        told = ", ".join(map(str, wrong))
        assert answered(env, f"({told})" if len(wrong) > 1 else told) == 0.0


# -- number theory

BRUTE = {
    "gcd": lambda a, b: max(d for d in range(1, min(a, b) + 1) if a % d == 0 == b % d),
    "lcm": lambda a, b: next(m for m in range(a, a * b + 1, a) if m % b == 0),
    "remainder": lambda a, m: a - m * int(a // m),
    "squared_digits": lambda k: sum(d * d for d in map(int, str(k))),
    "divisor_sum": lambda k: sum(d for d in range(1, k + 1) if k % d == 0),
    "divisor_count": lambda k: k * sympy.divisor_count(k),
    "to_base": lambda k, base: "".join("0123456789abcdef"[d] for d in sympy.ntheory.digits(k, base)[1:]),
    "from_base": lambda k, base: k,
    "power": lambda a, k, m: math.prod([a] * 1) ** k % m if k < 3_000 else pow(a, k, m),
    "inverse": lambda a, m: next(k for k in range(1, m) if a * k % m == 1),
    "two_congruences": lambda *v: next(
        k for k in range(1, 10**6) if all(k % m == r for m, r in zip(v[::2], v[1::2], strict=True))
    ),
    "three_congruences": lambda *v: crt(v[::2], v[1::2])[0],
    "totient": lambda a, b: sympy.totient(a * b),
}


def test_number_theory_against_brute_force():
    seen = set()
    for _, env in drawn("math/number_theory-v0", 40):
        kind, numbers = env.problem["kind"], env.problem["numbers"]
        seen.add(kind)
        if kind == "from_base":
            digits, base = env.question().split()[6], int(env.question().split()[-1].rstrip("?"))
            assert int(digits, base) == int(env.gold())
        elif kind == "diophantine":
            a, b, c = numbers
            u, v = (int(part) for part in env.gold().strip("()").split(", "))
            assert a * u + b * v == c
            assert f"{a}x + {b}y = {c}" in env.question()
            other = f"({u + b}, {v - a})"
            assert answered(env, other) == answered(env, f"x = {u - b}, y = {v + a}") == 1.0
            for wrong in (
                f"({u + 1}, {v})",
                f"({u}, {v}, 0)",
                f"{u}",
                f"({u}.5, {v})",
                f"[{u}, {v}]",
                "(x, y)",
            ):
                assert answered(env, wrong) == 0.0
        else:
            assert env.gold() == str(BRUTE[kind](*numbers)), (kind, numbers)
    assert seen == set(number_theory.KINDS)


def test_a_number_in_a_base_may_name_it():
    env = make("math/number_theory-v0")
    env.problem = {"kind": "to_base", "numbers": [345, 7]}
    assert all(map(env.right, ("1002", "1002_7", "1002_{7}", "(1002)_7", "$1002_7$")))
    assert not any(map(env.right, ("1002_8", "345", "1003", "10 02 3")))


# -- word problems


def hours(minutes: int) -> Fraction:
    return Fraction(minutes, 60)


def ways(sides: int, total: int) -> int:
    return sum(sum(throw) == total for throw in itertools.product(range(1, sides + 1), repeat=3))


AGAIN = {
    "shopping": lambda a, p, b, q: sum([p] * a) + sum([q] * b),
    "change": lambda a, cents, note: note - Fraction(a * cents) / 100,
    "packing": lambda total, box: divmod(total, box)[1],
    "saving": lambda have, weekly, goal: next(w for w in range(10**6) if have + w * weekly >= goal),
    "discount": lambda price, percent: price * (1 - Fraction(percent, 100)),
    "up_and_down": lambda price, up, down: price * (1 + Fraction(up, 100)) * (1 - Fraction(down, 100)),
    "before_discount": lambda price, percent: price,
    "simple_interest": lambda capital, rate, months: capital * Fraction(rate, 100) * Fraction(months, 12),
    "compound_interest": lambda capital, rate, years: capital * (1 + Fraction(rate, 100)) ** years,
    "ratio_share": lambda a, b, c, part: Fraction(b, a + b + c) * ((a + b + c) * part),
    "coins": lambda fives, twenties: twenties,
    "mixture": lambda x, y, a, b: (Fraction(x * a, 100) + Fraction(y * b, 100)) / (x + y) * 100,
    "dilution": lambda x, a, b: (Fraction(x * a, 100) - Fraction(x * b, 100)) / Fraction(b, 100),
    "distance": lambda speed, minutes: speed * hours(minutes),
    "ages_sum": lambda young, more: next(k for k in range(300) if k + (k - more) == 2 * young + more),
    "recipe": lambda people, guests, each: Fraction(each * guests, 1000),
    "speed_units": lambda metres, seconds: Fraction(metres, 1000) / Fraction(seconds, 3600),
    "timetable": lambda start, length, pause: length - pause,
    "meeting": lambda a, b, apart: 1 / (Fraction(a, apart) + Fraction(b, apart)),
    "catching_up": lambda slow, fast, head: Fraction(slow * fast * head, 60 * (fast - slow)),
    "average_speed": lambda there, back: 2 / (Fraction(1, there) + Fraction(1, back)),
    "together": lambda a, b: Fraction(a * b, a + b),
    "leaking_tank": lambda a, b, leak: 1 / (Fraction(1, a) + Fraction(1, b) - Fraction(1, leak)),
    "ages_multiple": lambda young, times, years: times * (young + years) - years,
    "map_scale": lambda scale, mm: Fraction(mm, 1000) * scale / 1000,
    "garden": lambda a, b: a * b,
    "legs": lambda hens, goats: goats,
    "seats": lambda rows, first, more: sum(first + more * row for row in range(rows)),
    "mean_score": lambda count, mean, wanted: wanted * (count + 1) - mean * count,
    "aquarium": lambda a, b, c: Fraction(a, 10) * Fraction(b, 10) * Fraction(c, 10),
    "handshakes": lambda a, b: len(list(itertools.combinations(range(a + b), 2))),
    "committee": lambda women, men, a, b: math.comb(women, a) * math.comb(men, b),
    "two_balls": lambda red, blue, green: Fraction(
        math.comb(red, 2) + math.comb(blue, 2) + math.comb(green, 2), math.comb(red + blue + green, 2)
    ),
    "dice": ways,
}
"""Each template's answer from the numbers drawn, in another way."""


def test_there_are_many_templates():
    assert word_problems.TEMPLATES is TEMPLATES and len(TEMPLATES) >= 35
    for level in range(1, 11):
        assert sum(low <= level <= high for (low, high), _ in TEMPLATES.values()) >= 7


def shelf(books: int, block: int) -> int:
    """Count the orders in which the first `block` books stand side by side."""
    count = 0
    for order in itertools.permutations(range(books)):
        places = [place for place, book in enumerate(order) if book < block]
        count += places[-1] - places[0] == block - 1
    return count


def test_word_problems_worked_out_again():
    seen = set()
    for level, env in drawn("math/word_problems-v0", 50):
        name, values = env.problem["template"], dict(env.problem["values"])
        seen.add(name)
        found = quantity(normal_form(env.gold()))
        if name == "ladder":
            height = sympy.sqrt((values["foot"] + values["more"]) ** 2 - values["foot"] ** 2)
            assert same_answer(sympy.latex(height) + " m", env.gold())
            assert not same_answer(sympy.latex(height + 1), env.gold())
        elif name == "cylinder":
            volume = sympy.pi * sympy.Rational(values["across"], 2) ** 2 * values["high"]
            assert same_answer(sympy.latex(volume), env.gold())
        elif name == "shelf":
            if values["books"] <= 7:
                assert found and found.value == shelf(**values)
        else:
            if "in" in values:
                values["years"] = values.pop("in")
            right = AGAIN[name](**values)
            assert found and found.value == right, (name, values)
            wrong = found.value + 1
            unit = env.gold().lstrip("$0123456789./")
            assert answered(env, f"{wrong} {unit}".replace("%", "\\%")) == 0.0
        assert answered(env, f"Thus \\boxed{{{env.gold().replace('$', chr(92) + '$')}}}.") == 1.0
        assert all(str(value) in env.question() for value in values.values()) or name in HIDDEN
        assert (level < 6) or len(env.question().split(".")) > 1
    assert seen == set(TEMPLATES)


HIDDEN = {
    *(
        "change",
        "before_discount",
        "ratio_share",
        "coins",
        "ages_sum",
        "recipe",
        "timetable",
        "ages_multiple",
    ),
    *("garden", "legs", "ladder"),
}
"""Templates whose text says some numbers only indirectly."""


def test_units_of_word_problems_are_checked():
    env = make("math/word_problems-v0")
    env.problem = {"answer": "126 km"}
    assert all(map(env.right, ("126 km", "126", "126000 m", "126 kilometers", r"126\text{ km}", "126.0 km")))
    assert not any(
        map(env.right, ("126 m", "126 kg", "126 hours", "125 km", "126 km or 127 km", "126 miles"))
    )
    env.problem = {"answer": "$58.90"}
    assert all(map(env.right, ("$58.90", r"\$58.9", "58.90", "58.90 dollars", "5890 cents")))
    assert not any(map(env.right, ("$58.09", "58.90 euros", "$5890", "58.90%")))


# -- polynomials


def plain(text: str):
    """Read a question's polynomial with sympy."""
    text = re.sub(r"(\d|\))(?=[x(])", r"\1*", text.replace("^", "**").replace("e**x", "exp(x)"))
    return sympy.sympify(text)


def test_polynomials_against_sympy():
    seen = set()
    for _, env in drawn("math/polynomials-v0", 8):
        kind, question = env.problem["kind"], env.question()
        if kind == "expand":
            right = sympy.expand(plain(question.removeprefix("Expand ").rstrip(".")))
        elif kind == "factor":
            right = sympy.factor(plain(question.removeprefix("Factor ").partition(" into")[0]))
        elif kind == "roots":
            roots = sympy.roots(plain(question.removeprefix("Find all roots of ").partition(".")[0]), x)
            right = "\\{" + ", ".join(sympy.latex(root) for root in roots) + "\\}"
        elif kind == "integral":
            integrand, _, constant = question.removeprefix("Find the antiderivative F(x) of ").partition(
                " with"
            )
            right = sympy.integrate(plain(integrand), x) + env.problem["number"]
            assert constant.endswith(f"= {env.problem['number']}.")
        elif kind == "area":
            integrand = plain(question.removeprefix("Work out the integral of ").partition(" from")[0])
            right = sympy.integrate(integrand, (x, 0, env.problem["number"]))
        else:
            right = sympy.diff(plain(question.removeprefix("Differentiate ").partition(" with")[0]), x)
            right = sympy.together(right) if kind == "quotient_rule" else right
        told = right if isinstance(right, str) else sympy.latex(right)
        assert answered(env, told) == 1.0, (question, told)
        seen.add(kind)
        assert answered(env, f"{told} + 1" if kind != "roots" else "\\{1, 2, 3\\}") == 0.0
    assert len(seen) >= 9


FACTORED = [
    "(x-1)(x+2)",
    "(x + 2)(x-1)",
    "2(x-1)(x+2)",
    "-(x-1)(x+2)",
    "(x-1)^{2}",
    "x(x-1)",
    "x^{2}",
    r"(x-1)\cdot (x+2)",
]
NOT_FACTORED = [
    *("x^{2}+x-2", "x(x+1)-2", "{x(x+1)-2}", r"\frac{x(x+1)-2}{1}", "(x^{2}+x-2)"),
    *("((x-1)(x+2))", "1(x^{2}+x-2)"),
    *("(x-1)(x+2)(x+3)", "(x-1)", "(x-1)(x+2)+0", "(x(x+1)-2)", "-x^{2}+x", "(x-1)(x+2)/1"),
]  # fmt: skip


def test_only_products_of_linear_factors_are_factored():
    assert all(is_factored(normal_form(text), 2) for text in FACTORED)
    assert not any(is_factored(normal_form(text), 2) for text in NOT_FACTORED)


def test_a_polynomial_has_to_be_worked_out():
    env = make("math/polynomials-v0")
    env.problem = {"kind": "expand", "factors": [[-9, 1], [-8, 1]], "number": 2}
    assert all(map(env.right, ("x^2 - 17x + 72", "72 - 17x + x^2", "x**2-17*x+72", "x^2 - 18x + x + 72")))
    for wrong in ("(x - 9)(x - 8)", "{x-9}{x-8}", "x(x-17)+72", r"\left[x-9\right](x-8)", "(x-9)*(x-8)+0"):
        assert not env.right(wrong)
    env.problem = {"kind": "derivative", "factors": [[-8, 1], [2, 1]], "number": 2}
    assert all(map(env.right, ("2x - 6", "2(x-3)", "f'(x) = 2x-6".replace("'", ""), "-6 + x + x")))
    for wrong in (r"\frac{d}{dx}(x^2-6x-16)", r"d/dx (x^2-6x-16)", "x^2-6x-16", "2y - 6", r"\int 2 dx - 6"):
        assert not env.right(wrong)


# -- sets


def test_sets_hold_the_numbers_they_should():
    probes = sorted({Fraction(a, b) for a in range(-200, 201) for b in (1, 2, 3, 7)})[::9]
    for _, env in drawn("math/sets-v0", 12):
        problem, answer = env.problem, sets.solve(env.problem)
        ends = [end for piece in answer for end in (piece.low, piece.high) if isinstance(end, Fraction)]
        for probe in [*probes, *ends]:
            inside = any(piece.has(probe) for piece in answer)
            if "sets" not in problem:
                assert inside == sets.holds(problem, probe)
                continue
            given = [
                any(
                    sets._end(low) <= probe <= sets._end(high)
                    and (probe != sets._end(low) or low_in)
                    and (probe != sets._end(high) or high_in)
                    for low, high, low_in, high_in in pieces
                )
                for pieces in problem["sets"]
            ]
            held = given[0]
            for operation, other in zip(problem["operations"], given[1:], strict=True):
                held = {
                    "union": held or other,
                    "intersection": held and other,
                    "difference": held and not other,
                }[operation]
            assert held == inside
        assert answered(env, env.gold().replace(" ", "")) == 1.0
        assert answered(env, regions.render(regions.complement(answer))) == 0.0
        for name, attack in env.attacks().items():
            assert answered(env, attack) == 0.0, (name, attack, env.gold())


def test_ways_to_write_a_set():
    env = make("math/sets-v0")
    env.problem = {"kind": "absolute", "a": 1, "b": 0, "bound": 2, "sign": ">="}
    for right in (
        r"(-\infty, -2] \cup [2, \infty)",
        r"[2, \infty) \cup (-\infty, -2]",
        r"x \le -2 or x \ge 2",
    ):
        assert env.right(right)
    for wrong in (r"(-\infty, -2) \cup (2, \infty)", r"x \ge 2", r"\mathbb{R} \setminus (-2, 2)", r"[-2, 2]"):
        assert not env.right(wrong)
    env.problem = {
        "kind": "finite",
        "sets": [[["1", "1", 1, 1]], [["2", "2", 1, 1]]],
        "operations": ["union"],
    }
    assert env.right(r"\{1, 2\}") and env.right("2, 1") and env.right(r"\{2, 1, 1\}")
    assert not env.right(r"\{1\} \cup \{2\}") and not env.right("(1, 2)") and not env.right(r"\{1\}")


def test_regions_obey_the_laws_of_sets():
    pieces = [regions.Piece(Fraction(a), Fraction(b), c, d) for a, b in ((0, 2), (1, 3), (2, 4), (5, 6))
              for c in (True, False) for d in (True, False)]  # fmt: skip
    for a, b in itertools.product(list(itertools.combinations(pieces, 2))[::9], repeat=2):
        union, both = regions.union(a, b), regions.intersection(a, b)
        assert regions.complement(union) == regions.intersection(regions.complement(a), regions.complement(b))
        assert regions.difference(union, both) == regions.symmetric_difference(a, b)
        assert regions.union(regions.difference(a, b), both) == regions.union(a)


# -- problems of a data set


def packaged() -> list[dict]:
    text = Path(problems_make.__file__).with_name("problems.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_the_packaged_problems_are_what_the_program_makes():
    rows = packaged()
    assert rows == problems_make.make()
    assert len(rows) >= 1_000 and len({row["question"] for row in rows}) == len(rows)
    assert {row["level"] for row in rows} == {1, 2, 3, 4}


def test_packaged_problems_worked_out_again():
    """A few families where sympy, or a numeric solution, gives the answer from the text alone."""
    checked = 0
    for row in packaged():
        numbers = [int(part) for part in re.findall(r"-?\d+", row["question"])]
        if row["topic"] == "quadratic_roots":
            polynomial = row["question"].removeprefix("Solve ").partition(" = 0")[0]
            polynomial = re.sub(r"(\d) x", r"\1*x", polynomial.replace("^{2}", "**2"))
            roots = sympy.solve(sympy.sympify(polynomial), x)
            assert same_answer("\\{" + ", ".join(map(sympy.latex, roots)) + "\\}", row["answer"])
        elif row["topic"] == "point_distance":
            a, b, c, d = numbers
            assert same_answer(f"\\sqrt{{{(a - c) ** 2 + (b - d) ** 2}}}", row["answer"])
        elif row["topic"] == "area_between":
            top, bottom = (
                sympy.Poly(re.sub(r"(\d) x", r"\1*x", part.replace("^{2}", "**2")), x).as_expr()
                for part in re.findall(r"y = (.*?)(?: and|\?)", row["question"])
            )
            low, high = sympy.solve(top - bottom, x)
            area = abs(sympy.integrate(top - bottom, (x, low, high)))
            assert same_answer(str(area), row["answer"])
        elif row["topic"] == "by_parts":
            found = re.search(r"of (\d*) ?x e\^\{(\d+) x\}", row["question"])
            assert found
            b, a = (int(part or 1) for part in found.groups())
            answer = sympy.integrate(b * x * sympy.exp(a * x), (x, 0, x))
            assert same_answer(sympy.latex(answer), row["answer"])
        elif row["topic"] == "binomial_coefficient":
            inner, power, k = re.search(r"of \((.*)\)\^(\d+)", row["question"]), numbers[-1], numbers[0]
            assert inner
            expanded = sympy.expand(sympy.Poly(re.sub(r"(\d) x", r"\1*x", inner[1]), x).as_expr() ** power)
            assert expanded.coeff(x, k) == int(row["answer"])
        else:
            continue
        checked += 1
    assert checked >= 120


def test_rows_of_ones_own(tmp_path):
    rows = [
        {"problem": f"What is {k} times {k}, plus x?", "solution": f"It is \\boxed{{{k * k} + x}}."}
        for k in range(40)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = {"question": "problem", "answer": "solution", "solution": "solution"}
    env = make("math/problems-v0", data=str(path), **settings)
    assert env.levels == (1, 1)
    keys = {split: {env.reset(seed=s, options={"split": split})[1]["key"] for s in range(80)}
            for split in ("train", "heldout")}  # fmt: skip
    assert len(keys["train"]) > 20 and keys["heldout"] and not keys["train"] & keys["heldout"]
    env.reset(seed=1)
    k = int(env.question().split()[2])
    assert env.gold() == f"{k * k} + x"
    assert "It is" in env.expert("medium", env.np_random) and "It is" not in env.expert(
        "compact", env.np_random
    )
    assert answered(env, f"x + {k * k}") == 1.0
    assert answered(env, f"x + {k * k + 1}") == 0.0


def test_answers_within_longer_texts_and_held_out_files():
    rows = [{"question": "How many?", "answer": "3 + 4 = 7\n#### 7", "level": 1}]
    other = [{"question": "And now?", "answer": "10%", "level": 1}]
    env = make("math/problems-v0", data=rows, heldout=other)
    env.reset(seed=0)
    assert env.gold() == "7" and answered(env, "7 apples") == 0.0 and answered(env, "7") == 1.0
    env.reset(seed=0, options={"split": "heldout"})
    assert env.question() == "And now?" and answered(env, "0.1") == 1.0


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"text": "a"}], "question"),
        ([{"question": "a", "answer": ""}], "empty"),
        ([{"question": "a", "answer": "1", "level": "hard"}], "level"),
        (
            [{"question": "a", "answer": "1", "level": 1}, {"question": "b", "answer": "1", "level": 3}],
            "gaps",
        ),
        ([], "at least one row"),
    ],
)
def test_bad_rows_are_named(rows, told):
    with pytest.raises(EnvError, match=told):
        make("math/problems-v0", data=rows).reset(seed=0)
