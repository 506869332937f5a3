"""From hidden states to the log-probability and entropy of the distribution that is sampled from.

Shapes: S tokens, D width, V vocabulary.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from rolloom.kernels import invariant
from rolloom.kernels.dispatch import choose, on_cpu
from rolloom.kernels.logprob.cpu import linear_logprob_chunked
from rolloom.kernels.logprob.reference import linear_logprob_reference


def linear_logprob(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    temperature: float = 1.0,
    backend: str | None = None,
    bounds: tuple[int, ...] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target and the distribution's entropy, in fp32, at a sampling temperature.

    Args:
        hidden: `[S, D]`.
        weight: output embedding, `[V, D]`.
        targets: int64 `[S]`, each below V.
        temperature: positive.
        backend: `torch` holds the logits `[S, V]`; `chunked` a block of rows of them, which it computes
            again in the backward pass; `triton` a tile, and in the backward pass at most
            `triton.BUFFER` bytes of their gradient; `invariant` (a token's bits do not depend on the others);
            `reference`; None for the rule of `dispatch`.
        bounds: where the tokens of each sequence begin and end, from 0 to S; `invariant` sums the gradient
            of `weight` by them.

    Returns:
        log-probabilities `[S]` and entropies `[S]` in nats, both differentiable.

    Raises:
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    backends = {**BACKENDS, "invariant": partial(_invariant, bounds=bounds)}
    run = choose(
        "linear_logprob",
        backends,
        backend,
        hidden,
        lambda: _unsupported(hidden, weight, targets),
        on_cpu(hidden),
    )
    return run(hidden, weight, targets, temperature)


def _unsupported(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> str | None:
    from rolloom.kernels.logprob.triton import unsupported

    return unsupported(hidden, weight, targets)


def _whole(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _of_logits(F.linear(hidden, weight).float(), targets, temperature)


def _invariant(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float,
    bounds: tuple[int, ...] | None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    return _of_logits(invariant.linear(hidden, weight, None, bounds).float(), targets, temperature)


def _of_logits(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    if temperature != 1.0:
        logits = logits / temperature
    logp = F.log_softmax(logits, -1)
    chosen = logp.gather(1, targets[:, None]).squeeze(1)
    entropy = -(logp.exp() * logp).sum(-1)
    return chosen, entropy


BACKENDS = {
    "torch": _whole,
    "chunked": linear_logprob_chunked,
    "reference": linear_logprob_reference,
    "triton": "rolloom.kernels.logprob.triton:linear_logprob",
}
