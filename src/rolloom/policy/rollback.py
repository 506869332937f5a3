"""Feeding tokens that may be taken back: what a pass over drafted tokens keeps until it is known which stay.

Keys and values need nothing: a shorter length hides them. A Mamba-2 layer cannot forget, so during such a
pass its state stays where it was, and its inputs are kept. `Trail.keep` then moves the state over the tokens
that stay, in one weighted sum, since the state after m tokens is

    S_m = exp(sum_{j <= m} a_j) S_0 + sum_{j <= m} exp(sum_{j < i <= m} a_i) dt_j x_j B_j^T.

Neither a copy of the state a token nor a second pass is needed. States that replay the scan's arithmetic
(`kernels/ssd/replay.py`) hold their inputs themselves and take tokens back; where those reach behind a
chunk's boundary the row is set back and its inputs are fed again.

Shapes: n rows, T tokens fed to each, C conv channels, k conv kernel, H heads, P head dim, G groups,
R = H / G, N state size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rolloom.kernels.conv1d.op import causal_conv1d
from rolloom.kernels.dispatch import on_cpu
from rolloom.policy.cache import DecodeCache, MambaState, ReplayedMambaState


@dataclass(slots=True)
class _Layer:
    """One Mamba-2 layer: its state, and the inputs of the pass.

    Attributes:
        state: of the layer.
        window: convolution inputs, `[n, k - 1 + T, C]`, the old state's first.
        inputs: x `[n * T, H, P]`, dt `[n * T, H]`, A `[H]`, B, C and D of the scan.
        saved: copies of a replayed state's tensors as they were.
    """

    state: MambaState | ReplayedMambaState
    window: torch.Tensor
    inputs: tuple[torch.Tensor, ...] = ()
    saved: tuple[torch.Tensor, ...] = ()


class Trail:
    """What one pass over rows `0..n` of a cache leaves behind; all rows are fed equally many tokens.

    Args:
        cache: that the pass writes to.
        rows: n.
        tokens: T.
    """

    def __init__(self, cache: DecodeCache, rows: int, tokens: int) -> None:
        self.cache, self.rows, self.tokens = cache, rows, tokens
        self._layers: list[_Layer] = []

    def convolve(
        self, state: MambaState | ReplayedMambaState, rows: slice, conv_in: torch.Tensor,
        weight: torch.Tensor, bias: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """Note a layer's convolution inputs `[n * T, C]`, and return its convolution's outputs."""
        assert rows == slice(0, self.rows), "a trail takes rows 0..n"
        wide = conv_in.unflatten(0, (self.rows, self.tokens))
        self._layers.append(_Layer(state, torch.cat((state.conv[rows], wide), 1)))
        # For so few tokens shifted multiply-adds are cheapest.
        backend = None if conv_in.is_cuda else on_cpu(conv_in)
        out = causal_conv1d(wide, weight, bias, state.conv[rows], backend=backend)
        assert isinstance(out, torch.Tensor)
        return out.flatten(0, 1)

    def scan(
        self, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
        D: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return the outputs `[n * T, H, P]` of the layer noted last; its state stays where it was."""
        layer = self._layers[-1]
        layer.inputs = (x, dt, A, B, C, D)
        state = layer.state
        if isinstance(state, ReplayedMambaState):
            layer.saved = tuple(tensor[: self.rows].clone() for tensor in state.replay.tensors())
            bounds = torch.arange(self.rows + 1) * self.tokens
            return state.replay.feed(*layer.inputs, bounds, torch.arange(self.rows))
        wide = [each.unflatten(0, (self.rows, self.tokens)) for each in (x, dt, B, C)]
        y = scan_few(wide[0], wide[1], A, wide[2], wide[3], state.ssm[: self.rows]).flatten(0, 1)
        return (y + x * D[:, None]).to(x.dtype)

    def keep(self, counts: torch.Tensor) -> None:
        """Keep the first `counts` `[n]` of each row's tokens, at least one, and forget the others."""
        rows = slice(0, self.rows)
        self.cache.lengths[rows] += counts - self.tokens
        for layer in self._layers:
            width = layer.state.conv.shape[1]
            at = counts[:, None] + torch.arange(width, device=counts.device)
            layer.state.conv[rows] = layer.window.gather(
                1, at[..., None].expand(-1, -1, layer.window.shape[2])
            )
            if isinstance(layer.state, ReplayedMambaState):
                self._take_back(layer, layer.state, counts)
            else:
                x, dt, A, B = layer.inputs[:4]
                wide = [each.unflatten(0, (self.rows, self.tokens)) for each in (x, dt, B)]
                move(layer.state.ssm[rows], wide[0], wide[1], A, wide[2], counts)

    def _take_back(self, layer: _Layer, state: ReplayedMambaState, counts: torch.Tensor) -> None:
        replay, back = state.replay, self.tokens - counts
        far: list[int] = []
        for row, tokens in enumerate(back.tolist()):
            if tokens > int(replay.position[row]):
                far.append(row)
            elif tokens:
                replay.take_back(tokens, torch.tensor([row]))
        if not far:
            return
        at = torch.tensor(far)
        for tensor, saved in zip(replay.tensors(), layer.saved, strict=True):
            tensor[at] = saved[at]
        x, dt, A, B, C, D = layer.inputs
        kept = torch.cat([row * self.tokens + torch.arange(int(counts[row])) for row in far])
        bounds = torch.cat((torch.zeros(1, dtype=torch.int64), counts[at].cumsum(0)))
        replay.feed(x[kept], dt[kept], A, B[kept], C[kept], D, bounds, at)


