"""The four mixers of the hybrid. Parameter names and shapes are those of transformers' `nemotron_h`.

Shapes: B batch, T tokens, D hidden size, C conv channels, H Mamba heads, P head dim, G groups, N state size;
n rows of a decode step. Each mixer has `forward` (whole sequences, differentiable), `prefill` (right-padded
sequences that continue cached rows) and `decode` (one token a row); the last two write the cache in place.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from rolloom.kernels.conv1d.op import causal_conv1d, causal_conv1d_update
from rolloom.kernels.moe.op import relu2_experts, route
from rolloom.kernels.norm.op import gated_group_rms_norm, rms_norm
from rolloom.kernels.ssd.op import ssd_scan, ssd_update
from rolloom.policy.cache import AttentionState, MambaState
from rolloom.policy.config import HybridConfig


class RMSNorm(nn.Module):
    """RMS norm with a weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension."""
        return rms_norm(x, self.weight, self.eps)


class MambaMixer(nn.Module):
    """Mamba-2 (arXiv 2405.21060) with gated group RMSNorm."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        c, heads = config, config.mamba_num_heads
        self.in_proj = nn.Linear(c.hidden_size, c.d_inner + c.conv_dim + heads, bias=c.use_bias)
        self.conv1d = nn.Conv1d(
            c.conv_dim, c.conv_dim, c.conv_kernel, groups=c.conv_dim, bias=c.use_conv_bias
        )
        self.dt_bias = nn.Parameter(torch.ones(heads))
        self.A_log = nn.Parameter(torch.log(torch.arange(1, heads + 1).float()))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = RMSNorm(c.d_inner, c.layer_norm_epsilon)
        self.out_proj = nn.Linear(c.d_inner, c.hidden_size, bias=c.use_bias)

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c = self.config
        gate, conv_in, dt = self.in_proj(x).split([c.d_inner, c.conv_dim, c.mamba_num_heads], -1)
        dt = F.softplus(dt + self.dt_bias).clamp(min=c.time_step_min)
        return gate, conv_in, dt

    def _split(self, conv_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c = self.config
        state = c.n_groups * c.ssm_state_size
        x, b, c_out = conv_out.split([c.d_inner, state, state], -1)
        return (
            x.unflatten(-1, (c.mamba_num_heads, c.mamba_head_dim)),
            b.unflatten(-1, (c.n_groups, c.ssm_state_size)),
            c_out.unflatten(-1, (c.n_groups, c.ssm_state_size)),
        )

    def _finish(self, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        c = self.config
        mixed = gated_group_rms_norm(y.flatten(-2), gate, self.norm.weight, c.n_groups, c.layer_norm_epsilon)
        return self.out_proj(mixed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, T, D]` to `[B, T, D]`; padding on the right changes nothing before it."""
        gate, conv_in, dt = self._project(x)
        x_h, b, c = self._split(causal_conv1d(conv_in, self.conv1d.weight.squeeze(1), self.conv1d.bias))
        y, _ = ssd_scan(x_h, dt, -self.A_log.float().exp(), b, c, self.D)
        return self._finish(y, gate)

    def prefill(self, x: torch.Tensor, lengths: torch.Tensor, state: MambaState) -> torch.Tensor:
        """Feed `lengths` tokens of each row of `[B, T, D]`, continuing `state`."""
        gate, conv_in, dt = self._project(x)
        real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        dt = dt * real[..., None]
        weight = self.conv1d.weight.squeeze(1)
        conv_out = causal_conv1d(conv_in, weight, self.conv1d.bias, state.conv)
        x_h, b, c = self._split(conv_out)
        y, final = ssd_scan(x_h, dt, -self.A_log.float().exp(), b, c, self.D, state.ssm)
        history = torch.cat((state.conv, conv_in), 1)
        last = lengths[:, None] + torch.arange(self.config.conv_kernel - 1, device=x.device)
        state.conv.copy_(history.gather(1, last[..., None].expand(-1, -1, history.shape[-1])))
        state.ssm.copy_(final)
        return self._finish(y, gate)

    def decode(self, x: torch.Tensor, state: MambaState) -> torch.Tensor:
        """`[n, D]` to `[n, D]`, one token a row."""
        gate, conv_in, dt = self._project(x)
        conv_out = causal_conv1d_update(state.conv, conv_in, self.conv1d.weight.squeeze(1), self.conv1d.bias)
        x_h, b, c = self._split(conv_out)
        y = ssd_update(state.ssm, x_h, dt, -self.A_log.float().exp(), b, c, self.D)
        return self._finish(y, gate)


class Attention(nn.Module):
    """Grouped-query attention without positional encoding."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        d, hd = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(d, config.num_attention_heads * hd, bias=False)
        self.k_proj = nn.Linear(d, config.num_key_value_heads * hd, bias=False)
        self.v_proj = nn.Linear(d, config.num_key_value_heads * hd, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * hd, d, bias=False)

    def _heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hd = self.config.head_dim
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return q.unflatten(-1, (-1, hd)), k.unflatten(-1, (-1, hd)), v.unflatten(-1, (-1, hd))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, T, D]` to `[B, T, D]`, causal."""
        q, k, v = (t.transpose(1, 2) for t in self._heads(x))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(-2))

    def prefill(
        self, x: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, state: AttentionState
    ) -> torch.Tensor:
        """Feed `[B, T, D]` at cache `positions` `[B, T]`; `mask` `[B, 1, T, S]` marks the keys each sees."""
        q, k, v = self._heads(x)
        rows = torch.arange(len(x), device=x.device)[:, None]
        state.key[rows, :, positions] = k
        state.value[rows, :, positions] = v
        seen = mask.shape[-1]
        keys, values = state.key[:, :, :seen], state.value[:, :, :seen]
        out = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(-2))

    def decode(
        self, x: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, state: AttentionState
    ) -> torch.Tensor:
        """`[n, D]` to `[n, D]`; `mask` `[n, 1, 1, S]`."""
        q, k, v = self._heads(x)
        rows = torch.arange(len(x), device=x.device)
        state.key[rows, :, positions] = k
        state.value[rows, :, positions] = v
        seen = mask.shape[-1]
        # The query heads that share a key head stand where SDPA expects query positions.
        grouped = q.unflatten(1, (self.config.num_key_value_heads, -1))
        out = F.scaled_dot_product_attention(
            grouped, state.key[:, :, :seen], state.value[:, :, :seen], attn_mask=mask
        )
        return self.o_proj(out.flatten(1))


class MLP(nn.Module):
    """Ungated relu^2 MLP."""

    def __init__(self, config: HybridConfig, width: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., D]` to `[..., D]`."""
        return self.down_proj(F.relu(self.up_proj(x)).square())


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
        self, x: torch.Tensor, replay: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`[..., D]` to `[..., D]` and the chosen experts `[..., K]`; `replay` fixes the choice."""
        c = self.config
        flat = x.reshape(-1, x.shape[-1])
        chosen = None if replay is None else replay.reshape(-1, replay.shape[-1])
        indices, weights = route(
            flat, self.gate.weight, self.gate.e_score_correction_bias, c.num_experts_per_tok,
            c.n_group, c.topk_group, c.norm_topk_prob, c.routed_scaling_factor, chosen,
        )  # fmt: skip
        inner = self.fc1_latent_proj(flat) if c.moe_latent_size else flat
        mixed = relu2_experts(inner, self.experts.up_proj, self.experts.down_proj, indices, weights)
        if c.moe_latent_size:
            mixed = self.fc2_latent_proj(mixed)
        return mixed.view_as(x) + self.shared_experts(x), indices.view(*x.shape[:-1], -1)


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
