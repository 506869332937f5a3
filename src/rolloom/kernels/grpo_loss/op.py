"""GRPO's loss of each sampled token, in the variants of its papers, for any aggregation.

Shapes: S tokens, packed end to end.
"""

from __future__ import annotations

import torch

from rolloom.errors import did_you_mean
from rolloom.kernels.dispatch import choose
from rolloom.kernels.grpo_loss.reference import CLIPS, KLS, grpo_token_loss_reference


def grpo_token_loss(
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
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weigh the loss of each token; `reference.py` has the formulas and their papers.

    The sum of the losses is the objective, aggregated as the weights say: 1 / tokens of the batch for
    token-level means (DAPO), 1 / (sequences * tokens of the sequence) for sequence-level means (GRPO),
    1 / (sequences * longest completion) for Dr. GRPO (arXiv 2503.20783). Truncated or masked importance
    weights of the sampler's mismatch multiply them.

    Args:
        logp: of the policy, `[S]`; the only argument with a gradient.
        behaviour: log-probabilities of the policy that the ratio is against, `[S]`.
        advantages: `[S]`.
        weights: `[S]`, or None for 1.
        reference: log-probabilities of the policy that the penalty pulls towards, `[S]`, or None for no
            penalty.
        clip: `ppo`, `cispo` or `none`.
        clip_low: the ratio's lower bound is 1 - clip_low.
        clip_high: the ratio's upper bound is 1 + clip_high.
        dual_clip: bounds the loss of a token with a negative advantage, more than 1; `ppo` only.
        kl: `k1`, `k2` or `k3`. The gradient of `k1` has mean zero on policy: it measures, and does not pull.
        kl_coefficient: of the penalty.
        backend: `torch` or `reference`, which are one here, `triton`, or None for the rule of `dispatch`.

    Returns:
        Losses, the estimates of KL (not weighted, no gradient; 0 without a reference), both fp32 `[S]`, and
        which tokens the clip touched, bool `[S]`: under `ppo` those whose gradient it removed.

    Raises:
        ValueError: no such clip or estimate, or `dual_clip` elsewhere than in `ppo` or not above 1.
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    for name, value, allowed in (("clip", clip, CLIPS), ("kl", kl, KLS)):
        if value not in allowed:
            raise ValueError(
                f"{name}: expected one of {list(allowed)}, got {value!r}.{did_you_mean(value, allowed)}"
            )
    if dual_clip is not None and (clip != "ppo" or not dual_clip > 1):
        raise ValueError(f"dual_clip: expected more than 1, with clip 'ppo', got {dual_clip} with {clip!r}")
    tensors = {
        "logp": logp, "behaviour": behaviour, "advantages": advantages, "weights": weights,
        "reference": reference,
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != logp.shape:
            expected, got = tuple(logp.shape), tuple(tensor.shape)
            raise ValueError(f"{name}: expected the shape of logp, {expected}, got {got}")
    run = choose("grpo_token_loss", BACKENDS, backend, logp, lambda: _unsupported(tensors))
    return run(
        logp,
        behaviour,
        advantages,
        weights,
        reference,
        clip,
        clip_low,
        clip_high,
        dual_clip,
        kl,
        kl_coefficient,
    )


def _unsupported(tensors: dict[str, torch.Tensor | None]) -> str | None:
    from rolloom.kernels.grpo_loss.triton import unsupported

    return unsupported(tensors)


BACKENDS = {
    "torch": grpo_token_loss_reference,
    "reference": grpo_token_loss_reference,
    "triton": "rolloom.kernels.grpo_loss.triton:grpo_token_loss",
}
