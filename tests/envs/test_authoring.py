"""Environments by decorator: a function, rows, a class; what goes wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rolloom.envs import registry
from rolloom.envs.authoring import ObjectEnv, environment
from rolloom.envs.base import as_reply
from rolloom.envs.errors import EnvError, EnvRegistrationError
from rolloom.envs.parsing import render_call
from rolloom.envs.types import Reply

HERE = Path(__file__).resolve().parent
FILE = HERE / "authored_envs.py"


@pytest.fixture(autouse=True)
def authored(monkeypatch: pytest.MonkeyPatch):
    """Register the environments of the file for one test."""
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    monkeypatch.delitem(sys.modules, "authored_envs", raising=False)
    registry.import_modules([str(FILE)])


def finish(env) -> float:
    score, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.expert("compact", env.np_random))
        score, over = score + reward, terminated or truncated
    return score


def test_a_function_becomes_an_environment():
    spec = registry.spec("authored/backwards-v0")
    assert (spec.kind, spec.description) == ("words", "Spell a word backwards.")
    env = registry.make("authored/backwards-v0")
    messages, info = env.reset(seed=3, options={"level": 5})
    assert [m["role"] for m in messages] == ["system", "user"]
    assert info["level"] == 5 and not env.asynchronous
    word = messages[1]["content"].split()[1]
    assert len(word) == 9
    assert env.step(f"<think>easy</think> {word[::-1]} ")[1] == 1.0
    env.reset(seed=3)
    assert env.step("no")[1] == 0.0
    with pytest.raises(EnvError, match="levels 1 to 5, got 6"):
        env.reset(options={"level": 6})


def test_parts_of_a_reward_are_weighed_and_reported():
    env = registry.make("authored/parts-v0")
    assert env.asynchronous
    env.reset(seed=0)
    _, reward, done, _, info = env.step("x234567890")
    assert done and reward == pytest.approx(0.75)
    assert info["components"] == {"said": 1.0, "short": 0.0, "length": 0.1}
    env.reset(seed=0)
    assert env.step("1234")[1] == pytest.approx(0.25 * 0.6)


def test_rows_are_split_by_their_hash_and_never_shared():
    env = registry.make("authored/rows-v0")
    asked: dict[str, set[str]] = {}
    for split in ("train", "heldout"):
        for seed in range(400):
            messages, _ = env.reset(seed=seed, options={"split": split})
            asked.setdefault(split, set()).add(messages[0]["content"])
    assert asked["train"].isdisjoint(asked["heldout"])
    assert len(asked["train"] | asked["heldout"]) > 200
    assert finish(env) == 1.0


def test_rows_of_files_with_a_split_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "authored_files.py").write_text(FILE.read_text())
    for name, count in (("train", 20), ("test", 7)):
        rows = [{"question": f"{name} {i}?", "reply": str(i)} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(registry, "_specs", {})
    registry.import_modules([str(tmp_path / "authored_files.py")])
    # The files are looked for beside the module, wherever the process runs.
    env = registry.make("authored/file-v0")
    for split, word in (("train", "train"), ("heldout", "test")):
        asked = {env.reset(seed=seed, options={"split": split})[0][0]["content"] for seed in range(200)}
        assert all(text.startswith(word) for text in asked)
        assert len(asked) == {"train": 20, "heldout": 7}[split]
        assert finish(env) == 1.0
    monkeypatch.delitem(sys.modules, "authored_files")


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path):
    with pytest.raises(EnvError, match=r"found none at 'train.jsonl'"):
        registry.make("authored/file-v0")
    (tmp_path / "a.jsonl").write_text('{"question": "1?"}\n')
    with pytest.raises(EnvError, match=r"names column 'q'; the data has question"):
        made = environment("authored/column-v0", data=str(tmp_path / "a.jsonl"), prompt="{q}")(_module_level)
        made().reset(seed=0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(EnvError, match=r"empty.jsonl"):
        environment("authored/empty-v0", data=str(tmp_path / "empty.jsonl"))(_module_level)()
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(EnvError, match=r"bad.jsonl: cannot be read as json"):
        environment("authored/bad-v0", data=str(tmp_path / "bad.jsonl"))(_module_level)()


def _module_level(turn, row):
    return 1.0


def test_a_class_becomes_an_environment_with_tools():
    env = registry.make("authored/shop-v0")
    assert isinstance(env, ObjectEnv)
    _, info = env.reset(seed=0)
    assert [tool.name for tool in info["tools"]] == ["price", "send", "fail"]
    assert env.asynchronous and env.max_turns == 5
    assert finish(env) == 1.0
    first = env.state
    env.reset(seed=1)
    assert env.state is not first and env.state.asked == []


def test_a_class_answers_in_words_and_pays_by_turn():
    env = registry.make("authored/talk-v0", greeting="Hi")
    messages, _ = env.reset(seed=0)
    assert messages[0]["content"].startswith("Hi ")
    assert env.step("a")[:3] == (({"role": "user", "content": "go on"},), 0.0, False)
    assert env.step("b")[:3] == (({"role": "user", "content": "and on"},), 0.25, False)
    assert env.step("c")[:3] == ((), 0.5, True)


@pytest.mark.parametrize("answer", [None, [1.0], ("a",), ("a", "b", "c"), object()])
def test_what_answers_no_turn_is_named(answer):
    with pytest.raises(EnvError, match="expected a Reply"):
        as_reply(answer)


def test_short_forms_of_an_answer():
    assert as_reply(True) == Reply(reward=1.0, done=True, components={"correct": 1.0})
    assert as_reply("more").messages[0]["content"] == "more"
    assert as_reply(Reply(reward=0.5)) == Reply(reward=0.5)


def test_a_reward_outside_its_range_is_the_environments_failure():
    recipe = environment("authored/range-v0")(_row)
    for wrong in (1.5, -0.1, float("nan"), "1", None):
        recipe.rewards = {"wrong": (lambda turn, row, value=wrong: value, 1.0)}
        env = recipe()
        env.reset(seed=0)
        with pytest.raises(EnvError, match="reward wrong"):
            env.step("x")


def _row(rng, level):
    return {"prompt": f"{rng.integers(10**6)}?", "answer": 1}


def test_mistakes_of_an_author_are_named():
    with pytest.raises(EnvRegistrationError, match=r"no such setting 'max_turn'.*Did you mean 'max_turns'"):
        environment("authored/x-v0", max_turn=3)
    with pytest.raises(EnvRegistrationError, match="namespace/name-v0"):
        environment("authored")(_row)

    def inner(rng, level):
        return {}

    with pytest.raises(EnvRegistrationError, match="at the top of its module"):
        environment("authored/y-v0")(inner)
    with pytest.raises(EnvRegistrationError, match="already registered"):
        environment("authored/shop-v0")(_row)
    recipe = environment("authored/z-v0")(_no_prompt)
    with pytest.raises(EnvError, match="expected a dict with a 'prompt'"):
        recipe().reset(seed=0)
    with pytest.raises(EnvRegistrationError, match="weight of at least 0"):
        recipe.reward(weight=-1)(_module_level)


def _no_prompt(rng, level):
    return {"question": "?"}


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path):
    (tmp_path / "falls.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(EnvRegistrationError, match=r"falls.py' cannot be imported: ModuleNotFoundError"):
        registry.import_modules([str(tmp_path / "falls.py")])
    with pytest.raises(EnvRegistrationError, match="no_module_of_that_name"):
        registry.import_modules(["no_module_of_that_name"])


SCRIPT = """
from rolloom.envs import registry
from rolloom.envs.authoring import environment

