"""Log-probability and entropy of a linear layer's softmax as their definitions say: the truth in float64."""

from __future__ import annotations

import torch


def linear_logprob_reference(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p(target) and -sum p log p of p = softmax(hidden weight^T / temperature), over whole rows.

    Shapes as in `linear_logprob`; results are fp32, fp64 for fp64 inputs.
    """
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    logp = logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    return logp.gather(1, targets[:, None]).squeeze(1), entropy
