"""What a policy needs in memory, counted from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rolloom.policy.config import HybridConfig
from rolloom.policy.model import HybridLM


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
    with torch.device("meta"):
        parameters = sum(p.numel() for p in HybridLM(config).parameters())
    mamba, attention = config.pattern.count("M"), config.pattern.count("*")
    conv = (config.conv_kernel - 1) * config.conv_dim * bytes_per_value
    # The SSM state stays in fp32 whatever the activations are.
    ssm = config.d_inner * config.ssm_state_size * 4
    kv = 2 * config.num_key_value_heads * config.head_dim * bytes_per_value
    weights = parameters * bytes_per_value
    return Footprint(parameters, weights, 3 * weights, mamba * (conv + ssm), attention * kv)
