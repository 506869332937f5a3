"""What a policy needs in memory, counted from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass

from rolloom.policy.config import HybridConfig
from rolloom.policy.parameters import policy_size


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one policy.

    Attributes:
        parameters: their number, without buffers.
        weights: bytes of one copy of the weights.
        optimizer: bytes of gradients and AdamW's two moments.
        state_per_sequence: bytes of convolution and SSM state of one sequence, whatever its length.
        kv_per_token: bytes of keys and values of one token.
    """

    parameters: int
    weights: int
    optimizer: int
    state_per_sequence: int
    kv_per_token: int

    def cache(self, slots: int, context: int) -> int:
        """Bytes of an engine's cache for `slots` sequences of up to `context` tokens."""
        return slots * (self.state_per_sequence + self.kv_per_token * context)


def footprint(config: HybridConfig, bytes_per_value: int = 4) -> Footprint:
    """Count the bytes of a policy without allocating it."""
    size = policy_size(config)
    weights = size.parameters * bytes_per_value
    state, kv = size.state_bytes(bytes_per_value), size.kv_bytes(bytes_per_value)
    return Footprint(size.parameters, weights, 3 * weights, state, kv)
