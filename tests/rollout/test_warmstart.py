"""The shipped policy is what its manifest says, and the recipe is reproducible."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rolloom.policy.checkpoint import load_policy
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout import warmstart
from rolloom.rollout.demonstrations import STYLES, demonstrate, to_sequence


def test_shipped_files_match_the_manifest() -> None:
    manifest = json.loads((warmstart.SHIPPED / "manifest.json").read_text())
    files = {path.name for path in warmstart.SHIPPED.iterdir()} - {"manifest.json"}
    assert files == set(manifest["sha256"])
    for name, expected in manifest["sha256"].items():
        assert hashlib.sha256((warmstart.SHIPPED / name).read_bytes()).hexdigest() == expected, name
    assert sum(path.stat().st_size for path in warmstart.SHIPPED.iterdir()) <= 8 * 2**20


def test_shipped_policy_loads_and_matches_its_tokenizer() -> None:
    model, tokenizer = load_policy(warmstart.SHIPPED), ChatTokenizer.load(warmstart.SHIPPED)
    manifest = json.loads((warmstart.SHIPPED / "manifest.json").read_text())
    assert sum(p.numel() for p in model.parameters()) == manifest["parameters"]
    assert model.config.vocab_size == tokenizer.vocab_size
    assert set(model.config.pattern) == set("M*E-")


@pytest.mark.parametrize("env_id", warmstart.ENVS)
@pytest.mark.parametrize("style", STYLES)
def test_demonstrations_are_what_an_episode_would_tokenise_to(env_id: str, style: str) -> None:
    tokenizer = ChatTokenizer.load(warmstart.SHIPPED)
    demo = demonstrate(env_id, 1, 7, style)  # type: ignore[arg-type]
    sequence = to_sequence(tokenizer, demo)
    opening = tokenizer.prompt_ids(demo.prompt, demo.tools)
    assert sequence.ids[: len(opening)].tolist() == opening
    assert not sequence.mask[: len(opening)].any()
    sampled = [token for text, _ in demo.turns for token in tokenizer.completion_ids(text)]
    assert sequence.ids[sequence.mask].tolist() == sampled
    assert tokenizer.completion_text(tokenizer.completion_ids(demo.turns[0][0])) == demo.turns[0][0]


def test_a_warm_start_is_reproducible_and_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        assert warmstart.main(tmp_path / name, steps=6, seed=3, count=40, threads=1) == 0
    first, second = (json.loads((tmp_path / n / "manifest.json").read_text()) for n in ("first", "second"))
    assert first["sha256"] == second["sha256"]
    model = load_policy(tmp_path / "first")
    untrained = np.log(model.config.vocab_size)
    # Six of the fifty warm-up steps: a start, and far below what untrained weights can reach by chance.
    assert first["final_loss"] < untrained - 0.25
    assert torch.get_num_threads() == 1
