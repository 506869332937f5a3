"""Policy-gradient losses of sampled tokens as their papers say, in plain torch: the truth in float64.

With ratio r = exp(logp - behaviour), advantage A and bounds [l, h] = [1 - clip_low, 1 + clip_high], the loss
of a token is, by `clip`:

- `ppo`: -min(r A, clamp(r, l, h) A) (PPO, arXiv 1707.06347, Eq. 7; unequal bounds: DAPO, arXiv 2503.14476,
  Eq. 8; GRPO, arXiv 2402.03300, Eq. 3). With `dual_clip` = c it is at most -c A where A < 0 (dual-clip PPO,
  arXiv 1912.09729).
- `cispo`: -sg(clamp(r, l, h)) A logp, sg stopping the gradient: a clipped weight, and no token without
  gradient (MiniMax-M1, arXiv 2506.13585, Eq. 4 and 5).
- `none`: -r A.

A penalty estimates KL(policy || reference) from the one sample, with d = reference - logp (Schulman,
"Approximating KL divergence", 2020): `k1` = -d, `k2` = d^2 / 2, `k3` = exp(d) - 1 - d (GRPO's, Eq. 4).
"""

from __future__ import annotations

import torch

CLIPS = ("ppo", "cispo", "none")
KLS = ("k1", "k2", "k3")


def grpo_token_loss_reference(
    logp: torch.Tensor,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
    clip: str = "ppo",
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    kl: str = "k3",
    kl_coefficient: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights * (loss + kl_coefficient * KL), KL and what the clip touched; see `grpo_token_loss`."""
    exact = torch.promote_types(logp.dtype, torch.float32)
    logp, behaviour, advantages = logp.to(exact), behaviour.to(exact), advantages.to(exact)
    ratio = torch.exp(logp - behaviour)
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if clip == "ppo":
        plain, other = ratio * advantages, bounded * advantages
        objective, clipped = torch.minimum(plain, other), other < plain
        if dual_clip is not None:
            floor = dual_clip * advantages
            low = (advantages < 0) & (objective < floor)
            objective, clipped = torch.where(low, floor, objective), clipped | low
    elif clip == "cispo":
        objective, clipped = bounded.detach() * advantages * logp, bounded != ratio
    else:
        objective, clipped = ratio * advantages, torch.zeros_like(ratio, dtype=torch.bool)
    losses, estimates = -objective, torch.zeros_like(logp)
    if reference is not None:
        gap = reference.to(exact) - logp
        # Near equality k3 is d^2 / 2: exp(d) - 1 would round it away.
        estimates = {"k1": -gap, "k2": gap.square() / 2, "k3": torch.expm1(gap) - gap}[kl]
        losses = losses + kl_coefficient * estimates
    if weights is not None:
        losses = losses * weights.to(exact)
    return losses, estimates.detach(), clipped.detach()
