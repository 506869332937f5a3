"""Log-probability and entropy on the GPU, a tile of logits at a time, forward and backward.

Forward: a program computes TILES tiles of logits of some rows, one after the other, and keeps a running
maximum m, the sums of e^(z - m) and of (z - m) e^(z - m), and the target's z (online softmax, arXiv
1805.02867); the partial results of a row are then put together in vocabulary order. How the vocabulary is
cut does not depend on the number of rows, so a row's result does not either. Backward: a kernel computes the
logits of a vocabulary chunk again and writes d logits into one buffer; one matrix product adds the chunk to
dHidden and another fills its rows of dWeight, so there are no atomics.

Shapes: S tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from rolloom.kernels.autotune import Config, bucket, pick
from rolloom.kernels.dispatch import launch

DTYPES = (torch.float32, torch.bfloat16)
CONFIGS: dict[torch.dtype, list[Config]] = {
    torch.float32: [
        {"BLOCK_S": 64, "BLOCK_V": 64, "BLOCK_D": 32, "num_warps": 4, "num_stages": 2},
        {"BLOCK_S": 64, "BLOCK_V": 128, "BLOCK_D": 32, "num_warps": 8, "num_stages": 2},
    ],
    torch.bfloat16: [
        {"BLOCK_S": 128, "BLOCK_V": 256, "BLOCK_D": 64, "num_warps": 8, "num_stages": 3},
        {"BLOCK_S": 128, "BLOCK_V": 256, "BLOCK_D": 64, "num_warps": 8, "num_stages": 4},
        {"BLOCK_S": 128, "BLOCK_V": 128, "BLOCK_D": 64, "num_warps": 4, "num_stages": 4},
        {"BLOCK_S": 64, "BLOCK_V": 256, "BLOCK_D": 64, "num_warps": 8, "num_stages": 4},
    ],
}
"""Tiles; the pinned one first."""
BUFFER = 1 << 28
"""Bytes of d logits that the backward pass holds at once."""
TILES = 4
GROUP = 16
"""Row tiles that run side by side over the same vocabulary tiles, to share them in the L2 cache."""
NOTHING = tl.constexpr(-1e30)


def unsupported(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> str | None:
    """Say which argument these kernels cannot take, and why."""
    if hidden.dtype not in DTYPES:
        return f"hidden: expected float32 or bfloat16, got {hidden.dtype}"
    if weight.dtype != hidden.dtype:
        return f"weight: expected the dtype of hidden, {hidden.dtype}, got {weight.dtype}"
    if hidden.ndim != 2 or weight.shape[1:] != hidden.shape[1:]:
        return f"weight: expected [V, D] for hidden [S, D], got {tuple(weight.shape)}, {tuple(hidden.shape)}"
    for name, tensor in (("weight", weight), ("targets", targets)):
        if tensor.device != hidden.device:
            return f"{name}: expected a tensor on {hidden.device} as hidden is, got one on {tensor.device}"
    return None


def linear_logprob(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `linear_logprob_reference` returns."""
    return _LinearLogprob.apply(hidden, weight, targets, temperature)  # type: ignore[return-value]


