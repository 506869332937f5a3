"""`rolloom policy inspect` and `convert`, on checkpoints that transformers reads too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.rollout.cli import main

SIZES = {"hidden_size": 64, "moe_intermediate_size": 24, "vocab_size": 97, "chunk_size": 16}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "policy"
    directory.mkdir()
    save_policy(HybridLM(preset("tiny", **SIZES), seed=3), directory)
    (directory / "notes.txt").write_text("kept")
    return directory


def test_inspect_counts_what_is_in_the_files(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "inspect", str(saved), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = load_policy(saved)
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    assert sum(told["bytes_by_dtype"].values()) == 4 * sum(t.numel() for t in model.state_dict().values())
    assert told["weight_bytes"] == sum(told["bytes_by_dtype"].values())
    assert [layer["letter"] for layer in told["layers"]] == list(model.config.pattern)
    assert told["problems"] == [] and told["layout"] == "released" and told["files"] == 1
    assert main(["policy", "inspect", str(saved)]) == 0
    shown = capsys.readouterr().out
    assert f"{told['parameters']:,}" in shown and "attention" in shown and "released layout" in shown


@pytest.mark.parametrize("name", ["small", "super-120b-a12b"])
def test_inspect_describes_a_preset_without_files(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "inspect", name]) == 0
    shown = capsys.readouterr().out
    assert ("123.611e9" in shown) == (name != "small") and "file" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_inspect_tells_what_keeps_a_checkpoint_from_loading(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(str(file))
    del tensors["lm_head.weight"]
    tensors["backbone.norm_f.weight"] = torch.ones(3)
    save_file(tensors, str(file))
    assert main(["policy", "inspect", str(saved)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "missing lm_head.weight" in shown and "norm_f.weight" in shown and "(3,)" in shown


@pytest.mark.parametrize("layout", ["released", "hf"])
def test_a_converted_checkpoint_computes_the_same(saved: Path, tmp_path: Path, layout: str) -> None:
    made = tmp_path / "made" / layout
    words = ["policy", "convert", str(saved), str(made), "--layout", layout, "--max-shard-size", "100KB"]
    assert main(words) == 0
    assert len(list(made.glob("*.safetensors"))) > 3 and (made / "notes.txt").read_text() == "kept"
    first = load_file(str(next(iter(sorted(made.glob("*.safetensors"))))))
    assert next(iter(first)).startswith("backbone." if layout == "released" else "model.")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected = load_policy(saved)(ids)
        assert torch.equal(load_policy(made)(ids), expected)
        theirs = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
        torch.testing.assert_close(theirs.model(ids).last_hidden_state, expected, atol=1e-4, rtol=1e-4)


def test_another_dtype_keeps_the_routers(saved: Path, tmp_path: Path) -> None:
    made = tmp_path / "half"
    assert main(["policy", "convert", str(saved), str(made), "--dtype", "bfloat16"]) == 0
    tensors = load_file(str(made / "model.safetensors"))
    kinds = {name: tensor.dtype for name, tensor in tensors.items()}
    assert {kind for name, kind in kinds.items() if ".gate." in name} == {torch.float32}
    assert {kind for name, kind in kinds.items() if ".gate." not in name} == {torch.bfloat16}
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("words,told", [
    (["inspect"], "policy inspect: expected PATH|PRESET, got none"),
    (["inspect", "smal"], "got 'smal'. Did you mean 'small'?"),
    (["convert", "a"], "policy convert: expected PATH OUT, got a"),
    (["convert", "nowhere", "out"], "no"),
    (["inspekt", "tiny"], "expected one of inspect, convert"),
    (["convert", "SAVED", "OUT", "--max-shard-size", "huge"], "--max-shard-size: expected a size"),
    (["convert", "SAVED", "SAVED"], "expected a new or an empty directory"),
])  # fmt: skip
def test_mistakes_are_told(
    words: list[str], told: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"SAVED": str(saved), "OUT": str(tmp_path / "out")}
    assert main(["policy", *(places.get(word, word) for word in words)]) == 2
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy"]
