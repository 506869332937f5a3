"""Matrix product with a weight, as torch computes it, or so that no row depends on the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.nvfp4.format import NVFP4
from rolloom.kernels.nvfp4.op import dequantize, w4a16_linear


def linear(
    x: torch.Tensor,
    weight: torch.Tensor | NVFP4,
    bias: torch.Tensor | None = None,
    bounds: tuple[int, ...] | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Return `x weight^T + bias`.

    Args:
        x: `[..., K]`; `[L, K]` with bounds.
        weight: `[N, K]`; quantised, it is a constant, and its product that of `nvfp4.op.w4a16_linear`.
        bias: `[N]` or None.
        bounds: where each packed sequence begins and ends, from 0 to L. `invariant` sums the gradients of
            weight and bias sequence by sequence in this order, so that they equal those of the sequences run
            one after the other to the last bit; `torch` needs none.
        backend: `torch` or `invariant`; None takes `invariant` in deterministic mode on a CPU, else `torch`.

    Returns:
        `[..., N]`.

    Raises:
        UnsupportedError: no such backend.
    """
    if isinstance(weight, NVFP4):
        if x.is_cuda and backend is None:
            product = w4a16_linear(x, weight)
            return product if bias is None else product + bias
        weight = dequantize(weight, x.dtype)
    return choose("linear", BACKENDS, backend, x, default=on_cpu(x))(x, weight, bias, bounds)


def _torch(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, bounds: tuple[int, ...] | None
) -> torch.Tensor:
    return F.linear(x, weight, bias)


BACKENDS = {"torch": _torch, "invariant": invariant.linear}
