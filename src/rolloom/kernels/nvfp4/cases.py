"""Cases of NVFP4; a packed weight comes as its parts here, as tests move and convert tensors only."""

from __future__ import annotations

import torch

from rolloom.kernels.nvfp4.format import BLOCK, NVFP4, packed_bytes
from rolloom.kernels.nvfp4.op import dequantize, quantize, w4a16_linear
from rolloom.kernels.nvfp4.reference import dequantize_reference, quantize_reference, w4a16_linear_reference
from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation

Parts = torch.Tensor


def unpack(codes: Parts, scales: Parts, tensor_scale: Parts, backend: str | None = None) -> torch.Tensor:
    """Dequantise to fp32."""
    return dequantize(NVFP4(codes, scales, tensor_scale), torch.float32, backend)


def unpack_reference(codes: Parts, scales: Parts, tensor_scale: Parts) -> torch.Tensor:
    """Dequantise to fp32."""
    return dequantize_reference(NVFP4(codes, scales, tensor_scale))


def multiply(
    x: torch.Tensor, codes: Parts, scales: Parts, tensor_scale: Parts, backend: str | None = None
) -> torch.Tensor:
    """Multiply with a packed weight."""
    return w4a16_linear(x, NVFP4(codes, scales, tensor_scale), backend)


def multiply_reference(x: torch.Tensor, codes: Parts, scales: Parts, tensor_scale: Parts) -> torch.Tensor:
    """Multiply with a packed weight."""
    return w4a16_linear_reference(x, NVFP4(codes, scales, tensor_scale))


def packing(name: str, *shape: int, seed: int | None = None, strided: bool = False) -> Case:
    """Return a case of quantising; the scale of rows varies by a factor of 10^6, so that scales underflow."""

    def make(draw_seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(draw_seed, dtype, device)
        x = draw.normal(*shape, dtype=torch.float32)
        x = (x * 10 ** draw.uniform(*shape[:-1], 1, low=-6.0, dtype=torch.float32)).to(dtype)
        return {"x": draw.strided(x) if strided else x, "seed": seed}

    return Case(name, make)


def weight(draw: Draw, rows: int, width: int) -> Inputs:
    """Return the parts of a random packed weight."""
    return {
        "codes": draw.integers(rows, width // 2, high=256).to(torch.uint8),
        "scales": draw.integers(rows, width // BLOCK, high=127).to(torch.uint8),
        "tensor_scale": draw.uniform(1, low=1e-4, high=1e-3, dtype=torch.float32).squeeze(0),
    }


def unpacking(name: str, rows: int, width: int) -> Case:
    """Return a case of dequantising."""
    return Case(name, lambda seed, dtype, device: weight(Draw(seed, dtype, device), rows, width))


def product(name: str, rows: int, columns: int, width: int) -> Case:
    """Return a case of the product."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        return {"x": draw.normal(rows, width), **weight(draw, columns, width)}

    return Case(name, make)


def packing_cost(inputs: Inputs) -> Cost:
    """Read x once (its amax would be known from before), write the parts."""
    x = inputs["x"]
    return Cost(x.numel() * x.element_size() + packed_bytes(tuple(x.shape)), 12 * x.numel())


def unpacking_cost(inputs: Inputs) -> Cost:
    """Read the parts, write fp32."""
    elements = 2 * inputs["codes"].numel()
    return Cost(packed_bytes((elements,)) + 4 * elements, 2 * elements)


def product_cost(inputs: Inputs) -> Cost:
    """Read x and the packed weight, write the product."""
    x, codes = inputs["x"], inputs["codes"]
    moved = x.numel() + x.shape[0] * len(codes)
    weights = packed_bytes((codes.shape[0], 2 * codes.shape[1]))
    return Cost(moved * x.element_size() + weights, 4 * x.shape[0] * codes.numel())


OPERATIONS = (
    Operation(
        "nvfp4_quantize", quantize, quantize_reference, ("torch", "triton"),
        cases=(
            packing("one block", 16), packing("odd", 3, 21, 48), packing("none", 0, 32),
            packing("strided", 5, 64, strided=True), packing("stochastic", 9, 80, seed=2**40 + 5),
            packing("200 blocks", 200, 16),
        ),
        shapes=(packing("4096 x 4096", 4096, 4096), packing("4096 x 4096, stochastic", 4096, 4096, seed=1)),
        cost=packing_cost,
    ),
    Operation(
        "nvfp4_dequantize", unpack, unpack_reference, ("torch", "triton"),
        cases=(unpacking("one block", 1, 16), unpacking("odd", 21, 48), unpacking("none", 0, 32)),
        shapes=(unpacking("4096 x 4096", 4096, 4096),), cost=unpacking_cost,
    ),
    Operation(
        "w4a16_linear", multiply, multiply_reference, ("torch", "triton"),
        cases=(
            product("one row", 1, 16, 16), product("odd", 21, 33, 144), product("none", 0, 16, 32),
            product("many rows", 70, 5, 32),
        ),
        shapes=(product("1 x 4096 x 4096", 1, 4096, 4096), product("32 x 4096 x 4096", 32, 4096, 4096)),
        cost=product_cost,
    ),
)  # fmt: skip
