"""Templates about motion, work, time, ages and units."""

from __future__ import annotations

from fractions import Fraction

from rolloom.envs.math.stories import Draw, Told, plain, template


@template(1, 4)
def distance(d: Draw) -> Told:
    """Distance from speed and time."""
    n = d.name()
    speed, minutes = d.number("speed", 12, 90, 6), d.number("minutes", 20, 240, 10)
    km = Fraction(speed * minutes, 60)
    return Told(
        f"{n} rides at {speed} km/h for {minutes} minutes. How far does {n} get?",
        f"{plain(km)} km",
        [
            (f"{minutes} / 60", f"{plain(Fraction(minutes, 60))} hours"),
            (f"{speed} * {plain(Fraction(minutes, 60))}", f"{plain(km)} km"),
        ],
    )


@template(1, 5)
def ages_sum(d: Draw) -> Told:
    """Two ages from their sum and difference."""
    n, m = d.name(), d.name()
    young, more = d.number("young", 5, 40), d.number("more", 2, 30)
    total = 2 * young + more
    return Told(
        f"{n} is {more} years older than {m}. Together they are {total} years old. How old is {n}?",
        f"{young + more} years",
        [
            (f"({total} - {more}) / 2", str(young)),
            (f"{young} + {more}", f"{young + more} years"),
        ],
    )


@template(2, 6)
def recipe(d: Draw) -> Told:
    """A recipe for another number of people, in another unit."""
    n = d.name()
    people, guests = d.number("people", 2, 8), d.number("guests", 9, 30)
    grams = people * d.number("each", 20, 150, 5)
    need = Fraction(grams * guests, people)
    return Told(
        f"A recipe for {people} people takes {grams} grams of flour. {n} cooks for {guests} people. "
        "How many kilograms of flour are needed?",
        f"{plain(need / 1000)} kg",
        [
            (f"{grams} / {people}", plain(Fraction(grams, people))),
            (f"{plain(Fraction(grams, people))} * {guests}", f"{plain(need)} g"),
            (f"{plain(need)} / 1000", f"{plain(need / 1000)} kg"),
        ],
    )


@template(2, 6)
def speed_units(d: Draw) -> Told:
    """Metres in seconds, as kilometres an hour."""
    n = d.name()
    metres, seconds = d.number("metres", 30, 400, 5), d.number("seconds", 5, 40)
    speed = Fraction(metres, seconds) * Fraction(36, 10)
    return Told(
        f"{n} runs {metres} m in {seconds} s. What is the average speed in km/h?",
        f"{plain(speed)} km/h",
        [
            (f"{metres} / {seconds}", f"{plain(Fraction(metres, seconds))} m/s"),
            (f"{plain(Fraction(metres, seconds))} * 36/10", f"{plain(speed)} km/h"),
        ],
    )


@template(2, 7)
def timetable(d: Draw) -> Told:
    """Minutes between two times of day, with a break."""
    n = d.name()
    start = d.number("start", 360, 700, grows=False)
    length, pause = d.number("length", 95, 500, grows=False), d.number("pause", 7, 45)
    stop = start + length
    clock = [f"{t // 60}:{t % 60:02d}" for t in (start, stop)]
    return Told(
        f"{n} works from {clock[0]} to {clock[1]} with a break of {pause} minutes. "
        f"How many minutes does {n} work?",
        f"{length - pause} minutes",
        [
            (f"from {clock[0]} to {clock[1]}", f"{length} minutes"),
            (f"{length} - {pause}", f"{length - pause} minutes"),
        ],
    )


@template(3, 8)
def meeting(d: Draw) -> Told:
    """Two who move towards each other."""
    n, m = d.name(), d.name()
    a, b, apart = d.number("a", 3, 40), d.number("b", 3, 40), d.number("apart", 20, 300)
    hours = Fraction(apart, a + b)
    return Told(
        f"{n} and {m} are {apart} km apart and ride towards each other, {n} at {a} km/h and {m} at {b} km/h. "
        "After how many hours do they meet?",
        f"{plain(hours)} hours",
        [
            (f"{a} + {b}", f"{a + b} km/h"),
            (f"{apart} / {a + b}", f"{plain(hours)} hours"),
        ],
    )


