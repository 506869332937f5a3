"""SSD scan on a GPU: launches the kernels of `triton_kernels.py` and binds them to autograd.

Forward: cumulate, gain_states, pass_states, scan_chunks. Kept for the backward pass: inputs, cumulative
decays and the states entering chunks. Backward: gain_states and pass_states once more, for the gradients of
states, then inputs_backward and projections_backward (one kernel for both needs more registers than there
are). The host never waits for the device: chunks are counted by an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl

from rolloom.kernels.autotune import Config, pick
from rolloom.kernels.dispatch import launch
from rolloom.kernels.ssd import triton_kernels as kernels

MAX_HEAD_DIM, MAX_STATE = 128, 256
HEADS = 8
"""Heads a program sums over at most: more would leave too few programs."""
BLOCK = 1024
"""Elements of a state that one program carries along a sequence."""


@dataclass(frozen=True, slots=True)
class _Plan:
    table: torch.Tensor
    firsts: torch.Tensor
    chunks: int
    chunk: int
    heads: int
    padded: tuple[int, int]
    dot: Any
    warps: int

    def tiles(self) -> dict[str, Any]:
        return {"HEADS": self.heads, "Q": self.chunk, "BP": self.padded[0], "BN": self.padded[1],
                "DOT": self.dot, "num_warps": self.warps, "num_stages": 1}  # fmt: skip

    def configs(self) -> list[Config]:
        """Return how `scan_chunks` may be compiled, the pinned way first; its chunks stay as they are."""
        pinned = (self.warps, 1)
        others = [(warps, stages) for warps in (4, 8) for stages in (1, 2) if (warps, stages) != pinned]
        return [{"num_warps": warps, "num_stages": stages} for warps, stages in (pinned, *others)]


def ssd_scan_triton(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    initial_state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_reference` returns."""
    batch, length = x.shape[:2]
    bounds = torch.arange(batch + 1, device=x.device) * length
    xs, steps, bs, cs = (t.flatten(0, 1) for t in (x, dt, B, C))
    y, final = _run(xs, steps, bs, cs, A, D, bounds, initial_state)
    return y.view(x.shape), final


