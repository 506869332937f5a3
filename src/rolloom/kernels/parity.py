"""A backend against its reference in float64: values, overwritten inputs and every gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from rolloom.kernels.registry import Case, Inputs, Operation

PLAIN_ERRORS = 2.0
"""A backend may err this many times as much as the reference does in the same dtype."""


class ParityError(AssertionError):
    """A backend computes something else than the reference."""


def results(
    operation: Operation, backend: str | None, inputs: Inputs, gradients: bool = True
) -> dict[str, torch.Tensor]:
    """Run a backend on copies and return outputs, overwritten inputs and gradients by name.

    The gradient of every floating output is a fixed draw of its shape, the same for all backends and dtypes.
    """
    given = dict(inputs)
    for name in operation.mutated:
        if given[name] is not None:
            given[name] = given[name].clone()
    leaves: dict[str, torch.Tensor] = {}
    for name in operation.differentiable if gradients else ():
        if given[name] is not None:
            given[name] = leaves[name] = given[name].detach().requires_grad_()
    with torch.set_grad_enabled(bool(leaves)):
        outputs = operation.run(backend, given)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found = {f"output {index}": value.detach() for index, value in enumerate(outputs) if value is not None}
    found |= {f"{name} afterwards": given[name] for name in operation.mutated if given[name] is not None}
    pulled = [value for value in outputs if value is not None and value.requires_grad]
    grads: Sequence[torch.Tensor | None] = [None] * len(leaves)
    if leaves and pulled:
        pulls = [_pull(value, index) for index, value in enumerate(pulled)]
        grads = torch.autograd.grad(pulled, list(leaves.values()), pulls, allow_unused=True)
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        found[f"gradient of {name}"] = torch.zeros_like(leaf) if grad is None else grad
    return found


def _pull(value: torch.Tensor, index: int) -> torch.Tensor:
    if value.is_meta:
        return torch.empty_like(value)
    generator = torch.Generator().manual_seed(1000 + index)
    return torch.randn(value.shape, generator=generator).bfloat16().to(value.device, value.dtype)


def in_double(inputs: Inputs) -> Inputs:
    """Return inputs with every floating tensor in float64, on the CPU."""
    return {name: _double(value) for name, value in inputs.items()}


def _double(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.cpu().double() if value.is_floating_point() else value.cpu()


def error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference, each in units of |truth| plus the truth's root mean square.

    Infinite when shapes differ, a value is NaN, or integers or booleans are not equal.
    """
    if value.shape != truth.shape:
        return float("inf")
    if not truth.numel():
        return 0.0
    value = value.cpu()
    if not truth.is_floating_point():
        return 0.0 if torch.equal(value.to(truth.dtype), truth) else float("inf")
    scale = truth.abs() + (float(truth.square().mean().sqrt()) or 1.0)
    found = float(((value.double() - truth).abs() / scale).max())
    return found if found == found else float("inf")


def check(operation: Operation, backend: str | None, case: Case, dtype: torch.dtype, device: torch.device,
          seed: int = 0, gradients: bool = True) -> dict[str, float]:  # fmt: skip
    """Hold one backend to the reference on one case, every newly allocated tensor poisoned with NaN.

    Returns:
        The error of each result, by name.

    Raises:
        ParityError: a result is missing, has another shape or dtype, or errs more than is allowed.
    """
    inputs = case.make(seed, dtype, device)
    truth = results(operation, "reference", in_double(inputs), gradients)
    plain = results(operation, "reference", inputs, gradients)
    with poisoned():
        ours = results(operation, backend, inputs, gradients)
    where = f"{operation.name}, {backend}, case {case.name}, {dtype}"
    if ours.keys() != truth.keys():
        raise ParityError(f"{where}: expected results {sorted(truth)}, got {sorted(ours)}")
    errors = {}
    for name, true in truth.items():
        errors[name] = error(ours[name], true)
        allowed = PLAIN_ERRORS * error(plain[name], true) + operation.tolerances[dtype]
        if not errors[name] <= allowed:
            raise ParityError(f"{where}: {name}: off by {errors[name]:.2e}, expected <= {allowed:.2e}")
    return errors


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill what `torch.empty` and its kin return with NaN, integers with their largest value."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
