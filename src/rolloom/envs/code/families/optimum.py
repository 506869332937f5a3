"""Families that need a greedy choice or dynamic programming."""

# ruff: noqa: D103 - the words in the decorator say what a family asks for.

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code.families.core import family


def _intervals(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    starts = rng.integers(0, 6 * size, size=size + 2).tolist()
    lengths = rng.integers(1, 15, size=size + 2).tolist()
    return [[[start, start + length] for start, length in zip(starts, lengths, strict=True)]]


@family(
    "Every row of talks is 'start end'. Print the largest number of talks you can hear when the next"
    " one may start no earlier than {gap} after the end of the one before, times {k}.",
    4,
    _intervals,
    "value",
    "talks:rows",
    gap=range(0, 10),
    k=range(1, 20),
)
def most_talks(talks, gap, k):
    count = 0
    free = None
    for end, start in sorted((end, start) for start, end in talks):
        if free is None or start >= free + gap:
            count += 1
            free = end
    return count * k


@family(
    "Every row of trains is 'arrival departure'. A platform is taken from arrival to departure and"
    " for {pause} after, and free for a train that arrives at just that time. Print the fewest"
    " platforms that are enough, and the total time that trains stand there (departure - arrival).",
    5,
    _intervals,
    "ints",
    "trains:rows",
    pause=range(0, 60),
)
def platforms(trains, pause):
    events = sorted([(a, 1) for a, d in trains] + [(d + pause, -1) for a, d in trains])
    taken = 0
    most = 0
    for _, change in events:
        taken += change
        most = max(most, taken)
    return [most, sum(d - a for a, d in trains)]


def _weights(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return [rng.integers(10, given["limit"] + 1, size=size + 4).tolist()]


@family(
    "Every boat carries at most two people with a total weight of at most {limit}; a are the people's"
    " weights, each at most {limit}. Print the fewest boats, times {k}.",
    4,
    _weights,
    "value",
    "a:ints",
    limit=range(40, 90),
    k=range(1, 9),
)
def boats(a, limit, k):
    a = sorted(a)
    light = 0
    heavy = len(a) - 1
    count = 0
    while light <= heavy:
        if a[light] + a[heavy] <= limit:
            light += 1
        heavy -= 1
        count += 1
    return count * k


def _stations(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    places = np.cumsum(rng.integers(2, given["range"] * 2 // 3, size=size + 3)).tolist()
    if rng.random() < 0.15:
        places = places[: len(places) // 2] + [place + given["range"] for place in places[len(places) // 2 :]]
    return [places]


@family(
    "A car starts at 0 with a full tank, which lasts for {range} km. a are the places of the filling"
    " stations in ascending order; the last one is the destination. Print the fewest stops (the"
    " destination is none) and the place of the last stop (0 if there is none), choosing every stop"
    " as far as possible; or -1 alone if it cannot be reached.",
    5,
    _stations,
    "ints",
    "a:ints",
    range=range(20, 90),
)
def refuel(a, range):
    stops = 0
    last = 0
    for i, place in enumerate(a):
        before = a[i - 1] if i else 0
        if place - before > range:
            return [-1]
        if place - last > range:
            stops += 1
            last = before
    return [stops, last]


def _items(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    weights = rng.integers(1, 20, size=size + 2).tolist()
    return [[list(pair) for pair in zip(weights, rng.integers(1, 50, size=size + 2).tolist(), strict=True)]]


@family(
    "Every row of items is 'weight value'. Print the largest total value of items with a total weight"
    " of at most {capacity}, each taken at most {times} times.",
    6,
    _items,
    "value",
    "items:rows",
    capacity=range(20, 90),
    times=(1, 2, 3),
)
def knapsack(items, capacity, times):
    best = [0] * (capacity + 1)
    for weight, value in items * times:
        for room in range(capacity, weight - 1, -1):
            best[room] = max(best[room], best[room - weight] + value)
    return best[capacity]


def _two_texts(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return [
        "".join("abcd"[i] for i in rng.integers(4, size=max(3, size - int(rng.integers(3)))))
        for _ in range(2)
    ]


@family(
    "Print the smallest cost of turning s into t by inserting a character (cost {insert}), deleting"
    " one (cost {delete}) or replacing one by another (cost {replace}).",
    6,
    _two_texts,
    "value",
    "s:text t:text",
    insert=range(1, 6),
    delete=range(1, 6),
    replace=range(1, 8),
)
def weighted_edit(s, t, insert, delete, replace):
    row = [j * insert for j in range(len(t) + 1)]
    for i in range(len(s)):
        above = row
        row = [(i + 1) * delete]
        for j in range(len(t)):
            same = above[j] + (0 if s[i] == t[j] else replace)
            row.append(min(same, above[j + 1] + delete, row[j] + insert))
    return row[-1]


@family(
    "Print the length of the longest common subsequence (gaps allowed) of s and t, times {k}, and the"
    " length of their longest common stretch of neighbouring characters.",
    6,
    _two_texts,
    "ints",
    "s:text t:text",
    k=range(1, 60),
)
def common(s, t, k):
    gaps = [0] * (len(t) + 1)
    ends = [0] * (len(t) + 1)
    longest = 0
    for a in s:
        above, gaps = gaps, [0]
        before, ends = ends, [0]
        for j, b in enumerate(t):
            gaps.append(above[j] + 1 if a == b else max(above[j + 1], gaps[j]))
            ends.append(before[j] + 1 if a == b else 0)
        longest = max(longest, max(ends))
    return [gaps[-1] * k, longest]


def _coins(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return [
        sorted({int(n) for n in rng.integers(1, 15, size=max(3, size // 2))}),
        int(rng.integers(20, 20 + 8 * size)),
    ]


@family(
    "Print in how many ways the coins of the list a, each usable any number of times, add up to n"
    " (the order does not matter), modulo {m}.",
    6,
    _coins,
    "value",
    "a:ints n:int",
    m=(97, 101, 997, 1009, 9973, 10007, 99991, 100003),
)
def coin_ways(a, n, m):
    ways = [1] + [0] * n
    for coin in a:
        for total in range(coin, n + 1):
            ways[total] = (ways[total] + ways[total - coin]) % m
    return ways[n] % m


def _board(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    rows, columns = (int(n) for n in rng.integers(3, 4 + size // 2, size=2))
    cells = ["".join("#" if wall else "." for wall in row) for row in rng.random((rows, columns)) < 0.15]
    cells[0], cells[-1] = "." + cells[0][1:], cells[-1][:-1] + "."
    return [cells]


@family(
    "board is a rectangle of '.' (free) and '#' (wall). Print the number of paths from the top left"
    " to the bottom right that go right or down through free cells, modulo {m}.",
    6,
    _board,
    "value",
    "board:lines",
    m=(97, 101, 997, 1009, 9973, 10007, 99991, 100003),
)
def board_paths(board, m):
    ways = [0] * len(board[0])
    ways[0] = 1
    for line in board:
        for j, cell in enumerate(line):
            if cell == "#":
                ways[j] = 0
            elif j:
                ways[j] = (ways[j] + ways[j - 1]) % m
    return ways[-1]


def _numbers(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return [rng.integers(1, 60, size=size + 3).tolist()]


@family(
    "Print the largest total of chosen numbers of a such that any two chosen positions differ by more"
    " than {gap}; and the number of items of a that are greater than {k}.",
    6,
    _numbers,
    "ints",
    "a:ints",
    gap=(1, 2, 3, 4),
    k=range(10, 50),
)
def apart(a, gap, k):
    best = []
    for i, x in enumerate(a):
        taken = x + (best[i - gap - 1] if i > gap else 0)
        best.append(max(taken, best[i - 1] if i else 0))
    return [best[-1], sum(x > k for x in a)]
