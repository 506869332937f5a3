"""From a pattern letter to a mixer, and the initial weights of all of them."""

from __future__ import annotations

import math

import torch
from torch import nn

from rolloom.policy.attention import Attention
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import MLP
from rolloom.policy.mamba import MambaMixer
from rolloom.policy.moe import MoE


def make_mixer(config: HybridConfig, letter: str) -> MambaMixer | Attention | MLP | MoE:
    """Return the mixer of a pattern letter."""
    if letter == "M":
        return MambaMixer(config)
    if letter == "*":
        return Attention(config)
    if letter == "E":
        return MoE(config)
    return MLP(config, config.intermediate_size)


@torch.no_grad()
def init_weights(module: nn.Module, config: HybridConfig, generator: torch.Generator) -> None:
    """Initialise as Nemotron-H is: normal, residual projections scaled by depth, log-uniform dt."""
    depth = len(config.pattern)
    for name, parameter in module.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "dt_bias":
            low, high = math.log(config.time_step_min), math.log(config.time_step_max)
            dt = torch.exp(torch.rand(parameter.shape, generator=generator) * (high - low) + low)
            dt = dt.clamp(min=config.time_step_floor)
            parameter.copy_(dt + torch.log(-torch.expm1(-dt)))
        elif leaf in ("A_log", "D") or ("norm" in name and leaf == "weight"):
            continue
        elif leaf == "bias":
            parameter.zero_()
        elif ".conv1d." in name:
            bound = 1 / math.sqrt(config.conv_kernel)
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
        else:
            std = config.initializer_range
            if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj", "down_proj.weight")):
                std /= math.sqrt(depth)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
