"""Templates about shapes, counting and chance."""

from __future__ import annotations

import math
from fractions import Fraction

from rolloom.envs.math.regions import render_end
from rolloom.envs.math.stories import Draw, Told, plain, template


@template(1, 5)
def garden(d: Draw) -> Told:
    """Area of a rectangle from its perimeter and one side."""
    n = d.name()
    a, b = d.number("a", 5, 40), d.number("b", 5, 40)
    return Told(
        f"{n}'s rectangular garden has a perimeter of {2 * (a + b)} m. One side is {a} m long. What is "
        "its area?",
        f"{a * b} m^2",
        [
            (f"{2 * (a + b)} / 2 - {a}", f"{b} m"),
            (f"{a} * {b}", f"{a * b} m^2"),
        ],
    )


@template(1, 4)
def legs(d: Draw) -> Told:
    """Heads and legs: two kinds of animals."""
    n = d.name()
    hens, goats = d.number("hens", 4, 40), d.number("goats", 4, 40)
    heads, feet = hens + goats, 2 * hens + 4 * goats
    return Told(
        f"{n} has hens and goats, {heads} animals with {feet} legs. How many goats are there?",
        f"{goats} goats",
        [
            (f"{feet} - 2 * {heads}", str(feet - 2 * heads)),
            (f"{feet - 2 * heads} / 2", str(goats)),
        ],
    )


@template(2, 6)
def seats(d: Draw) -> Told:
    """Seats in rows that grow by the same number."""
    rows, first, more = d.number("rows", 6, 20), d.number("first", 8, 30), d.number("more", 2, 6)
    last = first + (rows - 1) * more
    total = rows * (first + last) // 2
    return Told(
        f"A theatre has {rows} rows. The first has {first} seats, and every row has {more} seats more "
        "than the "
        "one before. How many seats are there?",
        f"{total} seats",
        [
            (f"{first} + {rows - 1} * {more}", f"{last} seats in the last row"),
            (f"{rows} * ({first} + {last}) / 2", str(total)),
        ],
    )


@template(2, 7)
def mean_score(d: Draw) -> Told | None:
    """The score that brings a mean to a value."""
    n = d.name()
    count, mean, wanted = (
        d.number("count", 4, 12),
        d.number("mean", 50, 85, 1, False),
        d.number("wanted", 60, 90, 1, False),
    )
    score = wanted * (count + 1) - mean * count
    if not mean < wanted < score <= 200:
        return None
    return Told(
        f"{n} has a mean of {mean} points over {count} games. How many points in the next game bring the "
        "mean "
        f"to {wanted}?",
        f"{score} points",
        [
            (f"{count} * {mean}", str(count * mean)),
            (f"{count + 1} * {wanted}", str(wanted * (count + 1))),
            (f"{wanted * (count + 1)} - {count * mean}", str(score)),
        ],
    )


@template(3, 7)
def aquarium(d: Draw) -> Told:
    """Volume of a box, in litres."""
    n = d.name()
    a, b, c = d.number("a", 20, 90, 5), d.number("b", 20, 60, 5), d.number("c", 10, 45)
    return Told(
        f"{n}'s aquarium is {a} cm long and {b} cm wide. The water stands {c} cm high. How many liters "
        "are in it?",
        f"{plain(Fraction(a * b * c, 1000))} liters",
        [
            (f"{a} * {b} * {c}", f"{a * b * c} cm^3"),
            (f"{a * b * c} / 1000", f"{plain(Fraction(a * b * c, 1000))} liters"),
        ],
    )


@template(3, 8)
def handshakes(d: Draw) -> Told:
    """Handshakes between two groups and within each."""
    a, b = d.number("a", 5, 20), d.number("b", 5, 20)
    within = math.comb(a, 2) + math.comb(b, 2)
    return Told(
        f"Two teams of {a} and {b} players meet. Everybody shakes hands once with everybody else, of "
        "both teams. "
        "How many handshakes are there?",
        f"{within + a * b} handshakes",
        [
            (f"{a} + {b}", str(a + b)),
            (f"{a + b} * {a + b - 1} / 2", str(within + a * b)),
        ],
    )


