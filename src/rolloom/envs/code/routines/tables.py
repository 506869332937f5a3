"""Routines on dictionaries from strings to integers, and on lists of intervals."""

# ruff: noqa: D103 - the words in the decorator say what a routine does.

from __future__ import annotations

from rolloom.envs.code.routines.core import Ints, Spans, Table, Words, routine


@routine("make the list of its values in the alphabetical order of their keys", 2)
def values_by_key(table: Table) -> Ints:
    return [table[key] for key in sorted(table)]


@routine("make the alphabetical list of the keys whose value is greater than {k}", 2, k=range(0, 8))
def keys_above(table: Table, k: int) -> Words:
    return [key for key in sorted(table) if table[key] > k]


@routine("make the list of its keys in descending order of value, those of equal value alphabetically", 3)
def keys_by_value(table: Table) -> Words:
    return [pair[1] for pair in sorted([(-table[key], key) for key in table])]


@routine(
    "take the key with the largest value, alphabetically the first in a tie ('{c}' if empty)",
    2,
    c=("", "none", "?"),
)
def best_key(table: Table, c: str) -> str:
    best = c
    for key in sorted(table):
        if best not in table or table[key] > table[best]:
            best = key
    return best


@routine("add {k} to every value", 2, k=range(1, 20))
def add_values(table: Table, k: int) -> Table:
    return {key: table[key] + k for key in table}


@routine("multiply by {k} the values of the keys that have an odd number of characters", 3, k=range(2, 9))
def times_odd_keys(table: Table, k: int) -> Table:
    return {key: table[key] * k if len(key) % 2 == 1 else table[key] for key in table}


@routine("remove the entries whose value is less than {k}", 2, k=range(1, 8))
def drop_low_values(table: Table, k: int) -> Table:
    return {key: table[key] for key in table if table[key] >= k}


@routine("take the sum of its values", 2)
def sum_values(table: Table) -> int:
    return sum(table.values())


@routine("make the dictionary from every value, written as a string, to the number of keys that have it", 4)
def value_counts(table: Table) -> Table:
    counts = {}
    for key in table:
        value = str(table[key])
        counts[value] = counts.get(value, 0) + 1
    return counts


@routine(
    "add together the values of keys that start with the same character: make the dictionary from"
    " that character to the sum (an empty key counts as '{c}')",
    4,
    c="_*#",
)
def sums_by_initial(table: Table, c: str) -> Table:
    sums = {}
    for key in table:
        first = key[0] if key else c
        sums[first] = sums.get(first, 0) + table[key]
    return sums


@routine("it has at least {k} entries", 3, k=range(2, 6))
def table_at_least(table: Table, k: int) -> bool:
    return len(table) >= k


@routine("merge intervals that overlap or touch (share an end point), and sort by start", 4)
def merge_spans(spans: Spans) -> Spans:
    merged = []
    for span in sorted(spans):
        if merged and span[0] <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], span[1])
        else:
            merged.append([span[0], span[1]])
    return merged


@routine("take the total length (end - start, overlaps counted again)", 3)
def total_length(spans: Spans) -> int:
    return sum([span[1] - span[0] for span in spans])


@routine("make the list of lengths (end - start)", 3)
def span_lengths(spans: Spans) -> Ints:
    return [span[1] - span[0] for span in spans]


@routine("keep only the intervals of length (end - start) at least {k}", 3, k=range(2, 7))
def long_spans(spans: Spans, k: int) -> Spans:
    return [span for span in spans if span[1] - span[0] >= k]


@routine("move every interval {k} to the right", 3, k=range(1, 20))
def shift_spans(spans: Spans, k: int) -> Spans:
    return [[span[0] + k, span[1] + k] for span in spans]


@routine("widen every interval by {k} at both ends", 3, k=range(1, 6))
def widen_spans(spans: Spans, k: int) -> Spans:
    return [[span[0] - k, span[1] + k] for span in spans]


@routine(
    "cut every interval to what lies from {low} to {high}, dropping those that have no point there",
    4,
    low=range(-4, 4),
    high=range(8, 20),
)
def cut_spans(spans: Spans, low: int, high: int) -> Spans:
    cut = []
    for span in spans:
        if span[1] >= low and span[0] <= high:
            cut.append([max(span[0], low), min(span[1], high)])
    return cut


@routine(
    "take the largest number of intervals that share one point (end points count), times {k}",
    5,
    k=range(1, 20),
)
def most_overlapping(spans: Spans, k: int) -> int:
    best = 0
    for span in spans:
        count = 0
        for other in spans:
            if other[0] <= span[0] <= other[1]:
                count += 1
        best = max(best, count)
    return best * k


@routine(
    "take the largest number of intervals that can be chosen so that no two share a point, times {k}",
    6,
    k=range(1, 20),
)
def most_disjoint(spans: Spans, k: int) -> int:
    count = 0
    free = None
    for pair in sorted([[span[1], span[0]] for span in spans]):
        if free is None or pair[1] > free:
            count += 1
            free = pair[0]
    return count * k


@routine("make the list of the starts followed by the list of the ends", 3)
def span_ends(spans: Spans) -> Ints:
    return [span[0] for span in spans] + [span[1] for span in spans]


@routine("it has at least {k} intervals", 3, k=range(2, 5))
def spans_at_least(spans: Spans, k: int) -> bool:
    return len(spans) >= k
