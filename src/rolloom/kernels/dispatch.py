"""One rule for every operation: which backend computes a call; and the switch that pins how it computes it.

`backend=None` takes `triton` for CUDA tensors where the operation has it and supports the case, else `torch`.
A named backend is taken or refused, never replaced.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from rolloom.errors import RolloomError, did_you_mean

Implementation = Callable[..., Any] | str
"""A function, or `package.module:function`, imported when it is first picked: triton is only imported so."""


class UnsupportedError(RolloomError, ValueError):
    """An operation has no such backend, or the backend cannot take an argument, which the message names."""


def choose(
    operation: str,
    implementations: Mapping[str, Implementation],
    backend: str | None,
    tensor: torch.Tensor,
    unsupported: Callable[[], str | None] | None = None,
    default: str = "torch",
) -> Callable[..., Any]:
    """Return the function that computes a call.

    Args:
        operation: public name, for messages.
        implementations: by backend.
        backend: a key of `implementations`, or None for the rule above.
        tensor: the operation's main input; its device decides.
        unsupported: says which argument the Triton kernel cannot take and why, or None when it takes all;
            asked only when Triton is considered.
        default: the backend that None means where Triton is not taken.

    Raises:
        UnsupportedError: no such backend, Triton asked for on a CPU tensor without its interpreter, or an
            argument that the Triton kernel cannot take.
    """
    if backend is None:
        on_gpu = tensor.is_cuda and "triton" in implementations
        backend = "triton" if on_gpu and (unsupported is None or unsupported() is None) else default
    elif backend not in implementations:
        raise UnsupportedError(
            f"{operation}: backend: expected one of {sorted(implementations)} or None, got {backend!r}."
            + did_you_mean(backend, implementations)
        )
    elif backend == "triton":
        if not tensor.is_cuda and not interpreting():
            raise UnsupportedError(
                f"{operation}: backend='triton' needs CUDA tensors, got one on {tensor.device}; use"
                " backend='torch', or set TRITON_INTERPRET=1 before the first import of triton"
            )
        problem = None if unsupported is None else unsupported()
        if problem is not None:
            raise UnsupportedError(f"{operation}: backend='triton': {problem}; backend='torch' takes it")
    found = implementations[backend]
    return _resolve(found) if isinstance(found, str) else found


def invariant_mode(tensor: torch.Tensor) -> bool:
    """True where deterministic mode takes the backends `invariant`: for tensors on a CPU."""
    return is_deterministic() and tensor.device.type == "cpu"


def on_cpu(tensor: torch.Tensor, fast: str = "torch") -> str:
    """Return an operation's default backend: `invariant` in its mode, else `fast`, but `torch` on CUDA."""
    return "invariant" if invariant_mode(tensor) else "torch" if tensor.is_cuda else fast


def interpreting() -> bool:
    """True when Triton kernels run in its interpreter, on CPU tensors too."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")


_RESOLVED: dict[str, Callable[..., Any]] = {}


def _resolve(path: str) -> Callable[..., Any]:
    if path not in _RESOLVED:
        module, _, name = path.partition(":")
        _RESOLVED[path] = getattr(importlib.import_module(module), name)
    return _RESOLVED[path]


def launch(kernel: Any, grid: tuple[int, ...], device: torch.device, *args: Any, **options: Any) -> None:
    """Launch a Triton kernel on a device, whichever is current; nothing for an empty grid.

    Args:
        kernel: a `triton.jit` function.
        grid: number of programs along each axis.
        device: where the arguments are.
        args: of the kernel.
        options: its constexpr arguments, and `num_warps` and the like.
    """
    if 0 in grid:
        return
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*args, **options)


_deterministic = False


class deterministic:
    """Switch the process's deterministic mode on or off; as a context manager, until the block ends.

    In this mode a kernel takes its pinned configuration whatever a tuner found, so that the same inputs on
    the same kind of device give the same bits in every process. Kernels use no atomics in either mode.
    """

    def __init__(self, on: bool = True) -> None:
        global _deterministic
        self._before, _deterministic = _deterministic, on

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        global _deterministic
        _deterministic = self._before


def is_deterministic() -> bool:
    """True when `deterministic(True)` is in force, or torch's own deterministic algorithms are."""
    return _deterministic or torch.are_deterministic_algorithms_enabled()
