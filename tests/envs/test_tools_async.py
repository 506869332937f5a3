"""Tools that wait: episodes wait side by side, the calls of a turn run in order, none holds up another."""

from __future__ import annotations

import asyncio
import time

import pytest

from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import ToolEnv, tool
from rolloom.envs.types import Message

LATENCY_S = 0.05


class Slow(ToolEnv):
    """Ask a slow oracle, then answer; counts who waits at once."""

    max_turns = 6
    waiting = most = 0

    def generate(self, rng, level):
        return {"secret": int(rng.integers(10**9))}

    def prompt(self):
        return (Message(role="user", content="What does the oracle say?"),)

    def begin(self):
        self.order: list[str] = []

    @tool
    async def oracle(self, seconds: float = LATENCY_S) -> int:
        """Say the secret, slowly."""
        Slow.waiting += 1
        Slow.most = max(Slow.most, Slow.waiting)
        try:
            await asyncio.sleep(seconds)
        finally:
            Slow.waiting -= 1
        self.order.append(f"oracle {seconds}")
        return self.problem["secret"]

    @tool
    async def grumpy(self) -> str:
        """Refuse after a while."""
        await asyncio.sleep(0)
        raise ToolError("not today")

    @tool
    def quick(self) -> str:
        """Answer at once."""
        self.order.append("quick")
        return "here"

    def answer(self, turn):
        return float(turn.content == str(self.problem["secret"]))


async def episode(seed: int, calls: int, seconds: float = LATENCY_S) -> float:
    env = Slow()
    await env.areset(seed=seed)
    for _ in range(calls):
        messages, *_ = await env.astep(render_call("oracle", {"seconds": seconds}))
    return (await env.astep(messages[0]["content"]))[1]


def test_episodes_wait_side_by_side():
    async def run() -> list[float]:
        return await asyncio.gather(*(episode(seed, calls=4) for seed in range(200)))

    Slow.most = 0
    start = time.perf_counter()
    assert asyncio.run(run()) == [1.0] * 200
    assert Slow.most > 20
    assert time.perf_counter() - start >= 4 * LATENCY_S


def test_a_slow_episode_holds_up_no_other():
    async def run() -> tuple[bool, float]:
        slow = asyncio.create_task(episode(0, calls=1, seconds=30.0))
        await asyncio.sleep(0)
        reward = await asyncio.wait_for(episode(1, calls=2, seconds=0.01), timeout=5)
        waits = not slow.done()
        slow.cancel()
        return waits, reward

    assert asyncio.run(run()) == (True, 1.0)


def test_the_calls_of_a_turn_run_and_are_answered_in_order():
    env = Slow()
    env.reset(seed=0)
    names = ("oracle", "grumpy", "quick", "nothing", "oracle")
    arguments = ({"seconds": 0.02}, {}, {}, {}, {"seconds": 0.0})
    messages, *_ = env.step("".join(map(render_call, names, arguments)))
    secret = str(env.problem["secret"])
    contents = [message["content"] for message in messages]
    assert contents[:3] == [secret, "error: not today", "here"] and contents[4] == secret
    assert contents[3].startswith("error: unknown tool nothing")
    assert env.order == ["oracle 0.02", "quick", "oracle 0.0"]


def test_synchronous_callers_wait_too():
    env = Slow()
    assert env.asynchronous
    env.reset(seed=3)
    start = time.perf_counter()
    messages, *_ = env.step(render_call("oracle", {}))
    assert time.perf_counter() - start >= LATENCY_S
    assert env.step(messages[0]["content"])[1] == 1.0


@pytest.mark.parametrize("seconds", ["1", None, True])
def test_bad_arguments_of_a_tool_that_waits_are_told(seconds):
    env = Slow()
    env.reset(seed=0)
    (message,), *_ = env.step(render_call("oracle", {"seconds": seconds}))
    assert message["content"].startswith("error: seconds")
