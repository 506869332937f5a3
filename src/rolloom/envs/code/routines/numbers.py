"""Routines on one integer."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from rolloom.envs.code.routines.core import Ints, routine


@routine("add {k}", 1, k=range(1, 41))
def add_number(n: int, k: int) -> int:
    return n + k


@routine("multiply by {k}", 1, k=range(2, 13))
def times_number(n: int, k: int) -> int:
    return n * k


@routine("take the remainder modulo {m} (never negative)", 1, m=range(5, 98))
def modulo_number(n: int, m: int) -> int:
    return n % m


@routine("take the distance to {k} (never negative)", 1, k=range(3, 60))
def distance_to(n: int, k: int) -> int:
    return abs(n - k)


@routine("make the list of its decimal digits from left to right, ignoring the sign", 2)
def digits_of(n: int) -> Ints:
    return [int(c) for c in str(abs(n))]


@routine("ignoring the sign, write it in base {b} (digits 0 to {b} - 1) as a string", 3, b=range(2, 10))
def in_base(n: int, b: int) -> str:
    n = abs(n)
    text = ""
    while n > 0:
        text = str(n % b) + text
        n = n // b
    return text if text else "0"


@routine("make the sorted list of the positive divisors of its absolute value ([] for 0)", 3)
def divisors_of(n: int) -> Ints:
    n = abs(n)
    small = []
    large = []
    d = 1
    while d * d <= n:
        if n % d == 0:
            small.append(d)
            if d * d != n:
                large.append(n // d)
        d += 1
    return small + large[::-1]


@routine(
    "make the list of prime factors of its absolute value, ascending and repeated as they divide it"
    " ([] below 2)",
    4,
)
def prime_factors(n: int) -> Ints:
    n = abs(n)
    factors = []
    d = 2
    while d * d <= n:
        while n % d == 0:
            factors.append(d)
            n = n // d
        d += 1
    if n > 1:
        factors.append(n)
    return factors


@routine(
    "take its absolute value modulo {m}, add 1, and make the list of the Collatz sequence that starts"
    " there and ends with 1 (n -> n/2 if even, else 3n+1)",
    4,
    m=range(5, 25),
)
def collatz(n: int, m: int) -> Ints:
    n = abs(n) % m + 1
    path = [n]
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        path.append(n)
    return path


@routine("count the 1 bits of its absolute value, and multiply the count by {k}", 3, k=range(2, 30))
def bit_count(n: int, k: int) -> int:
    n = abs(n)
    ones = 0
    while n > 0:
        ones += n % 2
        n = n // 2
    return ones * k


@routine(
    "with n its absolute value modulo {m}, take the number of ways to climb n stairs in steps of 1 or"
    " {k} (1 way for n = 0)",
    5,
    m=range(15, 30),
    k=(2, 3, 4),
)
def stair_ways(n: int, m: int, k: int) -> int:
    n = abs(n) % m
    ways = [1]
    for i in range(1, n + 1):
        total = ways[i - 1]
        if i >= k:
            total += ways[i - k]
        ways.append(total)
    return ways[n]


@routine(
    "with n its absolute value modulo {m} plus 1: n people numbered from 0 stand in a circle and"
    " every {k}-th is removed, counting on from the last one removed and starting at person 0; take"
    " the number of the last one left",
    6,
    m=range(20, 60),
    k=range(2, 8),
)
def josephus(n: int, m: int, k: int) -> int:
    n = abs(n) % m + 1
    last = 0
    for size in range(2, n + 1):
        last = (last + k) % size
    return last


@routine("it is greater than {k}", 2, k=range(-5, 20))
def is_over(n: int, k: int) -> bool:
    return n > k


@routine("it is a multiple of {k}", 2, k=range(2, 6))
def is_multiple(n: int, k: int) -> bool:
    return n % k == 0
