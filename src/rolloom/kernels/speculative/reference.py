"""Verification of drafted words by rejection sampling, one word at a time: the truth in float64.

Leviathan et al. (arXiv 2211.17192, Algorithm 1) and Chen et al. (arXiv 2302.01318, Algorithm 2): a word x
drawn from the draft's distribution q is kept with probability min(1, p(x) / q(x)), p the target's
distribution; after the first that is not, a word of norm(max(p - q, 0)) takes its place, and after none, one
more of p is drawn. Every word then has the distribution p, whatever q is.
"""

from __future__ import annotations

import torch

PADDING = -1
"""Stands where a row has no word."""


def verify_reference(
    drafts: torch.Tensor,
    target_logp: torch.Tensor,
    uniforms: torch.Tensor,
    draft_logp: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return words, their log-probabilities and how many drafted ones were kept; see `verify`."""
    rows, drafted = drafts.shape
    exact = torch.promote_types(target_logp.dtype, torch.float32)
    tokens = torch.full((rows, drafted + 1), PADDING, device=drafts.device)
    logp = torch.zeros(rows, drafted + 1, dtype=exact, device=drafts.device)
    kept = torch.zeros(rows, dtype=torch.int64, device=drafts.device)
    for row in range(rows):
        length = drafted if lengths is None else int(lengths[row])
        for step in range(length + 1):
            p = target_logp[row, step].to(exact).exp()
            if step < length:
                word = drafts[row, step]
                q = torch.zeros_like(p)
                if draft_logp is None:
                    q[word] = 1.0
                else:
                    q = draft_logp[row, step].to(exact).exp()
                if uniforms[row, step] < p[word] / q[word]:
                    tokens[row, step], logp[row, step] = word, target_logp[row, step, word]
                    kept[row] += 1
                    continue
                rest = (p - q).clamp(min=0)
                p = rest if rest.sum() > 0 else p
            cumulative = p.double().cumsum(0)
            above = cumulative > uniforms[row, drafted].double() * cumulative[-1]
            word = int(above.int().argmax()) if above.any() else int(p.nonzero()[-1])
            tokens[row, step], logp[row, step] = word, target_logp[row, step, word]
            break
    return tokens, logp, kept
