"""`rolloom envs ...` as a user types it: check, play, new, and environments from a file of one's own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolloom.envs import registry
from rolloom.rollout.cli import main

HERE = Path(__file__).resolve().parent
BROKEN = str(HERE.parent / "envs" / "broken_envs.py")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    monkeypatch.delitem(sys.modules, "broken_envs", raising=False)


def test_check_prints_the_card_and_writes_it(capsys: pytest.CaptureFixture[str]):
    words = ["envs", "check", "broken/sound-v0", "--import", BROKEN, "--seconds", "2"]
    assert main([*words, "--json", "out/card.json", "--html", "out/card.html"]) == 0
    out = capsys.readouterr().out
    assert "pass  gold: the expert scores 1.0" in out and "grade A: fit to train on" in out
    (card,) = json.loads(Path("out/card.json").read_text())
    assert card["id"] == "broken/sound-v0" and card["grade"] == "A"
    assert "<title>broken/sound-v0</title>" in Path("out/card.html").read_text()


def test_check_fails_what_is_broken(capsys: pytest.CaptureFixture[str]):
    words = ["envs", "check", "broken/leaks-v0", "broken/sound-v0", "--import", BROKEN, "--seconds", "2"]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "FAIL  leakage" in out and "grade F: not fit to train on" in out
    assert "2 environments: 1 A, 0 B, 0 C, 1 F; 1 not fit to train on" in out


def test_check_all_runs_in_processes_that_know_the_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "_specs", {})
    monkeypatch.setattr(registry, "_plugins_loaded", True)
    kept = ("broken/sound-v0", "broken/constant-v0")
    registry.import_modules([BROKEN])
    monkeypatch.setattr(registry, "_specs", {id: registry._specs[id] for id in kept})
    assert main(["envs", "check", "--all", "--import", BROKEN, "--seconds", "1", "--jobs", "2"]) == 1
    out = capsys.readouterr().out
    assert "F broken/constant-v0" in out and "A broken/sound-v0" in out


MINE = """
from rolloom import environment

@environment("mine/broken-v0")
class Broken:
    def reset(self, rng, level):
        raise RuntimeError("my bug")
    def step(self, turn):
        return 0.0
