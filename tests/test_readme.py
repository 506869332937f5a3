"""What README and the guide show is run, so that they cannot go stale."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from rolloom.configs.load import load_run_config
from rolloom.envs import registry
from rolloom.envs.check import check
from rolloom.rollout import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str, *pages: Path) -> list[str]:
    text = "\n".join(page.read_text() for page in pages)
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


README_BLOCKS = blocks("python", ROOT / "README.md")
GUIDE_BLOCKS = blocks("python", ROOT / "docs" / "guide" / "environments.md")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes an example as a module, imports it, and tells the ids it registers."""
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))

    def write(code: str, name: str) -> list[str]:
        before = set(registry._specs)
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(code)
        registry.import_modules([str(tmp_path / f"{name}.py")])
        return sorted(set(registry._specs) - before)

    return write


def lines_of(code: str) -> int:
    return len([line for line in code.splitlines() if line.strip()])


def test_the_examples_of_the_readme_are_short() -> None:
    first, second = README_BLOCKS
    assert lines_of(first) <= 15 and lines_of(second) <= 16


@pytest.mark.parametrize("code", [*README_BLOCKS, *GUIDE_BLOCKS], ids=lambda code: code.split('"')[1])
def test_an_example_proves_itself(code: str, written) -> None:
    ids = written(code, "shown_envs")
    assert ids
    for id in ids:
        card = check(id, seconds=2)
        # Two of the guide's are too small to hold out much, which is remarked, or easy to guess.
        allowed = {"facts/capitals-v0": {"blind policies"}, "words/longest-v0": {"blind policies", "leakage"}}
        failed = {finding.name for finding in card.findings if finding.grade == "fail"}
        assert failed <= allowed.get(id, set()), card.reasons


def test_the_environment_of_the_readme_trains(written, tmp_path: Path, monkeypatch) -> None:
    """README's YAML and module beside each other, a few steps of the quickstart's loop."""
    written(README_BLOCKS[0], "my_envs")
    (text,) = [block for block in blocks("yaml", ROOT / "README.md") if "backwards" in block]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    small = [
        *("local=true", "trainer.steps=2", "trainer.warmup_steps=1", "trainer.prompts_per_step=4"),
        *("trainer.group_size=2", "evaluation.tasks_per_env=2", "rollout.max_new_tokens=32", "name=mine"),
    ]
    assert cli.main(["train", "mine.yaml", *small]) == 0
    rows = [
        json.loads(line)
        for path in sorted((tmp_path / "runs" / "mine" / "rollouts").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert {row["env_id"] for row in rows} == {"math/affine_chain-v0", "words/backwards-v0"}
    assert not any(row["failure"] for row in rows)


@pytest.mark.parametrize("page", ["adapters.md", "sandbox.md"])
def test_what_the_guide_shows_in_python_runs(page: str, written) -> None:
    for number, code in enumerate(blocks("python", ROOT / "docs" / "guide" / page)):
        for id in written(code, f"shown_{page[:-3]}_{number}"):
            found = registry.spec(id)
            module, _, name = found.entry_point.partition(":")
            if module.startswith("rolloom."):
                accepted = registry._arguments(getattr(importlib.import_module(module), name))
                assert found.kwargs.keys() <= set(accepted), id


@pytest.mark.parametrize("page", ["adapters.md", "curricula.md", "environments.md"])
def test_what_the_guide_shows_in_yaml_is_a_configuration(page: str, tmp_path: Path) -> None:
    shown = blocks("yaml", ROOT / "docs" / "guide" / page)
    assert shown
    for text in shown:
        (tmp_path / "shown.yaml").write_text(text)
        load_run_config(tmp_path / "shown.yaml", [])


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


def test_every_environment_of_the_suite_has_its_page() -> None:
    """What the pages say is measured; that each exists and says what its class says is not."""
    pages = ROOT / "docs" / "environments"
    index = (pages / "README.md").read_text()
    for spec in registry.all_specs():
        if spec.entry_point.startswith("rolloom.envs."):
            assert f"`{spec.id}`" in index, "run `make docs`"
            if not spec.id.startswith("reasoning_gym/"):
                page = (pages / (spec.id.replace("/", "-") + ".md")).read_text()
                assert page.startswith(f"# `{spec.id}`") and "Reward 1." in page, "run `make docs`"
