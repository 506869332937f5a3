"""GRPO's token loss as pure functions over tensors of sampled tokens `[S]`."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(slots=True)
class TokenLoss:
    """Sums over sampled tokens; divide by the batch's token count for token-level aggregation.

    Attributes:
        loss: differentiable sum.
        kl: sum of the k3 estimates (0 without a reference).
        clipped: number of tokens whose gradient the clip removed.
    """

    loss: torch.Tensor
    kl: torch.Tensor
    clipped: torch.Tensor


def clipped_policy_loss(
    logp: torch.Tensor, behaviour: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate with separate bounds (DAPO, arXiv 2503.14476, Eq. 8), per token.

    Returns:
        Loss of each token `[S]` and whether the clip removed its gradient `[S]`.
    """
    ratio = torch.exp(logp - behaviour)
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    plain, clipped = ratio * advantages, bounded * advantages
    return -torch.minimum(plain, clipped), (clipped < plain).detach()


def k3(logp: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimate of KL(policy || reference) per token: exp(d) - 1 - d, d = reference - logp."""
    gap = reference - logp
    # Near equality the estimate is d^2 / 2: exp(d) - 1 would round it away.
    return torch.expm1(gap) - gap


def grpo_token_loss(
    logp: torch.Tensor,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float,
    clip_high: float,
    kl_coefficient: float = 0.0,
    reference: torch.Tensor | None = None,
) -> TokenLoss:
    """GRPO (arXiv 2402.03300) over sampled tokens: clipped surrogate plus an optional k3 penalty, summed."""
    losses, removed = clipped_policy_loss(logp, behaviour, advantages, clip_low, clip_high)
    total, kl = losses.sum(), logp.new_zeros(())
    if reference is not None:
        estimates = k3(logp, reference)
        kl = estimates.sum().detach()
        total = total + kl_coefficient * estimates.sum()
    return TokenLoss(total, kl, removed.sum())
