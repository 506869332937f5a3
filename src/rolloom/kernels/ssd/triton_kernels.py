"""Triton kernels of the SSD scan, forward and backward (arXiv 2405.21060, section 6).

Programs run over (chunk, block of heads of one group), chunks being cut per sequence: what a group shares
(B, C, C B^T and its gradients) is read once and summed over the block's heads in registers, in order, so no
kernel adds atomically. Matrix products take operands of type DOT and accumulate in fp32.

Shapes: L packed tokens, K chunks of Q tokens, S sequences, H heads, P head dim, G groups, N state size;
    `table` is int64 `[K, 3]`: a chunk's first token, the end of what it writes, the end of what it reads.
    A chunk behind the last sequence reads nothing and writes zeros. `cum` and `steps` are fp32 `[K, H, Q]`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, DOT: tl.constexpr):
    return tl.dot(a.to(DOT), b.to(DOT), input_precision="ieee")


@triton.jit
def cumulate(dt, A, steps, cum, table, dt_t, dt_h, H, Q: tl.constexpr, BH: tl.constexpr):
    """Write dt in fp32 and the running sums of dt A, zeros behind a sequence's end."""
    k = tl.program_id(0).to(tl.int64)
    start, stop, real = tl.load(table + k * 3), tl.load(table + k * 3 + 1), tl.load(table + k * 3 + 2)
    if stop <= start:
        return
    q, h = tl.arange(0, Q), tl.program_id(1) * BH + tl.arange(0, BH)
    t = start + q
    read = (t < real)[:, None] & (h < H)[None, :]
    step = tl.load(dt + t[:, None] * dt_t + h[None, :] * dt_h, read, 0.0).to(tl.float32)
    rate = tl.load(A + h, h < H, 0.0).to(tl.float32)
    running = tl.cumsum(step * rate[None, :], 0)
    at = (k * H + h[None, :]) * Q + q[:, None]
    tl.store(steps + at, step, (h < H)[None, :] & (q >= 0)[:, None])
    tl.store(cum + at, running, (h < H)[None, :] & (q >= 0)[:, None])