def scan_few(
    x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    """Scan a few tokens from a state, without the D x term, as one chunk of the Mamba-2 paper's algorithm.

    Args:
        x: `[n, T, H, P]`.
        dt: `[n, T, H]`.
        A: `[H]`.
        B: `[n, T, G, N]`.
        C: `[n, T, G, N]`.
        state: `[n, H, P, N]`, fp32, which is left as it is.

    Returns:
        `[n, T, H, P]`, fp32.
    """
    groups = B.shape[2]
    steps = dt.float()
    total = (steps * A).cumsum(1).transpose(1, 2).unflatten(1, (groups, -1))  # [n, G, R, T]
    gaps = total[..., :, None] - total[..., None, :]
    later = torch.ones(gaps.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
    decay = gaps.masked_fill(later, float("-inf")).exp()
    c = C.float().transpose(1, 2)  # [n, G, T, N]
    weights = (c @ B.float().permute(0, 2, 3, 1))[:, :, None] * decay
    inputs = (x.float() * steps[..., None]).transpose(1, 2).unflatten(1, (groups, -1))  # [n, G, R, T, P]
    held = state.unflatten(1, (groups, -1))  # [n, G, R, P, N]
    carried = (c @ held.flatten(2, 3).mT).unflatten(-1, held.shape[2:4])  # [n, G, T, R, P]
    y = weights @ inputs + carried.transpose(2, 3) * total.exp()[..., None]
    return y.flatten(1, 2).transpose(1, 2)


def move(
    state: torch.Tensor, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor,
    counts: torch.Tensor,
) -> None:  # fmt: skip
    """Advance states `[n, H, P, N]` in place by the first `counts` `[n]` tokens; shapes as in `scan_few`."""
    groups = B.shape[2]
    kept = torch.arange(x.shape[1], device=x.device) < counts[:, None]
    steps = dt.float() * kept[..., None]
    total = (steps * A).cumsum(1)
    weights = steps * (total[:, -1:] - total).exp()
    inputs = (x.float() * weights[..., None]).unflatten(2, (groups, -1)).flatten(3)  # [n, T, G, R * P]
    gain = inputs.permute(0, 2, 3, 1) @ B.float().transpose(1, 2)  # [n, G, R * P, N]
    state.mul_(total[:, -1].exp()[..., None, None]).add_(gain.view(state.shape))
