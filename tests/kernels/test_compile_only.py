"""Every Triton kernel compiles to machine code of an H100, which the interpreter does not ask for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolloom.kernels.registry import operations

TRITON = [name for name, operation in operations().items() if "triton" in operation.backends]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRITON)
def test_compiles_for_hopper_without_spilling(name: str, root: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels.compile_only", name],
        cwd=root, env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows and {row["operation"] for row in rows} == {name}
    for row in rows:
        assert row["stack"] == 0 and row["shared"] <= 227 * 1024, row
