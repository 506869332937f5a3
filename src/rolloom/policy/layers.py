"""Parts that every mixer uses, and the MLP. Names and shapes are those of transformers' `nemotron_h`.

Mixers take packed tokens `[L, D]` and their packing; with a state they continue cached rows and overwrite
them. `decode` feeds one token a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import invariant_mode
from rolloom.kernels.linear.op import linear
from rolloom.kernels.norm.op import rms_norm
from rolloom.kernels.packing import Packing
from rolloom.policy.config import HybridConfig


def shared(parameter: torch.Tensor, packing: Packing | None) -> torch.Tensor:
    """Return a parameter as operations take it: in deterministic mode on a CPU, with gradients by sequence.

    There it is given to each token on its own, `[L, *shape]`, so that gradients add up sequence by sequence.
    """
    if packing is None or not torch.is_grad_enabled() or not invariant_mode(parameter):
        return parameter
    return invariant.spread(parameter, packing.bounds, packing.tokens)


class RMSNorm(nn.Module):
    """RMS norm with a weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor, packing: Packing | None = None) -> torch.Tensor:
        """Normalise the last dimension of `[L, D]`."""
        return rms_norm(x, shared(self.weight, packing), self.eps)


class MLP(nn.Module):
    """Ungated relu^2 MLP."""

    def __init__(self, config: HybridConfig, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: torch.Tensor, packing: Packing | None = None) -> torch.Tensor:
        """`[L, D]` to `[L, D]`."""
        bounds = packing.bounds if packing else None
        hidden = F.relu(linear(x, self.up_proj.weight, self.up_proj.bias, bounds)).square()
        return linear(hidden, self.down_proj.weight, self.down_proj.bias, bounds)
