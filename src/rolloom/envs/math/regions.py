"""Exact algebra of subsets of the real line: finite unions of intervals and points with rational ends.

A region is a sorted tuple of disjoint pieces that do not touch, so equal sets have equal regions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

End = Fraction | float
"""A rational number, or plus or minus infinity (the only floats)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval.

    Attributes:
        low: left end.
        high: right end; equal to `low` for a point.
        low_in: the left end belongs to it.
        high_in: the right end belongs to it.
    """

    low: End
    high: End
    low_in: bool = False
    high_in: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high or (self.low == self.high and self.low_in and self.high_in)):
            raise ValueError("an interval needs its left end below its right end")
        if (self.low_in and self.low == -math.inf) or (self.high_in and self.high == math.inf):
            raise ValueError("an infinite end belongs to no interval")

    def has(self, x: End) -> bool:
        """Return True when a number is in it."""
        return (self.low < x or (self.low_in and x == self.low)) and (
            x < self.high or (self.high_in and x == self.high)
        )


Region = tuple[Piece, ...]
REALS: Region = (Piece(-math.inf, math.inf),)


def point(x: End) -> Piece:
    """Return the piece that holds one number."""
    return Piece(x, x, True, True)


def _has(pieces: Iterable[Piece], x: End) -> bool:
    return any(piece.has(x) for piece in pieces)


def combine(keep: Callable[..., bool], *regions: Iterable[Piece]) -> Region:
    """Return the numbers x for which `keep(x in A, x in B, ...)` is True.

    Args:
        keep: a function of as many booleans as there are regions.
        regions: pieces in any order; they may overlap.
    """
    sets = [tuple(region) for region in regions]
    cuts = sorted({end for pieces in sets for piece in pieces for end in (piece.low, piece.high)})
    finite = [cut for cut in cuts if abs(cut) != math.inf]
    # Membership is constant at each cut and on each gap between two of them.
    cells: list[tuple[Piece, End]] = []
    ends = [-math.inf, *finite, math.inf]
    for index, (low, high) in enumerate(itertools.pairwise(ends)):
        if index:
            cells.append((point(low), low))
        cells.append((Piece(low, high), _between(low, high)))
    kept: list[Piece] = []
    for cell, sample in cells:
        if not keep(*(_has(pieces, sample) for pieces in sets)):
            continue
        last = kept[-1] if kept else None
        if last and last.high == cell.low and (last.high_in or cell.low_in):
            kept[-1] = Piece(last.low, cell.high, last.low_in, cell.high_in)
        else:
            kept.append(cell)
    return tuple(kept)


def _between(low: End, high: End) -> End:
    if low == -math.inf:
        return Fraction(0) if high == math.inf else high - 1
    return low + 1 if high == math.inf else (low + high) / 2


def union(*regions: Iterable[Piece]) -> Region:
    """Return what is in any of the regions; also brings one region into its normal form."""
    return combine(lambda *inside: any(inside), *regions)


def intersection(*regions: Iterable[Piece]) -> Region:
    """Return what is in all regions."""
    return combine(lambda *inside: all(inside), *regions)


def difference(first: Iterable[Piece], second: Iterable[Piece]) -> Region:
    """Return what is in the first region and not in the second."""
    return combine(lambda a, b: a and not b, first, second)


def symmetric_difference(first: Iterable[Piece], second: Iterable[Piece]) -> Region:
    """Return what is in exactly one of the regions."""
    return combine(lambda a, b: a != b, first, second)


def complement(region: Iterable[Piece]) -> Region:
    """Return what is not in a region."""
    return combine(lambda inside: not inside, region)


def render_end(x: End) -> str:
    """Return an end in LaTeX."""
    if isinstance(x, float):
        return "\\infty" if x > 0 else "-\\infty"
    if x.denominator == 1:
        return str(x.numerator)
    return f"{'-' if x < 0 else ''}\\frac{{{abs(x.numerator)}}}{{{x.denominator}}}"


def render(region: Region) -> str:
    r"""Return a region in LaTeX, e.g. `[0, 1) \cup \{2\}`."""
    parts: list[str] = []
    points: list[str] = []
    for piece in region:
        if piece.low == piece.high:
            points.append(render_end(piece.low))
            continue
        left, right = "[" if piece.low_in else "(", "]" if piece.high_in else ")"
        parts.append(f"{left}{render_end(piece.low)}, {render_end(piece.high)}{right}")
    if points:
        parts.append(f"\\{{{', '.join(points)}\\}}")
    return " \\cup ".join(parts) or "\\emptyset"
