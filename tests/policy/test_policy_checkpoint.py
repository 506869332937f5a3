"""Checkpoints: bit-equal round trips in both layouts, and damage named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rolloom.policy.checkpoint import INDEX, WEIGHTS, load_policy, save_policy
from rolloom.policy.checkpoint_names import Layout
from rolloom.policy.config import PolicyError, preset
from rolloom.policy.model import HybridLM

SIZES = {"vocab_size": 64, "hidden_size": 32, "moe_intermediate_size": 16, "moe_latent_size": 24}
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model() -> HybridLM:
    """A policy with every kind of layer; nothing in it is 0."""
    policy = HybridLM(preset("tiny", **SIZES), seed=3)
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            tensor += torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    return policy


@pytest.fixture
def saved(model: HybridLM, tmp_path: Path) -> Path:
    """Its checkpoint."""
    save_policy(model, tmp_path)
    return tmp_path


def equal(first: HybridLM, second: HybridLM) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_round_trip_is_bit_equal(model: HybridLM, saved: Path) -> None:
    again = load_policy(saved)
    assert equal(model, again) and again.config == model.config
    assert not equal(model, HybridLM(model.config, seed=3))


def test_written_in_the_released_layout(saved: Path) -> None:
    names = set(load_file(saved / WEIGHTS))
    assert {
        "backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight",
        "backbone.layers.0.mixer.A_log", "backbone.layers.1.mixer.q_proj.weight",
        "backbone.layers.2.mixer.experts.7.up_proj.weight",
        "backbone.layers.2.mixer.gate.e_score_correction_bias",
        "backbone.layers.2.mixer.fc1_latent_proj.weight", "backbone.layers.5.mixer.up_proj.weight",
    } <= names  # fmt: skip
    assert not any(name.startswith("model.") for name in names)


def test_stacked_experts_load(model: HybridLM, saved: Path) -> None:
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, saved / WEIGHTS)
    assert equal(model, load_policy(saved))


def split(directory: Path) -> None:
    """Turn a checkpoint into one of three shards."""
    tensors = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    shards = [f"model-{index}.safetensors" for index in range(3)]
    weight_map = {name: shards[index % 3] for index, name in enumerate(sorted(tensors))}
    for shard in shards:
        save_file({n: t for n, t in tensors.items() if weight_map[n] == shard}, directory / shard)
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_load(model: HybridLM, saved: Path) -> None:
    split(saved)
    assert equal(model, load_policy(saved))


def test_a_missing_shard_is_named(saved: Path) -> None:
    split(saved)
    (saved / "model-1.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"model-1\.safetensors"):
        load_policy(saved)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_malformed_index_is_named(text: str, saved: Path) -> None:
    (saved / INDEX).write_text(text)
    with pytest.raises(PolicyError, match=INDEX):
        load_policy(saved)


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:4], lambda data: data[: len(data) // 2], lambda data: data[:-1],
    lambda data: b"\xff" * len(data), lambda data: b"{}" + data,
])  # fmt: skip
def test_a_corrupt_file_is_named(damage: Callable[[bytes], bytes], saved: Path) -> None:
    file = saved / WEIGHTS
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PolicyError, match=WEIGHTS):
        load_policy(saved)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(PolicyError, match=name):
        load_policy(saved)


def missing(tensors: Tensors) -> None:
    del tensors["lm_head.weight"]


def unexpected(tensors: Tensors) -> None:
    tensors["backbone.layers.9.norm.weight"] = torch.ones(3)


def misshaped(tensors: Tensors) -> None:
    tensors["backbone.norm_f.weight"] = torch.ones(33)


def gap(tensors: Tensors) -> None:
    del tensors["backbone.layers.2.mixer.experts.3.up_proj.weight"]


def ragged(tensors: Tensors) -> None:
    tensors["backbone.layers.2.mixer.experts.3.up_proj.weight"] = torch.ones(2, 2)


def fewer(tensors: Tensors) -> None:
    for leaf in ("up_proj", "down_proj"):
        del tensors[f"backbone.layers.2.mixer.experts.7.{leaf}.weight"]


@pytest.mark.parametrize("change,named", [
    (missing, r"missing lm_head\.weight \(64, 32\)"), (unexpected, r"unexpected model\.layers\.9.*\(3,\)"),
    (misshaped, r"misshaped model\.norm_f\.weight: expected \(32,\), got \(33,\)"),
    (gap, r"layers\.2\.mixer\.experts\.up_proj.*not numbered"), (ragged, r"experts\.up_proj.*\(2, 2\)"),
    (fewer, r"misshaped.*experts\.up_proj: expected \(8, 16, 24\), got \(7, 16, 24\)"),
])  # fmt: skip
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[Tensors], None], named: str, saved: Path
) -> None:
    tensors = load_file(saved / WEIGHTS)
    change(tensors)
    save_file(tensors, saved / WEIGHTS)
    with pytest.raises(PolicyError, match=named):
        load_policy(saved)


def test_seeds_decide_the_initial_weights() -> None:
    config = preset("tiny", **SIZES)
    assert equal(HybridLM(config, seed=1), HybridLM(config, seed=1))
    assert not equal(HybridLM(config, seed=1), HybridLM(config, seed=2))


@pytest.mark.parametrize("layout", ["released", "hf"])
@pytest.mark.parametrize("limit", [1, 10_000, 10**9])
def test_both_layouts_and_any_shard_size_load_again(
    layout: Layout, limit: int, model: HybridLM, tmp_path: Path
) -> None:
    save_policy(model, tmp_path, layout, max_shard_bytes=limit)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (tmp_path / INDEX).is_file() == (len(files) > 1) == (limit < 10**9)
    names = {name for file in files for name in load_file(file)}
    assert any(name.startswith("model.layers") for name in names) == (layout == "hf")
    for held in map(load_file, files):
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= limit
    assert equal(model, load_policy(tmp_path))


def test_dtypes_on_save_and_on_load_leave_the_router_alone(model: HybridLM, tmp_path: Path) -> None:
    save_policy(model, tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / WEIGHTS)
    assert {t.dtype for n, t in stored.items() if ".gate." not in n} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    again = load_policy(tmp_path, torch.float16)
    for name, tensor in again.state_dict().items():
        assert tensor.dtype == (torch.float32 if ".gate." in name else torch.float16)
        mine = model.state_dict()[name]
        wanted = mine if ".gate." in name else mine.bfloat16().half()
        assert torch.equal(tensor, wanted), name


def test_a_prediction_block_is_kept_or_skipped_with_a_warning(tmp_path: Path) -> None:
    drafting = HybridLM(preset("tiny", **SIZES, num_nextn_predict_layers=1), seed=2)
    save_policy(drafting, tmp_path)
    assert equal(drafting, load_policy(tmp_path))
    stored = load_file(tmp_path / WEIGHTS)
    count = sum(name.startswith("mtp.") for name in stored)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "num_nextn_predict_layers": 0}))
    with pytest.warns(UserWarning, match=f"skipped {count} tensors"):
        plain = load_policy(tmp_path)
    assert plain.mtp is None and torch.equal(plain.lm_head.weight, drafting.lm_head.weight)


def test_weights_that_are_no_floats_are_named(saved: Path) -> None:
    tensors = load_file(saved / WEIGHTS)
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"].to(torch.uint8)}, saved / WEIGHTS)
    with pytest.raises(PolicyError, match=r"mistyped lm_head\.weight.*U8"):
        load_policy(saved)


PEAK = """
import json, sys, torch
torch.set_num_threads(1)
from rolloom.policy.checkpoint import load_policy
def high() -> int:
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
load_policy(sys.argv[1])
before = high()
kept = load_policy(sys.argv[2])
print(json.dumps([high() - before, sum(t.numel() * 4 for t in kept.state_dict().values())]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_loading_takes_the_weights_and_one_shard(model: HybridLM, tmp_path: Path) -> None:
    shard = 20 * 10**6
    for name in ("warm", "large"):
        (tmp_path / name).mkdir()
    save_policy(model, tmp_path / "warm")
    config = preset("tiny", vocab_size=8192, hidden_size=1024, moe_intermediate_size=1024)
    save_policy(HybridLM(config), tmp_path / "large", max_shard_bytes=shard)
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "warm"), str(tmp_path / "large")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rise, weights = json.loads(ran.stdout)
    assert weights > 150e6
    # The embedding alone is 33.6 MB, a shard of its own; 10 MB for what Python and the allocator keep.
    assert 0.9 * weights < rise < weights + 33.6e6 + 10e6
