"""What the op benchmarks share: correctness before speed, and rates over rotating inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.harness import ParityError, Rates, rate_for

BATCH, LENGTH = 4, 512
SETS = 8
RUN_S, QUICK_S = 0.5, 0.01
TOLERANCE = 1e-4

Inputs = tuple[torch.Tensor, ...]
Op = Callable[..., torch.Tensor]


def forward_backward(op: Op, inputs: Inputs) -> list[torch.Tensor]:
    """Return the output and the gradient of every input, for a fixed gradient of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    out = op(*leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight)]


def check_against(reference: Op, ops: dict[str, Op], inputs: Inputs) -> None:
    """Hold ops in fp32 to a reference in float64.

    Raises:
        ParityError: an output or gradient is off by more than `TOLERANCE` of its norm.
    """
    truth = forward_backward(reference, tuple(tensor.double() for tensor in inputs))
    for name, op in ops.items():
        for index, (value, true) in enumerate(zip(forward_backward(op, inputs), truth, strict=True)):
            error = float((value.double() - true).norm() / true.norm().clamp(min=1e-12))
            if not error <= TOLERANCE:
                what = "output" if index == 0 else f"gradient of input {index - 1}"
                raise ParityError(f"{name}: {what} is off by {error:.2e}, expected <= {TOLERANCE}")


def speed(op: Op, sets: Sequence[Inputs], seconds: float, backward: bool) -> Callable[[int], Rates]:
    """Return a side that runs `op` over the sets in turn; rates are tokens a second."""
    tokens = sets[0][0].shape[0] * sets[0][0].shape[1]
    with torch.no_grad():
        grads = [torch.randn_like(op(*inputs)) for inputs in sets]
    leaves = [tuple(tensor.detach().requires_grad_(backward) for tensor in inputs) for inputs in sets]

    def once(count: int) -> None:
        at = count % len(sets)
        out = op(*leaves[at])
        if backward:
            torch.autograd.grad(out, leaves[at], grads[at])

    def side(_: int) -> Rates:
        return {"tokens/s": tokens * rate_for(seconds, once)}

    return side


def eager_peer() -> tuple[object, str]:
    """Return transformers' `nemotron_h` module and its name and version."""
    import transformers
    from transformers.models.nemotron_h import modeling_nemotron_h

    return modeling_nemotron_h, f"transformers {transformers.__version__}"
