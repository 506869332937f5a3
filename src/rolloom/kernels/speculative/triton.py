"""Verification of drafted words on the GPU: a program a row walks its drafts, then draws one word more.

Shapes: B rows, K drafted words, V vocabulary.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from rolloom.kernels.dispatch import launch
from rolloom.kernels.speculative.reference import PADDING

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = 2048


def unsupported(tensors: dict[str, torch.Tensor | None]) -> str | None:
    """Say which argument this kernel cannot take, and why."""
    target = tensors["target_logp"]
    assert target is not None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if name.endswith("logp") and tensor.dtype not in DTYPES:
            return f"{name}: expected float32, bfloat16 or float16, got {tensor.dtype}"
        if tensor.device != target.device:
            return (
                f"{name}: expected a tensor on {target.device} as target_logp is, got one on {tensor.device}"
            )
    return None


def verify(
    drafts: torch.Tensor,
    target_logp: torch.Tensor,
    uniforms: torch.Tensor,
    draft_logp: torch.Tensor | None,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `verify_reference` returns."""
    rows, drafted = drafts.shape
    target = target_logp if target_logp.stride(-1) == 1 else target_logp.contiguous()
    draft = target if draft_logp is None else draft_logp
    draft = draft if draft.stride(-1) == 1 else draft.contiguous()
    tokens = torch.empty(rows, drafted + 1, dtype=torch.int64, device=drafts.device)
    logp = torch.empty(rows, drafted + 1, dtype=torch.float32, device=drafts.device)
    kept = torch.empty(rows, dtype=torch.int64, device=drafts.device)
    vocabulary = target.shape[2]
    block = min(BLOCK, max(64, triton.next_power_of_2(vocabulary)))
    launch(
        _verify, (rows,), drafts.device,
        drafts.contiguous(), target, target.stride(0), target.stride(1), uniforms.float().contiguous(),
        draft, draft.stride(0), draft.stride(1), kept if lengths is None else lengths.long().contiguous(),
        tokens, logp, kept, drafted, vocabulary,
        ONE_HOT=draft_logp is None, LENGTHS=lengths is not None, PAD=PADDING, BLOCK=block,
        PLACES=triton.next_power_of_2(drafted + 1),
        num_warps=8 if block == BLOCK else 4,
    )  # fmt: skip
    return tokens, logp, kept


@triton.jit
def _masses(target, draft, start, vocabulary, stopped, rejected, ONE_HOT: tl.constexpr, BLOCK: tl.constexpr):
    """Return a tile of p, and of max(p - q, 0); q is that of the rejected word, 0 when none was."""
    word = start + tl.arange(0, BLOCK)
    p = tl.exp(tl.load(target + word, mask=word < vocabulary, other=float("-inf")).to(tl.float32))
    if ONE_HOT:
        rest = tl.where(word == rejected, 0.0, p)
    else:
        q = tl.load(draft + word, mask=stopped & (word < vocabulary), other=float("-inf")).to(tl.float32)
        rest = tl.maximum(p - tl.exp(q), 0.0)
    return p, rest


@triton.jit
def _verify(
    drafts, target, target_row, target_step, uniforms, draft, draft_row, draft_step, lengths,
    tokens, logps, kept, drafted, vocabulary,
    ONE_HOT: tl.constexpr, LENGTHS: tl.constexpr, PAD: tl.constexpr, PLACES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target += row * target_row
    draft += row * draft_row
    drafts += row * drafted
    uniforms += row * (drafted + 1)
    tokens += row * (drafted + 1)
    logps += row * (drafted + 1)
    count = tl.full((), 0, dtype=tl.int64)
    length = count + drafted
    if LENGTHS:
        length = tl.load(lengths + row)
    going = length > 0
    rejected = tl.full((), -1, dtype=tl.int64)
    for step in range(0, drafted):
        word = tl.load(drafts + step)
        logp = tl.load(target + step * target_step + word).to(tl.float32)
        gap = logp
        if not ONE_HOT:
            gap = logp - tl.load(draft + step * draft_step + word).to(tl.float32)
        accept = going & (step < length) & (tl.load(uniforms + step) < tl.exp(gap))
        rejected = tl.where(going & (step < length) & (accept == 0), word, rejected)
        tl.store(tokens + step, word, mask=accept)
        tl.store(logps + step, logp, mask=accept)
        count += accept.to(tl.int64)
        going = accept
    target += count * target_step
    draft += count * draft_step
    stopped = count < length
    plain = tl.zeros((BLOCK,), dtype=tl.float32)
    rest = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        p, r = _masses(target, draft, start, vocabulary, stopped, rejected, ONE_HOT, BLOCK)  # type: ignore[misc]
        plain += p
        rest += r
    remaining = tl.sum(rest, 0)
    residual = stopped & (remaining > 0.0)
    goal = tl.load(uniforms + drafted) * tl.where(residual, remaining, tl.sum(plain, 0))
    found = tl.full((), 2147483647, dtype=tl.int32)
    last = tl.full((), 0, dtype=tl.int32)
    before = tl.full((), 0.0, dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        p, r = _masses(target, draft, start, vocabulary, stopped, rejected, ONE_HOT, BLOCK)  # type: ignore[misc]
        mass = tl.where(residual, r, p)
        cumulative = before + tl.cumsum(mass, 0)
        word = start + tl.arange(0, BLOCK)
        hit = (cumulative > goal) & (mass > 0.0)
        found = tl.minimum(found, tl.min(tl.where(hit, word, 2147483647), 0))
        last = tl.maximum(last, tl.max(tl.where(mass > 0.0, word, 0), 0))
        before = tl.max(cumulative, 0)
    # The sums of two passes round differently, and a uniform may have been rounded to 1.
    found = tl.minimum(found, last)
    final = tl.load(target + found).to(tl.float32)
    place = tl.arange(0, PLACES)
    rest_of_row = (place >= count) & (place <= drafted)
    tl.store(tokens + place, tl.where(place == count, found, PAD).to(tl.int64), mask=rest_of_row)
    tl.store(logps + place, tl.where(place == count, final, 0.0), mask=rest_of_row)
    tl.store(kept + row, count)
