"""The Mamba-2 mixer (arXiv 2405.21060) with gated group RMSNorm.

Shapes: L packed tokens, D width, C conv channels, H heads, P head dim, G groups, N state size; n rows of a
decode step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rolloom.kernels import invariant
from rolloom.kernels.conv1d.op import causal_conv1d, causal_conv1d_update
from rolloom.kernels.dispatch import invariant_mode
from rolloom.kernels.linear.op import linear
from rolloom.kernels.norm.op import gated_group_rms_norm
from rolloom.kernels.packing import Packing
from rolloom.kernels.ssd.op import ssd_scan_packed, ssd_update
from rolloom.policy.cache import MambaState, ReplayedMambaState
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import RMSNorm, shared
from rolloom.policy.rollback import Trail


class MambaMixer(nn.Module):
    """Projections, causal convolution, scan, norm."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        c, heads = config, config.mamba_num_heads
        self.in_proj = nn.Linear(c.hidden_size, c.d_inner + c.conv_dim + heads, bias=c.use_bias)
        self.conv1d = nn.Conv1d(
            c.conv_dim, c.conv_dim, c.conv_kernel, groups=c.conv_dim, bias=c.use_conv_bias
        )
        self.dt_bias = nn.Parameter(torch.ones(heads))
        self.A_log = nn.Parameter(torch.log(torch.arange(1, heads + 1).float()))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = RMSNorm(c.d_inner, c.layer_norm_epsilon)
        self.out_proj = nn.Linear(c.d_inner, c.hidden_size, bias=c.use_bias)

    def forward(
        self,
        x: torch.Tensor,
        packing: Packing,
        state: MambaState | ReplayedMambaState | None = None,
        rows: slice | None = None,
        trail: Trail | None = None,
    ) -> torch.Tensor:
        """`[L, D]` to `[L, D]`, each packed sequence on its own.

        Args:
            x: packed tokens.
            packing: of the L tokens.
            state: continued and overwritten, a row a sequence; None starts every sequence anew and keeps
                nothing.
            rows: of the state.
            trail: receives what it takes to keep only the first of these tokens.
        """
        gate, conv_in, dt = self._project(x, packing)
        weight = shared(self.conv1d.weight.squeeze(1), packing)
        bias = None if self.conv1d.bias is None else shared(self.conv1d.bias, packing)
        bounds = packing.cu_seqlens(x.device)
        if state is None or rows is None:
            conv_out = causal_conv1d(conv_in[None], weight, bias, cu_seqlens=bounds)
            y = self._scan(conv_out[0], dt, packing)[0]
            return self._finish(y, gate, packing)
        if trail is not None:
            conv_out = trail.convolve(state, rows, conv_in, weight, bias)
            return self._finish(trail.scan(*self._scanned(conv_out, dt)), gate, packing)
        conv_out, tail = causal_conv1d(
            conv_in[None], weight, bias, state.conv[rows], bounds, final_state=True
        )
        state.conv[rows] = tail
        if isinstance(state, ReplayedMambaState):
            y = state.replay.feed(*self._scanned(conv_out[0], dt), packing.cu_seqlens(), indices(rows))
        else:
            y, state.ssm[rows] = self._scan(conv_out[0], dt, packing, state.ssm[rows])
        return self._finish(y, gate, packing)

    def decode(self, x: torch.Tensor, state: MambaState | ReplayedMambaState, rows: slice) -> torch.Tensor:
        """`[n, D]` to `[n, D]`, one token to each of the rows of the state, which is overwritten."""
        gate, conv_in, dt = self._project(x, None)
        conv = state.conv[rows]
        conv_out = causal_conv1d_update(conv, conv_in, self.conv1d.weight.squeeze(1), self.conv1d.bias)
        scanned = self._scanned(conv_out, dt)
        if isinstance(state, ReplayedMambaState):
            return self._finish(state.replay.step(*scanned, indices(rows)), gate, None)
        return self._finish(ssd_update(state.ssm[rows], *scanned), gate, None)

    def _project(
        self, x: torch.Tensor, packing: Packing | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c = self.config
        bounds = packing.bounds if packing else None
        projected = linear(x, self.in_proj.weight, self.in_proj.bias, bounds)
        gate, conv_in, dt = projected.split([c.d_inner, c.conv_dim, c.mamba_num_heads], -1)
        softplus = invariant.softplus if invariant_mode(x) else F.softplus
        return gate, conv_in, softplus(dt + shared(self.dt_bias, packing)).clamp(min=c.time_step_min)

    def _split(self, conv_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c = self.config
        state = c.n_groups * c.ssm_state_size
        x, b, c_out = conv_out.split([c.d_inner, state, state], -1)
        return (
            x.unflatten(-1, (c.mamba_num_heads, c.mamba_head_dim)),
            b.unflatten(-1, (c.n_groups, c.ssm_state_size)),
            c_out.unflatten(-1, (c.n_groups, c.ssm_state_size)),
        )

    def _scanned(
        self, conv_out: torch.Tensor, dt: torch.Tensor, packing: Packing | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        x, b, c = self._split(conv_out)
        decay = -shared(self.A_log, packing).float().exp()
        return x, dt, decay, b, c, shared(self.D, packing)

    def _scan(
        self, conv_out: torch.Tensor, dt: torch.Tensor, packing: Packing, states: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = self._scanned(conv_out, dt, packing)
        return ssd_scan_packed(*inputs, packing.cu_seqlens(conv_out.device), states)

    def _finish(self, y: torch.Tensor, gate: torch.Tensor, packing: Packing | None) -> torch.Tensor:
        c = self.config
        weight = shared(self.norm.weight, packing)
        mixed = gated_group_rms_norm(y.flatten(-2), gate, weight, c.n_groups, c.layer_norm_epsilon)
        return linear(mixed, self.out_proj.weight, self.out_proj.bias, packing.bounds if packing else None)


def indices(rows: slice) -> torch.Tensor:
    """Return the row numbers of a slice with bounds."""
    return torch.arange(rows.start, rows.stop)
