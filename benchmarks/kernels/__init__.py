"""Operations of the policy against the eager torch code inside transformers' `nemotron_h`, or plain torch.

Each op is first held to its reference in float64 (outputs and every gradient, ours and the peer's); only then
is it timed. Inputs rotate among sets that together exceed the caches. On a GPU: `benchmarks.kernels.gpu`.
"""

from __future__ import annotations

from benchmarks.harness import Bench
from benchmarks.kernels import cpu, ssd


def measure(bench: Bench) -> None:
    """Measure every op."""
    ssd.measure(bench)
    cpu.measure(bench)
