"""Charts as inline SVG text: no script, no library, no style attribute (the page's policy forbids them).

Colours come from the page's classes `s0` ... `s7`, so that one chart serves light and dark; a dash pattern
and a marker go with every colour for readers who cannot tell the colours apart. Hover texts are `<title>`
elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

SLOTS = 8
_MAX_POINTS = 240
_MAX_HOVERS = 60
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: shown in hover texts.
        xs: steps.
        ys: values; None and non-finite ones are gaps.
        slot: colour, from 0.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A measured point with its 95% intervals: x in tokens, y a share."""

    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float


@dataclass(frozen=True, slots=True)
class Arrow:
    """One environment in the accuracy-against-tokens plane; a side that was not measured is None."""

    name: str
    before: Point | None
    after: Point | None
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values onto pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value, kept inside the plot."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, self.low)), math.log10(low), math.log10(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside the scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            stride = max(1, math.ceil((last - first + 1) / count))
            return [10.0**power for power in range(first, last + 1, stride)]
        return round_ticks(self.low, self.high, count)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` multiples of 1, 2 or 5 times a power of ten between `low` and `high`."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    stride = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.ceil(low / stride - 1e-9), math.floor(high / stride + 1e-9)
    return [index * stride for index in range(first, last + 1)]


def number(value: float, percent: bool = False) -> str:
    """Return a value as briefly as it can be read."""
    if percent:
        return f"{100 * value:.4g}%"
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def thin(
    xs: Sequence[float], ys: Sequence[float | None], most: int = _MAX_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` points, means of equal stretches, so that a long run stays a small chart."""
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and math.isfinite(y)]
    points = np.array(kept, dtype=np.float64).reshape(-1, 2)
    if len(points) > most:
        points = np.array([part.mean(axis=0) for part in np.array_split(points, most)])
    return points[:, 0], points[:, 1]


def line_chart(
    title: str, series: Sequence[Series], *, percent: bool = False, log: bool = False, unit: str = ""
) -> str:
    """Return learning curves over the steps.

    Args:
        title: the chart's heading.
        series: the lines; empty ones are left out.
        percent: values are shares, shown from 0 to 100%.
        log: logarithmic values; zeros sit on the axis.
        unit: what the values are counted in.
    """
    drawn = [(line, *thin(line.xs, line.ys)) for line in series]
    drawn = [(line, xs, ys) for line, xs, ys in drawn if len(xs)]
    width, height = 360, 210
    left, right, top, bottom = 52, 10, 10, 34
    if not drawn:
        return _svg(
            width, height, title, "no data", _text(width / 2, height / 2, "no data", "middle", "muted")
        )
    all_x = np.concatenate([xs for _, xs, _ in drawn])
    all_y = np.concatenate([ys for _, _, ys in drawn])
    low, high = _range(all_y, percent, log)
    x_scale = Scale(float(all_x.min()), float(all_x.max()), left, width - right)
    y_scale = Scale(low, high, height - bottom, top, log)
    body = _grid(x_scale, y_scale, percent, "step", unit)
    for line, xs, ys in drawn:
        slot = line.slot % SLOTS
        pixels = [(x_scale.at(x), y_scale.at(y)) for x, y in zip(xs, ys, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        dash = f' stroke-dasharray="{_DASHES[slot]}"' if _DASHES[slot] else ""
        if len(pixels) > 1:
            body.append(f'<polyline class="line s{slot}" points="{path}"{dash}/>')
        for index in np.unique(np.linspace(0, len(pixels) - 1, min(len(pixels), _MAX_HOVERS)).astype(int)):
            label = f"{line.name}, step {xs[index]:.0f}: {number(float(ys[index]), percent)} {unit}".strip()
            shown = "dot" if len(pixels) == 1 else "hover"
            x, y = pixels[index]
            body.append(
                f'<circle class="{shown} s{slot}" cx="{x:.1f}" cy="{y:.1f}" r="5">{_title(label)}</circle>'
            )
    ends = [
        f"{line.name} from {number(float(ys[0]), percent)} to {number(float(ys[-1]), percent)}"
        for line, _, ys in drawn
    ]
    return _svg(width, height, title, "; ".join(ends), *body)


def arrow_chart(title: str, arrows: Sequence[Arrow]) -> str:
    """Return accuracy against tokens: one arrow an environment, from before to after, with 95% intervals."""
    points = [point for arrow in arrows for point in (arrow.before, arrow.after) if point is not None]
    width, height = 760, 400
    left, right, top, bottom = 56, 24, 16, 44
    if not points:
        return _svg(
            width, height, title, "no data", _text(width / 2, height / 2, "no data", "middle", "muted")
        )
    x_scale = Scale(0.0, max(point.x_high for point in points) * 1.06 or 1.0, left, width - right)
    lowest = min(point.y_low for point in points)
    y_scale = Scale(max(0.0, math.floor((lowest - 0.03) * 10) / 10), 1.0, height - bottom, top)
    body = _grid(x_scale, y_scale, True, "sampled tokens per answer", "accuracy")
    body.append(
        "<defs>"
        + "".join(
            f'<marker id="head{slot}" class="s{slot}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path class="head" d="M0,0 L8,4 L0,8 z"/></marker>'
            for slot in range(SLOTS)
        )
        + "</defs>"
    )
    taken: list[tuple[float, float]] = []
    anchors: list[tuple[float, float, str, int]] = []
    for arrow in arrows:
        slot = arrow.slot % SLOTS
        ends = []
        for name, point in (("before", arrow.before), ("after", arrow.after)):
            if point is not None:
                body.extend(_cross(x_scale, y_scale, arrow.name, name, point, slot))
                ends.append((x_scale.at(point.x), y_scale.at(point.y)))
        if len(ends) == 2:
            body.append(_shaft(ends[0], ends[1], slot))
        if ends:
            taken += [tuple(spot) for spot in np.linspace(ends[0], ends[-1], 40)]
            anchors.append((*ends[-1], arrow.name, slot))
    body.extend(_labels(anchors, taken, left, width - right, height - bottom))
    text = "; ".join(f"{arrow.name}: {_place(arrow.before)} to {_place(arrow.after)}" for arrow in arrows)
    return _svg(width, height, title, text, *body)


def histogram(title: str, before: Sequence[float], after: Sequence[float], bins: int = 28) -> str:
    """Return the lengths before (outlined) and after (filled) as shares of their own side."""
    width, height = 360, 180
    left, right, top, bottom = 44, 10, 10, 36
    values = [*before, *after]
    if not values:
        return _svg(
            width, height, title, "no data", _text(width / 2, height / 2, "no data", "middle", "muted")
        )
    edges = np.linspace(0, max(max(values), 1.0), bins + 1)
    shares = [np.histogram(side, edges)[0] / max(len(side), 1) for side in (before, after)]
    x_scale = Scale(0.0, float(edges[-1]), left, width - right)
    y_scale = Scale(0.0, float(max(share.max() for share in shares)) * 1.05 or 1.0, height - bottom, top)
    body = _grid(x_scale, y_scale, True, "sampled tokens per answer", "", ticks=3)
    for name, share in zip(("before", "after"), shares, strict=True):
        for index, part in enumerate(share):
            if part <= 0:
                continue
            x, y = x_scale.at(edges[index]), y_scale.at(part)
            size = f'width="{x_scale.at(edges[index + 1]) - x - 0.5:.1f}" height="{y_scale.start - y:.1f}"'
            label = f"{name}: {100 * part:.1f}% between {edges[index]:.0f} and {edges[index + 1]:.0f} tokens"
            body.append(f'<rect class="bar {name}" x="{x:.1f}" y="{y:.1f}" {size}>{_title(label)}</rect>')
    means = [
        f"{name} mean {np.mean(side):.1f}"
        for name, side in (("before", before), ("after", after))
        if len(side)
    ]
    return _svg(width, height, title, ", ".join(means) + " tokens", *body)


def swatch(slot: int) -> str:
    """Return a legend's line sample."""
    dash = f' stroke-dasharray="{_DASHES[slot % SLOTS]}"' if _DASHES[slot % SLOTS] else ""
    line = f'<line class="line s{slot % SLOTS}" x1="0" y1="5" x2="26" y2="5"{dash}/>'
    return f'<svg class="swatch" viewBox="0 0 26 10" width="26" height="10" aria-hidden="true">{line}</svg>'