@template(4, 9)
def catching_up(d: Draw) -> Told | None:
    """One starts later and is faster: where they meet."""
    n, m = d.name(), d.name()
    slow, fast = d.number("slow", 4, 30), d.number("fast", 8, 60)
    head = d.number("head", 10, 90, 5, grows=False)
    if fast <= slow:
        return None
    lead = Fraction(slow * head, 60)
    km = lead / (fast - slow) * fast
    return Told(
        f"{n} starts at {slow} km/h. {head} minutes later {m} follows on the same road at {fast} km/h. "
        f"How many km from the start does {m} catch up with {n}?",
        f"{plain(km)} km",
        [
            (f"{slow} * {head}/60", f"{plain(lead)} km"),
            (f"{plain(lead)} / ({fast} - {slow})", f"{plain(lead / (fast - slow))} hours"),
            (f"{plain(lead / (fast - slow))} * {fast}", f"{plain(km)} km"),
        ],
    )


@template(4, 9)
def average_speed(d: Draw) -> Told | None:
    """Average speed over two legs of equal length."""
    n = d.name()
    there, back = d.number("there", 6, 60), d.number("back", 6, 60)
    if there == back:
        return None
    speed = Fraction(2 * there * back, there + back)
    return Told(
        f"{n} drives to the lake at {there} km/h and back on the same road at {back} km/h. "
        "What is the average speed of the whole trip?",
        f"{plain(speed)} km/h",
        [
            (f"2 * {there} * {back}", str(2 * there * back)),
            (f"{there} + {back}", str(there + back)),
            (f"{2 * there * back} / {there + back}", f"{plain(speed)} km/h"),
        ],
    )


@template(4, 10)
def together(d: Draw) -> Told | None:
    """Two who work together."""
    n, m = d.name(), d.name()
    a, b = d.number("a", 2, 15), d.number("b", 2, 15)
    if a == b:
        return None
    hours = Fraction(a * b, a + b)
    return Told(
        f"{n} paints a fence in {a} hours, {m} in {b} hours. How many hours do they need together?",
        f"{plain(hours)} hours",
        [
            (f"1/{a} + 1/{b}", plain(Fraction(1, a) + Fraction(1, b))),
            (f"1 / ({plain(Fraction(1, a) + Fraction(1, b))})", f"{plain(hours)} hours"),
        ],
    )


@template(6, 10)
def leaking_tank(d: Draw) -> Told | None:
    """Two pipes fill a tank while it leaks."""
    a, b, leak = d.number("a", 2, 12), d.number("b", 2, 12), d.number("leak", 5, 30)
    rate = Fraction(1, a) + Fraction(1, b) - Fraction(1, leak)
    if rate <= 0 or len({a, b, leak}) < 3:
        return None
    return Told(
        f"One pipe fills a tank in {a} hours, another in {b} hours, and a leak empties it in {leak} hours. "
        "With both pipes open and the leak, after how many hours is the empty tank full?",
        f"{plain(1 / rate)} hours",
        [
            (f"1/{a} + 1/{b} - 1/{leak}", plain(rate)),
            (f"1 / ({plain(rate)})", f"{plain(1 / rate)} hours"),
        ],
    )


@template(5, 10)
def ages_multiple(d: Draw) -> Told | None:
    """In some years one will be a multiple of the other's age."""
    n, m = d.name(), d.name()
    young, times, years = (
        d.number("young", 3, 25),
        d.number("times", 2, 4, grows=False),
        d.number("in", 2, 12),
    )
    old = times * (young + years) - years
    if old > 110:
        return None
    return Told(
        f"{n} is {old - young} years older than {m}. In {years} years {n} will be {times} times as old "
        f"as {m} "
        f"is then. How old is {n} now?",
        f"{old} years",
        [
            (f"{old - young} / ({times} - 1)", f"{young + years}, the age of {m} then"),
            (f"{young + years} - {years} + {old - young}", f"{old} years"),
        ],
    )


@template(2, 7)
def map_scale(d: Draw) -> Told:
    """A length on a map, in kilometres."""
    n = d.name()
    scale, mm = d.one_of("scale", (5000, 10000, 20000, 25000, 50000, 75000)), d.number("mm", 15, 200)
    km = Fraction(scale * mm, 10**6)
    return Told(
        f"On a map with scale 1:{scale}, {n}'s path is {mm} mm long. How many km is it?",
        f"{plain(km)} km",
        [
            (f"{mm} * {scale}", f"{mm * scale} mm"),
            (f"{mm * scale} / 1000000", f"{plain(km)} km"),
        ],
    )
