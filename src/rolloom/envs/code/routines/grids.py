"""Routines on grids: lists of equally long rows of integers."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from rolloom.envs.code.routines.core import Grid, Ints, routine


@routine("transpose the grid (rows become columns)", 3)
def transpose(grid: Grid) -> Grid:
    if not grid:
        return []
    return [[row[j] for row in grid] for j in range(len(grid[0]))]


@routine("turn the grid a quarter clockwise", 4)
def turn_right(grid: Grid) -> Grid:
    if not grid:
        return []
    return [[row[j] for row in grid[::-1]] for j in range(len(grid[0]))]


@routine("make the list of the sums of the rows", 3)
def row_sums(grid: Grid) -> Ints:
    return [sum(row) for row in grid]


@routine("make the list of the largest number of every row", 3)
def row_maxima(grid: Grid) -> Ints:
    return [max(row) for row in grid]


@routine("make the list of the sums of the columns", 3)
def column_sums(grid: Grid) -> Ints:
    if not grid:
        return []
    return [sum([row[j] for row in grid]) for j in range(len(grid[0]))]


@routine("write all numbers in one list, row after row", 3)
def flatten(grid: Grid) -> Ints:
    return [x for row in grid for x in row]


@routine("add {k} times the row number (from 0) to every number", 3, k=range(1, 15))
def add_row_numbers(grid: Grid, k: int) -> Grid:
    return [[x + k * i for x in grid[i]] for i in range(len(grid))]


@routine(
    "move every row one place to the right, its last number to the front, as many times as its row"
    " number (from 0) plus {k}",
    4,
    k=range(0, 4),
)
def turn_rows(grid: Grid, k: int) -> Grid:
    turned = []
    for i in range(len(grid)):
        row = grid[i]
        cut = len(row) - (i + k) % len(row)
        turned.append(row[cut:] + row[:cut])
    return turned


@routine("add up the numbers at the border (first and last row and column), each once", 4)
def border_sum(grid: Grid) -> int:
    total = 0
    for i in range(len(grid)):
        for j in range(len(grid[i])):
            if i == 0 or j == 0 or i == len(grid) - 1 or j == len(grid[i]) - 1:
                total += grid[i][j]
    return total


@routine(
    "add up the numbers where row number plus column number (both from 0) is a multiple of {k}",
    3,
    k=(2, 3, 4),
)
def checker_sum(grid: Grid, k: int) -> int:
    total = 0
    for i in range(len(grid)):
        for j in range(len(grid[i])):
            if (i + j) % k == 0:
                total += grid[i][j]
    return total


@routine("write all numbers in one list in a clockwise spiral that starts at the top left", 6)
def spiral(grid: Grid) -> Ints:
    order = []
    rows = grid[:]
    while rows:
        order += rows[0]
        rest = rows[1:]
        rows = []
        if rest:
            for j in range(len(rest[0]) - 1, -1, -1):
                rows.append([row[j] for row in rest])
    return order


@routine(
    "take the smallest sum of a path from the top left to the bottom right that only moves right or"
    " down (0 for an empty grid)",
    6,
)
def cheapest_path(grid: Grid) -> int:
    if not grid:
        return 0
    best = []
    for i in range(len(grid)):
        row = []
        for j in range(len(grid[i])):
            if i == 0 and j == 0:
                before = 0
            elif i == 0:
                before = row[j - 1]
            elif j == 0:
                before = best[j]
            else:
                before = min(row[j - 1], best[j])
            row.append(before + grid[i][j])
        best = row
    return best[-1]


@routine(
    "take the size of the largest region of numbers greater than {k}, connected up, down, left and"
    " right (0 if there is none), times {factor}",
    7,
    k=range(-2, 6),
    factor=range(1, 9),
)
def largest_region(grid: Grid, k: int, factor: int) -> int:
    seen = []
    best = 0
    for i in range(len(grid)):
        for j in range(len(grid[i])):
            waiting = [[i, j]]
            size = 0
            while waiting:
                place = waiting.pop()
                a = place[0]
                b = place[1]
                inside = 0 <= a < len(grid) and 0 <= b < len(grid[0])
                if inside and grid[a][b] > k and place not in seen:
                    seen.append(place)
                    size += 1
                    waiting += [[a + 1, b], [a - 1, b], [a, b + 1], [a, b - 1]]
            best = max(best, size)
    return best * factor


@routine("it has more than {k} rows", 3, k=(1, 2, 3))
def rows_over(grid: Grid, k: int) -> bool:
    return len(grid) > k