def ssd_scan_packed_triton(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_states: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `ssd_scan_packed_reference` returns; `cu_seqlens` is trusted, not read on the host."""
    return _run(x, dt, B, C, A, D, cu_seqlens, initial_states)


def _run(
    x: torch.Tensor,
    dt: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    bounds: torch.Tensor,
    initial: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if initial is None:
        initial = x.new_zeros(len(bounds) - 1, *x.shape[1:], B.shape[-1], dtype=torch.float32)
    plan = _plan(bounds.to(x.device), x, B)
    y, final = _Scan.apply(x, dt, B, C, A.contiguous(), D.contiguous(), initial, plan)
    return y.to(x.dtype), final


def _plan(bounds: torch.Tensor, x: torch.Tensor, B: torch.Tensor) -> _Plan:
    length, heads, head_dim = x.shape
    groups, state_size = B.shape[1:]
    padded = (max(16, _power(head_dim)), max(16, _power(state_size)))
    # fp32 tiles of 64 tokens and 128 states would not fit into shared memory.
    chunk = 32 if x.dtype == torch.float32 and padded[1] >= 128 else 64
    ratio = heads // groups
    block = max(size for size in range(1, min(ratio, HEADS) + 1) if ratio % size == 0)
    dot = tl.bfloat16 if _stored(x) == torch.bfloat16 else tl.float32
    table, firsts = _table(bounds, length, chunk)
    warps = 8 if padded[1] >= 128 else 4
    return _Plan(table, firsts, len(table), chunk, block, padded, dot, warps)


def _table(bounds: torch.Tensor, length: int, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kernels' `table`, and the first chunk of each sequence with the last one's end, `[S + 1]`.

    The tokens behind the last sequence are one more sequence, of which nothing is read.
    """
    sequences = len(bounds) - 1
    ends = torch.cat((bounds.long(), bounds.new_full((1,), length, dtype=torch.long)))
    counts = (ends.diff() + chunk - 1) // chunk
    firsts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    index = torch.arange(length // chunk + sequences + 1, device=bounds.device)
    sequence = torch.searchsorted(firsts[1:], index, right=True)
    owner = sequence.clamp(max=sequences)
    start = ends[owner] + (index - firsts[owner]) * chunk
    start = torch.where(sequence > sequences, length, start)
    stop = torch.minimum(start + chunk, ends[owner + 1])
    real = torch.where(sequence < sequences, stop, start)
    return torch.stack((start, stop, real), 1).contiguous(), firsts[: sequences + 1].contiguous()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, dt: torch.Tensor, B: torch.Tensor, C: torch.Tensor, A: torch.Tensor,
        D: torch.Tensor, initial: torch.Tensor, plan: _Plan,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        heads, head_dim = x.shape[1:]
        groups, state_size = B.shape[1:]
        ratio = heads // groups
        steps = x.new_empty(plan.chunks, heads, plan.chunk, dtype=torch.float32)
        cum = torch.empty_like(steps)
        few = 16
        launch(
            kernels.cumulate, (plan.chunks, -(-heads // few)), x.device,
            dt, A, steps, cum, plan.table, *dt.stride(), heads, Q=plan.chunk, BH=few,
        )  # fmt: skip
        gain = x.new_empty(plan.chunks, heads, head_dim, state_size, dtype=torch.float32)
        sizes = (heads, head_dim, state_size)
        grid = (plan.chunks, heads // plan.heads)
        launch(
            kernels.gain_states, grid, x.device,
            x, B, steps, cum, gain, plan.table, *x.stride(), *B.stride(), *sizes,
            RATIO=ratio, BACKWARD=False, **plan.tiles(),
        )  # fmt: skip
        states, final, _ = _carry(gain, _stored(x), initial, None, cum, plan)
        y = torch.empty(x.shape, dtype=_stored(x), device=x.device)

        def scan(config: Config) -> None:
            launch(
                kernels.scan_chunks, grid, x.device,
                x, B, C, D, steps, cum, states, y, plan.table, *x.stride(), *B.stride(), *C.stride(), *sizes,
                RATIO=ratio, **plan.tiles() | config,
            )  # fmt: skip

        key = {"dtype": str(x.dtype).removeprefix("torch."), "P": plan.padded[0], "N": plan.padded[1],
               "heads": plan.heads, "chunk": plan.chunk}  # fmt: skip
        scan(pick("ssd_scan_chunks", key, plan.configs(), scan, x.device))
        ctx.save_for_backward(x, dt, B, C, A, D, steps, cum, states)
        ctx.plan, ctx.initial_dtype = plan, initial.dtype
        return y, final

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor, d_final: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, dt, B, C, A, D, steps, cum, entering = ctx.saved_tensors
        plan: _Plan = ctx.plan
        length, heads, head_dim = x.shape
        groups, state_size = B.shape[1:]
        sizes, ratio = (heads, head_dim, state_size), heads // groups
        grid = (plan.chunks, heads // plan.heads)
        gain = torch.empty_like(entering, dtype=torch.float32)
        launch(
            kernels.gain_states, grid, x.device,
            dy, C, steps, cum, gain, plan.table, *dy.stride(), *C.stride(), *sizes,
            RATIO=ratio, BACKWARD=True, **plan.tiles(),
        )  # fmt: skip
        leaving, d_initial, dots = _carry(gain, _stored(x), d_final, entering, cum, plan)
        d_x = torch.empty(x.shape, dtype=_stored(x), device=x.device)
        d_dt = x.new_empty(length, heads, dtype=torch.float32)
        d_scores = x.new_empty(*grid, plan.chunk, plan.chunk, dtype=torch.float32)
        d_a, d_d = (x.new_zeros(plan.chunks, heads, dtype=torch.float32) for _ in range(2))
        strides = (*x.stride(), *B.stride(), *C.stride(), *dy.stride())
        launch(
            kernels.inputs_backward, grid, x.device,
            x, B, C, A, D, dy, steps, cum, entering, leaving, dots, d_x, d_dt, d_scores, d_a, d_d, plan.table,
            *strides, *sizes, dots.shape[2], RATIO=ratio, BD=_power(dots.shape[2]),
            BK=min(64, plan.padded[1]), **plan.tiles(),
        )  # fmt: skip
        blocks = ratio // plan.heads
        stored = _stored(B) if blocks == 1 else torch.float32
        d_b, d_c = (x.new_empty(blocks, length, groups, state_size, dtype=stored) for _ in range(2))
        launch(
            kernels.projections_backward, grid, x.device,
            x, B, C, dy, steps, cum, entering, leaving, d_scores, d_b, d_c, plan.table,
            *strides, length * groups * state_size, *sizes, groups, RATIO=ratio, **plan.tiles(),
        )  # fmt: skip
        d_b, d_c = (t[0] if blocks == 1 else t.sum(0) for t in (d_b, d_c))
        return (
            d_x.to(x.dtype), d_dt.to(dt.dtype), d_b.to(B.dtype), d_c.to(C.dtype), d_a.sum(0).to(A.dtype),
            d_d.sum(0).to(D.dtype), d_initial.to(ctx.initial_dtype), None,
        )  # fmt: skip


def _carry(
    gain: torch.Tensor,
    kept: torch.dtype,
    first: torch.Tensor,
    entering: torch.Tensor | None,
    cum: torch.Tensor,
    plan: _Plan,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run `pass_states`, in reverse when given `entering`; return states, the last of them, and products.

    States are carried in fp32, and kept in the dtype they are multiplied in.
    """
    first = first.float().contiguous()
    last, states = torch.empty_like(first), torch.empty_like(gain, dtype=kept)
    chunks, heads = gain.shape[:2]
    size = gain[0, 0].numel()
    blocks = -(-size // BLOCK)
    dots = gain.new_empty(chunks, heads, 0 if entering is None else blocks)
    launch(
        kernels.pass_states, (len(first), heads, blocks), gain.device,
        gain, states, first, last, states if entering is None else entering, dots, cum, plan.firsts, heads,
        size, REVERSE=entering is not None, Q=plan.chunk, BLOCK=BLOCK,
    )  # fmt: skip
    return states, last, dots


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _interpreted(tensor: torch.Tensor) -> bool:
    """True when kernels on this tensor run in Triton's interpreter, which miscalculates in bf16."""
    return tensor.device.type == "cpu"


def _stored(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype to write results in: the interpreter's own narrowing truncates."""
    return torch.float32 if _interpreted(tensor) else tensor.dtype


def refusal(x: torch.Tensor, B: torch.Tensor) -> str | None:
    """Say which argument the kernels cannot take, or None."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        return f"x: expected float32 or bfloat16, got {x.dtype}"
    if x.shape[-1] > MAX_HEAD_DIM:
        return f"x: expected head dim <= {MAX_HEAD_DIM}, got {x.shape[-1]}"
    if B.shape[-1] > MAX_STATE:
        return f"B: expected state size <= {MAX_STATE}, got {B.shape[-1]}"
    return None
