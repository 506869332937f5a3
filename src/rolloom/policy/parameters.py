"""Exact sizes of a hybrid policy, layer by layer, from its configuration alone: nothing is allocated.

Formulas are the shapes in `mamba.py`, `attention.py`, `moe.py`, `layers.py` and `mtp.py`; a test compares
them with the modules on the meta device. Selection biases of routers are buffers and are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rolloom.policy.config import HybridConfig


@dataclass(frozen=True, slots=True)
class LayerSize:
    """One layer.

    Attributes:
        letter: of the pattern.
        parameters: its number, the pre-norm included.
        active: parameters that one token reads: of the routed experts, `num_experts_per_tok`.
        buffers: values of the router's selection bias.
        fp32: values, parameters and buffers, that stay in fp32 whatever the dtype.
        conv_values: convolution state of one sequence.
        ssm_values: SSM state of one sequence.
        kv_values: keys and values of one token.
    """

    letter: str
    parameters: int
    active: int
    buffers: int = 0
    fp32: int = 0
    conv_values: int = 0
    ssm_values: int = 0
    kv_values: int = 0

    def state_bytes(self, bytes_per_value: int = 2) -> int:
        """Bytes of one sequence, whatever its length; the SSM state is fp32."""
        return self.conv_values * bytes_per_value + self.ssm_values * 4


@dataclass(frozen=True, slots=True)
class PolicySize:
    """A whole policy.

    Attributes:
        layers: in order.
        embedding: parameters of the token embedding.
        head: parameters of the output head.
        norm: parameters of the final norm.
        mtp: layers of the multi-token prediction block, empty without one.
    """

    layers: tuple[LayerSize, ...]
    embedding: int
    head: int
    norm: int
    mtp: tuple[LayerSize, ...] = ()

    @property
    def trunk(self) -> int:
        """Parameters without the multi-token prediction block: the published totals count these."""
        return self.embedding + self.head + self.norm + _sum(layer.parameters for layer in self.layers)

    @property
    def drafting(self) -> int:
        """Parameters of the multi-token prediction block."""
        return _sum(layer.parameters for layer in self.mtp)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.trunk + self.drafting

    @property
    def buffers(self) -> int:
        """All values that are saved and are no parameters."""
        return _sum(layer.buffers for layer in (*self.layers, *self.mtp))

    @property
    def active(self) -> int:
        """Trunk parameters one token multiplies with, the output head included, the embedding not.

        A token reads one row of the embedding, so the lookup is left out. Nano's published 3.2B counts so;
        Super's 12.7B counts the embedding too (`active_with_embedding`) and leaves the routers out.
        """
        return self.active_with_embedding - self.embedding

    @property
    def active_with_embedding(self) -> int:
        """The same with the embedding's table."""
        return self.embedding + self.head + self.norm + _sum(layer.active for layer in self.layers)

    def weight_bytes(self, bytes_per_value: int) -> int:
        """Bytes of the weights and buffers, routers in fp32."""
        fp32 = _sum(layer.fp32 for layer in (*self.layers, *self.mtp))
        return (self.parameters + self.buffers - fp32) * bytes_per_value + fp32 * 4

    def state_bytes(self, bytes_per_value: int) -> int:
        """Bytes of convolution (in that dtype) and SSM (fp32) state of one sequence."""
        return _sum(layer.state_bytes(bytes_per_value) for layer in self.layers)

    def kv_bytes(self, bytes_per_value: int) -> int:
        """Bytes of keys and values of one token."""
        return _sum(layer.kv_values for layer in self.layers) * bytes_per_value


def policy_size(config: HybridConfig) -> PolicySize:
    """Count a policy."""
    table, width = config.vocab_size * config.hidden_size, config.hidden_size
    mtp: list[LayerSize] = []
    if config.num_nextn_predict_layers:
        last = len(config.mtp_pattern) - 1
        for index, letter in enumerate(config.mtp_pattern):
            fuse = 2 * width + 2 * width * width if index == 0 else 0
            mtp.append(layer_size(config, letter, extra=fuse + (width if index == last else 0)))
    layers = tuple(layer_size(config, letter) for letter in config.pattern)
    return PolicySize(layers, table, table, width, tuple(mtp))


def layer_size(config: HybridConfig, letter: str, extra: int = 0) -> LayerSize:
    """Count one layer with its pre-norm; `extra` parameters are added (fusion and final norm of MTP)."""
    c, base = config, config.hidden_size + extra
    if letter == "M":
        count = base + _linear(c.hidden_size, c.d_inner + c.conv_dim + c.mamba_num_heads, c.use_bias)
        count += c.conv_dim * (c.conv_kernel + bool(c.use_conv_bias)) + 3 * c.mamba_num_heads + c.d_inner
        count += _linear(c.d_inner, c.hidden_size, c.use_bias)
        conv = (c.conv_kernel - 1) * c.conv_dim
        return LayerSize("M", count, count, conv_values=conv, ssm_values=c.d_inner * c.ssm_state_size)
    if letter == "*":
        queries, keys = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        count = base + 2 * c.hidden_size * queries + 2 * c.hidden_size * keys
        return LayerSize("*", count, count, kv_values=2 * keys)
    if letter == "-":
        count = base + _mlp(c, c.intermediate_size)
        return LayerSize("-", count, count)
    width, router = c.moe_latent_size or c.hidden_size, c.n_routed_experts * c.hidden_size
    always = base + router + _mlp(c, c.moe_shared_expert_intermediate_size)
    if c.moe_latent_size:
        always += _linear(c.hidden_size, width, c.mlp_bias) + _linear(width, c.hidden_size, c.mlp_bias)
    expert = 2 * width * c.moe_intermediate_size
    return LayerSize(
        "E",
        always + c.n_routed_experts * expert,
        always + c.num_experts_per_tok * expert,
        buffers=c.n_routed_experts,
        fp32=router + c.n_routed_experts,
    )


def _linear(inputs: int, outputs: int, bias: bool) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _mlp(config: HybridConfig, width: int) -> int:
    return _linear(config.hidden_size, width, config.mlp_bias) + _linear(
        width, config.hidden_size, config.mlp_bias
    )


def _sum(values: Iterable[int]) -> int:
    return sum(values)
