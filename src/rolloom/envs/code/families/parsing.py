"""Families that read text, simulate a process, or count."""

# ruff: noqa: D103 - the words in the decorator say what a family asks for.

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code.families.core import family

NAMES = ("ann", "bob", "cleo", "dan", "eve", "finn", "gus", "hana", "ivo", "june")
CITIES = ("Bonn", "Lima", "Oslo", "Pune", "Rome")


def _pick(rng: np.random.Generator, items: Any, count: int) -> list[Any]:
    return [items[i] for i in rng.integers(len(items), size=count)]


def _records(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    count = max(4, size)
    levels = _pick(rng, ("INFO", "WARN", "ERROR", given["word"]), count)
    amounts = rng.integers(0, 100, size=count).tolist()
    return [
        [
            " ".join(map(str, row))
            for row in zip(levels, _pick(rng, NAMES[: 3 + size // 4], count), amounts, strict=True)
        ]
    ]


@family(
    "Every line of log is 'LEVEL name amount'. For every name that has at least one {word} line,"
    " print the name and the sum of the amounts over {least} of its {word} lines, one name a line, in"
    " alphabetical order.",
    2,
    _records,
    "lines",
    "log:lines",
    word=("INFO", "WARN", "ERROR"),
    least=range(0, 60),
)
def log_totals(log, word, least):
    totals = {}
    for line in log:
        level, name, amount = line.split()
        if level == word:
            totals[name] = totals.get(name, 0) + (int(amount) if int(amount) > least else 0)
    return [f"{name} {totals[name]}" for name in sorted(totals)]


def _pairs_text(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    keys = _pick(rng, ("a", "ab", "b", "ba", "c", "cab", "d"), size + 3)
    values = rng.integers(-50, 100, size=size + 3).tolist()
    return [given["sep"].join(f"{key}={value}" for key, value in zip(keys, values, strict=True))]


@family(
    "s is a list of key=value settings with '{sep}' between; a later setting of a key replaces an"
    " earlier one. Print the sum of the final values of the keys that contain '{letter}', plus"
    " {bonus} for each of them.",
    2,
    _pairs_text,
    "value",
    "s:text",
    sep=";,|&",
    letter="abcd",
    bonus=range(0, 12),
)
def settings_sum(s, sep, letter, bonus):
    settings = {}
    for item in s.split(sep):
        key, value = item.split("=")
        settings[key] = int(value)
    return sum(value + bonus for key, value in settings.items() if letter in key)


def _brackets(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    text, open_ = "", []
    for _ in range(size * 2):
        if open_ and rng.random() < 0.45:
            text += open_.pop()
        else:
            which = int(rng.integers(3))
            text += "([{"[which]
            open_.append(")]}"[which])
    text += "".join(reversed(open_))
    if rng.random() < 0.4:
        cut = int(rng.integers(len(text)))
        text = text[:cut] + "()[]{}"[int(rng.integers(6))] + text[cut + 1 :]
    return [text]


@family(
    "s consists of brackets ()[]{{}}. If it is balanced (every bracket closed by its own kind,"
    " properly nested), print its deepest nesting times {k}; otherwise print minus the position,"
    " counting from 1, of the first closing bracket that does not match, or minus (length + 1) if"
    " only closing ones are missing at the end.",
    3,
    _brackets,
    "value",
    "s:text",
    k=range(2, 60),
)
def bracket_depth(s, k):
    waiting = []
    deepest = 0
    for i, c in enumerate(s):
        if c in "([{":
            waiting.append(")]}"["([{".index(c)])
            deepest = max(deepest, len(waiting))
        elif not waiting or waiting.pop() != c:
            return -(i + 1)
    return -(len(s) + 1) if waiting else deepest * k


def _people(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    count = size + 4
    ages = rng.integers(18, 80, size=count).tolist()
    cities = [given["city"], *_pick(rng, CITIES, count - 1)]
    return [[f"{n},{c},{a}" for n, c, a in zip(_pick(rng, NAMES, count), cities, ages, strict=True)]]


@family(
    "Every line of people is 'name,city,age'. Print the mean of age + {k} over the people of {city}"
    " with 6 digits after the point (an error up to 0.000001 is allowed).",
    3,
    _people,
    "float",
    "people:lines",
    city=CITIES,
    k=range(0, 40),
)
def mean_age(people, city, k):
    ages = [int(line.split(",")[2]) + k for line in people if line.split(",")[1] == city]
    return sum(ages) / len(ages)


def _sum_text(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    def make(depth: int) -> str:
        parts = []
        for i in range(int(rng.integers(2, 4))):
            if i:
                parts.append("+-*"[int(rng.integers(3))])
            nested = depth > 0 and rng.random() < 0.5
            parts.append(f"({make(depth - 1)})" if nested else str(int(rng.integers(0, 10 if depth else 30))))
        return "".join(parts)

    return [make(1 + size // 6)]


@family(
    "s is an expression of non-negative integers, +, -, * and parentheses, in which all three"
    " operators have the same strength and are carried out from left to right. Print its value modulo"
    " {m} (never negative).",
    6,
    _sum_text,
    "value",
    "s:text",
    m=(997, 1009, 1999, 2003, 4999, 5003, 7919),
)
def flat_expression(s, m):
    values = [0]
    operators = ["+"]
    i = 0

    def take(number):
        operator = operators[-1]
        if operator == "+":
            values[-1] += number
        elif operator == "-":
            values[-1] -= number
        else:
            values[-1] *= number

    while i < len(s):
        c = s[i]
        if c.isdigit():
            j = i
            while j < len(s) and s[j].isdigit():
                j += 1
            take(int(s[i:j]))
            i = j
            continue
        if c == "(":
            values.append(0)
            operators.append("+")
        elif c == ")":
            number = values.pop()
            operators.pop()
            take(number)
        else:
            operators[-1] = c
        i += 1
    return values[0] % m


def _moves(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    steps = rng.integers(1, 9, size=size + 4).tolist()
    turns = _pick(rng, ("L", "R", "F", "F", "B"), size + 4)
    return [[turn if turn in "LR" else f"{turn} {step}" for turn, step in zip(turns, steps, strict=True)]]


@family(
    "A robot stands at (0, 0) and faces north (y grows northwards, x eastwards) on a {w} by {h} board"
    " that wraps around: x is taken modulo {w} and y modulo {h}. The lines of moves are 'L' or 'R'"
    " (turn a quarter left or right), 'F d' or 'B d' (go d forward or backward). Print its final x"
    " and y.",
    3,
    _moves,
    "ints",
    "moves:lines",
    w=range(7, 20),
    h=range(7, 20),
)
def robot(moves, w, h):
    x, y, dx, dy = 0, 0, 0, 1
    for move in moves:
        if move == "L":
            dx, dy = -dy, dx
        elif move == "R":
            dx, dy = dy, -dx
        else:
            distance = int(move[2:]) * (1 if move[0] == "F" else -1)
            x, y = (x + dx * distance) % w, (y + dy * distance) % h
    return [x, y]


def _stack(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    lines = [f"push {int(n)}" for n in rng.integers(1, 20, size=2)]
    for word, n in zip(_pick(rng, ("push", "push", "add", "mul", "dup", "swap", "pop"), size + 2),
                       rng.integers(1, 20, size=size + 2).tolist(), strict=True):  # fmt: skip
        lines.append(f"push {n}" if word == "push" else word)
    return [lines]


@family(
    "A stack machine starts with an empty stack and carries out the lines of program: 'push n'; 'pop'"
    " (drop the top); 'dup' (push the top again); 'swap' (the top two change places); 'add' and 'mul'"
    " (replace the top two by their sum or product modulo {m}). A line that needs more items than"
    " there are is skipped. Print the stack from bottom to top, or {empty} if it is empty.",
    4,
    _stack,
    "ints",
    "program:lines",
    m=range(50, 1000, 7),
    empty=(-1, -2, 0),
)
def stack_machine(program, m, empty):
    stack = []
    for line in program:
        word = line.split()[0]
        if word == "push":
            stack.append(int(line.split()[1]))
        elif word == "pop" and stack:
            stack.pop()
        elif word == "dup" and stack:
            stack.append(stack[-1])
        elif word in ("swap", "add", "mul") and len(stack) >= 2:
            b, a = stack.pop(), stack.pop()
            stack += [b, a] if word == "swap" else [(a + b if word == "add" else a * b) % m]
    return stack or [empty]


def _cells(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return ["".join(".#"[i] for i in rng.integers(2, size=size + 5))]


@family(
    "s is a row of cells, '#' alive and '.' dead; cells beyond the ends are dead. In a step, every"
    " cell looks at itself and its two neighbours: with v = 4*left + 2*self + right (1 for alive), it"
    " is alive afterwards exactly if bit v of {rule} is 1 (bit 0 is the lowest). All cells change at"
    " once. Print the row after {steps} steps.",
    4,
    _cells,
    "value",
    "s:text",
    rule=range(18, 240, 2),
    steps=range(2, 9),
)
def automaton(s, rule, steps):
    cells = [c == "#" for c in s]
    for _ in range(steps):
        padded = [False, *cells, False]
        cells = [
            rule >> (4 * padded[i - 1] + 2 * padded[i] + padded[i + 1]) & 1 == 1
            for i in range(1, len(padded) - 1)
        ]
    return "".join("#" if cell else "." for cell in cells)


def _customers(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    count = size + 3
    arrivals = sorted(rng.integers(0, 4 * count, size=count).tolist())
    return [[list(pair) for pair in zip(arrivals, rng.integers(1, 20, size=count).tolist(), strict=True)]]


@family(
    "Every row of customers is 'arrival service', in order of arrival. There are {k} counters; a"
    " customer goes to the counter that is free first (if several are free at once, any of them) and"
    " waits until it is. Serving takes the customer's service time plus {pause}. Print the total of"
    " all waiting times and the time the last one is done.",
    5,
    _customers,
    "ints",
    "customers:rows",
    k=(1, 2, 3, 4),
    pause=range(0, 25),
)
def counters(customers, k, pause):
    free = [0] * k
    waited = 0
    for arrival, service in customers:
        i = free.index(min(free))
        start = max(free[i], arrival)
        waited += start - arrival
        free[i] = start + service + pause
    return [waited, max(free)]


def _letters(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return ["".join("abcde"[i] for i in rng.integers(int(rng.integers(2, 6)), size=size + 4))]


@family(
    "Print the number of stretches of neighbouring characters of s (at different places counted"
    " separately) that have exactly {k} different characters and at least {least} characters.",
    5,
    _letters,
    "value",
    "s:text",
    k=(1, 2, 3),
    least=range(1, 8),
)
def exact_letters(s, k, least):
    count = 0
    for start in range(len(s)):
        seen = set()
        for end in range(start, len(s)):
            seen.add(s[end])
            if len(seen) > k:
                break
            if len(seen) == k and end - start + 1 >= least:
                count += 1
    return count


def _numbers(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return [rng.integers(-10, 30, size=size + 3).tolist()]


@family(
    "Print how many pairs of positions i < j have |a[i] - a[j]| = {k}, and how many have a[i] + a[j] > {s}.",
    2,
    _numbers,
    "ints",
    "a:ints",
    k=range(0, 9),
    s=range(5, 45),
)
def two_counts(a, k, s):
    pairs = [(a[i], a[j]) for i in range(len(a)) for j in range(i + 1, len(a))]
    return [sum(abs(x - y) == k for x, y in pairs), sum(x + y > s for x, y in pairs)]
