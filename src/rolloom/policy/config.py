"""The hybrid's architecture, read from and written to Hugging Face `nemotron_h` config.json files."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolloom.errors import RolloomError
from rolloom.policy.presets import PRESETS

LETTERS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}
MTP_LETTERS = "*E-"
LEGACY = {"mamba": "M", "attention": "*", **{name: letter for letter, name in LETTERS.items()}}


class PolicyError(RolloomError):
    """A policy's configuration or checkpoint is not what was expected."""


@dataclass(frozen=True)
class HybridConfig:
    """Shape of a hybrid policy; names and defaults are those of `transformers.NemotronHConfig`.

    Attributes:
        pattern: one letter a layer: `M` Mamba-2, `E` mixture of experts, `*` attention, `-` MLP.
        num_nextn_predict_layers: 1 adds the multi-token prediction block, 0 leaves it out.
        mtp_pattern: its layers.
    """

    pattern: str
    vocab_size: int = 131072
    hidden_size: int = 4096
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128
    intermediate_size: int = 21504
    mlp_bias: bool = False
    use_bias: bool = False
    ssm_state_size: int = 128
    mamba_num_heads: int = 128
    mamba_head_dim: int = 64
    n_groups: int = 8
    conv_kernel: int = 4
    use_conv_bias: bool = True
    chunk_size: int = 128
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    time_step_floor: float = 1e-4
    n_routed_experts: int = 8
    num_experts_per_tok: int = 2
    moe_intermediate_size: int = 7688
    moe_shared_expert_intermediate_size: int = 7688
    moe_latent_size: int | None = None
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    num_nextn_predict_layers: int = 0
    mtp_pattern: str = "*E"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    max_position_embeddings: int = 4096
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2

    def __post_init__(self) -> None:
        """Check what the layers rely on.

        Raises:
            PolicyError: names the key, its value and what was expected.
        """
        if not self.pattern or set(self.pattern) - set(LETTERS):
            raise PolicyError(f"pattern: expected letters of {''.join(LETTERS)!r}, got {self.pattern!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and field.name not in MAY_BE_ZERO and not _positive(value):
                raise PolicyError(f"{field.name}: expected a positive integer, got {value!r}")
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            value = getattr(self, name)
            ids = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(isinstance(id, int) and not isinstance(id, bool) and id >= 0 for id in ids):
                raise PolicyError(f"{name}: expected a token id or None, got {value!r}")
        if self.moe_latent_size is not None and not _positive(self.moe_latent_size):
            raise PolicyError(
                f"moe_latent_size: expected a positive integer or None, got {self.moe_latent_size!r}"
            )
        if self.num_nextn_predict_layers not in (0, 1):
            raise PolicyError(
                f"num_nextn_predict_layers: expected 0 or 1 (one block serves every depth), "
                f"got {self.num_nextn_predict_layers!r}"
            )
        if not self.mtp_pattern or set(self.mtp_pattern) - set(MTP_LETTERS):
            raise PolicyError(f"mtp_pattern: expected letters of {MTP_LETTERS!r}, got {self.mtp_pattern!r}")
        if self.conv_kernel < 2:
            raise PolicyError(f"conv_kernel: expected at least 2, got {self.conv_kernel}")
        for key, whole, part in (
            ("num_attention_heads", self.num_attention_heads, self.num_key_value_heads),
            ("mamba_num_heads", self.mamba_num_heads, self.n_groups),
            ("n_routed_experts", self.n_routed_experts, self.n_group),
        ):
            if whole % part:
                raise PolicyError(f"{key}: expected a multiple of {part}, got {whole}")
        if self.topk_group > self.n_group:
            raise PolicyError(f"topk_group: expected at most n_group={self.n_group}, got {self.topk_group}")
        group = self.n_routed_experts // self.n_group
        if self.n_group > 1 and group < 2:
            raise PolicyError(
                f"n_group: expected at least 2 experts a group (a group's score is the sum of its two best), "
                f"got {self.n_routed_experts} experts in {self.n_group} groups"
            )
        if self.num_experts_per_tok > group * self.topk_group:
            raise PolicyError(
                f"num_experts_per_tok: expected at most the {group * self.topk_group} experts of "
                f"topk_group={self.topk_group} groups, got {self.num_experts_per_tok}"
            )

    @property
    def d_inner(self) -> int:
        """Channels of a Mamba-2 mixer."""
        return self.mamba_num_heads * self.mamba_head_dim

    @property
    def conv_dim(self) -> int:
        """Channels its convolution runs over: x, B and C."""
        return self.d_inner + 2 * self.n_groups * self.ssm_state_size

    @property
    def moe_layers(self) -> int:
        """Number of mixture-of-experts layers."""
        return self.pattern.count("E")

    def to_hf(self) -> dict[str, Any]:
        """Return the config.json of a transformers or vLLM checkpoint."""
        values = dataclasses.asdict(self)
        pattern, drafting = values.pop("pattern"), values.pop("mtp_pattern")
        if self.num_nextn_predict_layers:
            values["mtp_hybrid_override_pattern"] = drafting
            values["mtp_layers_block_type"] = [LETTERS[letter] for letter in drafting]
        return {
            "model_type": "nemotron_h",
            "architectures": ["NemotronHForCausalLM"],
            "hybrid_override_pattern": pattern,
            "num_hidden_layers": len(pattern),
            "layers_block_type": [LETTERS[letter] for letter in pattern],
            **values,
            "mlp_hidden_act": "relu2",
            "mamba_hidden_act": "silu",
            "n_shared_experts": 1,
            "tie_word_embeddings": False,
            "dtype": "float32",
        }

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> HybridConfig:
        """Build from the keys of a config.json.

        Raises:
            PolicyError: another model type, or a key whose value this implementation does not honour.
        """
        if values.get("model_type") != "nemotron_h":
            raise PolicyError(f"model_type: expected 'nemotron_h', got {values.get('model_type')!r}")
        renamed = {ALIASES.get(key, key): _plain(value) for key, value in values.items()}
        for key, required in REQUIRED.items():
            if key in renamed and renamed[key] != required:
                raise PolicyError(f"{key}: only {required!r} is supported, got {renamed[key]!r}")
        types = values.get("layers_block_type") or values.get("layer_types") or ()
        listed = "".join(LEGACY.get(name, "?") for name in types)
        pattern = values.get("hybrid_override_pattern") or listed
        if listed and listed != pattern:
            raise PolicyError(
                f"hybrid_override_pattern: expected {listed!r} as in layers_block_type, got {pattern!r}"
            )
        drafting = values.get("mtp_layers_block_type") or ()
        chosen = values.get("mtp_hybrid_override_pattern") or "".join(LEGACY.get(n, "?") for n in drafting)
        names = {field.name for field in dataclasses.fields(cls)} - {"pattern"}
        given = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in renamed.items()
            if key in names
        }
        return cls(pattern=pattern, **{**given, **({"mtp_pattern": chosen} if chosen else {})})

    @classmethod
    def load(cls, path: str | Path) -> HybridConfig:
        """Read `config.json` of a checkpoint directory.

        Raises:
            PolicyError: the directory or file is missing or malformed.
        """
        file = Path(path) / "config.json"
        if not file.is_file():
            raise PolicyError(f"expected a checkpoint directory with config.json, found none at {path}")
        try:
            return cls.from_hf(json.loads(file.read_text()))
        except (ValueError, TypeError, AttributeError) as error:
            raise PolicyError(f"{file} is malformed: {error}") from error


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, and numbers for how transformers writes infinities in JSON."""
    if isinstance(value, dict) and value.keys() == {"__float__"}:
        return float(value["__float__"])
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


MAY_BE_ZERO = ("num_nextn_predict_layers",)

ALIASES = {
    "mamba_n_groups": "n_groups",
    "mamba_d_conv": "conv_kernel",
    "mamba_dt_min": "time_step_min",
    "mamba_dt_max": "time_step_max",
    "mamba_dt_limit": "time_step_limit",
    "mamba_dt_init_floor": "time_step_floor",
    "mamba_conv_bias": "use_conv_bias",
    "mamba_chunk_size": "chunk_size",
    "num_local_experts": "n_routed_experts",
}
"""Older names of keys that transformers still reads."""

REQUIRED: dict[str, Any] = {
    "mlp_hidden_act": "relu2",
    "mamba_hidden_act": "silu",
    "attention_bias": False,
    "mamba_proj_bias": False,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "residual_in_fp32": False,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "n_shared_experts": 1,
    "output_router_logits": False,
    "time_step_limit": [0.0, float("inf")],
}
"""Keys that only one value of is honoured; any other is refused by name."""

WITHOUT_EFFECT: dict[str, str] = {
    "layers_block_type": "read as the pattern",
    "mtp_layers_block_type": "read as the pattern of the multi-token prediction block",
    "use_cache": "scoring and feeding a cache are different calls here",
    "num_logits_to_keep": "callers choose the rows that logits are made of",
    "use_mamba_kernels": "kernels are chosen by device",
    "mamba_ssm_cache_dtype": "a setting of the engine",
    "expand": "the inner width is mamba_num_heads * mamba_head_dim, in transformers too",
    "moe_shared_expert_overlap": "a schedule of Megatron",
    "rescale_prenorm_residual": "initial weights only; ours are scaled by depth",
}
"""Keys that change nothing of what a checkpoint computes, and why."""


def preset(name: str, **changes: Any) -> HybridConfig:
    """Return a named architecture, with changes.

    Raises:
        PolicyError: unknown name; the nearest is suggested.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        raise PolicyError(f"preset: expected one of {sorted(PRESETS)}, got {name!r}. Nearest: {near}")
    return HybridConfig(**{**PRESETS[name], **changes})
