"""The command line up to where a command starts its work: parsing, configuration, messages, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rolloom.configs.load import load_run_config, save_run_config
from rolloom.envs.registry import all_specs
from rolloom.rollout.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, so that `runs/` is the test's own."""
    monkeypatch.chdir(tmp_path)


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail as a user's mistake; return its message."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rolloom: error: ")
    assert "Traceback" not in captured.err
    return captured.err


def a_run(name: str) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    save_run_config(load_run_config("quickstart", [f"name={name}"]), folder / "config.yaml")
    return folder


@pytest.mark.parametrize("place", range(4))
def test_a_misspelt_field_is_named_wherever_it_stands(capsys: pytest.CaptureFixture[str], place: int) -> None:
    words = ["train", "quickstart", "--local", "--dry-run"]
    words.insert(place + 1, "trainer.lerning_rate=1")
    message = failure(capsys, *words)
    assert "trainer.lerning_rate: no such field. Did you mean 'trainer.learning_rate'?" in message


def test_the_whole_command_answers_a_misspelt_field_before_it_imports_what_is_slow(root: Path) -> None:
    words = ["rolloom.rollout.cli", "train", "configs/train/quickstart.yaml", "trainer.lerning_rate=1"]
    child = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        cwd=root, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == 2
    assert "trainer.learning_rate" in child.stderr
    assert "Traceback" not in child.stderr
    imported = {line.rpartition("|")[2].strip() for line in child.stderr.splitlines()}
    assert "rolloom.configs" in imported and not {"torch", "ray", "datasets"} & imported


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "expected a command: train, evaluate, warmstart, envs"),
        (["trian"], "Did you mean 'train'?"),
        (["env", "list"], "Did you mean 'envs'?"),
        (["train"], "expected a CONFIG"),
        (["train", "trainer.steps=1"], "expected a CONFIG"),
        (["train", "a.yaml", "b.yaml"], "expected one CONFIG"),
        (["train", "quickstrat"], "Did you mean 'quickstart'?"),
        (["train", "quickstart", "--dryrun"], "Did you mean '--dry-run'?"),
        (["train", "quickstart", "--dry"], "no such option '--dry'"),
        (["train", "--resume", "missing"], "--resume: expected a run's directory"),
        (["evaluate", "--config", "quickstart"], "expected one CHECKPOINT"),
        (["evaluate", "somewhere", "--config", "quickstart", "sed=1"], "Did you mean 'seed'?"),
        (["warmstart", "now"], "expected options only"),
        (["warmstart", "--steps", "0"], "--steps: expected at least 1, got 0"),
        (["envs", "lst"], "Did you mean 'list'?"),
        (["envs", "show"], "envs show: expected one ID, got none"),
        (["envs", "chekc"], "Did you mean 'check'?"),
        (["envs", "check"], "expected one or more IDs, or --all"),
        (["envs", "list", "mathh"], "Did you mean 'math'?"),
        (["envs", "check", "math/affine_chain-v0", "--secnds", "3"], "Did you mean '--seconds'?"),
        (["envs", "show", "math/afine_chain-v0"], "Did you mean 'math/affine_chain-v0'?"),
        (["envs", "show", "math/affine_chain-v0", "--level", "99"], "levels 1 to 10, got 99"),
    ],
)
def test_mistakes_are_answered(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    assert expected in failure(capsys, *words)


def test_a_run_is_resumed_by_name_or_path_and_its_config_takes_overrides(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = a_run("first")
    for run in ("first", str(folder)):
        assert "trainer.steps: expected at least 1" in failure(
            capsys, "train", "--resume", run, "trainer.steps=0"
        )
    assert f"Did you mean '{folder}'?" in failure(capsys, "train", "--resume", "frist")
    assert "Runs here: first." in failure(capsys, "train", "--resume", "zzz")


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(Exception, match="no such field"):
        main(["train", "quickstart", "sed=1", "--debug"])


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_and_version_exit_with_success(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "rolloom" in capsys.readouterr().out


def test_envs_list_has_one_line_an_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [spec.id for spec in all_specs()]
    assert all(len(line.split("\t")) == 3 for line in lines)


@pytest.mark.parametrize(
    "id", ["math/affine_chain-v0", "tools/lookup-v0", "code/int_function-v0", "agent/workplace-v0"]
)
def test_envs_show_plays_an_expert_to_a_full_score(capsys: pytest.CaptureFixture[str], id: str) -> None:
    assert main(["envs", "show", id, "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert first.rstrip().endswith("score 1")
    assert "<think>" in first
    assert main(["envs", "show", id, "--seed", "3"]) == 0
    assert capsys.readouterr().out == first
    assert main(["envs", "show", id, "--seed", "4"]) == 0
    assert capsys.readouterr().out != first
