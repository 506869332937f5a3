"""Compile Triton kernels for an H100 or H200 on a machine without one, and say what they would take there.

`python -m benchmarks.kernels.compile_only [OPERATION ...]` runs forward and backward of the measured
shapes (of the first test case for an operation without any) on tensors without data: every kernel is compiled
down to machine code and none is launched. Triton's interpreter accepts programs that the compiler refuses,
and a host that waits for the device fails here. One JSON object a line: operation, case, kernel, registers a
thread, bytes spilled to the stack, shared memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import rolloom.kernels.dispatch as dispatch
from rolloom.kernels.parity import results
from rolloom.kernels.registry import Case, Operation, operations

HOPPER = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Absent(DriverBase):
    """A driver of a device that is not there."""

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def get_benchmarker(self) -> Any:
        raise NotImplementedError("nothing runs here")


def compiled(operation: Operation, case: Case, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Return what each kernel takes that forward and backward of a case would launch."""
    kernels: dict[str, Any] = {}
    run: Any = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        kernels[kernel.hash] = kernel
        return kernel

    JITFunction.run = compile_only
    try:
        results(operation, "triton", case.make(0, dtype, torch.device("meta")))
    finally:
        JITFunction.run = run
    return [
        {"operation": operation.name, "case": case.name, "dtype": str(dtype), "kernel": kernel.name,
         "warps": kernel.metadata.num_warps, "shared": kernel.metadata.shared,
         **resources(kernel.asm["cubin"])}
        for kernel in kernels.values()
    ]  # fmt: skip


def resources(cubin: bytes) -> dict[str, int]:
    """Return registers a thread and bytes of stack of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", done.stdout)}
    return {"registers": found["REG"], "stack": found["STACK"]}


def everything(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what every kernel takes; an operation that does not compile yields its error."""
    driver.set_active(Absent())
    dispatch.interpreting = lambda: True
    for operation in operations().values():
        if "triton" not in operation.backends or (names and operation.name not in names):
            continue
        for case in operation.shapes or operation.cases[:1]:
            try:
                yield from compiled(operation, case, torch.bfloat16)
            except Exception:
                yield {"operation": operation.name, "case": case.name, "error": traceback.format_exc()}


def main(names: Sequence[str]) -> int:
    """Print a line for each kernel; 1 when one does not compile."""
    failed = 0
    for row in everything(names):
        print(json.dumps(row), flush=True)
        failed += "error" in row
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
