"""SSD scan on a CPU with its own backward pass: fewer copies than autograd makes, no [Q, Q] matrix kept.

Memory is used again where it can be: fresh pages cost more here than the arithmetic on them. Kept for the
backward pass: the inputs, the output and the states entering chunks (L / Q states; recomputing them costs a
product and the loop over chunks). The decay matrices are computed again.

Shapes: L packed tokens, S sequences, H heads, P head dim, G groups, R = H / G heads a group, N state size,
    K chunks of Q tokens. "Token-major" is `[K, Q, H, P]`, "head-major" `[K, H, Q, P]`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from rolloom.kernels.ssd import layout

CHUNK = 32


def ssd_scan_cpu(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_reference` returns."""
    batch, length = x.shape[:2]
    grid = layout.dense(batch, length, chunk)
    xs, steps, bs, cs = (t.flatten(0, 1) for t in (x, dt, B, C))
    y, final = _run(xs, steps, bs, cs, A, D, initial_state, grid)
    return y.view(x.shape), final


def ssd_scan_packed_cpu(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_states: torch.Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_packed_reference` returns."""
    return _run(x, dt, B, C, A, D, initial_states, layout.packed(cu_seqlens, len(x), chunk))


def _run(
    x: torch.Tensor,
    dt: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    initial: torch.Tensor | None,
    grid: layout.Grid,
) -> tuple[torch.Tensor, torch.Tensor]:
    exact = torch.promote_types(x.dtype, torch.float32)
    if initial is None:
        initial = x.new_zeros(grid.sequences, *x.shape[1:], B.shape[-1], dtype=exact)
    return _Scan.apply(x, dt, B, C, A, D, initial, grid, exact)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, dt: torch.Tensor, B: torch.Tensor, C: torch.Tensor, A: torch.Tensor,
        D: torch.Tensor, initial: torch.Tensor, grid: layout.Grid, exact: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        part = _Parts(grid, exact, x, dt, B, C, A)
        mixer, scores = part.mixer()
        mixer.view(part.square).mul_(scores[:, :, None])
        scratch = part.xs * part.to_end[..., None]
        gain = torch.matmul(part.bs.mT, part.grouped(scratch))
        inner = torch.matmul(mixer, part.u, out=scratch.view(part.u.shape))
        entering, final = _pass_on(grid, gain, part.decay, part.inward(initial))
        y = part.tokens(torch.matmul(part.cs, entering))
        y.mul_(part.grown[..., None]).add_(inner.transpose(1, 2)).addcmul_(part.xs, D.to(exact)[:, None])
        ctx.save_for_backward(x, dt, B, C, A, D, y, entering)
        ctx.grid, ctx.exact = grid, exact
        return grid.gather(y, len(x)).to(x.dtype, copy=True), part.outward(final)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor, d_final: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, dt, B, C, A, D, y, entering = ctx.saved_tensors
        grid, exact, length = ctx.grid, ctx.exact, len(x)
        part = _Parts(grid, exact, x, dt, B, C, A)
        xs, skip = part.xs, D.to(exact)
        dys = grid.spread(dy.to(exact))

        scratch = dys * part.grown[..., None]
        pulled = part.grouped(scratch)
        gain = torch.matmul(part.cs.mT, pulled)
        leaving, d_initial = _pass_on(grid, gain, part.decay, part.inward(d_final), True)
        d_c = torch.matmul(pulled, entering.mT)
        torch.mul(xs, part.to_end[..., None], out=scratch)
        d_b = torch.matmul(part.grouped(scratch), leaving.mT)
        d_u = part.tokens(torch.matmul(part.bs, leaving)).mul_(part.falling[..., None])
        kept = torch.mul(d_u, xs, out=scratch).sum(-1)

        dy_h = _head_major(dys)
        mixer, scores = part.mixer()
        d_mixer = torch.matmul(dy_h, part.u.mT).mul_(mixer).view(part.square)
        d_scores = d_mixer.squeeze(2) if d_mixer.shape[2] == 1 else d_mixer.sum(2)
        mixer.view(part.square).mul_(scores[:, :, None])
        d_u.add_(torch.matmul(mixer.mT, dy_h, out=part.u).transpose(1, 2))
        d_c += torch.matmul(d_scores, part.bs)
        d_b += torch.matmul(d_scores.mT, part.cs)

        # y is linear in exp(cum_t) of its own token and in exp(-cum_j) of every token it reads, the state a
        # chunk leaves in exp(cum_Q) too: so the gradient of cum needs no [Q, Q] matrix.
        along = torch.mul(d_u, xs, out=scratch).sum(-1)
        skipped = torch.mul(dys, xs, out=scratch).sum(-1)
        d_cum = torch.mul(dys, y, out=scratch).sum(-1)
        d_cum.sub_(skipped * skip).sub_(along * part.steps)
        d_decay = d_cum.flip(1).cumsum(1).flip(1)
        d_decay += (part.state_dot(leaving, entering) + (kept * part.steps).sum(1))[:, None]
        grads = (
            torch.mul(dys, skip[:, None], out=scratch).addcmul_(d_u, part.steps[..., None]),
            torch.addcmul(along, d_decay, part.a), d_b.transpose(1, 2), d_c.transpose(1, 2),
        )  # fmt: skip
        back = [
            grid.gather(grad, length).to(given.dtype)
            for grad, given in zip(grads, (x, dt, B, C), strict=True)
        ]
        d_a = (d_decay * part.steps).sum((0, 1)).to(A.dtype)
        return *back, d_a, skipped.sum((0, 1)).to(D.dtype), part.outward(d_initial), None, None


class _Parts:
    """Inputs by chunk, and what both passes compute of them.

    Attributes:
        xs: x, `[K, Q, H, P]`.
        steps: dt, `[K, Q, H]`.
        bs: B, `[K, G, Q, N]`.
        cs: C, like B.
        a: A.
        cum: running sums of dt A, head-major `[K, H, Q]`.
        grown: exp of them, `[K, Q, H]`: what is left of the entering state.
        falling: exp(cum_Q - cum), `[K, Q, H]`: what is left of an input at its chunk's end.
        to_end: dt times that.
        decay: exp(cum_Q) as states are laid out, `[K, G, 1, R P]`.
        u: x dt, head-major.
        square: `(K, G, R, Q, Q)`.
    """

    def __init__(
        self, grid: layout.Grid, exact: torch.dtype, x: torch.Tensor, dt: torch.Tensor, B: torch.Tensor,
        C: torch.Tensor, A: torch.Tensor,
    ) -> None:  # fmt: skip
        self.exact, self.a = exact, A.to(exact)
        self.xs, self.steps = grid.spread(x).to(exact).contiguous(), grid.spread(dt.to(exact))
        self.bs, self.cs = (grid.spread(t).to(exact).transpose(1, 2).contiguous() for t in (B, C))
        count, chunk, heads, head_dim = self.xs.shape
        self.groups, self.state_size = self.bs.shape[1], self.bs.shape[3]
        ratio = heads // self.groups
        self.wide, self.square = ratio * head_dim, (count, self.groups, ratio, chunk, chunk)
        cum = (self.steps * self.a).cumsum(1)
        self.grown, self.falling = cum.exp(), (cum[:, -1:] - cum).exp_()
        self.to_end = self.falling * self.steps
        last = self.grown[:, -1].reshape(count, self.groups, 1, ratio, 1)
        self.decay = last.expand(-1, -1, -1, -1, head_dim).reshape(count, self.groups, 1, self.wide)
        self.cum = cum.transpose(1, 2).contiguous()
        self.u = _head_major(self.xs, self.steps[..., None])

    def mixer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return exp(cum_i - cum_j) for j <= i, else 0, `[K, H, Q, Q]`, and C B^T, `[K, G, Q, Q]`."""
        chunk = self.cum.shape[-1]
        never = torch.full((chunk, chunk), float("-inf"), dtype=self.exact).triu_(1)
        gap = self.cum[..., :, None] - self.cum[..., None, :]
        return gap.add_(never).exp_(), torch.matmul(self.cs, self.bs.mT)

    def grouped(self, tokens: torch.Tensor) -> torch.Tensor:
        """Lay `[K, Q, H, P]` out by group, `[K, G, Q, R P]`."""
        return tokens.reshape(*tokens.shape[:2], self.groups, self.wide).transpose(1, 2).contiguous()

    def tokens(self, grouped: torch.Tensor) -> torch.Tensor:
        """Undo `grouped`."""
        return grouped.transpose(1, 2).contiguous().view(self.xs.shape)

    def inward(self, state: torch.Tensor) -> torch.Tensor:
        """Lay `[S, H, P, N]` out as chunks have it, `[S, G, N, R P]`."""
        return state.to(self.exact).reshape(len(state), self.groups, self.wide, self.state_size).mT

    def outward(self, state: torch.Tensor) -> torch.Tensor:
        """Undo `inward`."""
        return state.mT.reshape(len(state), *self.xs.shape[2:], self.state_size)

    def state_dot(self, leaving: torch.Tensor, entering: torch.Tensor) -> torch.Tensor:
        """Sum the product of two states `[K, G, N, R P]` by head, times exp(cum_Q): `[K, H]`.

        Overwrites the first.
        """
        product = leaving.mul_(entering).sum(2).mul_(self.decay[:, :, 0])
        return product.view(len(product), *self.xs.shape[2:]).sum(-1)


def _head_major(tokens: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
    count, chunk, heads, head_dim = tokens.shape
    out = tokens.new_empty(count, heads, chunk, head_dim)
    if factor is None:
        return out.copy_(tokens.transpose(1, 2))
    return torch.mul(tokens.transpose(1, 2), factor.transpose(1, 2), out=out)


def _pass_on(
    grid: layout.Grid, gain: torch.Tensor, decay: torch.Tensor, state: torch.Tensor, backwards: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states entering chunks, from what chunks gain, and the last of each sequence.

    Backwards: gradients of the states leaving chunks, and of the first of each sequence.
    """
    waves = grid.waves[::-1] if backwards else grid.waves
    entering = torch.empty_like(gain)
    if not waves:
        return entering, state.contiguous()
    if grid.order is None:
        held = entering[waves[0]].copy_(state)
        for wave, following in pairwise(waves):
            held = torch.addcmul(gain[wave], held, decay[wave], out=entering[following])
        return entering, torch.addcmul(gain[waves[-1]], held, decay[waves[-1]])
    state = state[grid.order]
    for wave in waves:
        step = gain[wave]
        running = state[: len(step)]
        entering[wave] = running
        running.copy_(torch.addcmul(step, running, decay[wave]))
    return entering, state[grid.order.argsort()]
