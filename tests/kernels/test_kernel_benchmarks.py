"""Benchmarks of the kernels: floors, no figure for what is wrong, a harness that says when it has no GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.harness import ParityError
from benchmarks.kernels import cpu, gpu
from rolloom.kernels.registry import Cost, operations


def test_the_floor_is_the_slower_of_moving_and_computing() -> None:
    cost = Cost(forward_bytes=100, forward_flops=10, backward_bytes=100, backward_flops=4000)
    assert gpu.floor_seconds(cost, False, (10.0, 100.0)) == 10.0
    assert gpu.floor_seconds(cost, True, (10.0, 100.0)) == 40.1


def test_every_operation_with_a_triton_kernel_has_a_shape_to_measure_and_a_counted_cost() -> None:
    expected = {name for name, operation in operations().items() if "triton" in operation.backends}
    chosen = list(gpu.chosen([]))
    assert {operation.name for operation, _, _ in chosen} == expected
    for operation, _, cost in chosen:
        floors = [gpu.floor_seconds(cost, backward, gpu.H200) for backward in gpu.passes(operation)]
        assert 0 < floors[0] < 1 and floors == sorted(floors), operation.name


def test_without_a_gpu_the_harness_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert gpu.main(["rms_norm"]) == 1
    assert "nothing measured" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["rms_nrm"])


def test_a_peer_that_computes_something_else_gives_no_figure() -> None:
    norm = next(measured for measured in cpu.table() if measured.operation == "rms_norm")
    cpu.hold(norm)
    with pytest.raises(ParityError, match="peer"):
        cpu.hold(replace(norm, peer=lambda **inputs: norm.peer(**inputs) * 1.01))
