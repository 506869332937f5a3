"""MCP: no server outlives its user, however that ends, and one server is enough for many episodes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcp_notes import SERVER, Handmade, alive, call, children, gone, made

from rolloom.envs.errors import EnvError
from rolloom.envs.tools.mcp_stockroom import McpStockroom


@pytest.mark.slow
def test_a_server_that_neither_answers_nor_ends_is_given_up_and_killed():
    with made(args=(SERVER, "stubborn"), start_timeout_s=0.5) as env:
        with pytest.raises(EnvError, match=r"no answer within 0\.5 s"):
            env.reset(seed=0)
        started = children(os.getpid())
        assert gone(*started, within=8.0)


@pytest.mark.slow
def test_giving_up_while_a_server_starts_leaves_none():
    async def impatient() -> None:
        with made(args=(SERVER, "stubborn")) as env, pytest.raises(TimeoutError):
            await asyncio.wait_for(env.areset(seed=0), 0.3)

    before = children(os.getpid())
    asyncio.run(impatient())
    assert gone(*children(os.getpid()) - before, within=8.0)


def test_closing_leaves_no_process_not_even_a_child_of_the_server():
    with made() as env:
        env.reset(seed=0)
        pids = [int(call(env, "pid")), int(call(env, "spawn"))]
        assert all(map(alive, pids))
        env.close()
        assert gone(*pids, within=10.0)
        env.close()


WORKER = """
import sys, time
sys.path.insert(0, {folder!r})
from mcp_notes import Notes, call
env = Notes()
env.reset(seed=0)
print(call(env, "pid"), call(env, "spawn"), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_worker_leaves_no_server(number):
    code = WORKER.format(folder=str(Path(__file__).parent))
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        pids = [int(word) for word in worker.stdout.readline().split()]
        assert len(pids) == 2 and all(map(alive, pids))
        launchers = children(worker.pid)
        worker.send_signal(number)
        worker.wait(5)
        assert gone(*pids, *launchers)
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_a_worker_that_ends_leaves_no_server_and_ends_at_once():
    code = WORKER.format(folder=str(Path(__file__).parent)).replace("time.sleep(600)", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert gone(*map(int, done.stdout.split()), within=10.0)


def test_a_fork_does_not_close_its_parents_server():
    with made() as env:
        env.reset(seed=0)
        pid = int(call(env, "pid"))
        child = os.fork()
        if child == 0:
            env._lease.end(0.0)
            os._exit(0)
        os.waitpid(child, 0)
        assert call(env, "count") == "1" and alive(pid)


def test_episodes_side_by_side_share_one_server_and_nothing_else():
    async def episode(seed: int) -> float:
        env = McpStockroom()
        await env.areset(seed=seed, options={"level": 3 + seed % 6})
        rng = np.random.default_rng(seed)
        while True:
            _, reward, over, truncated, _ = await env.astep(env.expert("compact", rng))
            if over or truncated:
                return reward

    async def all_at_once() -> list[float]:
        return await asyncio.gather(*(episode(seed) for seed in range(40)))

    before = children(os.getpid())
    assert asyncio.run(all_at_once()) == [1.0] * 40
    assert len(children(os.getpid()) - before) <= 1


@pytest.mark.slow
def test_a_hundred_sessions_leave_no_process_and_no_open_file():
    def count() -> tuple[int, int]:
        return len(children(os.getpid())), len(os.listdir("/proc/self/fd"))

    with made(Handmade, session="episode") as env:
        before = None
        for seed in range(100):
            env.reset(seed=seed)
            assert call(env, "double", n=seed % 9).startswith(str(2 * (seed % 9)))
            if seed == 3:
                before = count()
        assert before is not None
        # Endings overlap with the next start: two servers may still be on their way out.
        assert count()[0] <= before[0] + 2 and count()[1] <= before[1] + 20
        pids = children(os.getpid())
        env.close()
    assert gone(*pids)


def test_a_hundred_episodes_need_one_server():
    with made(McpStockroom) as env:
        env.reset(seed=0)
        env.step(env.gold())
        before = children(os.getpid())
        for seed in range(100):
            env.reset(seed=seed)
            total, over = 0.0, False
            while not over:
                _, reward, over, *_ = env.step(env.gold())
                total += reward
            assert total == 1.0
        assert children(os.getpid()) == before
