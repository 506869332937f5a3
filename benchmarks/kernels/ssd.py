"""Forward and backward of the SSD scan at the quickstart policy's heads, one thread and two."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import torch

from benchmarks.harness import Bench, torch_threads
from benchmarks.kernels.common import (
    BATCH,
    LENGTH,
    QUICK_S,
    RUN_S,
    SETS,
    Inputs,
    check_against,
    eager_peer,
    speed,
)
from rolloom.kernels.ssd.op import ssd_scan
from rolloom.kernels.ssd.reference import ssd_scan_reference

HEADS, HEAD_DIM, GROUPS, STATE = 8, 32, 1, 32
BACKENDS = ("cpu",)
PEER_CHUNKS = {128: "the architecture's default", 32: "this policy's"}


def make_inputs(seed: int, length: int) -> Inputs:
    """Return x, dt, A, B, C and D of a plausible layer."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    dt = torch.nn.functional.softplus(normal(BATCH, length, HEADS) - 3)
    return (
        normal(BATCH, length, HEADS, HEAD_DIM), dt, -torch.arange(1.0, HEADS + 1),
        normal(BATCH, length, GROUPS, STATE), normal(BATCH, length, GROUPS, STATE), normal(HEADS),
    )  # fmt: skip


def peer_scan(module: Any, chunk: int, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor,
              C: torch.Tensor, D: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """Run transformers' eager scan."""
    return module.mamba2_chunk_scan(x, dt, A, B, C, chunk, D=D)


def our_scan(
    backend: str, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
    D: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Run ours, without its final state."""
    return ssd_scan(x, dt, A, B, C, D, backend=backend)[0]


def reference_scan(*inputs: torch.Tensor) -> torch.Tensor:
    """Run the recurrence."""
    return ssd_scan_reference(*inputs)[0]


def measure(bench: Bench) -> None:
    """Measure both chunk sizes of the peer."""
    module, version = eager_peer()
    seconds = QUICK_S if bench.quick else RUN_S
    length = 64 if bench.quick else LENGTH
    peers = {chunk: partial(peer_scan, module, chunk) for chunk in PEER_CHUNKS}
    ours = {backend: partial(our_scan, backend) for backend in BACKENDS}
    check_against(
        reference_scan,
        {**ours, **{f"peer at chunk {chunk}": op for chunk, op in peers.items()}},
        make_inputs(0, 65),
    )
    sets = [make_inputs(seed, length) for seed in range(SETS)]
    for threads in (1,) if bench.quick else (1, 2):
        with torch_threads(threads):
            for (chunk, op), (backend, our_op) in product(peers.items(), ours.items()):
                bench.compare(
                    f"SSD scan fwd+bwd, {BATCH}x{length}, H{HEADS} P{HEAD_DIM} N{STATE} G{GROUPS}, fp32, "
                    f"backend {backend}; peer's chunk {chunk} ({PEER_CHUNKS[chunk]})",
                    speed(our_op, sets, seconds, backward=True),
                    speed(op, sets, seconds, backward=True),
                    f"{version} eager mamba2_chunk_scan", threads,
                )  # fmt: skip
