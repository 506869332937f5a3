"""NVFP4 weights: quantise, dequantise, multiply, and train through the rounding."""

from __future__ import annotations

from typing import Any

import torch

import rolloom.kernels.nvfp4.cpu as cpu
from rolloom.kernels.dispatch import choose
from rolloom.kernels.nvfp4.format import BLOCK, NVFP4
from rolloom.kernels.nvfp4.reference import dequantize_reference, quantize_reference, w4a16_linear_reference


def quantize(
    x: torch.Tensor,
    tensor_scale: torch.Tensor | None = None,
    seed: int | None = None,
    backend: str | None = None,
) -> NVFP4:
    """Quantise to NVFP4; all backends give the same bits. `reference.py` has the arithmetic.

    Args:
        x: `[..., K]`, K a multiple of 16.
        tensor_scale: fp32 scalar, or None for amax / (6 * 448).
        seed: None rounds elements to nearest; a number rounds them stochastically by Philox of the seed and
            the element's index, right on average except that what lies above 6 block scales saturates.
            Block scales are rounded to nearest always.
        backend: `torch`, `triton`, `reference`, or None for the rule of `dispatch`.

    Raises:
        ValueError: K is not a multiple of 16.
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    if not x.ndim or x.shape[-1] % BLOCK:
        raise ValueError(f"x: expected a multiple of {BLOCK} in the last dimension, got {tuple(x.shape)}")
    others = {"tensor_scale": tensor_scale}
    return choose("quantize", QUANTIZE, backend, x, lambda: _unsupported(x, others))(x, tensor_scale, seed)


def dequantize(
    packed: NVFP4, dtype: torch.dtype = torch.bfloat16, backend: str | None = None
) -> torch.Tensor:
    """Return `[..., K]`: element * (block scale * tensor scale) in fp32, rounded to the dtype.

    Raises:
        UnsupportedError: the backend does not exist.
    """
    return choose("dequantize", DEQUANTIZE, backend, packed.codes)(packed, dtype)


def w4a16_linear(x: torch.Tensor, packed: NVFP4, backend: str | None = None) -> torch.Tensor:
    """Multiply activations with a quantised weight, as `F.linear` does.

    Args:
        x: `[..., K]`.
        packed: weight `[N, K]`, a constant.
        backend: `torch` dequantises the weight first, which has a gradient for x; `triton` does so above
            `triton.FEW_ROWS` rows and reads it packed below, without a gradient; `reference`; or None for the
            rule of `dispatch`.

    Returns:
        `[..., N]` in x's dtype.

    Raises:
        ValueError: the weight does not fit x.
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    if len(packed.shape) != 2 or packed.shape[1] != x.shape[-1]:
        expected = f"expected a weight [N, {x.shape[-1]}] for x {tuple(x.shape)}"
        raise ValueError(f"packed: {expected}, got {packed.shape}")
    return choose("w4a16_linear", LINEAR, backend, x, lambda: _no_gradient(x, packed))(x, packed)


def fake_quantize(x: torch.Tensor, seed: int | None = None, backend: str | None = None) -> torch.Tensor:
    """Return x quantised and dequantised, in its dtype; its gradient passes straight through.

    The estimator of Bengio et al. (arXiv 1308.3432), as in quantisation-aware distillation. Arguments and
    errors as in `quantize`.
    """
    return _Straight.apply(x, seed, backend)  # type: ignore[return-value]


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: torch.Tensor, seed: int | None, backend: str | None) -> torch.Tensor:
        return dequantize(quantize(x, seed=seed, backend=backend), x.dtype, backend)

    @staticmethod
    def backward(_: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


def _unsupported(x: torch.Tensor, others: dict[str, torch.Tensor | None]) -> str | None:
    from rolloom.kernels.nvfp4.triton import unsupported

    return unsupported(x, others)


def _no_gradient(x: torch.Tensor, packed: NVFP4) -> str | None:
    from rolloom.kernels.nvfp4.triton import gradient_unsupported

    return gradient_unsupported(x, packed)


QUANTIZE = {
    "torch": cpu.quantize,
    "reference": quantize_reference,
    "triton": "rolloom.kernels.nvfp4.triton:quantize",
}
DEQUANTIZE = {
    "torch": cpu.dequantize,
    "reference": dequantize_reference,
    "triton": "rolloom.kernels.nvfp4.triton:dequantize",
}
LINEAR = {
    "torch": cpu.w4a16_linear,
    "reference": w4a16_linear_reference,
    "triton": "rolloom.kernels.nvfp4.triton:w4a16_linear",
}