class _LinearLogprob(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, columns = _operands(hidden, weight)
        count, vocabulary = len(rows), len(columns)

        def run(tile: Config) -> torch.Tensor:
            splits = _cdiv(vocabulary, tile["BLOCK_V"] * TILES)
            partial = torch.empty(4, splits, count, dtype=torch.float32, device=hidden.device)
            launch(
                _forward, (_cdiv(count, tile["BLOCK_S"]) * splits,), hidden.device,
                rows, columns, targets, partial, count, vocabulary, rows.shape[1],
                rows.stride(0), columns.stride(0), targets.stride(0), 1.0 / temperature, splits,
                partial.stride(0), GROUP=GROUP, TILES=TILES, **tile,
            )  # fmt: skip
            return partial

        tile = _tile("linear_logprob", rows, columns, run)
        highest, mass, first, chosen = run(tile).unbind()
        peak = highest.max(0).values
        scale = torch.exp(highest - peak)
        total = (mass * scale).sum(0)
        lse = peak + total.log()
        entropy = total.log() - ((first + mass * (highest - peak)) * scale).sum(0) / total
        ctx.save_for_backward(hidden, weight, targets, lse, entropy)
        ctx.temperature = temperature
        return chosen.sum(0) - lse, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_chosen: torch.Tensor, d_entropy: torch.Tensor) -> tuple[Any, ...]:
        hidden, weight, targets, lse, entropy = ctx.saved_tensors
        rows, columns = _operands(hidden, weight)
        count, vocabulary = len(rows), len(columns)
        # Every tile's width divides this one, so a chunk is whole tiles whichever is taken.
        widest = max(config["BLOCK_V"] for config in CONFIGS[rows.dtype])
        chunk = _chunk(count, vocabulary, rows.element_size(), widest)
        buffer = torch.empty(count * chunk, dtype=rows.dtype, device=rows.device)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device) if needs_hidden else None
        d_weight = torch.empty_like(columns) if needs_weight else None
        d_chosen, d_entropy = d_chosen.contiguous(), d_entropy.contiguous()
        for start in range(0, vocabulary, chunk):
            part = columns[start : start + chunk]
            d_logits = buffer[: count * len(part)].view(count, len(part))

            def run(
                tile: Config, part: torch.Tensor = part, d_logits: torch.Tensor = d_logits, start: int = start
            ) -> None:
                tiles = _cdiv(count, tile["BLOCK_S"]) * _cdiv(len(part), tile["BLOCK_V"])
                launch(
                    _d_logits, (tiles,), rows.device,
                    rows, part, targets, lse, entropy, d_chosen, d_entropy, d_logits, count, len(part),
                    rows.shape[1], rows.stride(0), part.stride(0), targets.stride(0), start,
                    1.0 / ctx.temperature, GROUP=GROUP, **tile,
                )  # fmt: skip

            run(_tile("linear_logprob_backward", rows, columns, run))
            if d_hidden is not None:
                d_hidden += d_logits @ part
            if d_weight is not None:
                torch.mm(d_logits.T, rows, out=d_weight[start : start + chunk])
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None,
            None,
        )


