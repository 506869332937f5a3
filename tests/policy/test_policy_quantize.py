"""NVFP4 checkpoints: what is quantised, to the byte; read back either way; refused with a reason."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.nvfp4.op import fake_quantize
from rolloom.policy.checkpoint import save_policy, to_released
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.loading import load_any_policy
from rolloom.policy.model import HybridLM
from rolloom.policy.quantize import is_quantized, packed_of, quantize_policy
from rolloom.policy.quantize_layers import chosen, kind_of, matrices
from rolloom.policy.quantize_load import load_quantized


def config(**changes: object) -> HybridConfig:
    values: dict = {
        "pattern": "MM*EM-", "vocab_size": 40, "hidden_size": 32, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48, "ssm_state_size": 16,
        "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1, "chunk_size": 16, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 32,
        "moe_latent_size": 16, "num_nextn_predict_layers": 1, "initializer_range": 0.3,
    }  # fmt: skip
    return HybridConfig(**{**values, **changes})


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A checkpoint with every kind of tensor."""
    made = tmp_path / "plain"
    made.mkdir()
    save_policy(HybridLM(config(), seed=1), made)
    return made


def data_bytes(directory: Path) -> int:
    """Bytes of a checkpoint's tensors: the file without its header."""
    file = directory / "model.safetensors"
    with file.open("rb") as handle:
        (header,) = struct.unpack("<Q", handle.read(8))
    return file.stat().st_size - 8 - header


def test_default_layers_are_those_of_nemotron_3(plain: Path) -> None:
    names = load_file(plain / "model.safetensors")
    found = chosen(names, config().pattern)
    # Layer 1 is the Mamba layer in front of attention; latent projections, head and MTP stay too.
    layers = {int(name.split(".")[2]) for name in found}
    assert layers == {0, 3, 4, 5}
    assert {kind_of(name) for name in found} == {
        "Mamba projections", "routed experts", "shared expert", "MLP"
    }  # fmt: skip
    every = chosen(names, config().pattern, "all")
    assert set(found) < set(every) == set(matrices(names))
    assert not [name for name in every if ".gate" in name or "conv1d" in name or "embeddings" in name]
    assert chosen(names, config().pattern, r"lm_head|\.q_proj") == [
        name for name in every if name == "lm_head" or name.endswith("q_proj")
    ]


@pytest.mark.parametrize("layers", ["default", "all", "up_proj"])
def test_bytes_are_counted_exactly(plain: Path, tmp_path: Path, layers: str) -> None:
    out = tmp_path / "out"
    counted = quantize_policy(plain, out, layers)
    assert sum(kind.after for kind in counted) == data_bytes(out)
    assert sum(kind.before for kind in counted) == data_bytes(plain)
    tensors = load_file(out / "model.safetensors")
    by_kind = dict.fromkeys((kind.kind for kind in counted), 0)
    for name, tensor in tensors.items():
        by_kind[kind_of(name)] += tensor.nbytes
    assert by_kind == {kind.kind: kind.after for kind in counted}
    for kind in counted:
        if layers == "all" and kind.kind == "routed experts":
            assert kind.quantized == kind.elements
            # 8 matrices of 512 elements: 4.5 bits and 32 / 512.
            assert kind.bits == 4.5 + 32 / 512


