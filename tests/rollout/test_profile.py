"""Profiles of tasks: a line's content, what a kill loses, and a second run that does only what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fault_envs import CHAT, PARITY

from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Task
from rolloom.rollout import profile
from rolloom.rollout.curriculum import Pool
from rolloom.rollout.profile import Outcome, ProfileError, profile_main, row_of, summary
from rolloom.rollout.rundir import read_jsonl

SMALL = ["local=true", "rollout.max_new_tokens=24", "rollout.max_context=384", "rollout.slots=16"]
TASK = Task(PARITY, "train", 1, 3, "key")


class Solver(BaseHTTPRequestHandler):
    """Answers evenly, oddly every fourth time, and with an error where it is told to."""

    protocol_version = "HTTP/1.1"
    asked = 0
    broken = False

    def do_POST(self) -> None:
        Solver.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = "ab" if Solver.asked % 4 else "abc"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        reply = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}, "model": "m"}
        data = json.dumps({"error": "no"} if self.broken else reply).encode()
        self.send_response(400 if self.broken else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Solver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Solver.asked, Solver.broken = 0, False
    yield f"openai:http://127.0.0.1:{server.server_port}/v1#m"
    server.shutdown()
    server.server_close()


def test_a_line_leaves_failed_rollouts_out_of_every_mean() -> None:
    outcomes = [Outcome(1.0, 10, "done"), Outcome(0.5, 20, "done"), Outcome(None, 99, "env_timeout")]
    row = row_of(TASK, outcomes, {"policy": "p"})
    assert (row["k"], row["passes"], row["pass_rate"], row["mean_reward"]) == (3, 1, 0.5, 0.75)
    assert (row["std"], row["tokens"], row["failures"]) == (0.25, 15, 1)
    assert row["failure_kinds"] == {"env_timeout": 1}
    assert row_of(TASK, [Outcome(None, 0, "env_error")], {})["pass_rate"] is None


def test_the_summary_counts_every_task_once() -> None:
    rates = [0, 0, 0.25, 0.3, 0.5, 0.75, 0.8, 1.0, None]
    rows = [{"env_id": "a/b-v0", "pass_rate": rate, "failures": 0, "tokens": 7.0} for rate in rates]
    text = summary(rows)
    counts = [int(line.split("#")[0].split()[-1]) for line in text.splitlines()[1:]]
    assert counts == [2, 1, 2, 1, 1, 1]
    assert "a/b-v0: 8 tasks, solved 45.0% of the time, 7 tokens" in text


def test_the_native_engine_profiles_and_a_curriculum_reads_it(policy_path: str, tmp_path: Path) -> None:
    out, said = tmp_path / "rates.jsonl", []
    arguments: dict[str, Any] = {"tasks": 5, "k": 3, "levels": (1, 2), "overrides": SMALL, "say": said.append}
    assert profile_main([PARITY, CHAT], policy_path, out, **arguments) == 0
    rows = list(read_jsonl(out))
    assert len({(row["env_id"], row["level"], row["seed"]) for row in rows}) == 10
    assert {row["k"] for row in rows} == {3}
    assert all(row["passes"] == round(row["pass_rate"] * 3) for row in rows)
    assert all(row["tokens"] > 0 and row["failures"] == 0 for row in rows)
    assert any(0 < row["pass_rate"] < 1 for row in rows)
    # Nothing is missing, so nothing is sampled: the policy is not even looked for.
    before = out.read_bytes()
    assert profile_main([PARITY, CHAT], policy_path, out, **arguments) == 0
    assert out.read_bytes() == before
    # What is missing is sampled as it would have been: seeds follow from the task.
    out.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]) + '{"torn')
    assert profile_main([PARITY, CHAT], policy_path, out, **arguments) == 0
    again = {(row["env_id"], row["level"], row["seed"]): row for row in read_jsonl(out)}
    assert again == {(row["env_id"], row["level"], row["seed"]): row for row in rows}
    from rolloom.configs.schema import EnvConfig

    assert len(Pool.load(EnvConfig(id=PARITY, max_level=2, pass_rates=str(out)), 10).tasks) == 5
    with pytest.raises(ProfileError, match="of another setting"):
        profile_main([PARITY], policy_path, out, **{**arguments, "k": 4})


def test_an_endpoint_profiles_single_and_several_turns(endpoint: str, tmp_path: Path) -> None:
    out = tmp_path / "rates.jsonl"
    assert (
        profile_main([PARITY, CHAT], endpoint, out, tasks=6, k=4, levels=(1, 1), say=lambda line: None) == 0
    )
    rows = list(read_jsonl(out))
    assert len(rows) == 12
    solved = sum(row["passes"] for row in rows if row["env_id"] == PARITY)
    assert 0 < solved < 24
    assert {row["tokens"] for row in rows} == {5.0, 15.0}
    assert Solver.asked == 6 * 4 * (1 + 3)


def test_an_endpoint_that_refuses_is_a_failure_and_tried_again_next_time(
    endpoint: str, tmp_path: Path
) -> None:
    out = tmp_path / "rates.jsonl"
    arguments: dict[str, Any] = {"tasks": 2, "k": 2, "levels": (1, 1), "say": lambda line: None}
    Solver.broken = True
    assert profile_main([PARITY], endpoint, out, **arguments) == 0
    assert [row["failure_kinds"] for row in read_jsonl(out)] == [{"engine_error": 2}] * 2
    assert {row["pass_rate"] for row in read_jsonl(out)} == {None}
    Solver.broken = False
    assert profile_main([PARITY], endpoint, out, **arguments) == 0
    assert [row["failures"] for row in read_jsonl(out)] == [0, 0]


WRITER = """
import sys, time
import fault_envs
from rolloom.rollout import profile
from rolloom.rollout.profile import Outcome, profile_main
fault_envs.register_all()
def slow(config, policy, seed):
    def run(tasks, k, done):
        for index in range(len(tasks)):
            for _ in range(k):
                time.sleep(0.002)
                done(index, Outcome(1.0, 1.0, "done"))
            print(index, flush=True)
    return run