def _operands(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both with adjacent columns; in fp32 for the interpreter, whose bf16 products are wrong."""
    if hidden.device.type == "cpu":
        hidden, weight = hidden.float(), weight.float()
    return (
        hidden if hidden.stride(-1) == 1 else hidden.contiguous(),
        weight if weight.stride(-1) == 1 else weight.contiguous(),
    )


def _tile(kernel: str, rows: torch.Tensor, columns: torch.Tensor, run: Callable[[Config], Any]) -> Config:
    vocabulary, width = columns.shape
    key = {"dtype": str(rows.dtype).removeprefix("torch."), "V": bucket(vocabulary), "D": bucket(width)}
    return pick(kernel, key, CONFIGS[rows.dtype], run, rows.device)


def _chunk(count: int, vocabulary: int, element_size: int, block: int) -> int:
    """Return how many words of the vocabulary the backward pass takes at once."""
    fitting = BUFFER // (max(1, count) * element_size)
    return min(vocabulary, max(block, fitting // block * block))


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


@triton.jit
def _place(program, count, columns, BLOCK_S: tl.constexpr, GROUP: tl.constexpr):
    """Return the row tile and the column of tiles of this program: GROUP row tiles, then the next column."""
    tiles = (count + BLOCK_S - 1) // BLOCK_S
    group = program // (GROUP * columns)
    first = group * GROUP
    height = tl.minimum(tiles - first, GROUP)
    within = program % (GROUP * columns)
    return first + within % height, within // height


@triton.jit
def _logits(
    hidden, weight, row, word, count, vocabulary, width, hidden_stride, weight_stride,
    BLOCK_S: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Return a tile of hidden weight^T, zero where row or word is out of range."""
    depth = tl.arange(0, BLOCK_D)
    left = hidden + row[:, None] * hidden_stride + depth[None, :]
    right = weight + word[None, :].to(tl.int64) * weight_stride + depth[:, None]
    logits = tl.zeros((BLOCK_S, BLOCK_V), dtype=tl.float32)
    for start in range(0, width, BLOCK_D):
        inside = depth < width - start
        a = tl.load(left, mask=(row < count)[:, None] & inside[None, :], other=0.0)
        b = tl.load(right, mask=(word < vocabulary)[None, :] & inside[:, None], other=0.0)
        logits = tl.dot(a, b, logits, input_precision="ieee")
        left += BLOCK_D
        right += BLOCK_D
    return logits


@triton.jit
def _forward(
    hidden, weight, targets, partial, count, vocabulary, width, hidden_stride, weight_stride, target_stride,
    factor, splits, partial_stride,
    BLOCK_S: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, TILES: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    row_tile, split = _place(tl.program_id(0), count, splits, BLOCK_S, GROUP)  # type: ignore[misc]
    row = row_tile.to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    target = tl.load(targets + row * target_stride, mask=row < count, other=-1).to(tl.int32)
    highest = tl.full((BLOCK_S,), NOTHING, dtype=tl.float32)
    mass = tl.zeros((BLOCK_S,), dtype=tl.float32)
    first = tl.zeros((BLOCK_S,), dtype=tl.float32)
    chosen = tl.zeros((BLOCK_S,), dtype=tl.float32)
    for tile in range(TILES):
        word = (split * TILES + tile) * BLOCK_V + tl.arange(0, BLOCK_V)
        logits = _logits(
            hidden, weight, row, word, count, vocabulary, width, hidden_stride, weight_stride,
            BLOCK_S, BLOCK_V, BLOCK_D,
        )  # fmt: skip
        # Far below any logit, and finite: 0 * NOTHING is 0.
        logits = tl.where((word < vocabulary)[None, :], logits * factor, NOTHING)
        chosen += tl.sum(tl.where(word[None, :] == target[:, None], logits, 0.0), 1)
        new = tl.maximum(highest, tl.max(logits, 1))
        weights = tl.exp(logits - new[:, None])
        scale = tl.exp(highest - new)
        first = (first + mass * (highest - new)) * scale + tl.sum(weights * (logits - new[:, None]), 1)
        mass = mass * scale + tl.sum(weights, 1)
        highest = new
    out = partial + split.to(tl.int64) * count + row
    tl.store(out, highest, mask=row < count)
    out += partial_stride
    tl.store(out, mass, mask=row < count)
    out += partial_stride
    tl.store(out, first, mask=row < count)
    out += partial_stride
    tl.store(out, chosen, mask=row < count)


@triton.jit
def _d_logits(
    hidden, weight, targets, lse, entropy, d_chosen, d_entropy, out, count, vocabulary, width,
    hidden_stride, weight_stride, target_stride, start, factor,
    BLOCK_S: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row_tile, column = _place(tl.program_id(0), count, tl.cdiv(vocabulary, BLOCK_V), BLOCK_S, GROUP)  # type: ignore[misc]
    row = row_tile.to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    word = column * BLOCK_V + tl.arange(0, BLOCK_V)
    logits = _logits(
        hidden, weight, row, word, count, vocabulary, width, hidden_stride, weight_stride,
        BLOCK_S, BLOCK_V, BLOCK_D,
    )  # fmt: skip
    target = tl.load(targets + row * target_stride, mask=row < count, other=-1).to(tl.int32) - start
    logp = logits * factor - tl.load(lse + row, mask=row < count, other=0.0)[:, None]
    pull = tl.load(d_chosen + row, mask=row < count, other=0.0)[:, None]
    pull_entropy = tl.load(d_entropy + row, mask=row < count, other=0.0)[:, None]
    mean = tl.load(entropy + row, mask=row < count, other=0.0)[:, None]
    result = tl.where(word[None, :] == target[:, None], pull, 0.0)
    result -= tl.exp(logp) * (pull + pull_entropy * (logp + mean))
    inside = (row < count)[:, None] & (word < vocabulary)[None, :]
    tl.store(out + row[:, None] * vocabulary + word[None, :], result * factor, mask=inside)
