"""NVFP4 against a second spelling of the published format, bit for bit; stochastic rounding; the product."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.nvfp4.format import NVFP4, packed_bytes
from rolloom.kernels.nvfp4.op import dequantize, fake_quantize, quantize, w4a16_linear

BACKENDS = ["reference", "torch", "triton"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on(backend: str) -> str:
    return DEVICE if backend == "triton" else "cpu"


def minifloat(exponent_bits: int, mantissa_bits: int, bias: int) -> np.ndarray:
    """Return the values of all codes without a sign, from the bit fields."""
    values = []
    for code in range(1 << (exponent_bits + mantissa_bits)):
        exponent, mantissa = code >> mantissa_bits, (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
        values.append(
            mantissa * 2.0 ** (1 - bias) if exponent == 0 else (1 + mantissa) * 2.0 ** (exponent - bias)
        )
    return np.array(values)


E2M1 = minifloat(2, 1, 1)
E4M3 = minifloat(4, 3, 7)[:-1]  # The last code is NaN.


def rounded(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return codes: how many midpoints lie below, a midpoint itself going to its even side; saturating."""
    middles = (table[1:] + table[:-1]) / 2
    below = np.arange(len(middles)) % 2 == 0
    code = np.zeros(values.shape, dtype=np.int64)
    for middle, even in zip(middles, below, strict=True):
        code += values > middle if even else values >= middle
    return code