def _range(values: np.ndarray, percent: bool, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        positive = values[values > 0]
        if not len(positive):
            return 1e-8, 1.0
        low, high = float(positive.min()), float(positive.max())
        # Powers beyond 300 leave the range of floats, and no curve of a run is there.
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
        return 10.0 ** max(-300, min(first, 299)), 10.0 ** max(-299, min(last, 300))
    if percent:
        return min(0.0, low), max(1.0, high)
    # A curve of nearly constant values should look constant, and lengths are read against zero.
    if low >= 0 and low < 0.7 * high:
        return 0.0, high * 1.05
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def _grid(x: Scale, y: Scale, percent: bool, x_name: str, y_name: str, ticks: int = 5) -> list[str]:
    body = []
    for value in y.ticks(ticks):
        at = y.at(value)
        body.append(f'<line class="grid" x1="{x.start}" y1="{at:.1f}" x2="{x.end}" y2="{at:.1f}"/>')
        body.append(_text(x.start - 6, at + 3.5, number(value, percent), "end", "tick"))
    for value in x.ticks(6):
        if x_name == "step" and value != int(value):
            continue
        body.append(_text(x.at(value), y.start + 15, number(value), "middle", "tick"))
    body.append(f'<line class="axis" x1="{x.start}" y1="{y.start}" x2="{x.end}" y2="{y.start}"/>')
    body.append(_text((x.start + x.end) / 2, y.start + 30, x_name, "middle", "tick"))
    if y_name:
        middle = (y.start + y.end) / 2
        turn = f'transform="rotate(-90 12 {middle:.1f})"'
        body.append(
            f'<text class="tick" x="12" y="{middle:.1f}" text-anchor="middle" {turn}>{escape(y_name)}</text>'
        )
    return body


def _cross(x: Scale, y: Scale, env: str, name: str, point: Point, slot: int) -> list[str]:
    at_x, at_y = x.at(point.x), y.at(point.y)
    label = (
        f"{env}, {name}: accuracy {100 * point.y:.1f}% [{100 * point.y_low:.1f}, {100 * point.y_high:.1f}], "
        f"{point.x:.1f} tokens [{point.x_low:.1f}, {point.x_high:.1f}]"
    )
    x_ends, y_ends = (x.at(point.x_low), x.at(point.x_high)), (y.at(point.y_low), y.at(point.y_high))
    place = f'class="mark {name} s{slot}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5.5"'
    return [
        _whisker((x_ends[0], at_y), (x_ends[1], at_y), slot),
        _whisker((at_x, y_ends[0]), (at_x, y_ends[1]), slot),
        f"<circle {place}>{_title(label)}</circle>",
    ]


def _whisker(start: tuple[float, float], end: tuple[float, float], slot: int) -> str:
    ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line class="whisker s{slot}" {ends}/>'


def _shaft(start: tuple[float, float], end: tuple[float, float], slot: int) -> str:
    length = math.dist(start, end)
    if length < 16:
        return ""
    # Both ends stop short of the circles, so that the head stays visible.
    near, far = 7 / length, 1 - 8 / length
    points = [start[axis] + share * (end[axis] - start[axis]) for share in (near, far) for axis in (0, 1)]
    x1, y1, x2, y2 = (f"{value:.1f}" for value in points)
    return (
        f'<line class="shaft s{slot}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#head{slot})"/>'
    )


def _labels(
    anchors: list[tuple[float, float, str, int]],
    taken: list[tuple[float, float]],
    left: float,
    right: float,
    bottom: float,
) -> list[str]:
    """Write each name at the corner of its point where it covers the fewest arrows and other names."""
    boxes: list[tuple[float, float, float]] = []
    body = []
    for x, y, name, slot in anchors:
        size = 6.9 * len(name)
        spots = [(x + dx, y + dy) for dx in (-10 - size, 9) for dy in (-9, 17)]
        spots = [(start, at) for start, at in spots if left <= start <= right - size and at < bottom] or [
            (max(left, right - size), y - 9)
        ]

        def cost(spot: tuple[float, float], size: float = size) -> float:
            start, at = spot
            names = sum(
                abs(row - at) < 15 and begin < start + size and start < end for begin, end, row in boxes
            )
            lines = sum(start - 4 < px < start + size + 4 and at - 14 < py < at + 6 for px, py in taken)
            return 100 * names + lines

        start, at = min(spots, key=cost)
        boxes.append((start, start + size, at))
        body.append(f'<text class="name s{slot}" x="{start:.1f}" y="{at:.1f}">{escape(name)}</text>')
    return body


def _place(point: Point | None) -> str:
    return "not measured" if point is None else f"{100 * point.y:.1f}% at {point.x:.1f} tokens"


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _svg(width: int, height: int, title: str, description: str, *body: str) -> str:
    label = escape(f"{title}. {description}", quote=True)
    box = f'viewBox="0 0 {width} {height}"'
    return f'<svg class="chart" {box} role="img" aria-label="{label}">{"".join(body)}</svg>'
