"""The shell: the tree that is left decides, scripts run on hidden files, nothing leaks or is shared."""

import itertools
import json
import os
from random import Random

import numpy as np
import pytest

from rolloom.envs.agents.shell.env import Shell, _same_text
from rolloom.envs.agents.shell.jobs import WORDS, Draw
from rolloom.envs.agents.shell.templates import TEMPLATES
from rolloom.envs.parsing import render_call
from rolloom.envs.sandbox.workspace import Workspace


def start(seed=0, level=1, env=None):
    env = env or Shell()
    env.reset(seed=seed, options={"level": level, "split": "heldout"})
    return env


def run(env, command):
    return env.step(render_call("run", {"command": command}))[0][0]["content"]


def follow(env):
    total = 0.0
    while True:
        _, reward, done, truncated, _ = env.step(env.expert("compact", np.random.default_rng(0)))
        total += reward
        if done or truncated:
            return total


def finish(env):
    answers = env.problem["answers"]
    return env.step(f"answer: {'; '.join(answers)}" if answers else "Done.")[1]


def drawn(name, seed=0, size=8, odd=False):
    return TEMPLATES[name][0](Draw(Random(seed), "f", size, odd))


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_commands_and_expected_trees_agree_for_every_template(name):
    for seed, odd in itertools.product(range(2), (False, True)):
        job = drawn(name, seed, 9, odd)
        with Workspace(job.files) as workspace:
            output = ""
            for command in job.commands:
                result = workspace.run(command)
                assert result.exit_status == 0, (command, result.output)
                output = result.output
            files = {path for path, entry in workspace.entries().items() if entry.kind == "file"}
            assert files == set(job.after) | ({job.script["path"]} if job.script else set())
            for path, text in job.after.items():
                assert _same_text(path, (workspace.read(path) or b"").decode(), text), path
            if name == "busiest":
                count, service = output.split()
                output = f"{service}/{count}"
            if job.answer:
                assert job.answer in (output.strip(), output.strip().removeprefix("./"))


def test_doing_nothing_never_pays():
    env = Shell()
    for seed, level in itertools.product(range(25), (1, 4, 6, 10)):
        for text in ("Done.", "answer: 0", ""):
            start(seed, level, env)
            assert env.step(text)[1] == 0.0
            assert env._workspace is None


def test_a_file_left_behind_fails_and_so_does_one_that_is_missing():
    for seed in range(6):
        env = start(seed, 3)
        run(env, "echo x > left-behind")
        assert follow(env) == 0.0
        env = start(seed, 3)
        path = next(iter(env.problem["files"]))
        run(env, f"rm '{path}'")
        assert follow(env) == 0.0
        env = start(seed, 3)
        run(env, f"ln -s /etc/passwd {path.split('/')[0]}/link")
        assert follow(env) == 0.0


def test_scratch_files_that_are_removed_and_the_way_there_do_not_count():
    for seed in range(4):
        env = start(seed, 4)
        run(env, "mkdir -p scratch/a; echo x > scratch/a/b; ls -la; rm -r scratch")
        assert follow(env) == 1.0


def test_the_tree_alone_counts_whatever_wrote_it():
    for seed in range(8):
        env = start(seed, 5)
        gone = set(env.problem["files"]) - set(env.problem["after"])
        if gone:
            run(env, "rm " + " ".join(f"'{path}'" for path in sorted(gone)))
        for path, text in env.problem["after"].items():
            if env.problem["files"].get(path) != text:
                env.step(render_call("write_file", {"path": path, "content": text + "\n"}))
        assert finish(env) == 1.0


def test_expected_values_are_nowhere_in_the_workspace():
    for seed in range(40):
        env = start(seed, 2)
        answers = [word for word in env.problem["answers"] if len(word) > 3 and "/" not in word]
        if answers:
            assert run(
                env, f"grep -rs -- '{answers[0]}' / --include='*' -l --exclude-dir=proc | head -n 1"
            ).count("/") == 0 or any(answers[0] in text for text in env.problem["files"].values())
            assert answers[0] not in run(env, "env; cat /proc/self/environ; ls -a /tmp .")
            return
    pytest.fail("no task with an answer was drawn")


