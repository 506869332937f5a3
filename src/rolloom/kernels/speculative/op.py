"""Speculative decoding's verification: drafted words in, words of the target's distribution out.

Shapes: B rows, K drafted words a row, V vocabulary.
"""

from __future__ import annotations

import torch

import rolloom.kernels.speculative.cpu as cpu
from rolloom.kernels.dispatch import choose
from rolloom.kernels.speculative.reference import verify_reference


def verify(
    drafts: torch.Tensor,
    target_logp: torch.Tensor,
    uniforms: torch.Tensor,
    draft_logp: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keep drafted words by rejection sampling and draw one more; `reference.py` has the rule and its papers.

    Both distributions are those sampled from: after temperature, top-k and top-p, as `processed_log_probs`
    returns them. Under a greedy target every row is exactly what greedy decoding gives.

    Args:
        drafts: int64 `[B, K]`.
        target_logp: at each drafted word and after the last, `[B, K + 1, V]`.
        uniforms: of [0, 1), `[B, K + 1]`: K to accept, the last to draw.
        draft_logp: what the drafts were drawn from, `[B, K, V]`; None when each is certain, as in greedy
            drafting.
        lengths: drafted words of each row, int `[B]` of at most K, or None for K; what lies beyond is ignored
            but must be words.
        backend: `torch`, `triton`, `reference`, or None for the rule of `dispatch`.

    Returns:
        Words, int64 `[B, K + 1]`, -1 after the last; their log-probabilities under the target, fp32
        `[B, K + 1]` (fp64 for fp64 on a CPU), 0 after the last; and drafted words kept, int64 `[B]`: each row
        has one word more.

    Raises:
        ValueError: shapes that do not belong together.
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    rows, drafted = drafts.shape
    tensors = {"target_logp": target_logp, "uniforms": uniforms, "draft_logp": draft_logp, "lengths": lengths}
    vocabulary = target_logp.shape[-1]
    expected = {
        "target_logp": (rows, drafted + 1, vocabulary), "uniforms": (rows, drafted + 1),
        "draft_logp": (rows, drafted, vocabulary), "lengths": (rows,),
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != expected[name]:
            raise ValueError(f"{name}: expected shape {expected[name]}, got {tuple(tensor.shape)}")
    run = choose(
        "verify", BACKENDS, backend, target_logp, lambda: _unsupported({"drafts": drafts, **tensors})
    )
    return run(drafts, target_logp, uniforms, draft_logp, lengths)


def _unsupported(tensors: dict[str, torch.Tensor | None]) -> str | None:
    from rolloom.kernels.speculative.triton import unsupported

    return unsupported(tensors)


BACKENDS = {
    "torch": cpu.verify,
    "reference": verify_reference,
    "triton": "rolloom.kernels.speculative.triton:verify",
}
