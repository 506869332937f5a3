from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloom.rollout.metrics import RunLog, RunLogError, read_metrics
from rolloom.rollout.rundir import RunDir, json_ready, read_jsonl, write_atomic, write_jsonl


def record(step: int, **more) -> dict:
    envs = {"math/affine_chain-v0": {"accuracy": 0.5, "reward": 0.4, "tokens": 77.0, "turns": 1.0, "n": 16}}
    return {"step": step, "reward": 0.1 * step, "entropy": 1.0, "envs": envs, **more}


def steps(run: Path) -> list[int]:
    return [row["step"] for row in read_metrics(RunDir(run))]


def test_records_come_back_as_written(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        for step in (1, 2, 3):
            log.step(record(step, loss=np.float32(0.5), note="ü\n\x1b", bad=math.nan))
    rows = read_metrics(RunDir(tmp_path))
    assert [row["reward"] for row in rows] == [pytest.approx(0.1 * step) for step in (1, 2, 3)]
    assert rows[0]["loss"] == 0.5 and rows[0]["note"] == "ü\n\x1b" and rows[0]["bad"] is None


def test_resume_counts_no_step_twice(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        for step in range(1, 8):
            log.step(record(step, run=1))
            log.rollouts(step, [{"step": step}])
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 8, "rew')
    with RunLog(tmp_path, resume_step=4, tensorboard=False) as log:
        assert steps(tmp_path) == [1, 2, 3, 4]
        assert not log.dir.rollouts_of(5).exists() and log.dir.rollouts_of(4).exists()
        log.step(record(5, run=2))
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [row["run"] for row in read_metrics(RunDir(tmp_path))] == [1, 1, 1, 1, 2]


def test_a_new_run_in_an_old_directory_starts_clean(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.step(record(1))
        log.rollouts(1, [{}])
    with RunLog(tmp_path, tensorboard=False):
        assert steps(tmp_path) == []
        assert not list((tmp_path / "rollouts").iterdir())


@pytest.mark.parametrize("step", [2, 1, None, "3", 2.5])
def test_a_step_is_logged_once_and_in_order(tmp_path: Path, step) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.step(record(2))
        with pytest.raises(RunLogError, match="expected an integer above 2"):
            log.step({"step": step})
    with pytest.raises(RunLogError, match="open log"):
        log.step(record(3))


WRITER = """
import sys
from rolloom.rollout.metrics import RunLog
log = RunLog(sys.argv[1], tensorboard=False)
for step in range(1, 10**9):
    log.step({"step": step, "text": "x" * 5000})
    log.rollouts(step, [{"step": step, "text": "y" * 5000}] * 20)
    print(step, flush=True)
"""


def test_kill_nine_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        time.sleep(0.003)
        writer.send_signal(signal.SIGKILL)
        reported = [line for line in writer.stdout.read().splitlines() if line.isdigit()]
    last = max([20, *map(int, reported[:-1])])
    assert steps(tmp_path)[:last] == list(range(1, last + 1))
    for path in (tmp_path / "rollouts").glob("step_*.jsonl"):
        assert len(list(read_jsonl(path))) == 20


def test_tensorboard_holds_every_number_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.step(record(step))
    # TensorBoard orders a directory's files by second, then by a count that sorts 10 before 9.
    time.sleep(1.05)
    with RunLog(tmp_path, resume_step=2) as log:
        log.step(record(3, reward=9.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"reward", "entropy", "envs/math/affine_chain-v0/accuracy"} <= set(events.Tags()["scalars"])
    assert [(event.step, round(event.value, 5)) for event in events.Scalars("reward")] == [
        (1, 0.1),
        (2, 0.2),
        (3, 9.0),
    ]


def test_evaluation_names_stay_in_their_folder(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        path = log.evaluation("before", [{"env_id": "a", "score": 1.0}])
        assert path == RunDir(tmp_path).before and [row["score"] for row in read_jsonl(path)] == [1.0]
        with pytest.raises(RunLogError, match=r"named '\.\./x'"):
            log.evaluation("../x", [])


def test_readers_skip_what_is_not_a_record(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe\n[1]\nnull\n\n{"a": 2}\n{"a": 3')
    assert list(read_jsonl(path)) == [{"a": 1}, {"a": 2}]
    assert list(read_jsonl(tmp_path / "missing")) == []


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from("abc"), anything))
def test_whatever_python_holds_is_strict_json(tmp_path_factory, row: dict) -> None:
    text = json.dumps(json_ready(row), allow_nan=False)
    assert json_ready(json.loads(text)) == json.loads(text)
    path = tmp_path_factory.getbasetemp() / "row.jsonl"
    write_jsonl(path, [row])
    assert list(read_jsonl(path)) == [json.loads(text)]
