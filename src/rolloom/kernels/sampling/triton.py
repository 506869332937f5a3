"""Truncated sampling on the GPU without sorting, one program a row.

Logits are compared as unsigned integers in the same order. The threshold of top-k is the largest integer that
at least k words reach, that of top-p the largest whose words hold at least p of the mass: both are found two
bits at a time, three candidates a pass over the row (radix selection), which stays in the L2 cache.

Shapes: S rows, V vocabulary.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rolloom.kernels.dispatch import launch
from rolloom.kernels.sampling.reference import Setting, settings

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 4096


def unsupported(logits: torch.Tensor, others: dict[str, torch.Tensor | Setting]) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    if logits.dtype not in DTYPES:
        return f"logits: expected float32, bfloat16 or float16, got {logits.dtype}"
    for name, value in others.items():
        if isinstance(value, torch.Tensor) and value.device != logits.device:
            return f"{name}: expected a tensor on {logits.device} as logits are, got one on {value.device}"
    if logits.requires_grad and torch.is_grad_enabled():
        return "logits: expected a tensor without gradient"
    return None


def processed_log_probs(
    logits: torch.Tensor, temperature: Setting, top_k: Setting, top_p: Setting
) -> torch.Tensor:
    """Return what `processed_log_probs_reference` returns."""
    out = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    _launch(_processed, logits, (temperature, top_k, top_p), out, out.stride(0))
    return out


def sample(
    logits: torch.Tensor, uniforms: torch.Tensor, temperature: Setting, top_k: Setting, top_p: Setting
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `sample_reference` returns."""
    tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    logp = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _launch(_sample, logits, (temperature, top_k, top_p), uniforms.float().contiguous(), tokens, logp)
    return tokens, logp


def _launch(kernel, logits: torch.Tensor, how: tuple[Setting, Setting, Setting], *rest) -> None:
    temperatures, limits, masses = (value.contiguous() for value in settings(logits, *how))
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    vocabulary = logits.shape[1]
    block = min(BLOCK, max(64, triton.next_power_of_2(vocabulary)))
    launch(
        kernel, (len(logits),), logits.device,
        logits, logits.stride(0), temperatures, limits.int(), masses, *rest, vocabulary,
        BLOCK=block, num_warps=8 if block == BLOCK else 4,
    )  # fmt: skip


@triton.jit
def _key(x):
    """Return integers in the order of floats; both zeros are one."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.uint32, bitcast=True)
    return tl.where((bits >> 31) != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _value(key):
    """Undo `_key`."""
    return tl.where((key >> 31) != 0, key & 0x7FFFFFFF, key ^ 0xFFFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def _load(row, start, vocabulary, BLOCK: tl.constexpr):
    word = start + tl.arange(0, BLOCK)
    return tl.load(row + word, mask=word < vocabulary, other=float("-inf")).to(tl.float32)


@triton.jit
def _weights(logits, start, vocabulary, peak, temperature, MASS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the unnormalised mass of words, or 1 for each."""
    if MASS:
        return tl.exp((logits - peak) / temperature)
    else:
        return tl.where(start + tl.arange(0, BLOCK) < vocabulary, 1.0, 0.0)


