"""Every operation of this room with what it takes to test and to measure it.

An operation is described in `<folder>/cases.py`, as a tuple `OPERATIONS`. Tests and benchmarks read this
registry and nothing else, so what is measured is tested.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

Inputs = dict[str, Any]
"""Keyword arguments of an operation's public function and of its reference."""


@dataclass(frozen=True, slots=True)
class Case:
    """Named inputs.

    Attributes:
        name: unique within the operation.
        make: from a seed, a dtype and a device to inputs. The dtype is that of activations; what stays fp32
            in a model (step sizes, routing weights) stays fp32 here.
        slow: Triton's interpreter takes seconds for it, so it is left to the slow tests and to GPUs.
    """

    name: str
    make: Callable[[int, torch.dtype, torch.device], Inputs]
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call must move and compute at the least, each input read and each output written once.

    Attributes:
        forward_bytes: of the forward pass.
        forward_flops: of the forward pass; a multiply-add counts 2.
        backward_bytes: of the backward pass alone; 0 for an operation without one.
        backward_flops: of the backward pass alone.
    """

    forward_bytes: int
    forward_flops: int
    backward_bytes: int = 0
    backward_flops: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One public function of this room.

    Attributes:
        name: unique in this room.
        function: the public function; takes `backend=` once it has more than one.
        reference: the same arguments in plain torch, exact in float64: the truth.
        backends: those that tests hold to the reference, itself not named.
        cases: small inputs, tested everywhere: odd lengths, packed and empty segments, strides.
        shapes: inputs of the size models have, for measuring.
        differentiable: names of the inputs that have gradients.
        mutated: names of the inputs that a call overwrites; their values afterwards count as outputs.
        tolerances: by dtype, in the units of `parity.error`; on top of twice the error that the reference
            makes in that dtype.
        interpreted: dtypes that Triton's interpreter computes well enough to be tested.
        cost: of inputs; None while nobody has counted.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    backends: tuple[str, ...]
    cases: tuple[Case, ...]
    shapes: tuple[Case, ...] = ()
    differentiable: tuple[str, ...] = ()
    mutated: tuple[str, ...] = ()
    tolerances: Mapping[torch.dtype, float] = field(
        default_factory=lambda: {torch.float32: 1e-5, torch.bfloat16: 1e-2}
    )
    interpreted: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    cost: Callable[[Inputs], Cost] | None = None

    def run(self, backend: str | None, inputs: Inputs) -> Any:
        """Call a backend, or `reference`, or the default for None."""
        if backend == "reference":
            return self.reference(**inputs)
        if "backend" in inspect.signature(self.function).parameters:
            return self.function(**inputs, backend=backend)
        return self.function(**inputs)


@cache
def operations() -> dict[str, Operation]:
    """Return every operation by name.

    Raises:
        ValueError: two operations share a name.
    """
    found: dict[str, Operation] = {}
    for path in sorted(Path(__file__).parent.glob("*/cases.py")):
        module = importlib.import_module(f"rolloom.kernels.{path.parent.name}.cases")
        for operation in module.OPERATIONS:
            if operation.name in found:
                raise ValueError(f"{path}: two operations are called {operation.name!r}")
            found[operation.name] = operation
    return found


class Draw:
    """Random inputs of a seed: the same values on every device, rounded to the dtype.

    On the `meta` device they have shapes and no values, however large.

    Args:
        seed: of the CPU generator that draws them.
        dtype: of what is drawn, unless said otherwise.
        device: where it ends up.
    """

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype, self.device = dtype, device

    def normal(self, *shape: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return normal values."""
        if self.device.type == "meta":
            return torch.empty(shape, dtype=dtype or self.dtype, device=self.device)
        drawn = torch.randn(*shape, generator=self.generator) * scale
        return drawn.to(self.device, dtype or self.dtype)

    def uniform(
        self, *shape: int, low: float = 0.0, high: float = 1.0, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Return uniform values of `[low, high)`."""
        if self.device.type == "meta":
            return torch.empty(shape, dtype=dtype or self.dtype, device=self.device)
        drawn = torch.rand(*shape, generator=self.generator) * (high - low) + low
        return drawn.to(self.device, dtype or self.dtype)

    def integers(self, *shape: int, high: int) -> torch.Tensor:
        """Return int64 of `[0, high)`."""
        if self.device.type == "meta":
            return torch.empty(shape, dtype=torch.int64, device=self.device)
        return torch.randint(high, shape, generator=self.generator).to(self.device)

    def strided(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the same values as a view into every second column of a wider tensor, NaN between them."""
        wide = torch.full((*tensor.shape, 2), float("nan"), dtype=tensor.dtype, device=tensor.device)
        wide[..., 0] = tensor
        return wide[..., 0]
