"""`rolloom policy quantize`, from the command line to a policy that samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rolloom.configs.errors import ConfigError
from rolloom.configs.load import load_run_config
from rolloom.policy.checkpoint import read_tensors
from rolloom.rollout import cli, policy_quantize
from rolloom.rollout.engine_host import EngineHost
from rolloom.rollout.types import Request


def test_quantised_policy_samples_and_the_table_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nvfp4"
    assert cli.main(["policy", "quantize", "shipped:tiny", str(out), "--layers", "all"]) == 0
    total = capsys.readouterr().out.split("| all | ")[1].split(" | ")
    held = sum(tensor.nbytes for tensor in read_tensors(out).values())
    assert int(total[3].replace(",", "")) == held
    host = EngineHost(str(out), 2, 64, "cpu", "float32", 0, False, state=("int8", "nearest"))
    host.submit("me", [Request("a", [5, 6, 7], 3, 40)], [])
    (done,) = host.collect("me", 30.0)
    assert done.finish in ("stop", "length") and len(done.ids) > 0


def test_mistakes_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    for words, message in (
        (["shipped:tiny", out, "--layers", "q_prj"], "Did you mean 'q_proj'"),
        (["shipped:tiny", out, "seed=1"], "expected --distill STEPS"),
        (["shipped:tiny"], "expected PATH OUT"),
        (["shipped:tiny", out, "--distill", "-1"], "at least 0"),
    ):
        assert cli.main(["policy", "quantize", *words]) == 2
        assert message in capsys.readouterr().err
    assert not Path(out).exists()


def test_distillation_runs_on_the_environments_of_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_quantize, "PROMPTS", 8)
    monkeypatch.setattr(policy_quantize, "HELD_BACK", 2)
    monkeypatch.setattr(policy_quantize, "STEPS_PER_ROUND", 1)
    said: list[str] = []
    words = ["rollout.max_new_tokens=24", "envs=[{id: math/affine_chain-v0}]"]
    policy_quantize.main("shipped:tiny", tmp_path / "out", steps=2, overrides=words, say=said.append)
    assert "on 2 rollouts not learnt from" in said[-3]
    plain = tmp_path / "plain"
    policy_quantize.main("shipped:tiny", plain, say=said.append)
    one, other = read_tensors(tmp_path / "out"), read_tensors(plain)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rollout.state_dtype=fp16"], "float32 or float16 or int8"),
        (["rollout.state_dtype=int8", "policy.device=cuda"], "policy.device = 'cuda'"),
        (["rollout.state_dtype=float16", "policy.deterministic=true"], "policy.deterministic = True"),
    ],
)
def test_state_formats_that_cannot_be_had_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.state_dtype") as caught:
        load_run_config("quickstart", words)
    assert message in str(caught.value)
