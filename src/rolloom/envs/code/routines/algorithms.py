"""Routines on a list of integers that need an algorithm; those marked `big` need a fast one."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from bisect import bisect_left

from rolloom.envs.code.routines.core import Ints, routine


@routine(
    "take the largest sum of a non-empty stretch of neighbouring numbers ({k} for an empty list)",
    4,
    k=range(-3, 4),
)
def best_stretch(xs: Ints, k: int) -> int:
    if not xs:
        return k
    best = xs[0]
    ending = xs[0]
    for x in xs[1:]:
        ending = max(ending + x, x)
        best = max(best, ending)
    return best


@routine(
    "take the length of the longest stretch of neighbours in which every number is greater than the"
    " one before it, times {k}",
    4,
    k=range(1, 20),
)
def longest_rise(xs: Ints, k: int) -> int:
    best = 0
    length = 0
    for i in range(len(xs)):
        if i > 0 and xs[i] > xs[i - 1]:
            length += 1
        else:
            length = 1
        best = max(best, length)
    return best * k


@routine(
    "replace every number by the first number after it that is greater, or by {k} if there is none",
    5,
    k=range(-3, 1),
)
def next_greater(xs: Ints, k: int) -> Ints:
    found = [k for x in xs]
    waiting = []
    for i in range(len(xs)):
        while waiting and xs[waiting[-1]] < xs[i]:
            found[waiting.pop()] = xs[i]
        waiting.append(i)
    return found


@routine("treating negative numbers as 0, take the largest sum of items of which no two are neighbours", 5)
def best_apart(xs: Ints) -> int:
    taken = 0
    skipped = 0
    for x in xs:
        taken, skipped = skipped + max(x, 0), max(taken, skipped)
    return max(taken, skipped)


@routine(
    "take the fewest coins that add up to {amount}, when the coins are the positive numbers of the"
    " list, each usable any number of times (-1 if it cannot be done)",
    5,
    amount=range(23, 80),
)
def fewest_coins(xs: Ints, amount: int) -> int:
    coins = [x for x in xs if x > 0]
    fewest = [0]
    for total in range(1, amount + 1):
        best = -1
        for coin in coins:
            if coin <= total and fewest[total - coin] >= 0:
                count = fewest[total - coin] + 1
                if best < 0 or count < best:
                    best = count
        fewest.append(best)
    return fewest[amount]


@routine(
    "take the number of ways to choose positions (in any number, the empty choice included) so that"
    " the numbers there add up to a multiple of {m}",
    6,
    m=range(3, 12),
)
def subset_ways(xs: Ints, m: int) -> int:
    ways = [0] * m
    ways[0] = 1
    for x in xs:
        ways = [ways[r] + ways[(r - x) % m] for r in range(m)]
    return ways[0]


@routine(
    "with heights max(n, 0) of bars one unit wide, take the units of rain water that stay between the bars",
    6,
    big=True,
)
def rain_water(xs: Ints) -> int:
    heights = [max(x, 0) for x in xs]
    left = 0
    right = len(heights) - 1
    best_left = 0
    best_right = 0
    water = 0
    while left <= right:
        if best_left <= best_right:
            best_left = max(best_left, heights[left])
            water += best_left - heights[left]
            left += 1
        else:
            best_right = max(best_right, heights[right])
            water += best_right - heights[right]
            right -= 1
    return water


@routine("count the pairs of positions i < j whose numbers add up to {k}", 6, big=True, k=range(4, 25))
def pairs_with_sum(xs: Ints, k: int) -> int:
    seen = {}
    pairs = 0
    for x in xs:
        pairs += seen.get(k - x, 0)
        seen[x] = seen.get(x, 0) + 1
    return pairs


@routine(
    "count the non-empty stretches of neighbouring numbers whose sum is a multiple of {m}",
    7,
    big=True,
    m=range(2, 12),
)
def divisible_stretches(xs: Ints, m: int) -> int:
    seen = [0] * m
    seen[0] = 1
    total = 0
    count = 0
    for x in xs:
        total = (total + x) % m
        count += seen[total]
        seen[total] += 1
    return count


@routine(
    "take the length of the longest strictly increasing subsequence (items in order, gaps allowed)",
    7,
    big=True,
)
def longest_increasing(xs: Ints) -> int:
    ends = []
    for x in xs:
        place = bisect_left(ends, x)
        if place == len(ends):
            ends.append(x)
        else:
            ends[place] = x
    return len(ends)


@routine(
    "count the pairs of positions i < j where the number at i is greater than the number at j plus {k}",
    7,
    big=True,
    k=range(0, 9),
)
def inversions(xs: Ints, k: int) -> int:
    if len(xs) < 2:
        return 0
    middle = len(xs) // 2
    left = xs[:middle]
    right = xs[middle:]
    count = inversions(left, k) + inversions(right, k)
    left = sorted(left)
    right = sorted(right)
    j = 0
    for x in left:
        while j < len(right) and x > right[j] + k:
            j += 1
        count += j
    return count


@routine(
    "add up, over all windows of {k} neighbouring numbers (the whole list if it is shorter), the"
    " largest number of the window (0 for an empty list)",
    7,
    k=range(3, 9),
)
def window_maxima(xs: Ints, k: int) -> int:
    if not xs:
        return 0
    k = min(k, len(xs))
    queue = []
    head = 0
    total = 0
    for i in range(len(xs)):
        while len(queue) > head and xs[queue[-1]] <= xs[i]:
            queue.pop()
        queue.append(i)
        if queue[head] <= i - k:
            head += 1
        if i >= k - 1:
            total += xs[queue[head]]
    return total


@routine(
    "take the length of the longest stretch of neighbouring numbers with at most {k} different values",
    7,
    k=range(2, 6),
)
def few_values(xs: Ints, k: int) -> int:
    counts = {}
    start = 0
    best = 0
    for i in range(len(xs)):
        counts[xs[i]] = counts.get(xs[i], 0) + 1
        while len(counts) > k:
            counts[xs[start]] -= 1
            if counts[xs[start]] == 0:
                counts.pop(xs[start])
            start += 1
        best = max(best, i - start + 1)
    return best
