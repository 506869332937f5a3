"""Verification of drafted words, all rows at once."""

from __future__ import annotations

import torch

from rolloom.kernels.sampling.reference import draw
from rolloom.kernels.speculative.reference import PADDING


def verify(
    drafts: torch.Tensor,
    target_logp: torch.Tensor,
    uniforms: torch.Tensor,
    draft_logp: torch.Tensor | None,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `verify_reference` returns."""
    rows, drafted = drafts.shape
    exact = torch.promote_types(target_logp.dtype, torch.float32)
    at, step = torch.arange(rows, device=drafts.device), torch.arange(drafted + 1, device=drafts.device)
    limit = torch.full_like(at, drafted) if lengths is None else lengths.long()
    gap = target_logp[:, :drafted].gather(2, drafts[..., None]).squeeze(2).to(exact)
    if draft_logp is not None:
        gap = gap - draft_logp.gather(2, drafts[..., None]).squeeze(2).to(exact)
    accept = (uniforms[:, :drafted] < gap.exp()) & (step[:-1] < limit[:, None])
    kept = accept.long().cumprod(1).sum(1)
    final = target_logp[at, kept].to(exact).exp()
    if drafted:
        last = kept.clamp(max=drafted - 1)
        if draft_logp is None:
            rest = final.scatter(1, drafts[at, last][:, None], 0.0)
        else:
            rest = (final - draft_logp[at, last].to(exact).exp()).clamp(min=0)
        rejected = (kept < limit) & (rest.sum(-1) > 0)
        final = torch.where(rejected[:, None], rest, final)
    words = draw(final.double().log(), uniforms[:, drafted])[0]
    padded = torch.cat((drafts, drafts.new_zeros(rows, 1)), 1)
    tokens = torch.where(step == kept[:, None], words[:, None], padded)
    logp = target_logp.gather(2, tokens[..., None]).squeeze(2).to(exact)
    beyond = step > kept[:, None]
    return tokens.masked_fill(beyond, PADDING), logp.masked_fill(beyond, 0.0), kept
