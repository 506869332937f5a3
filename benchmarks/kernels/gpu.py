"""Triton kernels on a GPU: percent of the floor, memory, and the ratio to a peer in the same run.

`python -m benchmarks.kernels.gpu [--dry-run] [--json PATH] [OPERATION ...]` reads the registry: its cases are
checked first and its shapes measured, forward alone and with backward. The floor is the time that the counted
bytes take at the bandwidth of a device-to-device copy, or the counted operations at the rate of a large bf16
product, whichever is longer; both are measured here. Calls rotate among inputs larger than the cache and are
replayed from a CUDA graph, so that launches cost nothing.

`--dry-run` needs no GPU: every kernel is compiled for a Hopper, the floors are those of an H200 as measured
earlier, and nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import PAIRS, Rates, Row, describe, run_pairs, summarise, write_rows
from benchmarks.machine import commit
from rolloom.kernels.parity import ParityError, check
from rolloom.kernels.registry import Case, Cost, Inputs, Operation, operations

H200 = (4.3e12, 790e12)
"""Bytes and bf16 operations a second, measured on one H200: what a dry run reckons with."""
CACHE_BYTES = 256 << 20
MOST_SETS = 32
REPLAYS = 20
Call = Callable[[Inputs], Any]


def floor_seconds(cost: Cost, backward: bool, rates: tuple[float, float]) -> float:
    """Return the least time of a forward pass, with its backward pass if asked."""
    moved = cost.forward_bytes + backward * cost.backward_bytes
    computed = cost.forward_flops + backward * cost.backward_flops
    return max(moved / rates[0], computed / rates[1])


def chosen(names: Sequence[str]) -> Iterable[tuple[Operation, Case, Cost]]:
    """Yield what can be measured: operations with a Triton backend, shapes and a counted cost."""
    for operation in operations().values():
        if "triton" in operation.backends and operation.cost and (not names or operation.name in names):
            for case in operation.shapes:
                yield operation, case, operation.cost(case.make(0, torch.bfloat16, torch.device("meta")))


def passes(operation: Operation) -> list[bool]:
    """Return whether to measure without and with a backward pass."""
    return [False, True] if operation.differentiable else [False]


def dry_run(names: Sequence[str]) -> int:
    """Compile every kernel and print the floors; return 1 when one does not compile."""
    from benchmarks.kernels.compile_only import everything

    print(f"dry run, nothing is timed; floors at {H200[0]:.3g} B/s and {H200[1]:.3g} FLOP/s (an H200)")
    for operation, case, cost in chosen(names):
        floors = [floor_seconds(cost, backward, H200) * 1e6 for backward in passes(operation)]
        words = [f"{floor:,.2f} us {what}" for floor, what in zip(floors, ("fwd", "fwd+bwd"), strict=False)]
        print(f"{operation.name}, {case.name}: at least {', '.join(words)}")
    failed = 0
    for row in everything(names):
        print(json.dumps(row), flush=True)
        failed += "error" in row
    return min(failed, 1)


def measured_rates() -> tuple[float, float]:
    """Return bytes a second of a large copy, and operations a second of a large bf16 product."""
    source = torch.empty(1 << 29, dtype=torch.bfloat16, device="cuda")
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    copy = seconds_a_call(lambda: target.copy_(source), 1)
    product = seconds_a_call(lambda: a @ b, 1)
    return 2 * source.numel() * 2 / copy, 2 * 8192**3 / product


def seconds_a_call(calls: Callable[[], Any], count: int) -> float:
    """Return the mean time of one of the `count` calls that `calls` makes, replayed from a graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls()
        calls()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / REPLAYS / count


