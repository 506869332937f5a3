"""The packaged six-environment mixture trains on a CPU: exact shares, and every environment's own metrics."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rolloom.configs.load import load_run_config
from rolloom.configs.schema import RunConfig
from rolloom.envs import registry
from rolloom.rollout.launch import train
from rolloom.rollout.rundir import RunDir, read_jsonl

STEPS, PROMPTS = 2, 10
PER_ENVIRONMENT = {
    "accuracy",
    "reward",
    "pass_at_k",
    "tokens",
    "think_tokens",
    "turns",
    "env_s",
    "failure_kinds",
}


@pytest.fixture(scope="module")
def trained(policy_path: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunDir]:
    config = load_run_config(
        "mixture",
        [
            f"policy.path={policy_path}", f"runs_dir={tmp_path_factory.mktemp('runs')}", "local=true",
            f"trainer.steps={STEPS}", f"trainer.prompts_per_step={PROMPTS}", "trainer.group_size=2",
            "rollout.max_new_tokens=8", "rollout.max_context=384", "rollout.slots=32",
            "evaluation.tasks_per_env=0",
        ],
    )  # fmt: skip
    assert train(config) == 0
    return config, RunDir(Path(config.runs_dir) / "mixture")


def test_every_step_has_the_configured_shares(trained: tuple[RunConfig, RunDir]) -> None:
    config, run = trained
    assert len(config.envs) == 6
    whole = sum(env.weight for env in config.envs)
    for step in range(1, STEPS + 1):
        rows = list(read_jsonl(run.rollouts_of(step)))
        drawn = {
            env.id: len({row["group"] for row in rows if row["env_id"] == env.id}) for env in config.envs
        }
        assert drawn == {env.id: PROMPTS * env.weight / whole for env in config.envs}


def test_every_environment_has_its_metrics_everywhere(trained: tuple[RunConfig, RunDir]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, run = trained
    ids = {env.id for env in config.envs}
    for record in map(json.loads, run.metrics.read_text().splitlines()):
        assert set(record["envs"]) == ids
        assert all(set(share) >= PER_ENVIRONMENT for share in record["envs"].values())
        assert all(share["env_s"] > 0 and share["failures"] == 0 for share in record["envs"].values())
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    for id in ids:
        assert {f"envs/{id}/pass_at_k", f"envs/{id}/env_s"} <= set(events.Tags()["scalars"])
    page = run.report.read_text()
    assert "Environment by environment" in page
    assert all(f'<th scope="row">{id}</th>' in page for id in ids)


OWN = """
from rolloom.envs.authoring import environment

@environment("mine/even-v0", levels=(1, 3))
def even(rng, level):
    return {"prompt": f"Write {rng.integers(10 ** (level + 5))}.", "answer": "1"}
"""


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_users_own_file_is_trained_on_by_its_id(
    policy_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    monkeypatch.delitem(sys.modules, "own_envs", raising=False)
    own, runs = tmp_path / "own_envs.py", tmp_path / "runs"
    own.write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        f"imports: [{own}]\nenvs: [{{id: mine/even-v0, max_level: 2}}]\nname: own\nruns_dir: {runs}\n"
    )
    words = [
        f"policy.path={policy_path}", f"local={str(local).lower()}", "ray.num_cpus=2", "trainer.steps=1",
        "trainer.group_size=2", "trainer.prompts_per_step=2", "rollout.max_new_tokens=8",
        "evaluation.tasks_per_env=0",
    ]  # fmt: skip
    assert train(load_run_config(tmp_path / "own.yaml", words)) == 0
    rows = list(read_jsonl(RunDir(runs / "own").rollouts_of(1)))
    assert [(row["env_id"], row["failure"]) for row in rows] == [("mine/even-v0", False)] * 4
