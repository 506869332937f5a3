"""Routines on a list of integers, the easy ones."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from rolloom.envs.code.routines.core import Grid, Ints, Spans, Table, routine


@routine("keep only the multiples of {k}", 1, k=range(2, 6))
def keep_multiples(xs: Ints, k: int) -> Ints:
    return [x for x in xs if x % k == 0]


@routine("remove the multiples of {k}", 1, k=range(2, 7))
def drop_multiples(xs: Ints, k: int) -> Ints:
    return [x for x in xs if x % k != 0]


@routine("keep only the numbers greater than {k}", 1, k=range(-8, 16))
def keep_above(xs: Ints, k: int) -> Ints:
    return [x for x in xs if x > k]


@routine("keep only the numbers less than or equal to {k}", 1, k=range(-4, 20))
def keep_at_most(xs: Ints, k: int) -> Ints:
    return [x for x in xs if x <= k]


@routine("add {k} to every number", 1, k=range(1, 31))
def add_each(xs: Ints, k: int) -> Ints:
    return [x + k for x in xs]


@routine("multiply every number by {k}", 1, k=range(2, 13))
def times_each(xs: Ints, k: int) -> Ints:
    return [x * k for x in xs]


@routine("subtract every number from {k}", 1, k=range(1, 41))
def subtract_from(xs: Ints, k: int) -> Ints:
    return [k - x for x in xs]


@routine("replace every number by its remainder modulo {m} (never negative)", 1, m=range(3, 14))
def remainders(xs: Ints, m: int) -> Ints:
    return [x % m for x in xs]


@routine("replace every number by its floor division by {k}", 1, k=range(2, 8))
def floor_each(xs: Ints, k: int) -> Ints:
    return [x // k for x in xs]


@routine("square every number", 1)
def square_each(xs: Ints) -> Ints:
    return [x * x for x in xs]


@routine("reverse the list", 1)
def reverse_list(xs: Ints) -> Ints:
    return xs[::-1]


@routine("keep only the first {k} items (all if there are fewer)", 1, k=range(2, 7))
def first_items(xs: Ints, k: int) -> Ints:
    return xs[:k]


@routine("remove the first {k} items (all if there are fewer)", 1, k=range(1, 5))
def drop_first(xs: Ints, k: int) -> Ints:
    return xs[k:]


@routine("take the sum", 1)
def sum_all(xs: Ints) -> int:
    return sum(xs)


@routine("take the largest number ({k} for an empty list)", 1, k=range(-3, 4))
def largest(xs: Ints, k: int) -> int:
    return max(xs) if xs else k


@routine("take the smallest number ({k} for an empty list)", 1, k=range(-3, 4))
def smallest(xs: Ints, k: int) -> int:
    return min(xs) if xs else k


@routine("sort ascending", 1)
def sort_up(xs: Ints) -> Ints:
    return sorted(xs)


@routine("sort descending", 1)
def sort_down(xs: Ints) -> Ints:
    return sorted(xs)[::-1]


@routine(
    "raise every number below {low} to {low} and lower every number above {high} to {high}",
    1,
    low=range(-9, 2),
    high=range(4, 16),
)
def clamp(xs: Ints, low: int, high: int) -> Ints:
    return [min(max(x, low), high) for x in xs]


@routine("replace every number by the sum of it and all numbers before it", 2)
def running_sums(xs: Ints) -> Ints:
    total = 0
    sums = []
    for x in xs:
        total += x
        sums.append(total)
    return sums


@routine("make the list of differences of neighbours, each number minus the one before it", 2)
def differences(xs: Ints) -> Ints:
    return [xs[i] - xs[i - 1] for i in range(1, len(xs))]


@routine("remove repeated numbers, keeping the first of each", 2)
def distinct(xs: Ints) -> Ints:
    seen = []
    for x in xs:
        if x not in seen:
            seen.append(x)
    return seen


@routine(
    "keep only the items at positions {start}, {start} + {k}, {start} + 2*{k}, ... counting from 0",
    2,
    start=(0, 1, 2),
    k=(2, 3),
)
def every_nth(xs: Ints, start: int, k: int) -> Ints:
    return xs[start::k]


@routine("move the first item to the end, {k} times over", 2, k=range(1, 6))
def rotate_left(xs: Ints, k: int) -> Ints:
    if not xs:
        return []
    k = k % len(xs)
    return xs[k:] + xs[:k]


@routine(
    "take the sum of every number times its position, counting positions from {start}", 2, start=range(0, 5)
)
def weighted_sum(xs: Ints, start: int) -> int:
    total = 0
    for i in range(len(xs)):
        total += xs[i] * (i + start)
    return total


@routine("add to every number {k} times its position, counting from 0", 2, k=range(1, 10))
def add_positions(xs: Ints, k: int) -> Ints:
    return [xs[i] + k * i for i in range(len(xs))]


@routine("swap the items at positions 0 and 1, 2 and 3, and so on; a last item without a partner stays", 2)
def swap_neighbours(xs: Ints) -> Ints:
    ys = xs[:]
    for i in range(0, len(ys) - 1, 2):
        ys[i], ys[i + 1] = ys[i + 1], ys[i]
    return ys


@routine("count the numbers from {low} to {high}, both included", 2, low=range(-6, 3), high=range(5, 16))
def count_between(xs: Ints, low: int, high: int) -> int:
    return sum([1 for x in xs if low <= x <= high])


@routine("take the largest number minus the smallest (0 for an empty list)", 2)
def spread(xs: Ints) -> int:
    if not xs:
        return 0
    return max(xs) - min(xs)


@routine(
    "start with {start}, and for every number in order multiply by {k}, add the number and keep the"
    " remainder modulo {m}; take the result",
    2,
    start=range(0, 8),
    k=(2, 3, 5, 7),
    m=(97, 101, 211),
)
def fold_modulo(xs: Ints, start: int, k: int, m: int) -> int:
    value = start
    for x in xs:
        value = (value * k + x) % m
    return value


@routine("replace every number by the sum of the decimal digits of its absolute value", 3)
def digit_sums(xs: Ints) -> Ints:
    sums = []
    for x in xs:
        total = 0
        for c in str(abs(x)):
            total += int(c)
        sums.append(total)
    return sums


@routine(
    "make the list of sums of every {k} neighbouring numbers (windows that slide by one)", 3, k=(2, 3, 4)
)
def window_sums(xs: Ints, k: int) -> Ints:
    return [sum(xs[i:i + k]) for i in range(len(xs) - k + 1)]  # fmt: skip


@routine("cut the list into rows of {k} numbers, dropping an incomplete last row", 3, k=(2, 3))
def cut_rows(xs: Ints, k: int) -> Grid:
    return [xs[i:i + k] for i in range(0, len(xs) - k + 1, k)]  # fmt: skip


@routine("make the list of lengths of the runs of equal neighbouring numbers", 3)
def run_lengths(xs: Ints) -> Ints:
    lengths = []
    for i in range(len(xs)):
        if i > 0 and xs[i] == xs[i - 1]:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


@routine("make a dictionary from every number, written as a string, to how often it occurs", 3)
def tally(xs: Ints) -> Table:
    counts = {}
    for x in xs:
        counts[str(x)] = counts.get(str(x), 0) + 1
    return counts


@routine("make the list of intervals [n, n + {k}] of the numbers n, in order", 3, k=range(1, 9))
def spans_from(xs: Ints, k: int) -> Spans:
    return [[x, x + k] for x in xs]


@routine(
    "take the number that occurs most often, the smallest of those in a tie ({k} for an empty list)",
    3,
    k=range(-2, 3),
)
def most_frequent(xs: Ints, k: int) -> int:
    best = k
    most = 0
    for x in sorted(xs):
        count = xs.count(x)
        if count > most:
            best = x
            most = count
    return best


@routine("it has more than {k} items", 2, k=range(2, 7))
def longer_than(xs: Ints, k: int) -> bool:
    return len(xs) > k


@routine("the sum of its numbers is even", 2)
def even_sum(xs: Ints) -> bool:
    return sum(xs) % 2 == 0


@routine("it contains a number greater than {k}", 2, k=range(5, 18))
def any_over(xs: Ints, k: int) -> bool:
    return len([x for x in xs if x > k]) > 0
