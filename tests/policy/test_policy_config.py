"""Architectures: round trip through config.json, and refusal by name of what is not honoured."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from rolloom.policy.config import PRESETS, REQUIRED, WITHOUT_EFFECT, HybridConfig, PolicyError, preset


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    config = preset(name, moe_latent_size=32, n_group=2, topk_group=2, routed_scaling_factor=2.5)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf()))
    assert HybridConfig.load(tmp_path) == config


@pytest.mark.parametrize("key,value", [
    ("mlp_hidden_act", "silu"), ("mamba_hidden_act", "gelu"), ("attention_bias", True),
    ("mamba_proj_bias", True), ("tie_word_embeddings", True), ("sliding_window", 128),
    ("num_nextn_predict_layers", 2), ("attention_dropout", 0.1), ("hidden_dropout", 0.1),
    ("n_shared_experts", 2), ("residual_in_fp32", True), ("model_type", "llama"),
    ("output_router_logits", True), ("time_step_limit", [0.0, 0.5]), ("eos_token_id", "a"),
    ("pad_token_id", -1),
])  # fmt: skip
def test_keys_that_are_not_honoured_are_refused_by_name(key: str, value: Any) -> None:
    values = preset("tiny").to_hf()
    with pytest.raises(PolicyError, match=f"{key}.*{re.escape(repr(value))}"):
        HybridConfig.from_hf({**values, key: value})


@pytest.mark.parametrize("changes,named", [
    ({"pattern": ""}, "pattern"), ({"pattern": "MXE"}, "pattern.*'MXE'"),
    ({"num_key_value_heads": 3}, "num_attention_heads.*3.*got 4"),
    ({"n_groups": 3}, "mamba_num_heads.*3.*got 8"), ({"n_group": 3}, "n_routed_experts.*3.*got 8"),
    ({"num_experts_per_tok": 9}, "num_experts_per_tok.*8.*got 9"),
    ({"n_group": 4, "topk_group": 1, "num_experts_per_tok": 3}, "num_experts_per_tok.*at most the 2.*got 3"),
    ({"n_group": 2, "topk_group": 3}, "topk_group.*2.*got 3"), ({"n_group": 8, "topk_group": 4}, "n_group"),
    ({"hidden_size": 0}, "hidden_size.*got 0"), ({"n_groups": 0}, "n_groups.*got 0"),
    ({"ssm_state_size": -4}, "ssm_state_size.*got -4"), ({"head_dim": "32"}, "head_dim.*got '32'"),
    ({"moe_latent_size": 0}, "moe_latent_size.*got 0"), ({"conv_kernel": 1}, "conv_kernel.*got 1"),
])  # fmt: skip
def test_impossible_shapes_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        preset("tiny", **changes)


def test_every_key_of_transformers_is_honoured_refused_or_known_to_change_nothing() -> None:
    from transformers import NemotronHConfig, PreTrainedConfig

    keys = {field.name for field in dataclasses.fields(NemotronHConfig)}
    keys -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
    ours = {field.name for field in dataclasses.fields(HybridConfig)}
    assert len(keys) > 40
    assert keys - ours - REQUIRED.keys() - WITHOUT_EFFECT.keys() == set()


def test_several_end_tokens_and_absent_ones_survive() -> None:
    values = {**preset("tiny").to_hf(), "eos_token_id": [2, 11], "pad_token_id": None}
    config = HybridConfig.from_hf(values)
    assert config.eos_token_id == (2, 11) and config.pad_token_id is None
    assert HybridConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config


def test_the_pattern_may_stand_as_layer_types() -> None:
    values = preset("tiny").to_hf()
    pattern = values.pop("hybrid_override_pattern")
    assert HybridConfig.from_hf(values).pattern == pattern
    values["layer_types"] = values.pop("layers_block_type")
    assert HybridConfig.from_hf(values).pattern == pattern
    values["layer_types"] = ["mamba", "attention", "moe", "mlp"]
    assert HybridConfig.from_hf(values).pattern == "M*E-"


def test_two_patterns_that_differ_are_refused() -> None:
    values = {**preset("tiny").to_hf(), "hybrid_override_pattern": "MMMM"}
    with pytest.raises(PolicyError, match=r"hybrid_override_pattern.*'MMMM'"):
        HybridConfig.from_hf(values)


def test_unknown_layer_types_are_refused() -> None:
    values = preset("tiny").to_hf()
    del values["hybrid_override_pattern"]
    with pytest.raises(PolicyError, match="pattern"):
        HybridConfig.from_hf({**values, "layers_block_type": ["linear_attention", "rwkv"]})


def test_older_names_are_read() -> None:
    values = preset("tiny").to_hf()
    del values["n_groups"], values["conv_kernel"]
    config = HybridConfig.from_hf({**values, "mamba_n_groups": 2, "mamba_d_conv": 3})
    assert (config.n_groups, config.conv_kernel) == (2, 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "nemotron_h", "hybrid_override_pattern": 3}'])
def test_malformed_files_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(PolicyError, match=r"config\.json"):
        HybridConfig.load(tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere"):
        HybridConfig.load(tmp_path / "nowhere")


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(PolicyError, match=r"'tinny'.*'tiny'"):
        preset("tinny")
