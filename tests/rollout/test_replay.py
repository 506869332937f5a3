"""Stored rollouts, scored again: the same score, a changed reward, an environment that does not replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_envs import CHAT, PARITY

from rolloom.envs import registry
from rolloom.envs.types import AssistantTurn, Reply
from rolloom.rollout import replay
from rolloom.rollout.replay import ReplayError, replay_main, replay_rows, tally

LOOKUP = "tools/lookup-v0"


def row(env_id: str, seed: int, **more: Any) -> dict[str, Any]:
    """What a run keeps of an episode that the environment's own expert played."""
    env = registry.make(env_id)
    messages, _ = env.reset(seed=seed, options={"split": "train", "level": 1})
    text, score, over, rng = list(messages), 0.0, False, np.random.default_rng(seed)
    while not over:
        said = env.expert("compact", rng)
        reply, reward, terminated, truncated, _ = env.step(said)
        text += [{"role": "assistant", "content": said}, *reply]
        score, over = score + reward, terminated or truncated
    task = {"env_id": env_id, "split": "train", "level": 1, "task_seed": seed}
    return {**task, "score": score, "stop": "done", "failure": False, "text": text, **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_todays_code_gives_the_recorded_scores(tmp_path: Path) -> None:
    rows = [row(env_id, seed) for env_id in (PARITY, CHAT, LOOKUP) for seed in range(4)]
    said: list[str] = []
    out = tmp_path / "out.json"
    assert replay_main(write(tmp_path / "r.jsonl", rows), out, say=said.append) == 0
    told = json.loads(out.read_text())["environments"]
    assert [(one["env_id"], one["n"], one["unchanged"]) for one in told] == [
        (PARITY, 4, 4),
        (CHAT, 4, 4),
        (LOOKUP, 4, 4),
    ]
    assert len(said) == 4


def test_a_changed_reward_shows_which_way_with_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "r.jsonl", [row(PARITY, seed) for seed in range(5)])
    env = type(registry.make(PARITY))

    def stricter(self: Any, turn: AssistantTurn) -> Reply:
        return Reply(reward=0.25, done=True)

    monkeypatch.setattr(env, "respond", stricter)
    said: list[str] = []
    out = tmp_path / "out.json"
    before = json.loads(path.read_text().splitlines()[0])["score"]
    assert replay_main(path, out, say=said.append) == 1
    (one,) = json.loads(out.read_text())["environments"]
    assert one["down" if before > 0.25 else "up"] == 5
    assert len(one["examples"]) == replay.EXAMPLES
    assert f"{PARITY} r.jsonl:1: {before:g} -> 0.25" in "\n".join(said)
    assert one["after"] == 0.25


def test_other_messages_are_said_to_differ_whatever_the_score(tmp_path: Path) -> None:
    changed = row(CHAT, 1)
    changed["text"][2]["content"] = "something else"
    said: list[str] = []
    assert replay_main(write(tmp_path / "r.jsonl", [changed, row(CHAT, 2)]), say=said.append) == 1
    assert any("does not replay: in 1 of 2 rollouts" in line for line in said)


def test_a_cut_off_completion_never_reached_the_environment(tmp_path: Path) -> None:
    cut = row(CHAT, 1)
    cut["text"], cut["stop"] = cut["text"][:4], "max_tokens"
    env = registry.make(CHAT)
    env.reset(seed=1, options={"split": "train", "level": 1})
    cut["score"] = env.step(cut["text"][1]["content"])[1]
    assert [one.verdict for one in replay_rows([("x", cut)])] == ["unchanged"]


def test_an_environment_that_fails_or_hangs_costs_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "STEP_S", 0.5)
    monkeypatch.setitem(registry._specs, "test/gone-v0", registry.EnvSpec("test/gone-v0", "no_module:Env"))
    longer = row(PARITY, 1)
    longer["text"] += longer["text"][-1:]
    rows = [("1", row(PARITY, 1)), ("2", longer), ("3", {**row(PARITY, 1), "env_id": "test/gone-v0"})]
    rows += [("4", {**row(PARITY, 1), "env_id": "test/fault-v0"}), ("5", row(PARITY, 2))]
    results = replay_rows(rows, {"test/fault-v0": {"how": "hangs"}})
    assert [one.verdict for one in results] == ["unchanged", "error", "error", "error", "unchanged"]
    assert "before all recorded completions" in results[1].error
    assert "cannot be loaded" in results[2].error
    assert "no answer within 0.5 s" in results[3].error
    assert sum(one.error for one in tally(results)) == 3


@pytest.mark.parametrize(
    "bad",
    ["{torn", "[1]", "null", "[" * 5000, '{"env_id": 3}', json.dumps({"env_id": PARITY, "text": "x"})],
)
def test_malformed_rows_are_counted_and_skipped(tmp_path: Path, bad: str) -> None:
    fine = row(PARITY, 1)
    wrong = [{**fine, "text": [{"role": "user"}]}, {**fine, "level": "1"}, {**fine, "split": "all"}]
    rows = [bad, *wrong, {**fine, "score": None, "failure": True}, fine]
    said: list[str] = []
    assert replay_main(write(tmp_path / "r.jsonl", rows), say=said.append) == 0
    assert "4 malformed lines were skipped" in said
    assert any(line.startswith("1 rollouts had failed") for line in said)


def test_a_whole_run_is_replayed_with_its_own_keyword_arguments(tmp_path: Path) -> None:
    write(tmp_path / "rollouts" / "step_000001.jsonl", [row(PARITY, 1)])
    write(tmp_path / "evaluation" / "after.jsonl", [row(CHAT, 2)])
    (tmp_path / "config.yaml").write_text(f"envs: [{{id: {CHAT}, kwargs: {{seconds: 0.2}}}}]")
    said: list[str] = []
    assert replay_main(tmp_path, say=said.append) == 0
    assert [line.split()[0] for line in said[1:]] == [PARITY, CHAT]
    (tmp_path / "config.yaml").write_text("no_such_field: 1")
    assert replay_main(tmp_path, say=said.append) == 0
    with pytest.raises(ReplayError, match="expected rollouts with their messages"):
        replay_main(write(tmp_path / "empty.jsonl", []))
    with pytest.raises(ReplayError, match="expected a file of rollouts"):
        replay_main(tmp_path / "nothing")
