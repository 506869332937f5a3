"""An environment over `mcp_test_server.py`, and what the tests of MCP use to look at processes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rolloom.envs.adapters.mcp import McpEnv
from rolloom.envs.parsing import render_call

SERVER = str(Path(__file__).with_name("mcp_test_server.py"))


class Notes(McpEnv):
    command, args = sys.executable, (SERVER, "stdio")
    hidden, max_turns = ("wipe",), 20

    def generate(self, rng, level):
        return {"title": f"note {rng.integers(10**6)}", "text": str(rng.integers(10**9))}

    async def setup(self):
        await self.call("write", **self.problem)

    def prompt(self):
        return ({"role": "user", "content": f"What does {self.problem['title']} say? Digits only."},)

    def answer(self, turn):
        return float(turn.content == self.problem["text"])


HANDMADE = r"""
import json, sys
tool = {"name": "double", "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {
        "initialize": {
            "protocolVersion": "2024-11-05",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "handmade", "version": "1"},
        },
        "tools/list": {"tools": [tool] if asked.get("params", {}).get("cursor") else [], "nextCursor": "2"},
    }.get(asked["method"])
    if asked["method"] == "tools/list" and asked.get("params", {}).get("cursor"):
        del result["nextCursor"]
    if asked["method"] == "tools/call":
        n = asked["params"]["arguments"]["n"]
        image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
        result = {"content": [{"type": "text", "text": str(2 * n)}, image, {"type": "text", "text": "end"}]}
        if n > 9:
            result = None
    error = {"code": -32602 if asked["method"] == "tools/call" else -32601, "message": "not that"}
    answer = {"result": result} if result is not None else {"error": error}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}), flush=True)
"""
"""A server of the first protocol, in plain Python: it starts in a fraction of the time that the SDK takes."""


class Handmade(McpEnv):
    """Doubles numbers."""

    command, args = sys.executable, ("-S", "-c", HANDMADE)

    def generate(self, rng, level):
        return {"n": int(rng.integers(10**9))}

    def prompt(self):
        return ({"role": "user", "content": f"Double {self.problem['n']}."},)

    def answer(self, turn):
        return float(turn.content == str(2 * self.problem["n"]))


@contextlib.contextmanager
def made(cls: type[McpEnv] = Notes, **kwargs: Any) -> Iterator[McpEnv]:
    env = cls(**kwargs)
    try:
        yield env
    finally:
        env.close()


def call(env: McpEnv, name: str, /, **arguments) -> str:
    messages, reward, over, *_ = env.step(render_call(name, arguments))
    assert reward == 0.0 and not over and messages[0]["role"] == "tool"
    return messages[0]["content"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids: int, within: float = 5.0) -> bool:
    until = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def children(of: int) -> set[int]:
    """Return the process ids of a process's children."""
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == of and fields[0] != "Z":
                found.add(int(name))
    return found
