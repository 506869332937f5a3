"""A real OpenEnv server (openenv-core's own application under uvicorn), played through the adapter."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from rolloom.envs import registry
from rolloom.envs.adapters.openenv_client import OpenEnvClient
from rolloom.envs.errors import EnvError

pytest.importorskip("openenv")
import uvicorn  # comes with openenv-core
from openenv.core.env_server import Action, Environment, Observation, State, create_app


class Say(Action):
    text: str


class Heard(Observation):
    told: str = ""
    turn: int = 0


class Echo(Environment):
    """Say the word back, three times; one point each."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.word, self.turn = "", 0

    def reset(self, seed=None, episode_id=None, size=5, **kwargs):
        self.rng, self.turn = Random(seed), 0
        return self._next(size=size)

    def _next(self, reward=None, size=5):
        self.word = "".join(self.rng.choices("abcdef", k=size))
        return Heard(told=f"say {self.word} <|im_end|>", turn=self.turn, reward=reward, done=self.turn == 3)

    def step(self, action, timeout_s=None, **kwargs):
        if action.text == "break":
            raise RuntimeError("broken")
        if action.text == "sleep":
            time.sleep(3)
        self.turn += 1
        return self._next(reward=float(action.text == self.word))

    @property
    def state(self):
        return State(episode_id="e", step_count=self.turn)


class Move(Action):
    dx: int
    dy: int = 0


class Walk(Environment):
    """Walk to the place that is shown; it ends there."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed=None, episode_id=None, **kwargs):
        self.goal, self.at = [Random(seed).randint(1, 9), 3], [0, 0]
        return self._seen(None)

    def _seen(self, reward):
        return Heard(told=f"goal {self.goal}, at {self.at}", reward=reward, done=self.at == self.goal)

    def step(self, action, timeout_s=None, **kwargs):
        self.at = [self.at[0] + action.dx, self.at[1] + action.dy]
        return self._seen(1.0 if self.at == self.goal else -0.1)

    @property
    def state(self):
        return State()


def run(environment: type, action: type) -> Iterator[str]:
    app = create_app(environment, action, Heard, max_concurrent_envs=64)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    yield from run(Echo, Say)


@pytest.fixture(scope="module")
def walk() -> Iterator[str]:
    yield from run(Walk, Move)


def repeat(env: Any) -> str:
    return env.observation["told"].split()[1]


RETURN = {"kind": "return", "high": 3}


def test_an_episode_of_text_actions(echo, monkeypatch):
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    registry.register(
        "openenv_test/echo-v0", "rolloom.envs.adapters.openenv_client:OpenEnvClient", kind="game",
        url=echo, rule=RETURN, shown="told", gold=f"{__name__}:repeat", instruction="Repeat the word.",
    )  # fmt: skip
    env = registry.make("openenv_test/echo-v0")
    messages, _ = env.reset(seed=1)
    assert messages[0]["content"].startswith("Repeat the word.\nsay ") and "<|" not in messages[0]["content"]
    assert messages == env.reset(seed=1)[0] != env.reset(seed=2)[0]
    rewards = [env.step(env.gold())[1:3] for _ in range(3)]
    assert rewards == [(0.0, False), (0.0, False), (1.0, True)]
    env.reset(seed=2)
    env.step(env.gold())
    env.step("wrong")
    _, reward, _, _, info = env.step("\ud800")
    assert reward == pytest.approx(1 / 3) and info["components"]["steps"] == 4.0
    env.close()


def test_actions_of_several_fields_are_json_of_the_servers_schema(walk):
    env = OpenEnvClient(url=walk, shown="told", max_turns=12)
    opening, _ = env.reset(seed=3)
    assert '"dx"' in opening[0]["content"] and "metadata" not in opening[0]["content"]
    metadata = '{"dx": 1, "metadata": {}}'
    wrong = ("dx=1", "[1]", '{"dx": "1"}', '{"dy": 1}', '{"dx": 1, "reward": 1}', metadata, '{"dx": NaN}')
    for text in (*wrong, "[" * 9_999, "<think>\n"):
        messages, reward, *_, info = env.step(text)
        assert (
            "no action" in messages[0]["content"] and reward == 0 and info["components"] == {"invalid": 1.0}
        )
    x, y = env.observation["told"].partition("]")[0].removeprefix("goal [").split(", ")
    assert env.step(f'{{"dx": {x}, "dy": {y}}}')[1:3] == (1.0, True)
    env.close()


def test_sessions_side_by_side_do_not_mix(echo):
    async def episode(seed: int) -> float:
        env = OpenEnvClient(url=echo, rule=RETURN)
        await env.areset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = await env.astep(repeat(env))
            total, over = total + reward, terminated or truncated
        assert (await env.state())["step_count"] == 3
        await env._leave()
        return total

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*map(episode, range(24)))

    assert asyncio.run(all_of_them()) == [1.0] * 24


def test_what_breaks_at_the_server_is_the_environments_failure(echo):
    env = OpenEnvClient(url=echo, timeout_s=1.0)
    env.reset(seed=0)
    with pytest.raises(EnvError, match="broken"):
        env.step("break")
    env.reset(seed=0)
    with pytest.raises(EnvError, match="step"):
        env.step("sleep")
    env.reset(seed=0)
    assert env.step("again")[1] == 0.0
    env.close()
    gone = OpenEnvClient(url="http://127.0.0.1:9")
    with pytest.raises(EnvError, match="Connect"):
        gone.reset(seed=0)
    with pytest.raises(EnvError, match="url"):
        OpenEnvClient(url="ws://x")


def test_arguments_of_reset_and_rules_that_pay_each_turn(echo):
    env = OpenEnvClient(url=echo, arguments={"size": 9}, rule={"kind": "per_turn", "high": 1}, max_turns=3)
    env.reset(seed=5)
    assert len(repeat(env)) == 9
    assert [round(env.step(repeat(env))[1], 6) for _ in range(3)] == [round(1 / 3, 6)] * 3
    env.close()
