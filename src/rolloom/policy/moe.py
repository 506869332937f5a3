"""Mixture of experts: sigmoid router with a selection bias, relu^2 experts, a shared one, maybe latent space.

Shapes: L tokens, D width, E experts, K experts a token, F expert width.
"""

from __future__ import annotations

import torch
from torch import nn

from rolloom.kernels.linear.op import linear
from rolloom.kernels.moe.op import relu2_experts, route
from rolloom.kernels.packing import Packing
from rolloom.policy.config import HybridConfig
from rolloom.policy.layers import MLP


class Router(nn.Module):
    """Weights of the router and its selection bias."""

    e_score_correction_bias: torch.Tensor

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))


class Experts(nn.Module):
    """Weights of the routed experts, stacked: `up_proj` `[E, F, D]`, `down_proj` `[E, D, F]`."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        width = config.moe_latent_size or config.hidden_size
        self.up_proj = nn.Parameter(torch.empty(config.n_routed_experts, config.moe_intermediate_size, width))
        self.down_proj = nn.Parameter(
            torch.empty(config.n_routed_experts, width, config.moe_intermediate_size)
        )


class MoE(nn.Module):
    """Routed experts, optionally in a latent space (LatentMoE), plus one shared expert."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = MLP(config, config.moe_shared_expert_intermediate_size)
        latent = config.moe_latent_size
        if latent:
            self.fc1_latent_proj = nn.Linear(config.hidden_size, latent, bias=config.mlp_bias)
            self.fc2_latent_proj = nn.Linear(latent, config.hidden_size, bias=config.mlp_bias)

    def forward(
        self, x: torch.Tensor, packing: Packing | None = None, replay: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`[L, D]` to `[L, D]` and the chosen experts `[L, K]`; `replay` `[L, K]` fixes the choice."""
        c = self.config
        bounds = packing.bounds if packing else None
        indices, weights = route(
            x, self.gate.weight, self.gate.e_score_correction_bias, c.num_experts_per_tok,
            c.n_group, c.topk_group, c.norm_topk_prob, c.routed_scaling_factor, replay, bounds,
        )  # fmt: skip
        inner = x
        if c.moe_latent_size:
            inner = linear(x, self.fc1_latent_proj.weight, self.fc1_latent_proj.bias, bounds)
        mixed = relu2_experts(
            inner, self.experts.up_proj, self.experts.down_proj, indices, weights, bounds=bounds
        )
        if c.moe_latent_size:
            mixed = linear(mixed, self.fc2_latent_proj.weight, self.fc2_latent_proj.bias, bounds)
        return mixed + self.shared_experts(x, packing), indices