def script_env(seed_limit=200):
    env = Shell(command_s=1.0)
    for seed in range(seed_limit):
        start(seed, 6, env)
        if env.problem["scripts"]:
            return env
    raise AssertionError("no script was asked for")


def test_a_script_is_run_on_hidden_files():
    env = script_env()
    assert follow(env) == 1.0
    env = script_env()
    path, cases = env.problem["scripts"][0]["path"], env.problem["scripts"][0]["cases"]
    for source in ("echo 7", f"echo {cases[0][2]}", "cat $1", "exit 0", "sleep 60", "cat /proc/self/environ"):
        script_env_again = script_env()
        script_env_again.step(render_call("write_file", {"path": path, "content": source}))
        assert script_env_again.step("Done.")[1] == 0.0
    seen = json.dumps(env.problem["request"])
    assert all(output not in seen for _, _, output in cases if len(output) > 3)


@pytest.mark.parametrize(
    "call",
    [
        ("read_file", {"path": "/etc/passwd"}),
        ("read_file", {"path": "../../etc/passwd"}),
        ("read_file", {"path": ""}),
        ("read_file", {"path": "\0"}),
        ("read_file", {"path": "nothing"}),
        ("read_file", {"path": ".", "offset": -1}),
        ("write_file", {"path": "/etc/passwd", "content": "x"}),
        ("write_file", {"path": "a/../../b", "content": "x"}),
        ("write_file", {"path": "a" * 4000, "content": "x"}),
        ("write_file", {"path": "x", "content": 7}),
        ("run", {"command": ["ls"]}),
        ("run", {"command": "x" * 5000}),
    ],
)
def test_bad_calls_are_told(call):
    env = start()
    messages, reward, done, _, _ = env.step(render_call(*call))
    assert messages[0]["content"].startswith("error") and reward == 0.0 and not done
    env.close()


def test_writing_through_what_a_command_put_there_is_told():
    env = start()
    run(env, "ln -s /tmp link; mkdir dir; mkfifo pipe")
    for path in ("link/x", "dir", "link"):
        text = env.step(render_call("write_file", {"path": path, "content": "x"}))[0][0]["content"]
        assert text.startswith("error") or text == "ok"
    assert not os.path.exists("/tmp/x") or os.path.getsize("/tmp/x") != 1
    assert env.step(render_call("read_file", {"path": "pipe"}))[0][0]["content"].startswith("error")
    env.close()


def test_output_is_capped_and_harmless():
    env = start(env=Shell(command_s=1.0))
    text = run(env, "yes '<|im_start|>' | head -c 100000; printf '\\033[2J\\000'")
    assert len(text) < 4000 and "<|" not in text and "\033" not in text
    assert "[exit status 3]" in run(env, "exit 3")
    assert "timeout" in run(env, "while :; do :; done")
    env.close()


def test_json_is_compared_as_values_and_text_by_lines():
    assert _same_text("a.json", '{"b": 1,\n "a": 2}', '{"a": 2, "b": 1}')
    assert not _same_text("a.json", '{"a": true}', '{"a": 1}')
    assert not _same_text("a.json", '{"a": 1.0}', '{"a": 1}')
    assert not _same_text("a.json", "[" * 100_000, "[]")
    assert not _same_text("a.json", '{"a": NaN}', '{"a": 1}')
    assert _same_text("a.txt", "x \ny\n\n", "x\ny\n") and not _same_text("a.txt", "y\nx", "x\ny")


def test_episodes_side_by_side_share_nothing():
    envs = [start(seed % 2, 2) for seed in range(4)]
    run(envs[2], "echo x > mine")
    assert "mine" not in run(envs[0], "ls")
    assert [follow(env) for env in envs] == [1.0, 1.0, 0.0, 1.0]


def test_an_episode_leaves_no_directory_behind():
    env = start(1)
    run(env, "echo x > y")
    workspace = env._workspace
    assert workspace is not None
    start(2, env=env)
    assert env._workspace is None and workspace._root == -1


def test_names_with_spaces_come_with_the_levels():
    names = [Draw(Random(seed), "f", 5, True).name() for seed in range(50)]
    assert any(" " in name for name in names) and all(
        set(name) <= set(" -" + "".join(WORDS)) for name in names
    )
    env = Shell()
    assert not any(" " in path for seed in range(10) for path in start(seed, 4, env).problem["files"])
