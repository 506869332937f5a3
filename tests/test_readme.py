"""What README and the guide show is run, so that they cannot go stale."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from rolloom.configs.load import load_run_config
from rolloom.envs import registry
from rolloom.rollout import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str, *pages: Path) -> list[str]:
    text = "\n".join(page.read_text() for page in pages)
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """README's environment as an importable module; what it registers is forgotten afterwards."""
    (code,) = blocks("python", ROOT / "README.md")
    (tmp_path / "my_envs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    monkeypatch.delitem(sys.modules, "my_envs", raising=False)
    return code


def test_the_environment_of_the_readme_works(example: str) -> None:
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    importlib.import_module("my_envs").add()
    env = registry.make("words/backwards-v0")
    keys: dict[str, set[str]] = {}
    for split in ("train", "heldout"):
        for seed in range(20):
            _, info = env.reset(seed=seed, options={"split": split, "level": 1 + seed % 3})
            keys.setdefault(split, set()).add(info["key"])
            _, reward, done, truncated, _ = env.step(env.expert("compact", env.np_random))
            assert (reward, done, truncated) == (1.0, True, False)
            env.reset(seed=seed, options={"split": split})
            assert env.step("<think></think>no")[1] == 0.0
    assert keys["train"].isdisjoint(keys["heldout"])


def shell_commands() -> list[list[str]]:
    lines = [line for block in blocks("bash", *PAGES) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_the_commands_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    seen = set()
    for words in shell_commands():
        assert words[0] in ("make", "rolloom"), words
        seen.add(words[0])
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        elif "[key=value" not in words:
            args = cli._parse(words[1:])
            config, overrides = cli._split(args.words)
            if words[1] == "train" and config:
                load_run_config(ROOT / config[0] if "/" in config[0] else config[0], overrides)
    assert seen == {"make", "rolloom"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_the_page_of_fields_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("configuration_page", ROOT / "docs" / "configuration.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.render(), "run `make docs`"
