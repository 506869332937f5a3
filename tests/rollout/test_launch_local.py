"""A whole training run in one process: what it leaves on disk, and what can be read back from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fault_envs import PARITY
from small_runs import logged_steps, records, small_run, untimed

from rolloom.configs.load import load_run_config
from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.rollout.checkpoints import latest_checkpoint, read_checkpoint
from rolloom.rollout.dry_run import dry_run
from rolloom.rollout.evaluate import main as evaluate
from rolloom.rollout.launch import LaunchError, train
from rolloom.rollout.metrics import EnvStep, StepRecord
from rolloom.rollout.rundir import RunDir, read_jsonl


@pytest.fixture(scope="module")
def finished(policy_path: str, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The directory of one finished run of three steps."""
    runs = tmp_path_factory.mktemp("local") / "runs"
    assert train(small_run(policy_path, runs)) == 0
    return RunDir(runs / "small")


def full_forward(path: Path, rows: list[dict[str, Any]]) -> float:
    """Largest difference between the rows' logged log-probs and those of transformers' own model."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32).eval()
    worst = 0.0
    for row in rows:
        ids, mask = np.array(row["ids"]), np.array([sampled == "1" for sampled in row["mask"]])
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)[None]).logits[0]
        logp = torch.log_softmax(logits.float(), -1)
        at = np.flatnonzero(mask)
        again = logp[at - 1, ids[at]].numpy()
        worst = max(worst, float(np.abs(again - np.array(row["logprobs"])).max()))
    return worst


def test_every_step_is_logged_with_every_field_once(finished: RunDir) -> None:
    assert logged_steps(finished.root) == [1, 2, 3]
    for record in records(finished.root):
        assert set(StepRecord.__annotations__) <= set(record)
        assert set(record["envs"]) == {"test/parity-v0", "test/chat-v0", "math/affine_chain-v0"}
        fields = set(EnvStep.__annotations__) - {"curriculum", "reprofiled"}
        assert all(set(share) == fields for share in record["envs"].values())
        assert record["failures"] == 0
        assert sum(share["n"] for share in record["envs"].values()) == 24
        assert record["logprob_diff_max"] <= 1e-4
        assert record["generated_tokens"] > 24
    assert any(record["grad_norm"] > 0 for record in records(finished.root))


def test_every_rollout_is_kept_with_its_tokens(finished: RunDir) -> None:
    for step in (1, 2, 3):
        rows = list(read_jsonl(finished.rollouts_of(step)))
        assert len(rows) == 24
        assert len({(row["group"], row["sample"]) for row in rows}) == 24
        assert {row["policy_version"] for row in rows} == {step - 1}
        for row in rows:
            assert len(row["mask"]) == len(row["ids"])
            assert row["mask"].count("1") == len(row["logprobs"]) == row["tokens"]
            assert 0 <= row["score"] <= 1
            assert row["text"][0]["role"] == "user"
        groups = {row["group"]: [r["advantage"] for r in rows if r["group"] == row["group"]] for row in rows}
        assert all(abs(sum(group)) < 1e-6 for group in groups.values())


def test_siblings_and_steps_never_share_a_sampling_seed(finished: RunDir) -> None:
    rows = [row for step in (1, 2, 3) for row in read_jsonl(finished.rollouts_of(step))]
    rows += [*read_jsonl(finished.before), *read_jsonl(finished.after)]
    assert len({row["seed"] for row in rows}) == len(rows) == 3 * 24 + 2 * 12


def test_before_and_after_are_the_same_distinct_heldout_tasks(finished: RunDir) -> None:
    before, after = list(read_jsonl(finished.before)), list(read_jsonl(finished.after))
    keys = [(row["env_id"], row["task_key"]) for row in before]
    assert keys == [(row["env_id"], row["task_key"]) for row in after]
    assert len(set(keys)) == 12
    assert {row["split"] for row in before} == {"heldout"}
    trained = {row["task_key"] for step in (1, 2, 3) for row in read_jsonl(finished.rollouts_of(step))}
    assert not trained & {key for _, key in keys}


def test_the_summary_has_the_promised_keys(finished: RunDir) -> None:
    summary = json.loads(finished.summary.read_text())
    assert {"environments", "overall", "max_logprob_difference", "steps", "seconds"} <= set(summary)
    promised = {"accuracy_before", "accuracy_after", "accuracy_ci", "tokens_before", "tokens_after", "n"}
    for row in (*summary["environments"].values(), summary["overall"]):
        assert promised <= set(row)
    assert [row["n"] for row in summary["environments"].values()] == [4, 4, 4]
    assert summary["steps"] == 3
    assert 0 < summary["max_logprob_difference"] <= 1e-4
    assert summary["max_logprob_difference"] == max(r["logprob_diff_max"] for r in records(finished.root))
    assert "<html" in finished.report.read_text()[:200]


def test_the_saved_configuration_loads_and_is_the_one_that_ran(finished: RunDir, policy_path: str) -> None:
    assert load_run_config(finished.config) == small_run(policy_path, finished.root.parent)


def test_checkpoints_are_kept_as_configured_and_verify(finished: RunDir) -> None:
    paths = sorted(finished.checkpoints.iterdir())
    assert [path.name for path in paths] == ["step_000002", "step_000003"]
    assert [read_checkpoint(path).step for path in paths] == [2, 3]


def test_transformers_reproduces_the_logged_log_probs(finished: RunDir, policy_path: str) -> None:
    checkpoint = latest_checkpoint(finished.checkpoints)
    assert checkpoint is not None
    after = list(read_jsonl(finished.after))
    assert any(row["turns"] > 1 for row in after)
    assert full_forward(checkpoint.path, after) <= 1e-4
    # The comparison can tell policies apart: the initial one did not sample these tokens.
    assert full_forward(Path(policy_path), after) > 1e-3


def test_a_second_run_of_the_name_gets_its_own_directory_and_repeats_the_first_to_the_bit(
    finished: RunDir, policy_path: str
) -> None:
    assert train(small_run(policy_path, finished.root.parent)) == 0
    again = RunDir(finished.root.parent / "small-2")
    for step in (1, 2, 3):
        assert untimed(again.rollouts_of(step)) == untimed(finished.rollouts_of(step))
    weights = [run.checkpoints / "step_000003" / "model.safetensors" for run in (finished, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_in_bfloat16(run_config: Callable[..., RunConfig]) -> None:
    config = run_config(trainer__steps=1, evaluation__tasks_per_env=0, policy__dtype="bfloat16")
    assert train(config) == 0
    (record,) = records(Path(config.runs_dir) / "small")
    assert record["failures"] == 0
    assert record["entropy"] > 0


def test_a_missing_policy_is_named(run_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(LaunchError, match=r"policy\.path: expected a checkpoint directory.*nowhere"):
        train(run_config(policy__path="nowhere"))
    with pytest.raises(LaunchError, match=r"policy\.path: .*shipped:tyni"):
        train(run_config(policy__path="shipped:tyni"))


def test_a_dry_run_checks_everything_and_writes_nothing(
    run_config: Callable[..., RunConfig], policy_path: str
) -> None:
    config, lines = run_config(), []
    # A keyword argument of the environment may have the name of anything here.
    config.envs = [EnvConfig(id=PARITY, kwargs={"level": 1}), EnvConfig(id="tools/lookup-v0")]
    config.rollout.max_context = 1024
    assert dry_run(config, policy_path, lines.append) == 0
    text = "\n".join(lines)
    assert "test/parity-v0: level 1" in text
    assert "tools/lookup-v0: level 1" in text
    assert "would run: 3 steps of 6 prompts x 4 rollouts" in text
    assert not Path(config.runs_dir).exists()


def test_a_checkpoint_can_be_measured_alone(finished: RunDir, run_config: Callable[..., RunConfig]) -> None:
    lines: list[str] = []
    config = run_config(policy__path=str(finished.checkpoints / "step_000003"))
    assert evaluate(config, lines.append) == 0
    assert [line.split()[:2] for line in lines[1:]] == [[env.id, "4"] for env in config.envs]