def test_layout_is_that_of_model_optimizer(plain: Path, tmp_path: Path) -> None:
    quantize_policy(plain, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    name = "backbone.layers.3.mixer.experts.2.up_proj"
    before = load_file(plain / "model.safetensors")[f"{name}.weight"]
    codes, scales, scale = (
        tensors[f"{name}.{part}"] for part in ("weight", "weight_scale", "weight_scale_2")
    )
    assert (codes.dtype, codes.shape) == (torch.uint8, (32, 8))
    assert (scales.dtype, scales.shape) == (torch.float8_e4m3fn, (32, 1))
    assert (scale.dtype, scale.shape) == (torch.float32, ())
    # Decoded by hand: the even column in the low half.
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    pairs = torch.stack((codes & 15, codes >> 4), -1).flatten(1).long()
    values = table[pairs & 7] * torch.where(pairs >= 8, -1.0, 1.0)
    decoded = values * (scales.float() * scale).repeat_interleave(16, 1)
    assert torch.equal(decoded, fake_quantize(before))
    own = json.loads((tmp_path / "out" / "hf_quant_config.json").read_text())["quantization"]
    inside = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert own["quant_algo"] == inside["quant_algo"] == "W4A16_NVFP4" and own["group_size"] == 16
    assert inside["quant_method"] == "modelopt" and inside["ignore"] == own["exclude_modules"]
    packed = {key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")}
    wide = {
        key.removesuffix(".weight") for key, t in tensors.items() if key.endswith(".weight") and t.ndim > 1
    }
    assert packed == wide - set(own["exclude_modules"]) and packed.isdisjoint(own["exclude_modules"])


@pytest.mark.parametrize("layers", ["default", "all"])
@pytest.mark.parametrize("mode", [True, False])
def test_packed_and_dequantised_policies_are_one(
    plain: Path, tmp_path: Path, layers: str, mode: bool
) -> None:
    quantize_policy(plain, tmp_path / "out", layers)
    loose = load_any_policy(tmp_path / "out")
    assert isinstance(loose, HybridLM)
    tight = load_quantized(tmp_path / "out", quantized="keep")
    ids = torch.randint(40, (2, 37), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), deterministic(mode):
        first, second = (model.logits(model(ids).flatten(0, 1)) for model in (loose, tight))
    assert torch.equal(first, second)
    wanted = {
        name: tensor.clone() for name, tensor in to_released(HybridLM(config(), seed=1).state_dict()).items()
    }
    for name in chosen(wanted, config().pattern, layers):
        wanted[f"{name}.weight"] = fake_quantize(wanted[f"{name}.weight"])
    for name, tensor in to_released(loose.state_dict()).items():
        assert torch.equal(tensor, wanted[name]), name
    held = sum(tensor.nbytes for tensor in tight.state_dict().values())
    assert held == data_bytes(tmp_path / "out")


def test_stochastic_rounding_is_reproducible_and_right_on_average(plain: Path, tmp_path: Path) -> None:
    def weights(seed: int, name: str) -> dict[str, torch.Tensor]:
        quantize_policy(plain, tmp_path / name, "up_proj", "stochastic", seed)
        return to_released(load_quantized(tmp_path / name).state_dict())

    draws = [weights(seed, f"draw {seed}") for seed in range(24)]
    again = weights(3, "again")
    before = load_file(plain / "model.safetensors")
    key = "backbone.layers.5.mixer.up_proj.weight"
    assert torch.equal(again[key], draws[3][key]) and not torch.equal(draws[2][key], draws[3][key])
    mean = torch.stack([draw[key] for draw in draws]).mean(0)
    once = (fake_quantize(before[key]) - before[key]).square().mean()
    assert (mean - before[key]).square().mean() < once / 3


def test_bfloat16_stays_bfloat16_where_it_is_not_quantised(tmp_path: Path) -> None:
    made = tmp_path / "plain"
    made.mkdir()
    save_policy(HybridLM(config(), seed=1).to(torch.bfloat16), made)
    counted = {kind.kind: kind for kind in quantize_policy(made, tmp_path / "out")}
    assert counted["attention"].bits == 16
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["lm_head.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("up_prj", "Did you mean 'up_proj'"), ("(", "no regular expression"),
        (r"mixer\.gate", "never quantised"), ("norm", "never quantised"),
    ],
)  # fmt: skip
def test_expressions_that_choose_nothing_are_refused(
    plain: Path, tmp_path: Path, layers: str, message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        quantize_policy(plain, tmp_path / "out", layers)
    assert not (tmp_path / "out").exists()


def test_refusals(plain: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    save_policy(HybridLM(config(intermediate_size=40)), odd)
    with pytest.raises(PolicyError, match=r"layers\.5\.mixer\.down_proj: expected a width.*block of 16.*40"):
        quantize_policy(odd, tmp_path / "out")
    quantize_policy(plain, tmp_path / "done")
    assert is_quantized(tmp_path / "done") and not is_quantized(plain)
    with pytest.raises(PolicyError, match="quantised already"):
        quantize_policy(tmp_path / "done", tmp_path / "twice")
    with pytest.raises(PolicyError, match="empty or does not exist"):
        quantize_policy(plain, tmp_path / "done")
    with pytest.raises(PolicyError, match="rounding: expected"):
        quantize_policy(plain, tmp_path / "third", rounding="up")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="expected a quantization_config"):
        load_quantized(plain)
    tensors = load_file(tmp_path / "done" / "model.safetensors")
    name = "backbone.layers.0.mixer.in_proj"
    del tensors[f"{name}.weight_scale"]
    with pytest.raises(PolicyError, match=f"{name}: expected"):
        packed_of(tensors)
    foreign = json.loads((tmp_path / "done" / "config.json").read_text())
    foreign["quantization_config"]["quant_algo"] = "FP8"
    (tmp_path / "done" / "config.json").write_text(json.dumps(foreign))
    with pytest.raises(PolicyError, match=r"quant_algo of.*'FP8'"):
        load_any_policy(tmp_path / "done")
