"""Families on graphs and mazes."""

# ruff: noqa: D103 - the words in the decorator say what a family asks for.

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code.families.core import family


def _graph(
    rng: np.random.Generator, size: int, share: float, weighted: bool, directed: bool = False
) -> list[Any]:
    n = size + 3
    pairs = [[i, j] for i in range(1, n + 1) for j in range(i + 1, n + 1)]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[: max(2, int(share * n))].tolist()]
    names = (rng.permutation(n) + 1).tolist() if directed else list(range(1, n + 1))
    edges = [[names[a - 1], names[b - 1]] for a, b in chosen]
    if weighted:
        edges = [
            [*edge, w] for edge, w in zip(edges, rng.integers(1, 30, size=len(edges)).tolist(), strict=True)
        ]
    return [n, edges]


def _sparse(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return _graph(rng, size, 0.5 + 0.6 * rng.random(), False)


def _weighted(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    return _graph(rng, size, 1.2 + rng.random(), True)


def _ordered(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    n, edges = _graph(rng, size, 1.0 + 0.5 * rng.random(), False, directed=True)
    if rng.random() < 0.25:
        a, b = edges[0]
        edges.append([b, a])
    return [n, edges]


def _tree(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    n = size + 3
    names = (rng.permutation(n) + 1).tolist()
    weights = rng.integers(1, 20, size=n).tolist()
    return [n, [[names[int(rng.integers(max(0, i - 4), i))], names[i], weights[i]] for i in range(1, n)]]


def _maze(rng: np.random.Generator, size: int, given: dict[str, Any]) -> list[Any]:
    rows, columns = (int(n) for n in rng.integers(3, 4 + size // 2, size=2))
    cells = [["#" if wall else "." for wall in row] for row in rng.random((rows, columns)) < 0.27]
    cells[0][0] = "S"
    cells[-1][-1] = "E"
    return [["".join(row) for row in cells]]


@family(
    "n is the number of towns, numbered from 1, and every row of roads, 'a b', joins two of them both"
    " ways. Print the number of groups of towns that can reach each other, the size of the largest"
    " group, and the number of groups with at least {k} towns.",
    5,
    _sparse,
    "ints",
    "n:int roads:rows",
    k=range(2, 6),
)
def groups(n, roads, k):
    leader = list(range(n + 1))

    def find(a):
        while leader[a] != a:
            leader[a] = leader[leader[a]]
            a = leader[a]
        return a

    for a, b in roads:
        leader[find(a)] = find(b)
    sizes = {}
    for a in range(1, n + 1):
        sizes[find(a)] = sizes.get(find(a), 0) + 1
    return [len(sizes), max(sizes.values()), sum(size >= k for size in sizes.values())]


@family(
    "n is the number of towns, numbered from 1; every row of roads, 'a b w', joins two of them both"
    " ways and is w long. Passing through a town on the way (not the first or last) costs {toll}"
    " more. Print the least cost of going from town 1 to town n, or -1 if there is no way.",
    7,
    _weighted,
    "value",
    "n:int roads:rows",
    toll=range(0, 40),
)
def cheapest_way(n, roads, toll):
    import heapq

    near = {}
    for a, b, w in roads:
        near.setdefault(a, []).append((b, w))
        near.setdefault(b, []).append((a, w))
    done = set()
    waiting = [(0, 1)]
    while waiting:
        cost, town = heapq.heappop(waiting)
        if town == n:
            return cost
        if town in done:
            continue
        done.add(town)
        for other, w in near.get(town, []):
            heapq.heappush(waiting, (cost + w + (toll if town != 1 else 0), other))
    return -1


@family(
    "n is the number of houses, numbered from 1; every row of cables, 'a b w', can join two of them"
    " for w. Print the smallest total cost of cables that connect as many houses as possible, then"
    " the number of separate groups that remain; a cable costs {fee} on top of w.",
    7,
    _weighted,
    "ints",
    "n:int cables:rows",
    fee=range(0, 60),
)
def cabling(n, cables, fee):
    leader = list(range(n + 1))

    def find(a):
        while leader[a] != a:
            a = leader[a]
        return a

    total = 0
    left = n
    for w, a, b in sorted((w, a, b) for a, b, w in cables):
        if find(a) != find(b):
            leader[find(a)] = find(b)
            total += w + fee
            left -= 1
    return [total, left]


@family(
    "n is the number of tasks, numbered from 1; every row of rules, 'a b', says that a comes before"
    " b. Print the order of all tasks that always does the one with the {end} number of those that"
    " may be done next, or -1 if no order is possible.",
    7,
    _ordered,
    "ints",
    "n:int rules:rows",
    end=("smallest", "largest"),
)
def task_order(n, rules, end):
    before = [0] * (n + 1)
    after = {}
    for a, b in rules:
        before[b] += 1
        after.setdefault(a, []).append(b)
    ready = [a for a in range(1, n + 1) if before[a] == 0]
    order = []
    while ready:
        a = min(ready) if end == "smallest" else max(ready)
        ready.remove(a)
        order.append(a)
        for b in after.get(a, []):
            before[b] -= 1
            if before[b] == 0:
                ready.append(b)
    return order if len(order) == n else [-1]


@family(
    "n is the number of places, numbered from 1, and the rows of paths, 'a b w', form a tree (w is a"
    " length). Print the largest distance between two places, and the number of places at a distance"
    " of at least {k} from place 1.",
    8,
    _tree,
    "ints",
    "n:int paths:rows",
    k=range(5, 60),
)
def tree_width(n, paths, k):
    near = {}
    for a, b, w in paths:
        near.setdefault(a, []).append((b, w))
        near.setdefault(b, []).append((a, w))

    def distances(start):
        found = {start: 0}
        waiting = [start]
        while waiting:
            a = waiting.pop()
            for b, w in near.get(a, []):
                if b not in found:
                    found[b] = found[a] + w
                    waiting.append(b)
        return found

    first = distances(1)
    far = max(first, key=lambda place: first[place])
    return [max(distances(far).values()), sum(d >= k for d in first.values())]


@family(
    "maze has walls '#', free cells '.', a start S and an exit E; a step goes up, down, left or"
    " right. Up to {k} times on the way you may step onto a wall. Print the fewest steps from S to E,"
    " or -1 if there is no way.",
    8,
    _maze,
    "value",
    "maze:lines",
    k=(0, 1, 2),
)
def maze_steps(maze, k):
    rows, columns = len(maze), len(maze[0])
    layer = [(0, 0, k)]
    seen = set(layer)
    steps = 0
    while layer:
        following = []
        for i, j, left in layer:
            if maze[i][j] == "E":
                return steps
            for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= a < rows and 0 <= b < columns:
                    state = (a, b, left - (maze[a][b] == "#"))
                    if state[2] >= 0 and state not in seen:
                        seen.add(state)
                        following.append(state)
        layer = following
        steps += 1
    return -1


@family(
    "n is the number of people, numbered from 1, and every row of quarrels, 'a b', is two who must"
    " not sit at the same of two tables. If it can be done, print the size of the table where the"
    " smallest-numbered person of every connected group of quarrelling people sits (a person without"
    " quarrels is such a group), then {yes}; otherwise print -1.",
    7,
    _sparse,
    "ints",
    "n:int quarrels:rows",
    yes=range(1, 60),
)
def two_tables(n, quarrels, yes):
    near = {}
    for a, b in quarrels:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    table = {}
    for first in range(1, n + 1):
        if first in table:
            continue
        table[first] = 0
        waiting = [first]
        while waiting:
            a = waiting.pop()
            for b in near.get(a, []):
                if b not in table:
                    table[b] = 1 - table[a]
                    waiting.append(b)
                elif table[b] == table[a]:
                    return [-1]
    return [sum(side == 0 for side in table.values()), yes]