@template(5, 10)
def committee(d: Draw) -> Told | None:
    """Committees with fixed numbers from two groups."""
    women, men = d.number("women", 4, 9), d.number("men", 4, 9)
    a, b = d.number("a", 2, 3, grows=False), d.number("b", 2, 3, grows=False)
    total = math.comb(women, a) * math.comb(men, b)
    return Told(
        f"A club has {women} women and {men} men. In how many ways can it choose a committee of {a} "
        "women and "
        f"{b} men?",
        f"{total} ways",
        [
            (f"C({women}, {a})", str(math.comb(women, a))),
            (f"C({men}, {b})", str(math.comb(men, b))),
            (f"{math.comb(women, a)} * {math.comb(men, b)}", str(total)),
        ],
    )


@template(5, 10)
def shelf(d: Draw) -> Told | None:
    """Books of which some stand side by side."""
    books, block = d.number("books", 5, 9, grows=False), d.number("block", 2, 4, grows=False)
    if block >= books - 1:
        return None
    things = d.things()
    total = math.factorial(books - block + 1) * math.factorial(block)
    return Told(
        f"In how many orders can {books} different {things} stand on a shelf when {block} given ones of "
        "them must stand side by side?",
        f"{total} orders",
        [
            (f"{books} - {block} + 1", f"{books - block + 1} blocks"),
            (f"{books - block + 1}!", str(math.factorial(books - block + 1))),
            (f"{math.factorial(books - block + 1)} * {block}!", str(total)),
        ],
    )


@template(5, 10)
def two_balls(d: Draw) -> Told:
    """Two balls drawn without putting back: both of one colour."""
    n = d.name()
    red, blue, green = d.number("red", 3, 12), d.number("blue", 3, 12), d.number("green", 3, 12)
    total = red + blue + green
    same = sum(k * (k - 1) for k in (red, blue, green))
    chance = Fraction(same, total * (total - 1))
    return Told(
        f"A bag holds {red} red, {blue} blue and {green} green balls. {n} draws two without putting any "
        "back. "
        "What is the probability that both have the same color? Give a fraction.",
        plain(chance),
        [
            (f"{red} * {red - 1} + {blue} * {blue - 1} + {green} * {green - 1}", str(same)),
            (f"{total} * {total - 1}", str(total * (total - 1))),
            (f"{same} / {total * (total - 1)}", plain(chance)),
        ],
    )


@template(4, 9)
def ladder(d: Draw) -> Told:
    """A right triangle: the square root may stay."""
    n = d.name()
    foot, length = d.number("foot", 2, 12), d.number("more", 2, 14) + d.values["foot"]
    square = length * length - foot * foot
    root = math.isqrt(square)
    height = str(root) if root * root == square else f"\\sqrt{{{square}}}"
    return Told(
        f"{n} leans a ladder of {length} m against a wall, its foot {foot} m away from it. How high does "
        "it reach? "
        "Give the exact value, with a square root if needed.",
        f"{height} m",
        [
            (f"{length}^2 - {foot}^2", str(square)),
            ("its square root", f"{height} m"),
        ],
    )


@template(6, 10)
def cylinder(d: Draw) -> Told:
    """Volume of a cylinder, as a multiple of pi."""
    n = d.name()
    across, high = d.number("across", 4, 30), d.number("high", 5, 40)
    volume = Fraction(across * across * high, 4)
    return Told(
        f"{n}'s cylindrical can is {across} cm across and {high} cm high. What is its volume? "
        "Give the exact value in terms of \\pi.",
        f"{render_end(volume)}\\pi cm^3",
        [
            (f"{across} / 2", f"{plain(Fraction(across, 2))} cm"),
            (f"({plain(Fraction(across, 2))})^2 * {high}", plain(volume)),
        ],
    )


@template(6, 10)
def dice(d: Draw) -> Told | None:
    """Three dice with many sides: the number of ways to a sum."""
    sides, total = d.number("sides", 5, 12), d.number("total", 8, 30)
    ways = sum(
        1 <= total - first - second <= sides
        for first in range(1, sides + 1)
        for second in range(1, sides + 1)
    )
    if ways < 8:
        return None
    lowest, highest = max(1, total - 2 * sides), min(sides, total - 2)
    rows = [
        (x, max(0, min(sides, total - x - 1) - max(1, total - x - sides) + 1))
        for x in range(lowest, highest + 1)
    ]
    return Told(
        f"Three different dice have {sides} sides each, numbered from 1. In how many ways can they show "
        "a sum "
        f"of {total}?",
        f"{ways} ways",
        [
            *((f"first die {x}: pairs with sum {total - x}", str(count)) for x, count in rows),
            (" + ".join(str(count) for _, count in rows), str(ways)),
        ],
    )