@triton.jit
def _threshold(row, vocabulary, peak, temperature, need, MASS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the largest key that words of at least `need` mass reach."""
    found = tl.full((), 0, dtype=tl.uint32)
    step = tl.full((), 0x40000000, dtype=tl.uint32)
    for _ in range(16):
        first = found + step
        second = first + step
        third = second + step
        reach_1 = tl.zeros((BLOCK,), dtype=tl.float32)
        reach_2 = tl.zeros((BLOCK,), dtype=tl.float32)
        reach_3 = tl.zeros((BLOCK,), dtype=tl.float32)
        for start in range(0, vocabulary, BLOCK):
            logits = _load(row, start, vocabulary, BLOCK)
            weights = _weights(logits, start, vocabulary, peak, temperature, MASS, BLOCK)
            key = _key(logits)
            reach_1 += tl.where(key >= first, weights, 0.0)
            reach_2 += tl.where(key >= second, weights, 0.0)
            reach_3 += tl.where(key >= third, weights, 0.0)
        found = tl.where(tl.sum(reach_1, 0) >= need, first, found)
        found = tl.where(tl.sum(reach_2, 0) >= need, second, found)
        found = tl.where(tl.sum(reach_3, 0) >= need, third, found)
        step = step >> 2
    return found


@triton.jit
def _above(row, vocabulary, peak, temperature, limit, MASS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the mass, or the number, of words above a key."""
    reach = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        logits = _load(row, start, vocabulary, BLOCK)
        weights = _weights(logits, start, vocabulary, peak, temperature, MASS, BLOCK)
        reach += tl.where(_key(logits) > limit, weights, 0.0)
    return tl.sum(reach, 0)


@triton.jit
def _limits(row, vocabulary, temperature, top_k, top_p, BLOCK: tl.constexpr):
    """Return the peak, the key that words must reach, how many that equal it are kept, and the mass kept."""
    highest = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        highest = tl.maximum(highest, _load(row, start, vocabulary, BLOCK))
    peak = tl.max(highest, 0)
    limit = tl.full((), 0, dtype=tl.uint32)
    quota = tl.full((), 0.0, dtype=tl.float32)
    mass = _above(row, vocabulary, peak, temperature, limit, True, BLOCK)
    if top_k < vocabulary:
        words = top_k.to(tl.float32)
        limit = _threshold(row, vocabulary, peak, temperature, words, False, BLOCK)
        quota = words - _above(row, vocabulary, peak, temperature, limit, False, BLOCK)
        each = tl.exp((_value(limit) - peak) / temperature)
        mass = _above(row, vocabulary, peak, temperature, limit, True, BLOCK) + quota * each
    if top_p < 1.0:
        # The peak's own mass is 1: a little is needed, lest nothing is.
        need = tl.maximum(top_p * mass, 1e-30)
        nucleus = _threshold(row, vocabulary, peak, temperature, need, True, BLOCK)
        above = _above(row, vocabulary, peak, temperature, nucleus, True, BLOCK)
        each = tl.exp((_value(nucleus) - peak) / temperature)
        equal = tl.maximum(tl.ceil((need - above) / tl.maximum(each, 1e-37)), 1.0)
        # Rounding may ask for a word more than top-k left.
        quota = tl.where(nucleus == limit, tl.minimum(equal, tl.maximum(quota, 1.0)), equal)
        limit = tl.maximum(nucleus, limit)
        mass = above + quota * each
    return peak, limit, quota, mass


@triton.jit
def _kept(logits, limit, quota, seen, BLOCK: tl.constexpr):
    """Return which words are kept, given how many equal to the limit came before, and that count after."""
    key = _key(logits)
    equal = (key == limit).to(tl.int32)
    nth = seen + tl.cumsum(equal, 0)
    return (key > limit) | ((equal > 0) & (nth.to(tl.float32) <= quota)), seen + tl.sum(equal, 0)


@triton.jit
def _sample(
    logits, stride, temperatures, limits, masses, uniforms, tokens, logps, vocabulary, BLOCK: tl.constexpr
):
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * stride
    temperature = tl.load(temperatures + index)
    peak, limit, quota, mass = _limits(  # type: ignore[misc]
        row, vocabulary, temperature, tl.load(limits + index), tl.load(masses + index), BLOCK
    )
    target = tl.load(uniforms + index) * mass
    token = tl.full((), 2147483647, dtype=tl.int32)
    last = tl.full((), 0, dtype=tl.int32)
    seen = tl.full((), 0, dtype=tl.int32)
    before = tl.full((), 0.0, dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        word = start + tl.arange(0, BLOCK)
        values = _load(row, start, vocabulary, BLOCK)
        keep, seen = _kept(values, limit, quota, seen, BLOCK)  # type: ignore[misc]
        weights = tl.where(keep & (word < vocabulary), tl.exp((values - peak) / temperature), 0.0)
        cumulative = before + tl.cumsum(weights, 0)
        hit = (cumulative > target) & (weights > 0.0)
        token = tl.minimum(token, tl.min(tl.where(hit, word, 2147483647), 0))
        last = tl.maximum(last, tl.max(tl.where(weights > 0.0, word, 0), 0))
        before = tl.max(cumulative, 0)
    # The sums of two passes round differently, and a uniform may have been rounded to 1.
    token = tl.minimum(token, last)
    tl.store(tokens + index, token.to(tl.int64))
    chosen = tl.load(row + token).to(tl.float32)
    tl.store(logps + index, (chosen - peak) / temperature - tl.log(mass))


@triton.jit
def _processed(
    logits, stride, temperatures, limits, masses, out, out_stride, vocabulary, BLOCK: tl.constexpr
):
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * stride
    temperature = tl.load(temperatures + index)
    peak, limit, quota, mass = _limits(  # type: ignore[misc]
        row, vocabulary, temperature, tl.load(limits + index), tl.load(masses + index), BLOCK
    )
    seen = tl.full((), 0, dtype=tl.int32)
    for start in range(0, vocabulary, BLOCK):
        word = start + tl.arange(0, BLOCK)
        values = _load(row, start, vocabulary, BLOCK)
        keep, seen = _kept(values, limit, quota, seen, BLOCK)  # type: ignore[misc]
        logp = tl.where(keep, (values - peak) / temperature - tl.log(mass), float("-inf"))
        tl.store(out + index * out_stride + word, logp, mask=word < vocabulary)
