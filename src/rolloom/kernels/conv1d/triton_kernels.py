"""Triton kernels of the causal convolution.

A program takes a block of channels and walks down a strip of rows, the last k - 1 rows in registers, so that
each input is read once; the next row is loaded while one is computed. `position` is a row's place in its
sequence, -1 for a row that belongs to none: rows from before position 0 are the initial state's, or zeros.

Shapes: R rows (all sequences one after another), C channels, k = WIDTH of 2 to 4, S sequences.
"""

# pyright takes tl.static_range for something that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _row(base, row, stride, count, channel, mask):
    """Row of `[R, C]`, zeros outside of it."""
    there = mask & (row >= 0) & (row < count)
    return tl.load(base + row * stride + channel, mask=there, other=0.0)


@triton.jit
def _before(state, sequence, place, channel, mask, channels, WIDTH: tl.constexpr):
    """Input at a negative place of a sequence, from its initial state; zeros for other places."""
    row = sequence * (WIDTH - 1) + WIDTH - 1 + place
    return tl.load(state + row * channels + channel, mask=mask & (place < 0), other=0.0).to(tl.float32)


@triton.jit
def _weight(weight, channel, mask, DISTANCE: tl.constexpr, WIDTH: tl.constexpr):
    """Filter value for the input `DISTANCE` tokens before."""
    return tl.load(weight + channel * WIDTH + WIDTH - 1 - DISTANCE, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def forward(
    x, weight, bias, state, positions, sequences, out, count, channels, x_stride,
    BIAS: tl.constexpr, STATE: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the activated convolution of a strip of rows."""
    first = tl.program_id(1).to(tl.int64) * ROWS
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    b = tl.zeros((BLOCK,), dtype=tl.float32)
    if BIAS:
        b = tl.load(bias + channel, mask=mask, other=0.0).to(tl.float32)
    w0 = _weight(weight, channel, mask, 0, WIDTH)
    w1 = _weight(weight, channel, mask, 1, WIDTH)
    x1 = _row(x, first - 1, x_stride, count, channel, mask)
    x2, x3, w2, w3 = x1, x1, w1, w1
    if WIDTH > 2:
        w2 = _weight(weight, channel, mask, 2, WIDTH)
        x2 = _row(x, first - 2, x_stride, count, channel, mask)
    if WIDTH > 3:
        w3 = _weight(weight, channel, mask, 3, WIDTH)
        x3 = _row(x, first - 3, x_stride, count, channel, mask)
    x_next = _row(x, first, x_stride, count, channel, mask)
    place_next = tl.load(positions + first, mask=first < count, other=-1)
    for row in range(first, tl.minimum(first + ROWS, count)):
        x0, place = x_next, place_next
        x_next = tl.load(x + (row + 1) * x_stride + channel, mask=mask & (row + 1 < count), other=0.0)
        place_next = tl.load(positions + row + 1, mask=row + 1 < count, other=-1)
        u0 = tl.where(place >= 0, x0.to(tl.float32), 0.0)
        u1 = tl.where(place >= 1, x1.to(tl.float32), 0.0)
        u2 = tl.where(place >= 2, x2.to(tl.float32), 0.0)
        u3 = tl.where(place >= 3, x3.to(tl.float32), 0.0)
        if STATE:  # noqa: SIM102  (known when compiled; the next is not)
            if (place >= 0) & (place < WIDTH - 1):
                sequence = tl.load(sequences + row).to(tl.int64)
                u1 += _before(state, sequence, place - 1, channel, mask, channels, WIDTH)
                if WIDTH > 2:
                    u2 += _before(state, sequence, place - 2, channel, mask, channels, WIDTH)
                if WIDTH > 3:
                    u3 += _before(state, sequence, place - 3, channel, mask, channels, WIDTH)
        total = b
        if WIDTH > 3:
            total += w3 * u3
        if WIDTH > 2:
            total += w2 * u2
        total += w1 * u1
        total += w0 * u0
        value = tl.where(place >= 0, total / (1.0 + tl.exp(-total)), 0.0)
        tl.store(out + row * channels + channel, value, mask=mask)
        x3, x2, x1 = x2, x1, x0


@triton.jit
def backward(
    x, weight, bias, state, positions, sequences, ends, d_out, d_final, d_x, partial,
    count, channels, x_stride, d_out_stride,
    BIAS: tl.constexpr, STATE: tl.constexpr, FINAL: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a strip's inputs, and its share of those of weight and bias.

    Walks k - 1 rows further than the strip, whose outputs its last inputs reach. `a0` to `a3` are the
    gradients, so far, of the inputs 0 to 3 rows back; the oldest is complete and leaves.
    """
    first = tl.program_id(1).to(tl.int64) * ROWS
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    zero = tl.zeros((BLOCK,), dtype=tl.float32)
    b = zero
    if BIAS:
        b = tl.load(bias + channel, mask=mask, other=0.0).to(tl.float32)
    w0 = _weight(weight, channel, mask, 0, WIDTH)
    w1 = _weight(weight, channel, mask, 1, WIDTH)
    x1 = _row(x, first - 1, x_stride, count, channel, mask)
    x2, x3, w2, w3 = x1, x1, w1, w1
    if WIDTH > 2:
        w2 = _weight(weight, channel, mask, 2, WIDTH)
        x2 = _row(x, first - 2, x_stride, count, channel, mask)
    if WIDTH > 3:
        w3 = _weight(weight, channel, mask, 3, WIDTH)
        x3 = _row(x, first - 3, x_stride, count, channel, mask)
    a1, a2, a3 = zero, zero, zero
    s0, s1, s2, s3, s_bias = zero, zero, zero, zero, zero
    x_next = _row(x, first, x_stride, count, channel, mask)
    pull_next = _row(d_out, first, d_out_stride, count, channel, mask)
    place_next = tl.load(positions + first, mask=first < count, other=-1)
    for row in range(first, tl.minimum(first + ROWS, count) + WIDTH - 1):
        x0, pull, place = x_next, pull_next, place_next
        x_next = tl.load(x + (row + 1) * x_stride + channel, mask=mask & (row + 1 < count), other=0.0)
        pull_next = tl.load(
            d_out + (row + 1) * d_out_stride + channel, mask=mask & (row + 1 < count), other=0.0
        )
        place_next = tl.load(positions + row + 1, mask=row + 1 < count, other=-1)
        u0 = tl.where(place >= 0, x0.to(tl.float32), 0.0)
        u1 = tl.where(place >= 1, x1.to(tl.float32), 0.0)
        u2 = tl.where(place >= 2, x2.to(tl.float32), 0.0)
        u3 = tl.where(place >= 3, x3.to(tl.float32), 0.0)
        if STATE:  # noqa: SIM102  (known when compiled; the next is not)
            if (place >= 0) & (place < WIDTH - 1):
                sequence = tl.load(sequences + row).to(tl.int64)
                u1 += _before(state, sequence, place - 1, channel, mask, channels, WIDTH)
                if WIDTH > 2:
                    u2 += _before(state, sequence, place - 2, channel, mask, channels, WIDTH)
                if WIDTH > 3:
                    u3 += _before(state, sequence, place - 3, channel, mask, channels, WIDTH)
        total = b
        if WIDTH > 3:
            total += w3 * u3
        if WIDTH > 2:
            total += w2 * u2
        total += w1 * u1
        total += w0 * u0
        sigmoid = 1.0 / (1.0 + tl.exp(-total))
        slope = sigmoid * (1.0 + total * (1.0 - sigmoid))
        grad = tl.where(place >= 0, pull.to(tl.float32) * slope, 0.0)
        mine = tl.where(row < first + ROWS, grad, 0.0)
        s0 += mine * u0
        s1 += mine * u1
        s_bias += mine
        a0 = grad * w0
        if FINAL:
            sequence = tl.load(sequences + row, mask=place >= 0, other=0).to(tl.int64)
            end = tl.load(ends + sequence, mask=place >= 0, other=0)
            kept = row - end + WIDTH - 1
            there = mask & (place >= 0) & (kept >= 0)
            where = (sequence * (WIDTH - 1) + kept) * channels + channel
            a0 += tl.load(d_final + where, mask=there, other=0.0).to(tl.float32)
        a1 += tl.where(place >= 1, grad * w1, 0.0)
        leaves = a1
        if WIDTH > 2:
            s2 += mine * u2
            a2 += tl.where(place >= 2, grad * w2, 0.0)
            leaves = a2
        if WIDTH > 3:
            s3 += mine * u3
            a3 += tl.where(place >= 3, grad * w3, 0.0)
            leaves = a3
        done = row - (WIDTH - 1)
        tl.store(d_x + done * channels + channel, leaves, mask=mask & (done >= first))
        x3, x2, x1 = x2, x1, x0
        a3, a2, a1 = a2, a1, a0
    share = partial + tl.program_id(1).to(tl.int64) * (WIDTH + 1) * channels + channel
    tl.store(share + (WIDTH - 1) * channels, s0, mask=mask)
    tl.store(share + (WIDTH - 2) * channels, s1, mask=mask)
    if WIDTH > 2:
        tl.store(share + (WIDTH - 3) * channels, s2, mask=mask)
    if WIDTH > 3:
        tl.store(share, s3, mask=mask)
    tl.store(share + WIDTH * channels, s_bias, mask=mask)


@triton.jit
def _input(x, state, start, place, sequence, channel, mask, channels, x_stride,
           WIDTH: tl.constexpr, STATE: tl.constexpr):  # fmt: skip
    """Input at a place of a sequence; a negative place is of its initial state."""
    value = tl.load(x + (start + place) * x_stride + channel, mask=mask & (place >= 0), other=0.0)
    value = value.to(tl.float32)
    if STATE:
        value += _before(state, sequence, place, channel, mask, channels, WIDTH)
    return value


@triton.jit
def final_state(
    x, state, starts, ends, final, channels, x_stride,
    STATE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the last k - 1 inputs of a sequence."""
    sequence = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    start, end = tl.load(starts + sequence), tl.load(ends + sequence)
    for kept in tl.static_range(WIDTH - 1):
        place = end - start - (WIDTH - 1) + kept
        value = _input(x, state, start, place, sequence, channel, mask, channels, x_stride, WIDTH, STATE)
        tl.store(final + (sequence * (WIDTH - 1) + kept) * channels + channel, value, mask=mask)


@triton.jit
def initial_state_backward(
    x, weight, bias, state, starts, ends, d_out, d_final, d_state, channels, x_stride, d_out_stride,
    BIAS: tl.constexpr, FINAL: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a sequence's initial state, which its first k - 1 outputs saw."""
    sequence = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    start, end = tl.load(starts + sequence), tl.load(ends + sequence)
    b = tl.zeros((BLOCK,), dtype=tl.float32)
    if BIAS:
        b = tl.load(bias + channel, mask=mask, other=0.0).to(tl.float32)
    for kept in tl.static_range(WIDTH - 1):
        grad = tl.zeros((BLOCK,), dtype=tl.float32)
        for place in tl.static_range(kept + 1):
            total = b
            inside = mask & (start + place < end)
            for tap in tl.static_range(WIDTH):
                source = place - (WIDTH - 1) + tap
                value = _input(
                    x, state, start, source, sequence, channel, inside, channels, x_stride, WIDTH, True
                )
                total += value * _weight(weight, channel, mask, WIDTH - 1 - tap, WIDTH)
            sigmoid = 1.0 / (1.0 + tl.exp(-total))
            pull = tl.load(d_out + (start + place) * d_out_stride + channel, mask=inside, other=0.0)
            slope = pull.to(tl.float32) * sigmoid * (1.0 + total * (1.0 - sigmoid))
            grad += slope * _weight(weight, channel, mask, WIDTH - 1 + place - kept, WIDTH)
        if FINAL:
            left = kept - (end - start)
            row = sequence * (WIDTH - 1) + left
            there = mask & (left >= 0)
            grad += tl.load(d_final + row * channels + channel, mask=there, other=0.0).to(tl.float32)
        tl.store(d_state + (sequence * (WIDTH - 1) + kept) * channels + channel, grad, mask=mask)


@triton.jit
def update(
    state, x, weight, bias, out, channels, x_stride, row_stride, tap_stride,
    BIAS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Advance one row by one token."""
    row = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < channels
    kept = state + row * row_stride + channel
    x0 = tl.load(x + row * x_stride + channel, mask=mask, other=0.0)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    if BIAS:
        total = tl.load(bias + channel, mask=mask, other=0.0).to(tl.float32)
    for tap in tl.static_range(WIDTH - 1):
        value = tl.load(kept + tap * tap_stride, mask=mask, other=0.0)
        total += _weight(weight, channel, mask, WIDTH - 1 - tap, WIDTH) * value.to(tl.float32)
        if tap > 0:
            tl.store(kept + (tap - 1) * tap_stride, value, mask=mask)
    tl.store(kept + (WIDTH - 2) * tap_stride, x0, mask=mask)
    total += _weight(weight, channel, mask, 0, WIDTH) * x0.to(tl.float32)
    tl.store(out + row * channels + channel, total / (1.0 + tl.exp(-total)), mask=mask)
