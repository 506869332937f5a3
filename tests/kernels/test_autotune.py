"""Winners of tuning: kept, read, ignored when broken, and never asked for where kernels are not compiled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rolloom.kernels import autotune
from rolloom.kernels.dispatch import UnsupportedError, deterministic

KEY = {"D": 64, "dtype": "bfloat16"}
CONFIGS = [{"BN": 64, "num_warps": 4}, {"BN": 128, "num_warps": 8}]
CUDA = torch.device("cuda", 0)
GPU = "A card"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache file of this test's own."""
    path = tmp_path / "deep" / "winners.json"
    monkeypatch.setenv("ROLLOOM_AUTOTUNE_CACHE", str(path))
    monkeypatch.delenv("ROLLOOM_AUTOTUNE", raising=False)
    monkeypatch.setattr(autotune, "_loaded", {})
    yield path


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has a card and compiles for it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=None: GPU)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(autotune, "interpreting", lambda: False)


def never(_: autotune.Config) -> None:
    raise AssertionError("nothing may be launched here")


def test_on_a_cpu_the_pinned_configuration_is_taken_and_nothing_is_measured(file: Path) -> None:
    autotune.remember("k", KEY, CONFIGS[1], 1.0, GPU)
    before = file.read_bytes()
    with autotune.tuning():
        for device in (torch.device("cpu"), torch.device("meta")):
            assert autotune.pick("k", KEY, CONFIGS, never, device) == CONFIGS[0]
        if not torch.cuda.is_available():
            assert autotune.pick("k", KEY, CONFIGS, never, CUDA) == CONFIGS[0]
            with pytest.raises(UnsupportedError, match=r"tune\('k'\): expected a CUDA device"):
                autotune.tune("k", KEY, CONFIGS, never)
    assert file.read_bytes() == before


@pytest.mark.usefixtures("card")
def test_a_winner_is_taken_for_its_card_kernel_and_key_only() -> None:
    autotune.remember("k", KEY, CONFIGS[1], 1.0, GPU)
    assert autotune.pick("k", KEY, CONFIGS, never, CUDA) == CONFIGS[1]
    assert autotune.pick("k", dict(reversed(KEY.items())), CONFIGS, never, CUDA) == CONFIGS[1]
    assert autotune.pick("k", KEY | {"D": 128}, CONFIGS, never, CUDA) == CONFIGS[0]
    assert autotune.pick("other", KEY, CONFIGS, never, CUDA) == CONFIGS[0]
    assert autotune.recall(autotune._read(autotune.cache_path()), "k", KEY, "Another card") is None


@pytest.mark.usefixtures("card")
def test_deterministic_mode_takes_the_pinned_configuration() -> None:
    autotune.remember("k", KEY, CONFIGS[1], 1.0, GPU)
    with deterministic(), autotune.tuning():
        assert autotune.pick("k", KEY, CONFIGS, never, CUDA) == CONFIGS[0]
        assert autotune.pick("unknown", KEY, CONFIGS, never, CUDA) == CONFIGS[0]


@pytest.mark.usefixtures("card")
def test_a_winner_that_is_no_longer_a_candidate_is_not_taken() -> None:
    autotune.remember("k", KEY, {"BN": 512, "num_warps": 4}, 1.0, GPU)
    assert autotune.pick("k", KEY, CONFIGS, never, CUDA) == CONFIGS[0]


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("asked", [False, True])
def test_tuning_happens_once_and_only_when_asked(
    asked: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def seconds(run: object, config: autotune.Config) -> float:
        measured.append(config["BN"])
        if config["BN"] == 32:
            raise RuntimeError("out of shared memory")
        return 1 / config["BN"]

    monkeypatch.setattr(autotune, "_seconds", seconds)
    if asked:
        monkeypatch.setenv("ROLLOOM_AUTOTUNE", "1")
    configs = [*CONFIGS, {"BN": 32, "num_warps": 4}]
    for _ in range(3):
        expected = CONFIGS[1] if asked else CONFIGS[0]
        assert autotune.pick("k", KEY, configs, lambda _: None, CUDA) == expected
    assert measured == ([64, 128, 32] if asked else []) and file.exists() == asked
    with pytest.raises(UnsupportedError, match=r"no configuration runs.*out of shared memory"):
        autotune.tune("k", KEY, configs[2:], lambda _: None, CUDA)


def test_the_file_holds_every_winner_and_no_part_is_left_behind(file: Path) -> None:
    for kernel in ("a", "b"):
        for index, config in enumerate(CONFIGS):
            autotune.remember(kernel, {"D": index}, config, 0.5, GPU)
    found = json.loads(file.read_text())["winners"][GPU]
    assert {kernel: list(entries) for kernel, entries in found.items()} == {
        "a": ["D=0", "D=1"], "b": ["D=0", "D=1"],
    }  # fmt: skip
    assert found["b"]["D=1"] == {"config": CONFIGS[1], "seconds": 0.5}
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "7", '{"version": 1}', '{"version": 99, "winners": {}}',
     '{"version": 1, "winners": []}', '{"version": 1, "winners": {"A card": {"k": {"D=64": {"config": 3}}}}}',
     '{"version": 1, "winners": {"A card": {"k": {"D=64": {"config": {"BN": "x"}}}}}}'],
)  # fmt: skip
def test_a_broken_file_is_ignored_with_a_warning_and_replaced(content: str, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.warns(UserWarning, match=r"autotune: .*winners\.json: ignored"):
        assert autotune._read(file) == {}
    with pytest.warns(UserWarning, match="ignored"):
        autotune.remember("k", KEY, CONFIGS[1], 1.0, GPU)
    assert autotune.recall(autotune._read(file), "k", KEY, GPU) == CONFIGS[1]


def test_a_place_that_cannot_be_written_warns_and_keeps_the_winner_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    path = tmp_path / "taken" / "winners.json"
    monkeypatch.setenv("ROLLOOM_AUTOTUNE_CACHE", str(path))
    with pytest.warns(UserWarning, match="autotune"):
        autotune.remember("k", KEY, CONFIGS[1], 1.0, GPU)
    assert autotune.recall(autotune._loaded[path], "k", KEY, GPU) == CONFIGS[1]


def test_the_default_file_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROLLOOM_AUTOTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert autotune.cache_path() == tmp_path / "rolloom" / "autotune.json"


def test_buckets_are_the_next_power_of_two() -> None:
    assert [autotune.bucket(size) for size in (0, 1, 2, 3, 64, 65)] == [1, 1, 2, 4, 64, 128]


@pytest.mark.gpu
def test_tuning_on_the_card_keeps_a_runnable_winner(file: Path) -> None:
    from rolloom.kernels.parity import check
    from rolloom.kernels.registry import operations

    with autotune.tuning():
        for name in ("linear_logprob", "relu2_experts", "ssd_scan"):
            operation = operations()[name]
            check(operation, "triton", operation.cases[1], torch.bfloat16, CUDA)
    found = json.loads(file.read_text())["winners"][torch.cuda.get_device_name(0)]
    assert {"linear_logprob", "moe_activate", "moe_multiply", "ssd_scan_chunks"} <= found.keys()
