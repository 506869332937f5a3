"""From trajectories to tensors: packed microbatches within a token budget.

Shapes: S sequences, T tokens of one, L tokens of all, E MoE layers, K
    experts a token, N sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rolloom.kernels.packing import Packing


@dataclass(slots=True)
class TrainSequence:
    """One trajectory as the learner sees it.

    Attributes:
        ids: all tokens of the episode in order, `[T]`.
        mask: True for the tokens the policy sampled, `[T]`.
        logprobs: behaviour log-probability of each sampled token, 0 elsewhere, `[T]`.
        advantage: of the whole trajectory.
        experts: experts chosen at sampling, `[T, E, K]`, or None.
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
    """Packed tensors of one forward pass, and where the sampled tokens stand.

    Attributes:
        ids: `[L]`.
        packing: of the L tokens.
        replay: `[L, E, K]` or None.
        at: index of the hidden states that predict the sampled tokens, `[N]`.
        targets: the sampled tokens, `[N]`.
        logprobs: behaviour log-probabilities, `[N]`.
        advantages: `[N]`.
        sampled: packing of the N sampled tokens.
    """

    ids: torch.Tensor
    packing: Packing
    replay: torch.Tensor | None
    at: torch.Tensor
    targets: torch.Tensor
    logprobs: torch.Tensor
    advantages: torch.Tensor
    sampled: Packing

    @property
    def tokens(self) -> int:
        """Tokens in it."""
        return self.packing.tokens

    @property
    def rows(self) -> torch.Tensor:
        """The sequence each sampled token belongs to, `[N]`."""
        return self.sampled.owners(self.at.device)


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequence indices so that each group holds at most `budget` tokens.

    Sorted by length, so that what is padded inside (attention) is padded little; a sequence longer than the
    budget stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    groups: list[list[int]] = []
    filled = 0
    for index in order:
        if groups and filled + lengths[index] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
            filled = 0
        filled += lengths[index]
    return groups


def make_microbatches(
    sequences: Sequence[TrainSequence], budget: int, device: torch.device | str = "cpu"
) -> list[Microbatch]:
    """Pack sequences into microbatches; every sequence is in exactly one."""
    groups = plan([len(sequence.ids) for sequence in sequences], budget)
    return [_pack([sequences[index] for index in group], device) for group in groups]


def _pack(rows: list[TrainSequence], device: torch.device | str) -> Microbatch:
    packing = Packing.of([len(row.ids) for row in rows])
    picks: list[np.ndarray] = []
    for row in rows:
        assert not row.mask[0], "nothing predicts the first token of a sequence: it cannot be a sampled one"
        picks.append(np.flatnonzero(row.mask))
    replay = None
    experts = [row.experts for row in rows if row.experts is not None]
    if len(experts) == len(rows):
        replay = torch.from_numpy(np.concatenate(experts)).to(device)

    def tensor(parts: list[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device=device, dtype=dtype)

    each = list(zip(rows, picks, strict=True))
    starts = packing.bounds
    return Microbatch(
        ids=tensor([row.ids for row in rows], torch.int64),
        packing=packing,
        replay=replay,
        at=tensor([start + pick - 1 for start, pick in zip(starts, picks, strict=False)], torch.int64),
        targets=tensor([row.ids[pick] for row, pick in each], torch.int64),
        logprobs=tensor([row.logprobs[pick] for row, pick in each], torch.float32),
        advantages=tensor([np.full(len(pick), row.advantage) for row, pick in each], torch.float32),
        sampled=Packing.of([len(pick) for pick in picks]),
    )
