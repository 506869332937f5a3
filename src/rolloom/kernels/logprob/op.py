"""From hidden states to the log-probability and entropy of the distribution that is sampled from.

Shapes: S tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear_logprob(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target and the distribution's entropy, in fp32, at a sampling temperature.

    Args:
        hidden: `[S, D]`.
        weight: output embedding, `[V, D]`.
        targets: int64 `[S]`.
        temperature: positive.

    Returns:
        log-probabilities `[S]` and entropies `[S]` in nats, both differentiable.
    """
    logits = F.linear(hidden, weight).float()
    if temperature != 1.0:
        logits = logits / temperature
    logp = F.log_softmax(logits, -1)
    chosen = logp.gather(1, targets[:, None]).squeeze(1)
    entropy = -(logp.exp() * logp).sum(-1)
    return chosen, entropy
