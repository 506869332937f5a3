"""Sampling with temperature, top-k and top-p, and the log-probability of what was really sampled from.

Shapes: S rows, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

import rolloom.kernels.sampling.cpu as cpu
from rolloom.kernels.dispatch import choose
from rolloom.kernels.sampling.reference import Setting, processed_log_probs_reference, sample_reference


def sample(
    logits: torch.Tensor,
    uniforms: torch.Tensor,
    temperature: Setting = 1.0,
    top_k: Setting = 0,
    top_p: Setting = 1.0,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a word of each row from its truncated, renormalised distribution at a temperature.

    The same uniforms give the same words. `reference.py` says which words are kept and how one is drawn.

    Args:
        logits: `[S, V]`; -inf bans a word.
        uniforms: `[S]` of [0, 1).
        temperature: not negative, one or `[S]`; 0 takes the best word, whatever top_k and top_p are.
        top_k: words kept, one or `[S]`; 0 for all.
        top_p: mass kept, one or `[S]`; 1 for all. However little, the best word stays.
        backend: `torch`, `triton`, `reference`, or None for the rule of `dispatch`.

    Returns:
        Words, int64 `[S]`, and their log-probabilities under the distribution drawn from, fp32 `[S]` (fp64
        for fp64 logits on a CPU): 0 for a greedy row.

    Raises:
        ValueError: a setting out of range (looked at where it is a number), or misshaped uniforms.
        UnsupportedError: the backend does not exist or cannot take an argument.
    """
    _check(temperature, top_k, top_p)
    if uniforms.shape != logits.shape[:1]:
        raise ValueError(f"uniforms: expected shape {tuple(logits.shape[:1])}, got {tuple(uniforms.shape)}")
    others = {"uniforms": uniforms, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    run = choose("sample", SAMPLE, backend, logits, lambda: _unsupported(logits, others))
    return run(logits, uniforms, temperature, top_k, top_p)


def processed_log_probs(
    logits: torch.Tensor,
    temperature: Setting = 1.0,
    top_k: Setting = 0,
    top_p: Setting = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    """Return the log-probabilities that `sample` draws from, `[S, V]`, -inf for what is cut off.

    Arguments and errors as in `sample`. `verify` of the speculative folder takes such rows.
    """
    _check(temperature, top_k, top_p)
    others = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    run = choose("processed_log_probs", PROCESSED, backend, logits, lambda: _unsupported(logits, others))
    return run(logits, temperature, top_k, top_p)


def _check(temperature: Setting, top_k: Setting, top_p: Setting) -> None:
    if not isinstance(temperature, torch.Tensor) and not temperature >= 0:
        raise ValueError(f"temperature: expected at least 0, got {temperature}")
    if not isinstance(top_k, torch.Tensor) and not top_k >= 0:
        raise ValueError(f"top_k: expected at least 0, got {top_k}")
    if not isinstance(top_p, torch.Tensor) and not 0 <= top_p <= 1:
        raise ValueError(f"top_p: expected 0 to 1, got {top_p}")


def _unsupported(logits: torch.Tensor, others: dict[str, Any]) -> str | None:
    from rolloom.kernels.sampling.triton import unsupported

    return unsupported(logits, others)


SAMPLE = {
    "torch": cpu.sample,
    "reference": sample_reference,
    "triton": "rolloom.kernels.sampling.triton:sample",
}
PROCESSED = {
    "torch": cpu.processed_log_probs,
    "reference": processed_log_probs_reference,
    "triton": "rolloom.kernels.sampling.triton:processed_log_probs",
}
