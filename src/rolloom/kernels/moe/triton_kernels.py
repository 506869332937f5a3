"""Triton kernels of the experts: products of rows sorted by expert, and sums over a token's experts.

Rows are sorted by expert; `order[p]` is the slot (token K + k) of sorted row p, `firsts[e]` the first row of
expert e. Row tiles hold rows of one expert only: `tiles[t]` is (expert, first row, end). Every element is
summed by one program in a fixed order, so there are no atomics, and a row's result depends on no other row.

Shapes: S tokens, D width, E experts, K experts a token, F expert width, P = S K rows.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tile(tiles, columns, BM: tl.constexpr):
    """Return expert, rows, end of rows and column tile; the columns of a row tile run side by side."""
    program = tl.program_id(0)
    at = tiles + (program // columns).to(tl.int64) * 3
    row = tl.load(at + 1) + tl.arange(0, BM)
    return tl.load(at), row, tl.load(at + 2), program % columns


@triton.jit
def _product(
    left, left_place, inside_row, right, right_k, column, inside_column, depth,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Return rows at `left + left_place` (adjacent in depth) times `right + k right_k + column`."""
    total = tl.zeros((BM, BN), dtype=tl.float32)
    k = tl.arange(0, BK)
    for start in range(0, depth, BK):
        inside = k < depth - start
        a = tl.load(
            left + left_place[:, None] + (start + k)[None, :],
            mask=inside_row[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        b = tl.load(
            right + (start + k)[:, None] * right_k + column[None, :],
            mask=inside[:, None] & inside_column[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit
def activate(
    x, up, order, weights, tiles, out, width, hidden, top_k, columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[p] = relu(up x)^2 times the routing weight, fp32 until it is stored."""
    expert, row, end, tile = _tile(tiles, columns, BM)  # type: ignore[misc]
    if tl.max(row, 0) - (BM - 1) >= end:
        return
    inside = row < end
    slot = tl.load(order + row, mask=inside, other=0)
    column = tile * BN + tl.arange(0, BN)
    # up is [F, D]: k runs along D, columns along F.
    h = _product(
        x, (slot // top_k) * width, inside, up + expert * hidden * width, 1, column.to(tl.int64) * width,
        column < hidden, width, BM, BN, BK,
    )  # fmt: skip
    h = tl.maximum(h, 0.0)
    weight = tl.load(weights + slot, mask=inside, other=0.0)
    mask = inside[:, None] & (column < hidden)[None, :]
    tl.store(out + row[:, None] * hidden + column[None, :], h * h * weight[:, None], mask=mask)


@triton.jit
def multiply(
    rows, weight, order, tiles, out, depth, width, expert_stride, weight_k, weight_n, columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[order[p]] = rows[p] times the expert's `[depth, width]` matrix."""
    expert, row, end, tile = _tile(tiles, columns, BM)  # type: ignore[misc]
    if tl.max(row, 0) - (BM - 1) >= end:
        return
    inside = row < end
    column = tile * BN + tl.arange(0, BN)
    result = _product(
        rows, row * depth, inside, weight + expert * expert_stride, weight_k,
        column.to(tl.int64) * weight_n, column < width, depth, BM, BN, BK,
    )  # fmt: skip
    slot = tl.load(order + row, mask=inside, other=0)
    mask = inside[:, None] & (column < width)[None, :]
    tl.store(out + slot[:, None] * width + column[None, :], result, mask=mask)


@triton.jit
def combine(rows, out, width, top_k, BLOCK: tl.constexpr):
    """out[s] = sum of the K rows of token s, in order."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in range(0, top_k):
        place = (token * top_k + k) * width + column
        total += tl.load(rows + place, mask=column < width, other=0.0).to(tl.float32)
    tl.store(out + token * width + column, total, mask=column < width)


@triton.jit
def activate_backward(
    x, up, down, dy, order, weights, tiles, d_h, acted, d_weight, width, hidden, top_k, columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Compute h = relu(up x) again; write d(up x), h^2 weight, and this tile's share of d weight."""
    expert, row, end, tile = _tile(tiles, columns, BM)  # type: ignore[misc]
    if tl.max(row, 0) - (BM - 1) >= end:
        return
    inside = row < end
    slot = tl.load(order + row, mask=inside, other=0)
    token = slot // top_k
    column = tile * BN + tl.arange(0, BN)
    matrix = expert * hidden * width
    h = _product(
        x, token * width, inside, up + matrix, 1, column.to(tl.int64) * width, column < hidden, width,
        BM, BN, BK,
    )  # fmt: skip
    h = tl.maximum(h, 0.0)
    # down is [D, F]: k runs along D, columns along F.
    d_acted = _product(
        dy, token * width, inside, down + matrix, hidden.to(tl.int64), column, column < hidden, width,
        BM, BN, BK,
    )  # fmt: skip
    weight = tl.load(weights + slot, mask=inside, other=0.0)[:, None]
    mask = inside[:, None] & (column < hidden)[None, :]
    place = row[:, None] * hidden + column[None, :]
    tl.store(d_weight + slot * columns + tile, tl.sum(d_acted * h * h, 1), mask=inside)
    tl.store(acted + place, h * h * weight, mask=mask)
    tl.store(d_h + place, d_acted * weight * 2.0 * h, mask=mask)


@triton.jit
def weight_gradient(
    left, right, order, firsts, out, left_width, right_width, top_k, rows_of_tiles, columns,
    GATHER_LEFT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[e] = left^T right over the rows of expert e; one of them is taken by token, the other is sorted."""
    program = tl.program_id(0)
    per_expert = rows_of_tiles * columns
    expert = (program // per_expert).to(tl.int64)
    within = program % per_expert
    m = (within // columns) * BM + tl.arange(0, BM)
    n = (within % columns) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    begin = tl.load(firsts + expert)
    end = tl.load(firsts + expert + 1)
    for start in range(begin, end, BK):
        row = start + tl.arange(0, BK)
        inside = row < end
        token = tl.load(order + row, mask=inside, other=0) // top_k
        at_left = token if GATHER_LEFT else row
        at_right = row if GATHER_LEFT else token
        a = tl.load(
            left + at_left[None, :] * left_width + m[:, None],
            mask=(m < left_width)[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        b = tl.load(
            right + at_right[:, None] * right_width + n[None, :],
            mask=inside[:, None] & (n < right_width)[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(a, b, total, input_precision="ieee")
    place = expert * left_width * right_width + m.to(tl.int64)[:, None] * right_width + n[None, :]
    tl.store(out + place, total, mask=(m < left_width)[:, None] & (n < right_width)[None, :])