@environment("script/add-v0")
def add(rng, level):
    a = int(rng.integers(10**6))
    return {"prompt": f"{a} + 1 = ?", "answer": a + 1}

if __name__ == "__main__":
    import pickle, subprocess, sys
    spec = registry.spec("script/add-v0")
    child = (
        "import pickle, sys; from rolloom.envs import registry;"
        "spec = pickle.load(sys.stdin.buffer); registry.register_spec(spec);"
        "print(registry.make(spec.id).reset(seed=5)[0][0]['content'])"
    )
    command = [sys.executable, "-c", child]
    told = subprocess.run(command, input=pickle.dumps(spec), capture_output=True, cwd="/")
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout.decode().strip() == registry.make(spec.id).reset(seed=5)[0][0]["content"]
    print("same")
"""


def test_a_script_of_ones_own_reaches_another_process_by_name(tmp_path: Path):
    (tmp_path / "my_script.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, "my_script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "same", done.stderr


def test_tool_calls_of_a_class_reach_its_object():
    env = registry.make("authored/shop-v0")
    assert isinstance(env, ObjectEnv)
    env.reset(seed=0)
    messages, *_ = env.step(render_call("price", {"item": "apple"}) + render_call("price", {"item": "x"}))
    assert messages[0]["content"] == str(env.state.prices["apple"])
    assert messages[1]["content"].startswith("error: price failed: KeyError")
    assert env.state.asked == ["apple", "x"]
