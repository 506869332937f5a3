"""Operations of the registry on the CPU in fp32, at sizes of the quickstart policy, against a peer.

Every backend and the peer are held to the reference on a short case, values and gradients, before they are
timed. What has no better public peer on a CPU is measured against its formula in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

import rolloom.kernels.parity as parity
from benchmarks.harness import Bench, ParityError, Rates, rate_for, torch_threads
from benchmarks.kernels.common import BATCH, LENGTH, QUICK_S, RUN_S, SETS
from benchmarks.kernels.conv1d import CHANNELS, peer_conv
from benchmarks.kernels.moe import BACKENDS, PEER_NAME, SIZES, peer, sized
from rolloom.kernels.conv1d.cases import batch
from rolloom.kernels.logprob.cases import case as logprob_case
from rolloom.kernels.norm.cases import gated, plain
from rolloom.kernels.registry import Case, Inputs, Operation, operations

Call = Callable[..., Any]
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Measured:
    """What to measure.

    Attributes:
        operation: of the registry.
        case: from the tokens of a sequence to inputs of `BATCH` sequences.
        label: sizes, for the row.
        backends: of ours, a row each.
        peer: the same keyword arguments, the same result.
        peer_name: who that is.
    """

    operation: str
    case: Callable[[int], Case]
    label: str
    backends: tuple[str, ...]
    peer: Call
    peer_name: str


def conv1d_peer(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, initial_state: None, final_state: bool
) -> torch.Tensor:
    """Take the arguments of ours that a plain convolution knows."""
    assert initial_state is None and not final_state
    return peer_conv(x, weight, bias)


def table() -> list[Measured]:
    """Return everything measured here."""
    known, torch_name = operations(), f"torch {torch.__version__}"
    return [
        Measured(
            "causal_conv1d", lambda length: batch("", BATCH, length, CHANNELS, final_state=False),
            f"{CHANNELS} channels", ("cpu",), conv1d_peer, f"{torch_name} F.conv1d",
        ),
        Measured(
            "gated_group_rms_norm", lambda length: gated("", BATCH, length, 256, groups=2),
            "256 channels, 2 groups", ("cpu",), known["gated_group_rms_norm"].reference,
            f"{torch_name}, the formula",
        ),
        Measured(
            "rms_norm", lambda length: plain("", BATCH, length, 128),
            "128 channels", ("cpu",), known["rms_norm"].reference, f"{torch_name}, the formula",
        ),
        Measured(
            "linear_logprob", lambda length: logprob_case("", BATCH * length, 128, 4096),
            "width 128, vocabulary 4096", ("torch", "chunked"), known["linear_logprob"].reference,
            f"{torch_name}, the formula",
        ),
        *(
            Measured(
                "relu2_experts", partial(sized, name), f"{name}: D, E, F, K {SIZES[name]}", BACKENDS, peer,
                PEER_NAME,
            )
            for name in SIZES
        ),
    ]  # fmt: skip


def hold(measured: Measured) -> None:
    """Check backends and peer on 65 tokens a sequence.

    Raises:
        ParityError: one computes something else than the reference.
    """
    operation, case = operations()[measured.operation], measured.case(65)
    peer = replace(operation, function=measured.peer, name=f"{operation.name}, peer")
    try:
        for backend in measured.backends:
            parity.check(operation, backend, case, torch.float32, CPU)
        parity.check(peer, None, case, torch.float32, CPU)
    except parity.ParityError as error:
        raise ParityError(str(error)) from error


def side(
    operation: Operation, call: Call, sets: Sequence[Inputs], tokens: int, seconds: float, backward: bool
) -> Callable[[int], Rates]:
    """Return a side that calls with the sets in turn; rates are tokens a second."""
    prepared = []
    for inputs in sets:
        names = [name for name in operation.differentiable if backward and inputs[name] is not None]
        leaves = {name: inputs[name].detach().requires_grad_() for name in names}
        with torch.no_grad():
            outputs = _tuple(call(**inputs))
        prepared.append(({**inputs, **leaves}, list(leaves.values()), [torch.ones_like(o) for o in outputs]))

    def once(count: int) -> None:
        inputs, leaves, pulls = prepared[count % len(prepared)]
        outputs = _tuple(call(**inputs))
        if backward:
            torch.autograd.grad(outputs, leaves, pulls)

    return lambda _: {"tokens/s": tokens * rate_for(seconds, once)}


def _tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def measure(bench: Bench) -> None:
    """Measure the table, forward alone and with the backward pass."""
    seconds, length = (QUICK_S, 64) if bench.quick else (RUN_S, LENGTH)
    for measured in table():
        hold(measured)
        operation = operations()[measured.operation]
        sets = [measured.case(length).make(seed, torch.float32, CPU) for seed in range(SETS)]
        for threads in (1,) if bench.quick else (1, 2):
            for backward, what in ((False, "fwd"), (True, "fwd+bwd")):
                for backend in measured.backends:
                    ours = _with_backend(operation, backend)
                    common = (sets, BATCH * length, seconds, backward)
                    with torch_threads(threads):
                        bench.compare(
                            f"{operation.name} {what}, {BATCH}x{length}, {measured.label}, fp32,"
                            f" backend {backend}",
                            side(operation, ours, *common),
                            side(operation, measured.peer, *common),
                            measured.peer_name, threads,
                        )  # fmt: skip


def _with_backend(operation: Operation, backend: str) -> Call:
    return lambda **inputs: operation.function(**inputs, backend=backend)