profile._runner = slow
profile_main([fault_envs.PARITY], "p", sys.argv[1], tasks=200, k=2, levels=(1, 1), say=lambda line: None)
"""


def test_a_kill_loses_only_the_tasks_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rates.jsonl"
    command = [sys.executable, "-c", WRITER, str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for _ in range(10):
            child.stdout.readline()
        time.sleep(0.003)
        child.send_signal(signal.SIGKILL)
        last = int(([9, *map(int, child.stdout.read().split())])[-1])
    kept = [row["seed"] for row in read_jsonl(out)]
    assert len(kept) >= last + 1
    asked: list[int] = []

    def runner(*_: Any) -> profile.Runner:
        def run(tasks: Sequence[Task], k: int, done: Any) -> None:
            asked.extend(task.seed for task in tasks)
            for index in range(len(tasks) * k):
                done(index // k, Outcome(1.0, 1.0, "done"))

        return run

    monkeypatch.setattr(profile, "_runner", runner)
    profile_main([PARITY], "p", out, tasks=200, k=2, levels=(1, 1), say=lambda line: None)
    assert sorted(kept + asked) == list(range(200))


def test_what_cannot_be_profiled_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="at least one environment"):
        profile_main([], "p", tmp_path / "o")
    with pytest.raises(ProfileError, match="got 0 and 8"):
        profile_main([PARITY], "p", tmp_path / "o", tasks=0)
    with pytest.raises(ProfileError, match="got 1 to 99"):
        profile_main([PARITY], "p", tmp_path / "o", levels=(1, 99))
    with pytest.raises(EnvError, match="no environment is registered"):
        profile_main(["no/such-v0"], "p", tmp_path / "o")
    assert PARITY in {spec.id for spec in registry.all_specs()}