@triton.jit
def gain_states(
    x, b, steps, cum, gain, table, x_t, x_h, x_p, b_t, b_g, b_n,
    H, P, N, RATIO: tl.constexpr, HEADS: tl.constexpr, BACKWARD: tl.constexpr,
    Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write what each chunk adds to its state, `[K, H, P, N]`: sum over q of w_q x_q B_q^T.

    Forward, w is dt exp(cum_Q - cum_q). Backward, x is the output's gradient, b is C and w is exp(cum_q).
    """
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, real = tl.load(table + k * 3), tl.load(table + k * 3 + 2)
    if real <= start:
        return
    head = block * HEADS
    group = head // RATIO
    q, p, n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    t = start + q
    b_at = b + start * b_t + group * b_g + (q[:, None] * b_t + n[None, :] * b_n)
    b_QN = tl.load(b_at, (t < real)[:, None] & (n < N)[None, :], 0.0).to(DOT)
    for i in range(HEADS):
        h = head + i
        row = (k * H + h) * Q
        x_at = x + start * x_t + h * x_h + (q[:, None] * x_t + p[None, :] * x_p)
        x_QP = tl.load(x_at, (t < real)[:, None] & (p < P)[None, :], 0.0).to(tl.float32)
        cum_Q = tl.load(cum + row + q)
        if BACKWARD:
            weight = tl.exp(cum_Q)
        else:
            weight = tl.exp(tl.load(cum + row + Q - 1) - cum_Q) * tl.load(steps + row + q)
        added = _dot(tl.trans(x_QP * weight[:, None]), b_QN, DOT)
        at = gain + (k * H + h) * P * N + (p[:, None] * N + n[None, :])
        tl.store(at, added, (p < P)[:, None] & (n < N)[None, :])


@triton.jit
def pass_states(gain, states, first, last, entering, dots, cum, firsts, H, SIZE, REVERSE: tl.constexpr,
                Q: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Write the states that enter chunks (in reverse: gradients of those that leave) from what chunks gain.

    `first` `[S, H, P N]` is where a sequence starts from, `last` where it ends up. In reverse, a program also
    writes its part of the product of a chunk's `entering` state and its leaving one's gradient, to `dots`
    `[K, H, blocks]`.
    """
    s, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    e = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = e < SIZE
    state = tl.load(first + (s * H + h) * SIZE + e, inside, 0.0)
    begin, end = tl.load(firsts + s), tl.load(firsts + s + 1)
    for step in range(begin, end):
        k = (end - 1 - (step - begin)) if REVERSE else step
        at = (k * H + h) * SIZE + e
        added = tl.load(gain + at, inside, 0.0)
        tl.store(states + at, state.to(states.dtype.element_ty), inside)
        if REVERSE:
            held = tl.load(entering + at, inside, 0.0).to(tl.float32)
            dot_at = dots + (k * H + h) * tl.num_programs(2) + tl.program_id(2)
            tl.store(dot_at, tl.sum(held * state, 0))
        state = state * tl.exp(tl.load(cum + (k * H + h) * Q + Q - 1)) + added
    tl.store(last + (s * H + h) * SIZE + e, state, inside)


@triton.jit
def scan_chunks(
    x, b, c, D, steps, cum, states, y, table, x_t, x_h, x_p, b_t, b_g, b_n, c_t, c_g, c_n,
    H, P, N, RATIO: tl.constexpr, HEADS: tl.constexpr,
    Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write y `[L, H, P]` from the states entering chunks."""
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop, real = tl.load(table + k * 3), tl.load(table + k * 3 + 1), tl.load(table + k * 3 + 2)
    if stop <= start:
        return
    head = block * HEADS
    group = head // RATIO
    q, p, n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    t = start + q
    read_QN = (t < real)[:, None] & (n < N)[None, :]
    b_QN = tl.load(b + start * b_t + group * b_g + (q[:, None] * b_t + n[None, :] * b_n), read_QN, 0.0).to(
        DOT
    )
    c_QN = tl.load(c + start * c_t + group * c_g + (q[:, None] * c_t + n[None, :] * c_n), read_QN, 0.0).to(
        DOT
    )
    scores = _dot(c_QN, tl.trans(b_QN), DOT)
    past = q[:, None] >= q[None, :]
    for i in range(HEADS):
        h = head + i
        row = (k * H + h) * Q
        x_at = x + start * x_t + h * x_h + (q[:, None] * x_t + p[None, :] * x_p)
        x_QP = tl.load(x_at, (t < real)[:, None] & (p < P)[None, :], 0.0).to(tl.float32)
        cum_Q, step_Q = tl.load(cum + row + q), tl.load(steps + row + q)
        seen = tl.exp(tl.where(past, cum_Q[:, None] - cum_Q[None, :], float("-inf")))
        out = _dot(scores * seen * step_Q[None, :], x_QP, DOT)
        s_at = states + (k * H + h) * P * N + (p[:, None] * N + n[None, :])
        s_PN = tl.load(s_at, (p < P)[:, None] & (n < N)[None, :] & (real > start), 0.0)
        out += _dot(c_QN, tl.trans(s_PN), DOT) * tl.exp(cum_Q)[:, None]
        out += x_QP * tl.load(D + h).to(tl.float32)
        y_at = y + (start * H + h) * P + (q[:, None] * H * P + p[None, :])
        tl.store(y_at, out.to(y.dtype.element_ty), (t < stop)[:, None] & (p < P)[None, :])


@triton.jit
def inputs_backward(
    x, b, c, A, D, dy, steps, cum, entering, leaving, dots, dx, ddt, d_scores, da, dd, table,
    x_t, x_h, x_p, b_t, b_g, b_n, c_t, c_g, c_n, dy_t, dy_h, dy_p,
    H, P, N, BLOCKS, RATIO: tl.constexpr, HEADS: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr,
    Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a chunk's x and dt, of C B^T, and of A and D in parts.

    Args that are not obvious: `entering` states and the gradients of the `leaving` ones, `[K, H, P, N]`, and
    the BLOCKS parts of their product, `dots`; `d_scores` `[K, H / HEADS, Q, Q]`; `da` and `dd` `[K, H]`.
    """
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop, real = tl.load(table + k * 3), tl.load(table + k * 3 + 1), tl.load(table + k * 3 + 2)
    if stop <= start:
        return
    head = block * HEADS
    group = head // RATIO
    q, p, n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BK)
    t = start + q
    read_QP = (t < real)[:, None] & (p < P)[None, :]
    b_at = b + start * b_t + group * b_g + (q[:, None] * b_t + n[None, :] * b_n)
    c_at = c + start * c_t + group * c_g + (q[:, None] * c_t + n[None, :] * c_n)
    scores = tl.zeros((Q, Q), tl.float32)
    for j in range(0, BN, BK):
        read_QK = (t < real)[:, None] & (j + n < N)[None, :]
        c_QK = tl.load(c_at + j * c_n, read_QK, 0.0)
        scores += _dot(c_QK, tl.trans(tl.load(b_at + j * b_n, read_QK, 0.0)), DOT)
    past = q[:, None] >= q[None, :]
    summed = tl.zeros((Q, Q), tl.float32)
    for i in range(HEADS):
        h = head + i
        row = (k * H + h) * Q
        cum_Q, step_Q = tl.load(cum + row + q), tl.load(steps + row + q)
        last = tl.load(cum + row + Q - 1)
        x_QP = tl.load(x + start * x_t + h * x_h + (q[:, None] * x_t + p[None, :] * x_p), read_QP, 0.0).to(
            tl.float32
        )
        dy_QP = tl.load(
            dy + start * dy_t + h * dy_h + (q[:, None] * dy_t + p[None, :] * dy_p), read_QP, 0.0
        ).to(tl.float32)

        # y = C state exp(cum): of cum. The leaving state: of x dt, of cum. By BK columns: registers are few.
        read_states = tl.zeros((Q, BP), tl.float32)
        du_QP = tl.zeros((Q, BP), tl.float32)
        at_PK = (k * H + h) * P * N + (p[:, None] * N + n[None, :])
        for j in range(0, BN, BK):
            read_QK = (t < real)[:, None] & (j + n < N)[None, :]
            read_PK = (p < P)[:, None] & (j + n < N)[None, :] & (real > start)
            in_PK = tl.load(entering + at_PK + j, read_PK, 0.0)
            read_states += _dot(tl.load(c_at + j * c_n, read_QK, 0.0), tl.trans(in_PK), DOT)
            out_PK = tl.load(leaving + at_PK + j, read_PK, 0.0)
            du_QP += _dot(tl.load(b_at + j * b_n, read_QK, 0.0), tl.trans(out_PK), DOT)
        d_decay = tl.cumsum(tl.sum(dy_QP * read_states, 1) * tl.exp(cum_Q), 0, reverse=True)
        du_QP *= tl.exp(last - cum_Q)[:, None]
        kept = tl.sum(du_QP * x_QP, 1) * step_Q
        part = tl.arange(0, BD)
        dot_at = dots + (k * H + h) * BLOCKS + part
        product = tl.sum(tl.load(dot_at, (part < BLOCKS) & (real > start), 0.0), 0)
        d_decay += tl.cumsum(kept, 0) - kept + tl.exp(last) * product
        # Within the chunk. The gradient of dt_k A counts each pair of a row i >= k and a column j < k: summed
        # as it stands, for the row sums less column sums that equal it cancel badly in bf16.
        seen = tl.exp(tl.where(past, cum_Q[:, None] - cum_Q[None, :], float("-inf")))
        du_QP += _dot(tl.trans(scores * seen), dy_QP, DOT)
        d_mixer = _dot(dy_QP, tl.trans(x_QP), DOT) * seen * step_Q[None, :]
        summed += d_mixer
        d_mixer *= scores
        before = tl.cumsum(d_mixer, 1) - d_mixer
        d_decay += tl.sum(tl.where(past, before, 0.0), 0)

        write_Q = t < stop
        d_step = d_decay * tl.load(A + h).to(tl.float32) + tl.sum(du_QP * x_QP, 1)
        tl.store(ddt + t * H + h, d_step, write_Q)
        dx_QP = du_QP * step_Q[:, None] + dy_QP * tl.load(D + h).to(tl.float32)
        dx_at = dx + (start * H + h) * P + (q[:, None] * H * P + p[None, :])
        tl.store(dx_at, dx_QP.to(dx.dtype.element_ty), write_Q[:, None] & (p < P)[None, :])
        tl.store(da + k * H + h, tl.sum(d_decay * step_Q, 0))
        tl.store(dd + k * H + h, tl.sum(tl.sum(dy_QP * x_QP, 1), 0))
    at = d_scores + ((k * tl.num_programs(1) + block) * Q + q[:, None]) * Q + q[None, :]
    tl.store(at, summed)


@triton.jit
def projections_backward(
    x, b, c, dy, steps, cum, entering, leaving, d_scores, db, dc, table,
    x_t, x_h, x_p, b_t, b_g, b_n, c_t, c_g, c_n, dy_t, dy_h, dy_p, part,
    H, P, N, GROUPS, RATIO: tl.constexpr, HEADS: tl.constexpr,
    Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of B and C, `[programs a group, L, G, N]`, `part` elements a program."""
    k, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, stop, real = tl.load(table + k * 3), tl.load(table + k * 3 + 1), tl.load(table + k * 3 + 2)
    if stop <= start:
        return
    head = block * HEADS
    group = head // RATIO
    q, p, n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    t = start + q
    read_QP = (t < real)[:, None] & (p < P)[None, :]
    read_PN = (p < P)[:, None] & (n < N)[None, :] & (real > start)
    db_QN = tl.zeros((Q, BN), tl.float32)
    dc_QN = tl.zeros((Q, BN), tl.float32)
    for i in range(HEADS):
        h = head + i
        row = (k * H + h) * Q
        cum_Q = tl.load(cum + row + q)
        at_PN = (k * H + h) * P * N + (p[:, None] * N + n[None, :])
        dy_QP = tl.load(
            dy + start * dy_t + h * dy_h + (q[:, None] * dy_t + p[None, :] * dy_p), read_QP, 0.0
        ).to(tl.float32)
        dc_QN += _dot(dy_QP * tl.exp(cum_Q)[:, None], tl.load(entering + at_PN, read_PN, 0.0), DOT)
        weight = tl.exp(tl.load(cum + row + Q - 1) - cum_Q) * tl.load(steps + row + q)
        x_QP = tl.load(x + start * x_t + h * x_h + (q[:, None] * x_t + p[None, :] * x_p), read_QP, 0.0).to(
            tl.float32
        )
        db_QN += _dot(x_QP * weight[:, None], tl.load(leaving + at_PN, read_PN, 0.0), DOT)
    read_QN = (t < real)[:, None] & (n < N)[None, :]
    b_QN = tl.load(b + start * b_t + group * b_g + (q[:, None] * b_t + n[None, :] * b_n), read_QN, 0.0)
    c_QN = tl.load(c + start * c_t + group * c_g + (q[:, None] * c_t + n[None, :] * c_n), read_QN, 0.0)
    of_scores = tl.load(d_scores + ((k * tl.num_programs(1) + block) * Q + q[:, None]) * Q + q[None, :])
    dc_QN += _dot(of_scores, b_QN, DOT)
    db_QN += _dot(tl.trans(of_scores), c_QN, DOT)
    slot = (block % (RATIO // HEADS)).to(tl.int64) * part
    at = slot + (start * GROUPS + group) * N + (q[:, None] * GROUPS * N + n[None, :])
    write_QN = (t < stop)[:, None] & (n < N)[None, :]
    tl.store(db + at, db_QN.to(db.dtype.element_ty), write_QN)
    tl.store(dc + at, dc_QN.to(dc.dtype.element_ty), write_QN)