"""


def test_what_an_author_got_wrong_is_said_once_with_its_place(capsys: pytest.CaptureFixture[str]):
    Path("mine.py").write_text(MINE)
    assert main(["envs", "check", "mine/broken-v0", "--import", "mine.py"]) == 1
    out = capsys.readouterr().out
    assert out.count("FAIL") == 1 and "cannot be reset: RuntimeError: my bug (mine.py:7)" in out
    for command in ("show", "play"):
        assert main(["envs", command, "mine/broken-v0", "--import", "mine.py"]) == 2
        error = capsys.readouterr().err
        assert "mine/broken-v0: it raised RuntimeError: my bug (mine.py:7)" in error
        assert "Traceback" not in error
    assert main(["envs", "list", "mine", "--import", "mine.py"]) == 0
    assert "mine/broken-v0" in capsys.readouterr().out
    assert main(["envs", "show", "mine/broken-v0", "--import", "min.py"]) == 2
    assert "found none at 'min.py'. Did you mean 'mine.py'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("new x --kind tool", "envs new: --kind: invalid choice: 'tool'"),
        ("new x --kind tool", "Did you mean 'tools'?"),
        (
            "show a/b-v0 --level x",
            "envs show: --level: invalid int value: 'x'. (see `rolloom envs show --help`)",
        ),
        ("profile a/b-v0", "envs profile: the following arguments are required: --out."),
        ("show nobodys/own-v0", "`imports: [FILE.py]`, or `--import FILE.py`"),
    ],
)
def test_a_wrong_word_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["envs", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def played(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], id: str, typed: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert main(["envs", "play", id, "--seed", "1"]) == 0
    return capsys.readouterr().out


def test_a_person_plays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    id = "math/affine_chain-v0"
    out = played(monkeypatch, capsys, id, "/help\n/hint\nfive\n")
    assert "mod 5" in out and "<think>" in out and "over: score 0 (correct 0)" in out
    assert "over: score 1" in played(monkeypatch, capsys, id, "/gold\n")
    assert "left after 0 turns" in played(monkeypatch, capsys, id, "/quit\n")
    assert "left after 0 turns" in played(monkeypatch, capsys, id, "")
    env = registry.make(id)
    env.reset(seed=1)
    answer = env.expert("compact", env.np_random).rpartition("\n")[2]
    assert "over: score 1" in played(monkeypatch, capsys, id, f'"""\n<think>\nhm</think>\n{answer}\n"""\n')


def test_a_person_calls_tools(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    typed = '/call lookup item=apple\n/call add a=1 b=2\n/call add "oops"\n/call lookup item=\x1b\n/quit\n'
    out = played(monkeypatch, capsys, "tools/lookup-v0", typed)
    assert "[tool]\n  3\n" in out
    assert "expected NAME=VALUE" in out
    assert "\x1b" not in out and "left after 3 turns" in out


@pytest.mark.parametrize("kind", ["math", "code", "tools", "agent"])
def test_a_scaffold_passes_its_own_test_and_is_found_by_entry_point(kind: str, tmp_path: Path):
    assert main(["envs", "new", "my-envs", "--kind", kind]) == 0
    root = tmp_path / "my-envs"
    # What pip would write when it installs the package.
    info = tmp_path / "site" / "my_envs-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-envs\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[rolloom.envs]\nmy_envs = my_envs\n")
    path = os.pathsep.join([str(root / "src"), str(info.parent), *sys.path])
    environ = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(root)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "rolloom.rollout.cli", "envs", "list", "my_envs"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert listed.stdout.startswith("my_envs/"), listed.stdout + listed.stderr


def test_a_scaffold_overwrites_nothing(capsys: pytest.CaptureFixture[str]):
    assert main(["envs", "new", "Bad Name"]) == 2
    assert "expected lower-case letters" in capsys.readouterr().err
    assert main(["envs", "new", "twice"]) == 0
    assert main(["envs", "new", "twice"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_list_by_kind(capsys: pytest.CaptureFixture[str]):
    assert main(["envs", "list", "math"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.split("\t")[1] == "math" for line in lines)


SMALL = ["local=true", "rollout.max_new_tokens=24", "rollout.slots=8"]


def test_profile_then_replay(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    words = ["envs", "profile", "math/affine_chain-v0", "--out", "rates.jsonl", "--tasks", "3", "-k", "2"]
    assert main([*words, "--levels", "1-2", *SMALL]) == 0
    rows = [json.loads(line) for line in Path("rates.jsonl").read_text().splitlines()]
    rates = [row for row in rows if "pass_rate" in row]
    assert len(rates) == 3 and {row["level"] for row in rates} == {1, 2}
    assert all(row["k"] == 2 and 0 <= row["pass_rate"] <= 1 for row in rates)
    capsys.readouterr()
    assert main([*words, "--levels", "1-2", *SMALL]) == 0
    assert "3 of 3 tasks" in capsys.readouterr().out
    assert main(["envs", "profile", "math/affine_chain-v0", "--out", "x.jsonl", "--levels", "low"]) == 2
    assert "--levels: expected LOW or LOW-HIGH" in capsys.readouterr().err


def test_replay_of_a_row_that_scores_otherwise_now(capsys: pytest.CaptureFixture[str]):
    env = registry.make("math/affine_chain-v0")
    messages, info = env.reset(seed=5)
    completion = env.expert("compact", env.np_random)
    row = {
        "env_id": "math/affine_chain-v0", "split": "train", "level": 1, "task_seed": 5,
        "task_key": info["key"], "score": 0.0, "failure": False,
        "text": [*messages, {"role": "assistant", "content": completion}],
    }  # fmt: skip
    Path("rows.jsonl").write_text(json.dumps({**row, "score": 1.0}) + "\n")
    assert main(["envs", "replay", "rows.jsonl"]) == 0
    Path("rows.jsonl").write_text(json.dumps(row) + "\nnot json\n")
    capsys.readouterr()
    assert main(["envs", "replay", "rows.jsonl", "--json", "changes.json"]) == 1
    assert "math/affine_chain-v0" in capsys.readouterr().out
    assert Path("changes.json").is_file()


def test_serve_from_the_command_line_and_play_it_from_here(tmp_path: Path):
    from rolloom.envs.serve import RemoteEnv

    server = subprocess.Popen(
        [sys.executable, "-m", "rolloom.rollout.cli", "envs", "serve", "math/affine_chain-v0", "--port", "0"],
        env={**os.environ, "ROLLOOM_SERVE_TOKEN": "secret"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        os.environ["ROLLOOM_SERVE_TOKEN"] = "secret"
        remote, here = RemoteEnv(url, "math/affine_chain-v0"), registry.make("math/affine_chain-v0")
        assert remote.reset(seed=7)[0] == here.reset(seed=7)[0]
        completion = here.expert("compact", here.np_random)
        assert remote.step(completion)[1:3] == (1.0, True)
        remote.close()
    finally:
        os.environ.pop("ROLLOOM_SERVE_TOKEN", None)
        server.terminate()
        assert server.wait(20) == 0
