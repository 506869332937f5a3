"""What a sequence leaves behind for its next token: convolution and SSM state, and keys and values.

Rows are sequences. The active ones are always rows 0..n-1, so every step works on plain views.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rolloom.kernels.ssd.replay import ReplayState
from rolloom.kernels.ssd.rounding import Rounding
from rolloom.policy.config import HybridConfig, PolicyError

STATE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True, slots=True)
class StateFormat:
    """How SSM states rest between two tokens (Nemotron 3 Ultra report, arXiv 2606.15007, Table 16).

    A state narrower than fp32 is kept by `kernels/ssd/replay.py`: rounded when a chunk of 32 tokens is full,
    not after each token.

    Attributes:
        dtype: `float32`, `float16`, or `int8` with a scale for each 128 elements.
        rounding: to narrower dtypes, `stochastic` or `nearest`; draws are Philox's of the chunk's number and
            the element, so a sequence's do not depend on the others.
    """

    dtype: str = "float32"
    rounding: Rounding = "stochastic"

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            PolicyError: an unknown one.
        """
        if self.dtype not in STATE_DTYPES:
            raise PolicyError(f"state dtype: expected one of {list(STATE_DTYPES)}, got {self.dtype!r}")
        if self.rounding not in ("stochastic", "nearest"):
            raise PolicyError(f"state rounding: expected 'stochastic' or 'nearest', got {self.rounding!r}")


@dataclass(slots=True)
class MambaState:
    """State of one Mamba-2 layer: `conv` `[rows, k - 1, C]` and fp32 `ssm` `[rows, H, P, N]`."""

    conv: torch.Tensor
    ssm: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return everything held; the first dimension of each is rows."""
        return self.conv, self.ssm


@dataclass(slots=True)
class ReplayedMambaState:
    """The same, with a state that replays the scan's arithmetic (see `kernels/ssd/replay.py`)."""

    conv: torch.Tensor
    replay: ReplayState

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return everything held; the first dimension of each is rows."""
        return self.conv, *self.replay.tensors()


@dataclass(slots=True)
class AttentionState:
    """Keys and values of one attention layer, each `[rows, kv heads, context, head dim]`."""

    key: torch.Tensor
    value: torch.Tensor


class DecodeCache:
    """State of up to `rows` sequences of up to `context` tokens.

    Args:
        config: of the policy.
        rows: sequences.
        context: tokens of the longest.
        dtype: of keys, values and convolution states.
        device: where they are.
        replay: keep Mamba-2 states so that decoding does the scan's arithmetic; on a CPU.
        state: how SSM states rest; narrower than fp32 on a CPU only.

    Attributes:
        layers: one entry a layer of the pattern; None for layers without state.
        lengths: tokens fed so far, int64 `[rows]`.

    Raises:
        PolicyError: narrow states on another device.
    """

    def __init__(
        self,
        config: HybridConfig,
        rows: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        replay: bool = False,
        state: StateFormat = StateFormat(),
    ) -> None:
        narrow = state.dtype != "float32"
        if narrow and torch.device(device).type != "cpu":
            raise PolicyError(f"state dtype: expected 'float32' on {device}, got {state.dtype!r} (CPU only)")
        kv = (rows, config.num_key_value_heads, context, config.head_dim)
        ssm = (rows, config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size)
        self.layers: list[MambaState | ReplayedMambaState | AttentionState | None] = []
        for letter in config.pattern:
            if letter == "M":
                conv = torch.zeros(rows, config.conv_kernel - 1, config.conv_dim, dtype=dtype, device=device)
                if replay or narrow:
                    held = ReplayState(
                        *ssm[:3], config.n_groups, config.ssm_state_size, dtype=STATE_DTYPES[state.dtype],
                        rounding_mode=state.rounding,
                    )  # fmt: skip
                    self.layers.append(ReplayedMambaState(conv, held))
                else:
                    self.layers.append(MambaState(conv, torch.zeros(ssm, dtype=torch.float32, device=device)))
            elif letter == "*":
                key = torch.zeros(kv, dtype=dtype, device=device)
                self.layers.append(AttentionState(key, torch.zeros_like(key)))
            else:
                self.layers.append(None)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self.context = context

    def clear(self, start: int, stop: int) -> None:
        """Make rows `start..stop` fresh sequences."""
        self.lengths[start:stop] = 0
        for layer in self.layers:
            if isinstance(layer, MambaState | ReplayedMambaState):
                for tensor in layer.tensors():
                    tensor[start:stop] = 0

    def copy_row(self, source: int, target: int) -> None:
        """Overwrite one row by another."""
        length = int(self.lengths[source])
        self.lengths[target] = length
        for layer in self.layers:
            if isinstance(layer, MambaState | ReplayedMambaState):
                for tensor in layer.tensors():
                    tensor[target] = tensor[source]
            elif isinstance(layer, AttentionState):
                layer.key[target, :, :length] = layer.key[source, :, :length]
                layer.value[target, :, :length] = layer.value[source, :, :length]

    def park(self, row: int) -> ParkedRow:
        """Return a copy of a row that outlives it; it holds no more than the tokens fed."""
        length = int(self.lengths[row])
        tensors: list[torch.Tensor] = []
        for layer in self.layers:
            if isinstance(layer, MambaState | ReplayedMambaState):
                tensors += [tensor[row].clone() for tensor in layer.tensors()]
            elif isinstance(layer, AttentionState):
                tensors += [layer.key[row, :, :length].clone(), layer.value[row, :, :length].clone()]
        return ParkedRow(length, tensors)

    def restore(self, parked: ParkedRow, row: int) -> None:
        """Continue a parked sequence in a row."""
        self.lengths[row] = parked.length
        tensors = iter(parked.tensors)
        for layer in self.layers:
            if isinstance(layer, MambaState | ReplayedMambaState):
                for tensor in layer.tensors():
                    tensor[row] = next(tensors)
            elif isinstance(layer, AttentionState):
                layer.key[row, :, : parked.length] = next(tensors)
                layer.value[row, :, : parked.length] = next(tensors)


@dataclass(slots=True)
class ParkedRow:
    """A sequence set aside between two turns of its episode."""

    length: int
    tensors: list[torch.Tensor]
