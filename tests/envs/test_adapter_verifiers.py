"""verifiers environments: a real taskset of the installed generation, and 0.1.14 in its own interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rolloom.envs import registry
from rolloom.envs.adapters.verifiers_env import VerifiersTaskset
from rolloom.envs.errors import EnvError

vf = pytest.importorskip("verifiers.v1")

ROOT = Path(__file__).resolve().parents[2]
OLD = os.environ.get("ROLLOOM_VERIFIERS_PYTHON") or str(ROOT / ".venv-peers/bin/python")
"""Interpreter with verifiers 0.1.14, whose pins are not ours."""


class WordData(vf.TaskData):
    answer: str


class WordTask(vf.Task[WordData, vf.State, vf.TaskConfig]):
    async def setup(self, trace, runtime):
        trace.info["seen"] = 1

    @vf.reward(weight=0.75)
    async def right(self, trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.25)
    async def short(self, task, trace) -> float:
        return float(len(trace.last_reply) <= len(task.answer) and trace.info["seen"] == 1)

    @vf.metric
    async def letters(self, trace) -> float:
        return float(len(trace.last_reply))


class Words(vf.Taskset[WordTask, vf.TasksetConfig]):
    def load(self):
        for number in range(60):
            word = f"w{number * 7919 % 1_000}"
            data = WordData(prompt=f"Spell {word} backwards.", system_prompt="Be brief.", answer=word[::-1])
            yield WordTask(data, self.config.task)


class Broken(vf.Task[WordData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def fails(self, trace) -> float:
        raise KeyError("lost")


class BrokenWords(Words):
    def load(self):
        return [Broken(task.data) for task in super().load()]


class Boxed(Words):
    def load(self):
        return [ContainerTask(task.data) for task in super().load()]


class ContainerTask(WordTask):
    NEEDS_CONTAINER = True


def words(kind: type = Words):
    return kind(vf.TasksetConfig())


def broken():
    return words(BrokenWords)


def boxed():
    return words(Boxed)


def test_a_taskset_end_to_end(monkeypatch):
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    registry.register(
        "verifiers_test/words-v0",
        "rolloom.envs.adapters.verifiers_env:VerifiersTaskset",
        taskset=f"{__name__}:words",
    )
    env = registry.make("verifiers_test/words-v0")
    messages, info = env.reset(seed=1)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert (messages, info) == env.reset(seed=1)
    _, reward, terminated, _, step = env.step(f"<think>\nturn it</think>\n{env.gold()}")
    assert reward == 1.0 and terminated and step["components"]["letters"] == len(env.gold())
    for text, expected in [("x", 0.25), ("", 0.25), ("far too long an answer", 0.0), ("<think>\n", 0.0)]:
        env.reset(seed=1)
        assert env.step(text)[1] == expected


def test_tasks_are_divided_into_splits():
    env = VerifiersTaskset(taskset=f"{__name__}:words")
    keys = {
        split: {env.reset(seed=seed, options={"split": split})[1]["key"] for seed in range(400)}
        for split in ("train", "heldout")
    }
    assert not keys["train"] & keys["heldout"] and sum(map(len, keys.values())) == 60
    assert (
        sum(map(len, VerifiersTaskset(taskset=f"{__name__}:words", limit=20)._rows.by_split.values())) == 20
    )


def test_what_a_taskset_gets_wrong_is_the_environments_failure():
    env = VerifiersTaskset(taskset=f"{__name__}:broken")
    env.reset(seed=0)
    with pytest.raises(EnvError, match="Broken"):
        env.step("x")
    with pytest.raises(EnvError, match="container"):
        VerifiersTaskset(taskset=f"{__name__}:boxed")
    with pytest.raises(EnvError, match="taskset"):
        VerifiersTaskset()
    env = VerifiersTaskset(taskset=f"{__name__}:words", high=0.5)
    env.reset(seed=0)
    with pytest.raises(EnvError, match="low and high"):
        env.step(env.gold())


OLD_ENVIRONMENTS = textwrap.dedent(
    """
    import verifiers as vf
    from datasets import Dataset

    ROWS = [{"question": f"Spell w{n} backwards.", "answer": f"w{n}"[::-1]} for n in range(40)]

    def right(completion, answer, **kwargs):
        return float((completion[-1]["content"] or "").strip() == answer)

    async def tools_used(completion, **kwargs):
        return float(any(message["role"] == "tool" for message in completion))

    def single():
        rubric = vf.Rubric(funcs=[right])
        return vf.SingleTurnEnv(dataset=Dataset.from_list(ROWS), rubric=rubric, system_prompt="Brief.")

    class Twice(vf.MultiTurnEnv):
        async def env_response(self, messages, state, **kwargs):
            return [{"role": "user", "content": "Are you sure? <|im_end|>"}]

    def twice():
        return Twice(dataset=Dataset.from_list(ROWS), rubric=vf.Rubric(funcs=[right]), max_turns=2)

    async def reverse(text: str) -> str:
        '''Reverse a text.'''
        return text[::-1]

    def tools():
        rubric = vf.Rubric(funcs=[right, tools_used], weights=[0.5, 0.5])
        return vf.ToolEnv(dataset=Dataset.from_list(ROWS), rubric=rubric, tools=[reverse], max_turns=4)
    """
)
OLD_EPISODES = textwrap.dedent(
    """
    import asyncio
    from rolloom.envs.adapters.verifiers_env import VerifiersEnv
    from rolloom.envs.errors import EnvError
    from rolloom.envs.parsing import render_call

    env = VerifiersEnv(env_id="old_environments:single")
    messages, info = env.reset(seed=1)
    assert [m["role"] for m in messages] == ["system", "user"], messages
    assert env.step(env.gold())[1:3] == (1.0, True)
    env.reset(seed=1)
    assert env.step("no")[1] == 0.0
    env.reset(seed=1)
    assert env.step("<think>")[1] == 0.0

    env = VerifiersEnv(env_id="old_environments:twice")
    assert env.max_turns == 2
    env.reset(seed=2)
    messages, reward, over, *_ = env.step("first")
    assert messages[0]["role"] == "user" and "sure" in messages[0]["content"]
    assert "<|" not in messages[0]["content"]
    assert not over and env.step(env.problem["answer"])[1:3] == (1.0, True)
    env.reset(seed=2)
    env.step("first")
    env.reset(seed=3)  # in the middle of a rollout
    env.close()

    env = VerifiersEnv(env_id="old_environments:tools")
    messages, info = env.reset(seed=3)
    assert info["tools"][0].name == "reverse", info
    word = env.problem["answer"][::-1]
    messages, *_ = env.step(render_call("reverse", {"text": word}))
    assert messages[0] == {"role": "tool", "content": env.problem["answer"]}, messages
    _, reward, over, _, step = env.step(env.problem["answer"])
    assert reward == 1.0 and over and step["components"]["tools_used"] == 1.0, step

    async def episode(seed):
        env = VerifiersEnv(env_id="old_environments:twice")
        await env.areset(seed=seed)
        await env.astep("first")
        return (await env.astep(env.problem["answer"]))[1]

    async def all_of_them():
        return await asyncio.gather(*map(episode, range(16)))

    assert asyncio.run(all_of_them()) == [1.0] * 16
    print("held")
    """
)


@pytest.mark.slow
@pytest.mark.skipif(not Path(OLD).exists(), reason="needs an interpreter with verifiers 0.1.14")
def test_environments_of_the_old_generation_end_to_end(tmp_path):
    (tmp_path / "old_environments.py").write_text(OLD_ENVIRONMENTS)
    # Theirs first, ours behind: the two generations of verifiers cannot share an interpreter.
    ours = [path for path in sys.path if path.endswith("site-packages")]
    script = f"import sys\nsys.path += {ours!r}\n{OLD_EPISODES}"
    done = subprocess.run(
        [OLD, "-c", script], capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("held\n"), done.stderr[-3_000:]
