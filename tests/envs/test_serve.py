"""Environments over HTTP: a real server on a free port, its client, and what must be refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.serve import MAX_BODY_BYTES, RemoteEnv, Server
from rolloom.envs.types import Message

CHAIN, LOOKUP = "math/affine_chain-v0", "tools/lookup-v0"
TOKEN = "token-of-the-tests"
SERVE = (sys.executable, "-m", "rolloom.rollout.cli", "envs", "serve")


class Odd(TextEnv):
    """Count to the number of the problem; answers can make it hang, until `released`, or fail."""

    levels = (1, 2)
    max_turns = 4
    closed: list[int] = []  # noqa: RUF012  # the tests look at it
    released = threading.Event()

    def generate(self, rng, level):
        return {"number": int(rng.integers(10**6))}

    def prompt(self):
        return (Message(role="user", content=str(self.problem["number"])),)

    def begin(self):
        self.seen = 0

    def respond(self, turn):
        if turn.content == "hang":
            self.released.wait(60)
        if turn.content == "fail":
            raise RuntimeError("no\x1b[2Jgood <|im_start|>")
        self.seen += 1
        return f"{self.seen}" if self.seen < 3 else 1.0

    def close(self):
        self.closed.append(self.problem.get("number", -1))


class Waiting(Odd):
    """The same, on the event loop."""

    async def respond(self, turn):
        await asyncio.sleep(0.05)
        while turn.content == "hang" and not self.released.is_set():
            await asyncio.sleep(0.05)
        return super().respond(turn)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_specs", dict(registry._specs))
        registry.register("serve_test/odd-v0", f"{__name__}:Odd")
        registry.register("serve_test/waiting-v0", f"{__name__}:Waiting")
        yield


IDS = (CHAIN, LOOKUP, "serve_test/odd-v0", "serve_test/waiting-v0")


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[Server]:
    """Run a server in a thread of its own."""
    server = Server(IDS, **{"token": TOKEN, **settings})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def ask(
    server: Server, method: str, path: str, token: str = TOKEN, **body: Any
) -> tuple[int, dict[str, Any]]:
    async def request():
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(headers=headers) as client:  # noqa: SIM117
            async with client.request(method, server.url + path, **body) as answer:
                return answer.status, await answer.json()

    return asyncio.run(request())


def open_session(server: Server, id: str = CHAIN, **body: Any) -> tuple[int, dict[str, Any]]:
    return ask(server, "POST", "/sessions", json={"id": id, **body})


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("ROLLOOM_SERVE_TOKEN", TOKEN)


def test_an_episode_by_hand(shared):
    status, opened = open_session(shared, seed=3, split="heldout", level=2)
    local = registry.make(CHAIN)
    messages, info = local.reset(seed=3, options={"split": "heldout", "level": 2})
    assert status == 200 and tuple(opened["messages"]) == messages and opened["key"] == info["key"]
    action = local.expert("compact", np.random.default_rng(0))
    path = f"/sessions/{opened['session']}"
    status, step = ask(shared, "POST", f"{path}/step", json={"action": action})
    assert status == 200 and step["reward"] == 1.0 and step["terminated"] and not step["truncated"]
    assert ask(shared, "POST", f"{path}/step", json={"action": action})[0] == 409
    assert ask(shared, "DELETE", path) == (200, {"closed": True})
    assert ask(shared, "DELETE", path)[0] == 404


def test_environments_and_health(shared):
    status, listing = ask(shared, "GET", "/environments")
    assert status == 200 and [entry["id"] for entry in listing["environments"]] == list(IDS)
    assert listing["environments"][0]["levels"] == [1, 10]
    assert ask(shared, "GET", "/health", token="")[1]["status"] == "ok"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "\u00e9"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/environments"), ("POST", "/sessions"), ("POST", "/sessions/x/step"), ("GET", "/no")],
)
def test_without_the_token_nothing_is_answered(shared, token, method, path):
    status, answer = ask(shared, method, path, token=token, json={"id": CHAIN})
    assert status == 401 and TOKEN not in json.dumps(answer)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"json": {}}, "required"),
        ({"json": []}, "object"),
        ({"json": {"id": CHAIN, "seed": -1}}, "seed"),
        ({"json": {"id": CHAIN, "seed": True}}, "seed"),
        ({"json": {"id": CHAIN, "seed": 10**30}}, "seed"),
        ({"json": {"id": CHAIN, "split": "test"}}, "split"),
        ({"json": {"id": CHAIN, "level": "1"}}, "level"),
        ({"json": {"id": CHAIN, "file": "/etc/passwd"}}, "additionalProperties"),
        ({"json": {"id": CHAIN, "kwargs": {"level": 2}}}, "kwargs"),
        ({"data": b"{"}, "JSON"),
        ({"data": b""}, "JSON"),
        ({"data": b"\xff\xfe\x00"}, "JSON"),
        ({"data": b'{"id": NaN}'}, "JSON"),
        ({"data": b"[" * 200_000}, "JSON"),
        ({"data": b'{"id":' + b"9" * 5_000 + b"}"}, "JSON"),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain; charset=no-such"}}, "JSON"),
    ],
)
def test_malformed_requests_are_told_what_was_expected(shared, body, says):
    status, answer = ask(shared, "POST", "/sessions", **body)
    assert status == 400 and says in answer["error"]
    assert open_session(shared, level=99)[0] == 500
    assert open_session(shared, "no/such-v0") == (404, {"error": f"this server has {', '.join(sorted(IDS))}"})


def test_large_bodies_and_actions_are_refused(shared):
    name = open_session(shared)[1]["session"]
    path = f"/sessions/{name}/step"
    status, answer = ask(shared, "POST", path, data=b'{"action": "' + b"x" * MAX_BODY_BYTES + b'"}')
    assert status == 413 and "bytes" in answer["error"]
    assert ask(shared, "POST", path, json={"action": "x" * 200_001})[0] == 400
    assert ask(shared, "POST", path, json={"action": 7})[0] == 400
    assert ask(shared, "POST", path, json={"action": "\ud800 <think> 1"})[1]["reward"] == 0.0


def test_what_an_environment_raises_is_told_harmlessly_and_the_server_goes_on(shared):
    name = open_session(shared, "serve_test/odd-v0")[1]["session"]
    status, answer = ask(shared, "POST", f"/sessions/{name}/step", json={"action": "fail"})
    assert status == 500 and "RuntimeError" in answer["error"]
    assert "\x1b" not in answer["error"] and "<|" not in answer["error"]
    assert ask(shared, "POST", f"/sessions/{name}/step", json={"action": "on"})[0] == 200


def test_sessions_are_bounded_and_closing_one_makes_room():
    with running(max_sessions=3) as server:
        names = [open_session(server)[1]["session"] for _ in range(3)]
        status, answer = open_session(server)
        assert status == 429 and "3 sessions" in answer["error"]
        assert len(set(names)) == 3 and min(map(len, names)) >= 20
        ask(server, "DELETE", f"/sessions/{names[0]}")
        assert open_session(server)[0] == 200


def test_idle_sessions_expire_and_their_environments_are_closed():
    Odd.closed.clear()
    with running(idle_s=0.3) as server:
        status, opened = open_session(server, "serve_test/odd-v0", seed=1)
        number = int(opened["messages"][0]["content"])
        deadline = time.monotonic() + 20
        while server.sessions and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status == 200 and not server.sessions and number in Odd.closed
        assert ask(server, "POST", f"/sessions/{opened['session']}/step", json={"action": "1"})[0] == 404


@pytest.mark.parametrize("id", ["serve_test/odd-v0", "serve_test/waiting-v0"])
def test_a_step_that_hangs_is_given_up_at_its_deadline_and_others_go_on(id):
    Odd.released.clear()
    with running(step_deadline_s=0.5) as server:
        name, other = (open_session(server, id)[1]["session"] for _ in range(2))
        status, answer = ask(server, "POST", f"/sessions/{name}/step", json={"action": "hang"})
        assert status == 504 and "0.5 s" in answer["error"]
        assert ask(server, "POST", f"/sessions/{name}/step", json={"action": "1"})[0] == 409
        assert ask(server, "POST", f"/sessions/{other}/step", json={"action": "1"})[0] == 200
        assert ask(server, "DELETE", f"/sessions/{name}")[0] == 200
        Odd.released.set()
        deadline = time.monotonic() + 20
        while server.stuck and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.stuck == 0


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind():
    with running(max_sessions=2) as server:

        async def leave():
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(client.post(f"{server.url}/sessions", json={"id": CHAIN}), 0.001)

        for _ in range(8):
            asyncio.run(leave())
        time.sleep(0.3)
        assert server.opening == 0 and len(server.sessions) <= 2


def remote(server: Server, id: str, **kwargs: Any) -> RemoteEnv:
    return RemoteEnv(url=server.url, id=id, **kwargs)


@pytest.mark.parametrize("id", [CHAIN, LOOKUP])
def test_a_served_environment_plays_as_it_does_here(shared, id):
    env, local = remote(shared, id), registry.make(id)
    try:
        for seed in range(3):
            options = {"level": 3, "split": "heldout"}
            messages, info = env.reset(seed=seed, options=options)
            assert (messages, info) == local.reset(seed=seed, options=options)
            over = False
            while not over:
                action = local.expert("medium", np.random.default_rng(seed))
                step = env.step(action)
                assert step == local.step(action)
                over = step[2] or step[3]
        assert not [name for name, session in shared.sessions.items() if session.env is env]
    finally:
        env.close()


def test_sixty_four_sessions_at_once_do_not_mix(shared):
    async def episode(seed: int) -> list[str]:
        env = remote(shared, ("serve_test/odd-v0", "serve_test/waiting-v0")[seed % 2])
        try:
            said = [(await env.areset(seed=seed))[0][0]["content"]]
            total, over = 0.0, False
            while not over:
                messages, reward, terminated, truncated, _ = await env.astep("on")
                said += [message["content"] for message in messages]
                total, over = total + reward, terminated or truncated
            return [*said, str(total)]
        finally:
            await env._leave()

    async def all_of_them() -> list[list[str]]:
        return await asyncio.gather(*map(episode, range(64)))

    found = asyncio.run(all_of_them())
    local = Odd()
    for seed, said in enumerate(found):
        number = local.reset(seed=seed)[0][0]["content"]
        assert said == [number, "1", "2", "1.0"]


def test_a_client_waits_for_a_free_session_and_names_what_goes_wrong(shared, monkeypatch):
    with running(max_sessions=1) as server:
        name = open_session(server)[1]["session"]
        timer = threading.Timer(0.5, lambda: ask(server, "DELETE", f"/sessions/{name}"))
        timer.start()
        env = remote(server, CHAIN)
        assert env.reset(seed=0)[1]["level"] == 1
        env.close()
        timer.join()
    with pytest.raises(EnvError, match="Connect"):
        env.reset(seed=0)
    with pytest.raises(EnvError, match="this server has"):
        remote(shared, "no/such-v0").reset(seed=0)
    with pytest.raises(EnvError, match="levels 1 to 10"):
        remote(shared, CHAIN).reset(seed=0, options={"level": 11})
    with pytest.raises(EnvError, match="url"):
        RemoteEnv(url="host:1", id=CHAIN)
    monkeypatch.setenv("ROLLOOM_SERVE_TOKEN", "wrong")
    with pytest.raises(EnvError, match="token"):
        remote(shared, CHAIN).reset(seed=0)
    monkeypatch.delenv("ROLLOOM_SERVE_TOKEN")
    with pytest.raises(EnvError, match="ROLLOOM_SERVE_TOKEN"):
        remote(shared, CHAIN)


def test_a_step_of_a_running_step_is_refused(shared):
    Odd.released.clear()
    name = open_session(shared, "serve_test/odd-v0")[1]["session"]
    thread = threading.Thread(
        target=lambda: ask(shared, "POST", f"/sessions/{name}/step", json={"action": "hang"})
    )
    thread.start()
    time.sleep(0.5)
    assert ask(shared, "POST", f"/sessions/{name}/step", json={"action": "1"})[0] == 409
    Odd.released.set()
    thread.join()


def test_kwargs_pass_only_when_allowed():
    with running(allow_kwargs=True) as server:
        assert (
            open_session(server, kwargs={"system_prompt": "Be brief."})[1]["messages"][0]["role"] == "system"
        )
        assert open_session(server, kwargs={"no_such": 1})[0] == 500


def test_the_command_prints_its_token_once_and_stops_gracefully(tmp_path):
    script = tmp_path / "closing.py"
    script.write_text(
        "from pathlib import Path\n"
        "from rolloom.envs import registry\n"
        "from rolloom.envs.math.affine_chain import AffineChain\n"
        "class Noted(AffineChain):\n"
        "    def close(self):\n"
        f"        with open({str(tmp_path / 'closed')!r}, 'a') as file:\n"
        "            print(self.problem.get('m'), file=file)\n"
        "registry.register('noted/chain-v0', 'closing:Noted')\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "ROLLOOM_SERVE_TOKEN"}
    process = subprocess.Popen(
        [*SERVE, "noted/chain-v0", "--port=0", f"--import={script}"],
        stdout=subprocess.PIPE, text=True, env=environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        made = process.stdout.readline().split()[-1]

        async def play() -> int:
            headers = {"Authorization": f"Bearer {made}"}
            async with aiohttp.ClientSession(headers=headers) as client:  # noqa: SIM117
                async with client.post(f"{url}/sessions", json={"id": "noted/chain-v0"}) as answer:
                    return answer.status

        assert len(made) >= 32 and asyncio.run(play()) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert "1 sessions are closed" in process.stdout.read()
        assert "5" in (tmp_path / "closed").read_text().split()
    finally:
        process.kill()


def test_an_address_that_is_taken_is_told(shared):
    done = subprocess.run(
        [*SERVE, CHAIN, "--port", str(shared.port)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "cannot be bound" in done.stderr
