"""State caches in 16 and 8 bits: rounding to nearest, or stochastically with reproducible random numbers.

Rounding to nearest moves every element of a recurrent state to the same side again and again; stochastic
rounding is right on average (Nemotron 3 Ultra report, arXiv 2606.15007, Table 16 and its section on the
quantised state cache).
"""

from __future__ import annotations

from typing import Literal

import torch

Rounding = Literal["nearest", "stochastic"]
LARGEST_HALF = 65504.0
INT8_BLOCK = 128
ROUNDS = 10

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(
    seed: torch.Tensor, offset: torch.Tensor, step: torch.Tensor, rounds: int = ROUNDS
) -> torch.Tensor:
    """Return the first word of Philox-4x32 (Salmon et al., SC 2011) at the counter (offset, step, 0, 0).

    With a step of 0 it is what `triton.language.randint(seed, offset)` returns.

    Args:
        seed: int64, its two 32-bit words the key.
        offset: int64 in `[0, 2^32)`.
        step: int64 in `[0, 2^32)`.
        rounds: of the generator.

    Returns:
        int64 in `[0, 2^32)`, of the arguments' broadcast shape.
    """
    seed, offset, step = torch.broadcast_tensors(seed, offset, step)
    keys = [seed & _WORD, (seed >> 32) & _WORD]
    a, b = offset & _WORD, step & _WORD
    c = d = torch.zeros_like(a)
    for _ in range(rounds):
        high_a, low_a = _multiply(a, _MULTIPLIERS[0])
        high_c, low_c = _multiply(c, _MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ keys[0], low_c, high_a ^ d ^ keys[1], low_a
        keys = [(key + more) & _WORD for key, more in zip(keys, _KEY_STEPS, strict=True)]
    return a


def _multiply(word: torch.Tensor, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the high and the low word of a product of 32-bit words, without leaving 63 bits."""
    low = word * (by & 0xFFFF)
    high = word * (by >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Turn random words into fp32 in (0, 1), never either bound: ((word >> 9) + 0.5) / 2^23."""
    return ((words >> 9).float() + 0.5) / 2**23


def to_half(x: torch.Tensor, draw: torch.Tensor | None = None) -> torch.Tensor:
    """Round fp32 to fp16, saturating at the largest finite value.

    Args:
        x: any shape; NaN stays NaN.
        draw: `uniform` numbers of x's shape to round stochastically; None rounds to nearest, ties to even.
    """
    x = x.float().clamp(-LARGEST_HALF, LARGEST_HALF)
    nearest = x.half()
    if draw is None:
        return nearest
    bits = nearest.view(torch.int16)
    low_bits = torch.where(nearest.float().abs() > x.abs(), bits - 1, bits)
    low = low_bits.view(torch.float16)
    high = (low_bits + 1).view(torch.float16)
    rest = (x - low.float()).abs()
    # Past the largest finite value lies infinity; clamped inputs leave no rest there.
    up = (rest > 0) & (draw * (high.float() - low.float()).abs() < rest)
    return torch.where(up, high, low)


def to_int8(
    x: torch.Tensor, draw: torch.Tensor | None = None, block: int = INT8_BLOCK
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise rows to int8, `block` elements sharing a scale of amax / 127.

    Args:
        x: `[..., E]`.
        draw: `uniform` numbers of x's shape to round stochastically; None rounds to nearest, ties to even.
        block: elements a scale; the last of a row may be shorter.

    Returns:
        int8 `[..., E]` and fp32 scales `[..., ceil(E / block)]`.
    """
    x = x.float()
    size = x.shape[-1]
    padded = torch.nn.functional.pad(x, (0, -size % block)).unflatten(-1, (-1, block))
    scale = padded.abs().amax(-1) / 127
    steps = (padded / scale.clamp(min=torch.finfo(torch.float32).tiny)[..., None]).flatten(-2)[..., :size]
    if draw is None:
        rounded = steps.round()
    else:
        low = steps.trunc()
        rounded = torch.where(draw < (steps - low).abs(), low + steps.sign(), low)
    return rounded.clamp(-127, 127).to(torch.int8), scale


def from_int8(x: torch.Tensor, scale: torch.Tensor, block: int = INT8_BLOCK) -> torch.Tensor:
    """Undo `to_int8`, in fp32."""
    return x.float() * scale.repeat_interleave(block, -1)[..., : x.shape[-1]]
