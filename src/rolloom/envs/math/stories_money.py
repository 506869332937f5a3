"""Templates about money, shares, percentages and mixtures."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from rolloom.envs.math.stories import Draw, Told, money, plain, template, whole_cents


@template(1, 4)
def shopping(d: Draw) -> Told:
    """Two kinds of things at two prices: the sum."""
    n, m, first, second = d.name(), d.name(), d.things(), d.things()
    a, p, b, q = (
        d.number("a", 2, 12),
        d.number("p", 2, 15),
        d.number("b", 2, 12),
        d.number("q", 2, 15),
    )
    total = a * p + b * q
    return Told(
        f"{n} buys {a} {first} at ${p} each and {b} {second} at ${q} each for {m}. How much does {n} pay?",
        money(total),
        [
            (f"{a} * {p}", str(a * p)),
            (f"{b} * {q}", str(b * q)),
            (f"{a * p} + {b * q}", money(total)),
        ],
    )


@template(1, 5)
def change(d: Draw) -> Told | None:
    """Change from a note, with prices in cents from level 3 on."""
    n, things = d.name(), d.things()
    a = d.number("a", 2, 9)
    cents = d.number("cents", 100, 900, 100 if d.level < 3 else 5)
    note = d.one_of("note", (20, 50, 100, 200))
    cost = Fraction(a * cents, 100)
    if cost >= note:
        return None
    return Told(
        f"{n} buys {a} {things} for {money(Fraction(cents, 100))} each and pays with ${note}. "
        f"How much change does {n} get?",
        money(note - cost),
        [
            (f"{a} * {money(Fraction(cents, 100))}", money(cost)),
            (f"${note} - {money(cost)}", money(note - cost)),
        ],
    )


@template(1, 4)
def packing(d: Draw) -> Told | None:
    """Things packed in boxes: how many are left over."""
    n, things = d.name(), d.things()
    total, box = d.number("total", 60, 400), d.number("box", 13, 48)
    left = total % box
    return Told(
        f"{n} packs {total} {things} into boxes of {box}, filling as many boxes as possible. "
        f"How many {things} are left over?",
        f"{left} {things}",
        [
            (f"{total} / {box} rounded down", str(total // box)),
            (f"{total} - {total // box} * {box}", str(left)),
        ],
    )


@template(2, 6)
def saving(d: Draw) -> Told:
    """Saving a weekly amount: weeks until the goal."""
    n = d.name()
    have, weekly, goal = d.number("have", 10, 80), d.number("weekly", 4, 24), d.number("goal", 150, 500)
    weeks = -(-(goal - have) // weekly)
    return Told(
        f"{n} has ${have} and saves ${weekly} at the end of every week. "
        f"After how many weeks does {n} first have at least ${goal}?",
        f"{weeks} weeks",
        [
            (f"{goal} - {have}", str(goal - have)),
            (f"{goal - have} / {weekly} rounded up", str(weeks)),
        ],
    )


@template(2, 6)
def discount(d: Draw) -> Told | None:
    """A price after a discount."""
    n, things = d.name(), d.things()
    price, percent = d.number("price", 20, 200, 2), d.number("percent", 5, 60, 5, grows=False)
    paid = Fraction(price * (100 - percent), 100)
    if not whole_cents(paid):
        return None
    return Told(
        f"A set of {things} costs ${price}. {n} gets a discount of {percent}%. How much does {n} pay?",
        money(paid),
        [
            (f"{percent}% of ${price}", money(Fraction(price * percent, 100))),
            (f"${price} - {money(Fraction(price * percent, 100))}", money(paid)),
        ],
    )


@template(3, 8)
def up_and_down(d: Draw) -> Told | None:
    """A price that rises by one percentage and falls by another."""
    things = d.things()
    price = d.number("price", 40, 400, 20)
    up, down = d.number("up", 5, 60, 5, grows=False), d.number("down", 5, 60, 5, grows=False)
    middle = Fraction(price * (100 + up), 100)
    last = middle * (100 - down) / 100
    if not (whole_cents(middle) and whole_cents(last)):
        return None
    return Told(
        f"The price of a crate of {things} is ${price}. It rises by {up}% and then falls by {down}% "
        "of the new price. What is the price in the end?",
        money(last),
        [
            (f"${price} * {100 + up}/100", money(middle)),
            (f"{money(middle)} * {100 - down}/100", money(last)),
        ],
    )


@template(4, 9)
def before_discount(d: Draw) -> Told:
    """The price before a discount, from the price after it."""
    n, things = d.name(), d.things()
    price, percent = d.number("price", 40, 400, 20), d.number("percent", 5, 65, 5, grows=False)
    paid = Fraction(price * (100 - percent), 100)
    return Told(
        f"After a discount of {percent}%, {n} pays {money(paid)} for a box of {things}. "
        "What was the price before the discount?",
        money(price),
        [
            (f"100% - {percent}%", f"{100 - percent}%"),
            (f"{money(paid)} / {100 - percent} * 100", money(price)),
        ],
    )


@template(3, 7)
def simple_interest(d: Draw) -> Told | None:
    """Simple interest over months."""
    n = d.name()
    capital, rate = d.number("capital", 200, 2000, 100), d.number("rate", 2, 9, grows=False)
    months = d.number("months", 3, 30, grows=False)
    interest = Fraction(capital * rate * months, 1200)
    if not whole_cents(interest):
        return None
    return Told(
        f"{n} lends ${capital} at {rate}% simple interest a year. "
        f"How much interest is due after {months} months?",
        money(interest),
        [
            (f"{rate}% of ${capital}", money(Fraction(capital * rate, 100))),
            (f"{money(Fraction(capital * rate, 100))} * {months}/12", money(interest)),
        ],
    )


@template(5, 10)
def compound_interest(d: Draw) -> Told | None:
    """Compound interest over two or three years."""
    n = d.name()
    capital = d.number("capital", 1000, 5000, 1000)
    rate, years = d.number("rate", 2, 20, grows=False), d.number("years", 2, 3, grows=False)
    amounts = [Fraction(capital)]
    for _ in range(years):
        amounts.append(amounts[-1] * (100 + rate) / 100)
    if not all(map(whole_cents, amounts)):
        return None
    return Told(
        f"{n} puts ${capital} into an account that pays {rate}% interest at the end of each year, which "
        "stays "
        f"in the account. How much is in it after {years} years?",
        money(amounts[-1]),
        [(f"{money(a)} * {100 + rate}/100", money(b)) for a, b in pairwise(amounts)],
    )


@template(3, 8)
def ratio_share(d: Draw) -> Told:
    """Money shared in a ratio of three."""
    n, m, o = d.name(), d.name(), d.name()
    a, b, c = d.number("a", 2, 9), d.number("b", 2, 9), d.number("c", 2, 9)
    part = d.number("part", 7, 40)
    total = (a + b + c) * part
    return Told(
        f"{n}, {m} and {o} share ${total} in the ratio {a}:{b}:{c}. How much does {m} get?",
        money(b * part),
        [
            (f"{a} + {b} + {c}", str(a + b + c)),
            (f"{total} / {a + b + c}", str(part)),
            (f"{b} * {part}", money(b * part)),
        ],
    )


@template(4, 9)
def coins(d: Draw) -> Told:
    """Two kinds of coins: their number and worth are known."""
    n = d.name()
    fives, twenties = d.number("fives", 8, 40), d.number("twenties", 8, 40)
    count, worth = fives + twenties, 5 * fives + 20 * twenties
    return Told(
        f"{n} has {count} coins, each worth 5 or 20 cents, together {money(Fraction(worth, 100))}. "
        "How many of them are 20-cent coins?",
        f"{twenties} coins",
        [
            (f"{worth} - 5 * {count}", str(worth - 5 * count)),
            (f"{worth - 5 * count} / 15", str(twenties)),
        ],
    )


@template(4, 10)
def mixture(d: Draw) -> Told:
    """The strength of a mixture of two solutions."""
    x, y = d.number("x", 2, 15), d.number("y", 2, 15)
    a, b = d.number("a", 5, 45, grows=False), d.number("b", 50, 95, grows=False)
    strength = Fraction(a * x + b * y, x + y)
    return Told(
        f"{x} liters of a solution with {a}% salt are mixed with {y} liters of a solution with {b}% salt. "
        "What percentage of the mixture is salt? Give an exact number, with the percent sign.",
        f"{plain(strength)}%",
        [
            (f"{x} * {a} + {y} * {b}", str(a * x + b * y)),
            (f"{x} + {y}", str(x + y)),
            (f"{a * x + b * y} / {x + y}", f"{plain(strength)}%"),
        ],
    )


@template(6, 10)
def dilution(d: Draw) -> Told | None:
    """How much water makes a solution as weak as wanted."""
    n = d.name()
    x, a, b = d.number("x", 5, 40), d.number("a", 30, 90, 5, False), d.number("b", 5, 60, 5, False)
    if b >= a:
        return None
    water = Fraction(x * a, b) - x
    return Told(
        f"{n} has {x} liters of juice that is {a}% fruit. How much water has to be added to make it {b}% "
        "fruit?",
        f"{plain(water)} liters",
        [
            (f"{x} * {a} / {b}", plain(Fraction(x * a, b))),
            (f"{plain(Fraction(x * a, b))} - {x}", f"{plain(water)} liters"),
        ],
    )