def spelled_out(x: np.ndarray, tensor_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise blocks `[n, 16]`, fp32 between roundings; return codes `[n, 16]` and scales `[n]`."""
    with np.errstate(all="ignore"):
        amax = np.abs(x).max(1)
        wanted = np.minimum(amax / (np.float32(6) * tensor_scale), np.float32(448))
        wanted = np.where(amax > 0, np.maximum(wanted, np.float32(2.0**-9)), wanted)
        scales = np.where(np.isnan(wanted), 127, rounded(wanted, E4M3))
        scale = np.append(E4M3, np.nan).astype(np.float32)[scales] * tensor_scale
        size = np.where(amax[:, None] == 0, np.float32(0), np.abs(x) / scale[:, None])
        assert size.dtype == np.float32
        return np.where(np.isnan(size), 7, rounded(size, E2M1) + 8 * np.signbit(x)), scales


def unpacked(packed: NVFP4) -> tuple[np.ndarray, np.ndarray]:
    """Return codes `[n, 16]` and scales `[n]`."""
    bytes_ = packed.codes.cpu().numpy().astype(np.int64).reshape(-1, 8)
    return np.stack((bytes_ % 16, bytes_ // 16), -1).reshape(-1, 16), packed.scales.cpu().numpy().reshape(-1)


def same(packed: NVFP4, x: torch.Tensor) -> None:
    codes, scales = unpacked(packed)
    expected, wanted = spelled_out(x.float().cpu().numpy().reshape(-1, 16), packed.tensor_scale.cpu().numpy())
    assert (scales == wanted).all()
    assert (codes == expected).all()


EVERY_BF16 = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("beside", [0.0, 6.0])
@pytest.mark.parametrize("tensor_scale", [1.0, 3e-3, 2.0**-126, 1e30])
def test_every_bf16_number_gives_the_bits_of_the_format(
    backend: str, beside: float, tensor_scale: float
) -> None:
    """Beside 0 the number sets its block's scale; beside 6 at a tensor scale of 1 the scale is 1 below 6."""
    x = torch.zeros(len(EVERY_BF16), 16, dtype=torch.bfloat16)
    x[:, 3], x[:, 10] = EVERY_BF16, beside
    x = x.to(on(backend))
    packed = quantize(x, torch.tensor(tensor_scale, device=x.device), backend=backend)
    same(packed, x)
    if beside and tensor_scale == 1.0:
        finite = EVERY_BF16.float().abs() <= 6
        assert (packed.scales.cpu()[finite].view(torch.float8_e4m3fn).float() == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_random_blocks_give_the_bits_of_the_format(backend: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 16, generator=generator) * 10 ** (8 * torch.rand(3000, 1, generator=generator) - 6)
    x[5], x[6, 1:] = 0.0, -0.0
    x = x.to(on(backend), dtype)
    same(quantize(x, backend=backend), x)
    same(quantize(x, torch.tensor(0.01, device=x.device), backend=backend), x)
    tiny = x * 1e-38 if dtype == torch.float32 else x[:50]
    same(quantize(tiny, backend=backend), tiny)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_to_even_and_too_much_saturates(backend: str) -> None:
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.25, -5.0, 6.0]
    x = torch.tensor([*ties, *[0.0] * 6], device=on(backend))
    packed = quantize(x, torch.tensor(1.0, device=x.device), backend=backend)
    expected = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -0.0, -4.0, 6.0]
    assert dequantize(packed, torch.float32, backend)[:10].tolist() == expected
    large = torch.full((16,), -1e4, device=x.device)
    packed = quantize(large, torch.tensor(1.0, device=x.device), backend=backend)
    assert dequantize(packed, torch.float32, backend).tolist() == [-6.0 * 448] * 16
    infinite = torch.tensor([float("inf"), *[1.0] * 15], device=x.device)
    back = dequantize(quantize(infinite, backend=backend), torch.float32, backend)
    assert back[0] == pytest.approx(3.4e38, rel=0.01) and (back[1:] == 0).all()
    x[2] = float("nan")
    assert dequantize(quantize(x, backend=backend), torch.float32, backend).isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_code_and_scale_dequantises_to_its_bit_fields(backend: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8).repeat(16).view(-1, 8)
    scales = torch.arange(128, dtype=torch.uint8).repeat(4)[:, None]
    tensor_scale = torch.tensor(0.37)
    device = on(backend)
    packed = NVFP4(codes.to(device), scales.to(device), tensor_scale.to(device))
    bytes_ = codes.numpy().astype(np.int64)
    levels = np.stack((bytes_ % 16, bytes_ // 16), -1).reshape(-1, 16)
    signs = np.where(levels > 7, np.float32(-1), np.float32(1))
    scale = np.append(E4M3, np.nan).astype(np.float32)[scales.numpy()] * tensor_scale.numpy()
    expected = torch.tensor(signs * E2M1.astype(np.float32)[levels % 8] * scale)
    for dtype in (torch.float32, torch.bfloat16):
        ours = dequantize(packed, dtype, backend).cpu()
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, expected.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_stochastic_rounding_is_right_on_average_over_a_million_draws(backend: str) -> None:
    """Columns between the smallest numbers (subnormals of E2M1 below 1) and the largest; the scale is 1."""
    column = torch.tensor(
        [6.0, 0.01, 0.1, 0.25, 0.4999, -0.3, 0.7, -0.75, 1.2, 1.9, 2.25, -2.9, 3.5, 4.1, 5.0, -5.99]
    )
    blocks = 1 << 16
    x = column.expand(blocks, 16).to(on(backend))
    scale = torch.tensor(1.0, device=x.device)
    back = dequantize(quantize(x, scale, seed=11, backend=backend), torch.float32, backend).cpu().double()
    assert back.numel() > 10**6
    grid = torch.tensor(E2M1)
    size = column.double().abs()
    above = torch.searchsorted(grid, size)
    high, low = grid[above], grid[(above - 1).clamp(min=0)]
    low = torch.where(high == size, high, low)
    assert ((back.abs() == low) | (back.abs() == high)).all()
    deviation = ((high - size) * (size - low) / blocks).sqrt()
    error = (back.mean(0) - column.double()).abs()
    assert (error <= 4.5 * deviation + 1e-6).all()
    assert (back[:, 0] == 6).all() and (deviation[1:] > 0).sum() == 15
    other = dequantize(quantize(x, scale, seed=12, backend=backend), torch.float32, backend).cpu()
    assert (other != back).double().mean() > 0.1
    far = quantize(x * 1e4, scale, seed=11, backend=backend)
    assert dequantize(far, torch.float32, backend)[:, 0].unique().tolist() == [6.0 * 448]


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 7])
def test_stochastic_rounding_has_the_same_bits_in_all_backends(seed: int) -> None:
    x = torch.randn(70, 48, generator=torch.Generator().manual_seed(1))
    expected = quantize(x, seed=seed, backend="reference")
    for backend in ("torch", "triton"):
        ours = quantize(x.to(on(backend)), seed=seed, backend=backend)
        for part, true in zip(ours, expected, strict=True):
            assert torch.equal(part.cpu(), true)
    assert not torch.equal(quantize(x, seed=seed + 1).codes, expected.codes)


