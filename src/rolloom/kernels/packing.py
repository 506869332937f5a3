"""Sequences laid end to end: where each begins, and how their tokens move to and from a padded layout.

Shapes: L packed tokens, S sequences, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Packing:
    """Bounds of packed sequences; sequence s is tokens `bounds[s]` to `bounds[s + 1]`.

    Attributes:
        bounds: from 0 to L, never falling.
    """

    bounds: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ValueError: they do not start at 0, or fall.
        """
        if not self.bounds or self.bounds[0] or any(a > b for a, b in pairwise(self.bounds)):
            raise ValueError(f"bounds: expected 0 <= ... <= tokens, never falling, got {list(self.bounds)}")

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Packing:
        """Return the packing of sequences of these lengths."""
        bounds = [0]
        for length in lengths:
            bounds.append(bounds[-1] + length)
        return _packing(tuple(bounds))

    @classmethod
    def dense(cls, batch: int, length: int) -> Packing:
        """Return the packing of `batch` sequences of `length` tokens each."""
        return cls.of([length] * batch)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each sequence."""
        return tuple(b - a for a, b in pairwise(self.bounds))

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.bounds) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens, L."""
        return self.bounds[-1]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence, T."""
        return max(self.lengths, default=0)

    @cached_property
    def uniform(self) -> bool:
        """True when all sequences have one length."""
        return len(set(self.lengths)) <= 1

    def cu_seqlens(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the bounds, int32 `[S + 1]`."""
        return _tensor(self.bounds, str(device))

    def owners(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the sequence of each token, int64 `[L]`."""
        return _owners(self.bounds, str(device))

    def places(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the position of each token in its sequence, int64 `[L]`."""
        return _places(self.bounds, str(device))

    def last(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the index of each sequence's last token, int64 `[S]`; no sequence may be empty."""
        return self.cu_seqlens(device)[1:].long() - 1

    def to_padded(self, x: torch.Tensor) -> torch.Tensor:
        """Lay `[L, ...]` out as `[S, T, ...]`, padded by zeros on the right; a view where all are as long."""
        shape = (self.sequences, self.longest, *x.shape[1:])
        if self.uniform:
            return x.view(shape)
        wide = x.new_zeros(self.sequences * self.longest, *x.shape[1:])
        return wide.index_copy(0, self._slots(x.device), x).view(shape)

    def to_packed(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `to_padded`: `[S, T, ...]` to `[L, ...]`."""
        flat = x.flatten(0, 1)
        return flat if self.uniform else flat.index_select(0, self._slots(x.device))

    def _slots(self, device: torch.device) -> torch.Tensor:
        return _slots(self.bounds, self.longest, str(device))


@lru_cache(maxsize=256)
def _packing(bounds: tuple[int, ...]) -> Packing:
    return Packing(bounds)


@lru_cache(maxsize=256)
def _tensor(bounds: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.tensor(bounds, dtype=torch.int32, device=device)


@lru_cache(maxsize=64)
def _owners(bounds: tuple[int, ...], device: str) -> torch.Tensor:
    lengths = torch.tensor([b - a for a, b in pairwise(bounds)], dtype=torch.int64)
    return torch.arange(len(bounds) - 1).repeat_interleave(lengths).to(device)


@lru_cache(maxsize=64)
def _places(bounds: tuple[int, ...], device: str) -> torch.Tensor:
    starts = torch.tensor(bounds[:-1], dtype=torch.int64).to(device)
    return torch.arange(bounds[-1], device=device) - starts[_owners(bounds, device)]


@lru_cache(maxsize=64)
def _slots(bounds: tuple[int, ...], longest: int, device: str) -> torch.Tensor:
    return _owners(bounds, device) * longest + _places(bounds, device)
