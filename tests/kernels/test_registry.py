"""Every backend of every registered operation against its reference in float64, values and gradients.

Without a GPU, Triton kernels run in its interpreter; the tests marked `gpu` are the same on a CUDA device.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rolloom
from rolloom.kernels.dispatch import UnsupportedError, choose, deterministic, is_deterministic
from rolloom.kernels.parity import ParityError, check, error, poisoned, results
from rolloom.kernels.registry import Case, Operation, operations

KERNELS = Path(rolloom.__file__).parent / "kernels"
CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
EVERY = [
    pytest.param(
        operation,
        backend,
        case,
        id=f"{operation.name}-{backend}-{case.name}".replace(" ", "_"),
        marks=[pytest.mark.slow] if case.slow and backend == "triton" else [],
    )
    for operation in operations().values()
    for backend in operation.backends
    for case in operation.cases
]
EACH = [
    pytest.param(operation, backend, id=f"{operation.name}-{backend}")
    for operation in operations().values()
    for backend in operation.backends
]


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("operation", "backend", "case"), EVERY)
def test_equals_the_reference(operation: Operation, backend: str, case: Case, dtype: torch.dtype) -> None:
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU here; the test below runs it")
    if backend == "triton" and dtype not in operation.interpreted:
        pytest.skip("Triton's interpreter does not compute this dtype")
    check(operation, backend, case, dtype, CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("operation", "backend", "case"), EVERY)
def test_equals_the_reference_on_the_gpu(
    operation: Operation, backend: str, case: Case, dtype: torch.dtype
) -> None:
    check(operation, backend, case, dtype, torch.device("cuda"))


def same_twice(operation: Operation, backend: str, dtype: torch.dtype, device: torch.device) -> None:
    case = max(operation.cases, key=lambda case: _size(case.make(0, dtype, device)))
    inputs = case.make(3, dtype, device)
    with deterministic():
        first, second = (results(operation, backend, inputs) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def _size(inputs: dict) -> int:
    return sum(value.numel() for value in inputs.values() if isinstance(value, torch.Tensor))


@pytest.mark.gpu
@pytest.mark.parametrize(("operation", "backend"), EACH)
def test_deterministic_mode_repeats_its_bits_on_the_gpu(operation: Operation, backend: str) -> None:
    if backend == "triton":
        same_twice(operation, backend, BF16, torch.device("cuda"))


@pytest.mark.parametrize(("operation", "backend"), [each for each in EACH if each.values[1] != "triton"])
def test_bits_repeat_on_the_cpu(operation: Operation, backend: str) -> None:
    same_twice(operation, backend, FP32, CPU)


def test_every_operation_of_the_room_is_registered() -> None:
    folders = {path.parent.name for path in KERNELS.glob("*/op.py")}
    assert folders == {path.parent.name for path in KERNELS.glob("*/cases.py")}
    assert len(operations()) >= 6
    for operation in operations().values():
        assert operation.backends and operation.cases, operation.name
        assert len({case.name for case in operation.cases}) == len(operation.cases), operation.name
        names = operation.cases[0].make(0, FP32, CPU).keys()
        assert names >= set(operation.differentiable) | set(operation.mutated), operation.name


@pytest.mark.parametrize("operation", operations().values(), ids=operations().keys())
def test_costs_are_positive_and_grow_with_the_backward_pass(operation: Operation) -> None:
    if operation.cost is None:
        pytest.skip("not counted yet")
    cost = operation.cost(operation.cases[0].make(0, BF16, CPU))
    assert cost.forward_bytes > 0 and cost.forward_flops > 0
    assert bool(operation.differentiable) == (cost.backward_bytes > 0) == (cost.backward_flops > 0)


def test_the_check_catches_a_wrong_value_a_wrong_gradient_and_what_was_never_written() -> None:
    norm = operations()["rms_norm"]
    case = norm.cases[0]
    check(norm, "torch", case, FP32, CPU)

    def off(**inputs: torch.Tensor) -> torch.Tensor:
        return norm.function(**inputs) * 1.001

    def no_gradient(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return norm.function(x, weight.detach(), eps)

    def unwritten(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out = norm.function(x, weight, eps)
        return torch.where(torch.arange(x.shape[-1]) < x.shape[-1] - 1, out, torch.empty_like(out))

    for function, what in ((off, "output 0"), (no_gradient, "gradient of weight"), (unwritten, "output 0")):
        with pytest.raises(ParityError, match=what):
            check(replace(norm, function=function), "torch", case, FP32, CPU)


def test_error_is_in_units_of_the_value_and_the_root_mean_square() -> None:
    truth = torch.tensor([3.0, -3.0, 0.0, 0.0], dtype=torch.float64)
    root = 4.5**0.5
    assert error(torch.tensor([3.0, -2.7, 0.0, 0.0]), truth) == pytest.approx(0.3 / (3 + root))
    assert error(torch.tensor([3.0, -3.0, 0.0, 0.1]), truth) == pytest.approx(0.1 / root)
    truth = truth[:2]
    assert error(torch.tensor([3.0, float("nan")]), truth) == float("inf")
    assert error(torch.tensor([1, 2]), torch.tensor([1, 2])) == 0.0
    assert error(torch.tensor([1, 3]), torch.tensor([1, 2])) == float("inf")


def test_poison_reaches_every_way_to_allocate_and_is_lifted_afterwards() -> None:
    x = torch.ones(4)
    with poisoned():
        for fresh in (torch.empty(4), torch.empty_like(x), x.new_empty(4), torch.empty_strided((4,), (1,))):
            assert fresh.isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_rule_of_dispatch() -> None:
    x = torch.ones(2)
    table = {"torch": lambda: "torch", "reference": lambda: "reference", "triton": "math:floor"}
    assert choose("op", table, None, x)() == "torch"
    assert choose("op", table, "reference", x)() == "reference"
    assert choose("op", {"fast": table["torch"]}, None, x, default="fast")() == "torch"
    if not torch.cuda.is_available():
        assert choose("op", table, "triton", x)(1.5) == 1
    with pytest.raises(UnsupportedError, match=r"op: backend: expected one of .*'tritn'.*mean 'triton'"):
        choose("op", table, "tritn", x)
    with pytest.raises(UnsupportedError, match=r"op: backend='triton': x: float64.*backend='torch'"):
        choose("op", table, "triton", x.cuda() if torch.cuda.is_available() else x, lambda: "x: float64")


def test_triton_on_a_cpu_tensor_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UnsupportedError, match=r"needs CUDA tensors.*cpu.*TRITON_INTERPRET=1"):
        choose("op", {"triton": "math:floor"}, "triton", torch.ones(2))


def test_deterministic_is_a_switch_and_a_block() -> None:
    assert not is_deterministic()
    with deterministic():
        assert is_deterministic()
        with deterministic(False):
            assert not is_deterministic()
        assert is_deterministic()
    assert not is_deterministic()
    deterministic(True)
    assert is_deterministic()
    deterministic(False)
    assert not is_deterministic()
