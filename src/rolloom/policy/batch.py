"""From trajectories to tensors: length-sorted, right-padded microbatches within a token budget.

Shapes: B sequences, T tokens, L MoE layers, K experts a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(slots=True)
class TrainSequence:
    """One trajectory as the learner sees it.

    Attributes:
        ids: all tokens of the episode in order, `[T]`.
        mask: True for the tokens the policy sampled, `[T]`.
        logprobs: behaviour log-probability of each sampled token, 0 elsewhere, `[T]`.
        advantage: of the whole trajectory.
        experts: experts chosen at sampling, `[T, L, K]`, or None.
        policy_version: version of the weights that sampled it.
    """

    ids: np.ndarray
    mask: np.ndarray
    logprobs: np.ndarray
    advantage: float
    experts: np.ndarray | None
    policy_version: int


@dataclass(slots=True)
class Microbatch:
    """Right-padded tensors of one forward pass, and where the sampled tokens stand.

    Attributes:
        ids: `[B, T]`.
        replay: `[B, T, L, K]` or None.
        at: index into the flattened `[B * T]` hidden states that predict the sampled tokens, `[S]`.
        targets: the sampled tokens, `[S]`.
        logprobs: behaviour log-probabilities, `[S]`.
        advantages: `[S]`.
        rows: the sequence each sampled token belongs to, `[S]`.
        tokens: real tokens in it.
    """

    ids: torch.Tensor
    replay: torch.Tensor | None
    at: torch.Tensor
    targets: torch.Tensor
    logprobs: torch.Tensor
    advantages: torch.Tensor
    rows: torch.Tensor
    tokens: int


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequence indices so that each group, padded to its longest, holds at most `budget` tokens.

    Sorted by length, so padding is small; a sequence longer than the budget stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        if groups and (len(groups[-1]) + 1) * lengths[index] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def make_microbatches(
    sequences: Sequence[TrainSequence], budget: int, device: torch.device | str = "cpu"
) -> list[Microbatch]:
    """Pad sequences into microbatches; every sequence is in exactly one."""
    groups = plan([len(sequence.ids) for sequence in sequences], budget)
    return [_pad([sequences[index] for index in group], device) for group in groups]


def _pad(rows: list[TrainSequence], device: torch.device | str) -> Microbatch:
    longest = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    replay = None
    if all(row.experts is not None for row in rows):
        first = rows[0].experts
        assert first is not None
        replay = np.zeros((len(rows), longest, *first.shape[1:]), first.dtype)
    at, targets, logprobs, advantages, owners = [], [], [], [], []
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = row.ids
        if replay is not None:
            replay[index, :length] = row.experts
        assert not row.mask[0], "nothing predicts the first token of a sequence: it cannot be a sampled one"
        sampled = np.flatnonzero(row.mask)
        at.append(index * longest + sampled - 1)
        targets.append(row.ids[sampled])
        logprobs.append(row.logprobs[sampled])
        advantages.append(np.full(len(sampled), row.advantage, np.float32))
        owners.append(np.full(len(sampled), index))

    def tensor(parts: list[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device=device, dtype=dtype)

    return Microbatch(
        ids=torch.from_numpy(ids).to(device),
        replay=None if replay is None else torch.from_numpy(replay).to(device),
        at=tensor(at, torch.int64),
        targets=tensor(targets, torch.int64),
        logprobs=tensor(logprobs, torch.float32),
        advantages=tensor(advantages, torch.float32),
        rows=tensor(owners, torch.int64),
        tokens=sum(len(row.ids) for row in rows),
    )
