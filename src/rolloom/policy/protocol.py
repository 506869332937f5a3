"""What the learner and the engine need of a policy, whatever its architecture.

Shapes: L packed tokens, S sequences, D hidden size, V vocabulary, E MoE layers, K experts a token; n rows of
a decode step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from rolloom.kernels.packing import Packing


class Parked(Protocol):
    """A sequence set aside between two turns of its episode."""

    length: int


class SlotCache(Protocol):
    """What sequences leave behind for their next tokens; the active ones are rows 0 to n - 1.

    Attributes:
        lengths: tokens fed so far, int64 `[rows]`.
    """

    lengths: torch.Tensor

    def clear(self, start: int, stop: int) -> None:
        """Make rows `start..stop` fresh sequences."""
        ...

    def copy_row(self, source: int, target: int) -> None:
        """Overwrite one row by another."""
        ...

    def park(self, row: int) -> Any:
        """Return a copy of a row (`Parked`) that outlives it."""
        ...

    def restore(self, parked: Any, row: int) -> None:
        """Continue a parked sequence in a row."""
        ...


class Routing(Protocol):
    """How many experts a token chooses, and in how many layers; no layers where choices are not recorded."""

    @property
    def moe_layers(self) -> int:
        """MoE layers whose choices are recorded, E."""
        ...

    @property
    def num_experts_per_tok(self) -> int:
        """Experts a token chooses in each, K."""
        ...

    @property
    def n_routed_experts(self) -> int:
        """Experts to choose from."""
        ...


class Policy(Protocol):
    """A causal language model that trains on packed sequences and samples with a cache.

    `HybridLM` and `HFPolicy` are its two kinds, both `torch.nn.Module`s.

    Attributes:
        recompute: in training, keep only each layer's input and compute the layer again in the backward pass.
    """

    recompute: bool

    @property
    def config(self) -> Routing:
        """Its shape."""
        ...

    @property
    def lm_head(self) -> torch.nn.Linear:
        """The output head; its `weight` `[V, D]` is what log-probabilities are computed from."""
        ...

    def __call__(
        self,
        ids: torch.Tensor,
        packing: Packing | None = None,
        replay: torch.Tensor | None = None,
        recorded: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run whole sequences, packed `[L]` or dense `[B, T]`, and return the final hidden states."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of hidden states `[n, D]`, fp32 `[n, V]`."""
        ...

    def new_cache(self, rows: int, context: int) -> Any:
        """Return an empty `SlotCache` of `rows` sequences of up to `context` tokens."""
        ...

    def feed(
        self, ids: torch.Tensor, packing: Packing, cache: Any, start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed packed sequences to rows `start..start + S` of the cache.

        Returns:
            Final hidden states `[L, D]` and expert choices `[L, E, K]`.
        """
        ...

    def decode(self, ids: torch.Tensor, cache: Any, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed one token to each of the rows `0..n`; final hidden states `[n, D]`, choices `[n, E, K]`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield the parameters with their names."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the parameters."""
        ...

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Return every weight by its name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> Any:
        """Take over every weight."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch to training or back."""
        ...

    def eval(self) -> Any:
        """Switch to sampling."""
        ...