def once(operation: Operation, call: Call, inputs: Inputs, backward: bool) -> None:
    """Call forward, and backward with ones."""
    if not backward:
        with torch.no_grad():
            call(inputs)
        return
    leaves = {
        name: inputs[name].detach().requires_grad_()
        for name in operation.differentiable
        if inputs[name] is not None
    }
    outputs = call({**inputs, **leaves})
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pulled = [value for value in outputs if value is not None and value.requires_grad]
    pulls = [torch.ones_like(value) for value in pulled]
    torch.autograd.grad(pulled, list(leaves.values()), pulls, allow_unused=True)


def side(
    operation: Operation, call: Call, sets: Sequence[Inputs], backward: bool, floor: float
) -> Callable[[int], Rates]:
    """Return a side of a pair that runs one call over all sets."""

    def calls() -> None:
        for inputs in sets:
            once(operation, call, inputs, backward)

    def run(_: int) -> Rates:
        rate = 1 / seconds_a_call(calls, len(sets))
        return {"calls/s": rate, "% of floor": 100 * floor * rate}

    return run


def peak_megabytes(operation: Operation, call: Call, inputs: Inputs, backward: bool) -> float:
    """Return what a call allocates at most beyond its inputs."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once(operation, call, inputs, backward)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def measure(names: Sequence[str]) -> list[Row]:
    """Check and measure on the current GPU; an operation that fails its check gives no figure."""
    device, dtype = torch.device("cuda"), torch.bfloat16
    rates = measured_rates()
    where = {"commit": commit(), "hardware": f"{torch.cuda.get_device_name()}, 1 GPU", "others_cores": None}
    print(f"{where['hardware']}: copies {rates[0]:.4g} B/s, bf16 products {rates[1]:.4g} FLOP/s")
    rows: list[Row] = []
    for operation, case, cost in chosen(names):
        try:
            for small in operation.cases:
                check(operation, "triton", small, dtype, device)
        except ParityError as error:
            print(f"{operation.name}: no figures: {error}", file=sys.stderr)
            continue
        one = case.make(0, dtype, device)
        size = sum(value.nbytes for value in one.values() if isinstance(value, torch.Tensor))
        sets = [one] + [
            case.make(seed, dtype, device)
            for seed in range(1, max(2, min(MOST_SETS, CACHE_BYTES // size + 1)))
        ]
        torch.compiler.reset()
        peer = torch.compile(lambda inputs, operation=operation: operation.run("torch", inputs))
        for backward in passes(operation):
            floor = floor_seconds(cost, backward, rates)

            def ours(inputs: Inputs, operation: Operation = operation) -> Any:
                return operation.run("triton", inputs)

            peaks = [peak_megabytes(operation, call, one, backward) for call in (ours, peer)]
            results = run_pairs(
                side(operation, ours, sets, backward, floor),
                side(operation, peer, sets, backward, floor),
                PAIRS,
            )
            what = f"{operation.name} {'fwd+bwd' if backward else 'fwd'}, {case.name}, bf16"
            what += f"; peak {peaks[0]:,.0f} MB, peer's {peaks[1]:,.0f} MB"
            peer_name = f"torch {torch.__version__} torch.compile of plain torch"
            for row in summarise("kernels on a GPU", what, peer_name, results, **where):
                rows.append(row)
                print(describe(row), flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels.gpu")
    parser.add_argument("names", nargs="*", metavar="OPERATION", help=f"of {', '.join(operations())}")
    parser.add_argument("--dry-run", action="store_true", help="compile for a Hopper and time nothing")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in operations():
            parser.error(f"OPERATION: expected one of {', '.join(operations())}, got {name!r}")
    if not args.dry_run and not torch.cuda.is_available():
        print(
            "no CUDA device: nothing measured; --dry-run compiles the kernels all the same", file=sys.stderr
        )
        return 1
    if os.environ.pop("TRITON_INTERPRET", None):
        print("TRITON_INTERPRET is set; without it here", file=sys.stderr)
    if args.dry_run:
        return dry_run(args.names)
    rows = measure(args.names)
    if args.json and rows:
        write_rows(args.json, rows)
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