def test_bytes_are_counted_exactly() -> None:
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    packed = quantize(x)
    assert packed.shape == (64, 256)
    assert packed.nbytes == packed_bytes((64, 256)) == 64 * 256 // 2 + 64 * 256 // 16 + 4
    assert 2 * 4096 * 4096 / packed_bytes((4096, 4096)) == pytest.approx(3.5556, abs=1e-4)
    error = (dequantize(packed, torch.float32) - x).square().mean().sqrt() / x.square().mean().sqrt()
    assert 0.05 < error < 0.11


def test_an_element_times_its_block_scale_is_exact_in_bf16_and_fp16() -> None:
    products = torch.tensor(np.outer(E2M1, E4M3))
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(products.to(dtype).double(), products)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 3, 64), (70, 64), (0, 64)])
def test_the_product_is_that_with_the_dequantised_weight(backend: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    x, weight = torch.randn(*shape, generator=generator), torch.randn(37, 64, generator=generator)
    packed = quantize(weight)
    moved = NVFP4(*(part.to(on(backend)) for part in packed))
    ours = w4a16_linear(x.to(on(backend)), moved, backend).cpu()
    expected = F.linear(x.double(), dequantize(packed, torch.float32).double()).float()
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)


def test_a_row_of_the_triton_product_does_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(60, 64, generator=generator).to(DEVICE)
    packed = quantize(torch.randn(37, 64, generator=generator).to(DEVICE))
    together = w4a16_linear(x, packed, "triton")
    assert torch.equal(together[40:41], w4a16_linear(x[40:41], packed, "triton"))


def test_gradients_pass_through_the_rounding_and_through_the_product() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(8, 32, generator=generator).requires_grad_()
    pull = torch.randn(8, 32, generator=generator)
    out = fake_quantize(weight)
    assert torch.equal(out, dequantize(quantize(weight), torch.float32)) and not torch.equal(out, weight)
    (grad,) = torch.autograd.grad(out, weight, pull)
    assert torch.equal(grad, pull)
    x, packed = torch.randn(3, 32, generator=generator).requires_grad_(), quantize(weight)
    (grad,) = torch.autograd.grad(w4a16_linear(x, packed), x, pull[:3, :8])
    torch.testing.assert_close(grad, pull[:3, :8] @ dequantize(packed, torch.float32))
    moved = NVFP4(*(part.to(DEVICE) for part in packed))
    with pytest.raises(UnsupportedError, match="x: expected no gradient for at most 64 rows"):
        w4a16_linear(x.to(DEVICE), moved, "triton")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"x: expected a multiple of 16 in the last dimension, got \(4, 24\)"
    ):
        quantize(torch.zeros(4, 24))
    with pytest.raises(
        ValueError, match=r"packed: expected a weight \[N, 32\] for x \(2, 32\), got \(4, 16\)"
    ):
        w4a16_linear(torch.zeros(2, 32), quantize(torch.zeros(4, 16)))
    with pytest.raises(UnsupportedError, match="x: expected float32, bfloat16 or float16, got"):
        quantize(torch.zeros(4, 16, device=DEVICE).double(), backend="triton")
