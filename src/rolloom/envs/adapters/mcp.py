"""Environments whose tools are an MCP server's: any server, over stdio or streamable HTTP.

`McpEnv` is the base to subclass; `McpTasks` needs no code at all, only a file of prompts and answers.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rolloom.envs.adapters.mcp_link import LINGER_S, Keeper, Link, Target, keeper, on_keeper
from rolloom.envs.data import DatasetRows
from rolloom.envs.errors import EnvError, ToolError
from rolloom.envs.text import safe_text
from rolloom.envs.tool import Tool, ToolEnv, schema_tool, tools_of
from rolloom.envs.types import AssistantTurn, Message, Messages, ToolSpec

EPISODE = "rolloom/episode"
"""Key of `_meta` under which every call carries the episode's id."""

SESSIONS = ("episode", "environment", "process")
MAX_DESCRIPTION = 2_000
_episodes = itertools.count()


class McpEnv(ToolEnv):
    """Tools of an MCP server, played over several turns.

    A subclass names the server and writes the task, e.g.:

        class Notes(McpEnv):
            command, args = "notes-server", ("--in-memory",)
            hidden = ("reset",)

            def generate(self, rng, level):
                return {"title": f"note {rng.integers(10**6)}", "text": str(rng.integers(10**9))}

            async def setup(self):
                await self.call("write", **self.problem)

            def prompt(self):
                return ({"role": "user", "content": f"What does {self.problem['title']} say? Digits only."},)

            def answer(self, turn):
                return float(turn.content == self.problem["text"])

    Calls are checked against the server's JSON schemas before they are sent. What a tool reports as an error
    is told to the policy and the episode goes on; a server that dies, breaks the protocol or takes longer
    than `call_timeout_s` is an `EnvError`. Of a result, the text parts are joined and made safe.

    Isolation of episodes is the choice of `session`:

    - `episode` (default; right for any server): every episode gets its own connection, over stdio its own
      process. Starting one costs what the server's start costs (0.5-1 s for a Python server), and only for
      episodes that call a tool.
    - `environment`: one connection for each environment object; `setup` has to put the server's state in
      order, as episodes of the object follow one another on it.
    - `process`: one connection for all environments of the worker, episodes at the same time. For servers
      without state, and for those that keep it apart by `_meta["rolloom/episode"]`, a unique id that comes
      with every call.

    The list of tools is read once for each server and worker process.

    Attributes:
        command: program to run, looked up in PATH.
        args: its arguments.
        env: variables for it, added to HOME, PATH and the few others that MCP's client passes on; no other
            variable of this process reaches the server.
        cwd: its working directory.
        url: endpoint of a server that runs already, instead of `command`.
        headers: HTTP headers for `url`.
        allow: names of the tools on offer; None for all.
        hidden: names of tools that only the environment itself calls.
        session: see above.
        call_timeout_s: seconds one call may take.
        start_timeout_s: seconds until the server has to answer.

    Args:
        kwargs: any of these attributes, or of `TextEnv`'s arguments.
    """

    command: str = ""
    args: Sequence[str] = ()
    env: Mapping[str, str] = {}  # a default that is never changed
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = {}  # as above
    allow: Sequence[str] | None = None
    hidden: Sequence[str] = ()
    session: Literal["episode", "environment", "process"] = "episode"
    call_timeout_s: float = 30.0
    start_timeout_s: float = 60.0
    asynchronous = True

    _OWN = (
        *("command", "args", "env", "cwd", "url", "headers", "allow", "hidden", "session"),
        *("call_timeout_s", "start_timeout_s"),
    )

    def __init__(self, **kwargs: Any) -> None:
        for name in self._OWN:
            if name in kwargs:
                setattr(self, name, kwargs.pop(name))
        super().__init__(**kwargs)
        if self.session not in SESSIONS:
            raise EnvError(f"session: expected one of {', '.join(SESSIONS)}, got {self.session!r}")
        self.target = Target(
            self.command,
            tuple(map(str, self.args)),
            tuple(sorted(self.env.items())),
            self.cwd,
            self.url,
            tuple(sorted(self.headers.items())),
        )
        self._lease = _Lease(self.target)
        weakref.finalize(self, self._lease.end, LINGER_S)
        self._box: dict[str, Tool] = {}
        self._prepared = False
        self.episode = ""

    # -- what an author writes -------------------------------------------------------------------------------

    async def setup(self) -> None:
        """Put the server in order for `self.problem`; awaited before the first call of an episode."""

    async def call(self, name: str, /, **arguments: Any) -> str:
        """Call a tool of the server, hidden or not, on the episode's session, and return its text.

        Raises:
            ToolError: the server says that the call was wrong.
            EnvError: the server is dead or late.
        """
        link = await self._ready()
        work = link.call(name, arguments, {EPISODE: self.episode}, self.call_timeout_s)
        return await on_keeper(work)

    # -- the loop --------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Make the toolbox, and leave the last episode's session."""
        self.episode = f"{os.getpid()}-{next(_episodes)}"
        self._prepared = False
        if self.session == "episode" or (self._lease.link is not None and not self._lease.link.alive):
            self._lease.end(0.0 if self.session == "episode" else LINGER_S)
        if not self._box:
            self._box = await self._make_box()

    def toolbox(self) -> Mapping[str, Tool]:
        """Return the server's tools, and the marked methods of this class."""
        return self._box

    def close(self) -> None:
        """Close the session; a server of this environment's own has ended when this returns."""
        closing = self._lease.end(0.0)
        if closing is not None:
            closing.result()
        super().close()

    async def _ready(self) -> Link:
        if self._lease.link is not None and not self._prepared:
            await on_keeper(self._lease.link.check())
            if not self._lease.link.alive:
                self._lease.end(LINGER_S)
        if self._lease.link is None:
            await self._lease.begin(self.session == "process", self.start_timeout_s)
        if not self._prepared:
            self._prepared = True
            try:
                await self.setup()
            except ToolError as error:
                raise EnvError(f"{type(self).__name__}.setup: the server refused: {error}") from error
        assert self._lease.link is not None
        return self._lease.link

    async def _make_box(self) -> dict[str, Tool]:
        listed = _listed.get(self.target)
        if listed is None:
            if self._lease.link is None:
                await self._lease.begin(self.session == "process", self.start_timeout_s)
            assert self._lease.link is not None
            listed = _listed[self.target] = self._lease.link.tools
        names = [tool.name for tool in listed]
        for name in (*(self.allow or ()), *self.hidden):
            if name not in names:
                raise EnvError(f"MCP server {self.target} has no tool {name!r}, only {', '.join(names)}")
        box = tools_of(self)
        for tool in listed:
            if tool.name in self.hidden or (self.allow is not None and tool.name not in self.allow):
                continue
            if tool.name in box:
                raise EnvError(f"tool {tool.name} is both the server's and {type(self).__name__}'s own")
            box[tool.name] = _as_tool(tool, partial(self.call, tool.name))
        return box


_listed: dict[Target, list[Any]] = {}


class _Lease:
    """An environment's hold on a connection; apart from it, so that its end can outlive the environment."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.link: Link | None = None
        self._keeper: Keeper | None = None
        self._shared = False

    async def begin(self, shared: bool, timeout_s: float) -> None:
        self._keeper, self._shared = keeper(), shared
        opening = self._keeper.join if shared else self._keeper.open
        self.link = await on_keeper(opening(self.target, timeout_s))

    def end(self, linger_s: float) -> Any:
        """Start leaving the connection; return the future of that, or None where there is none to leave."""
        link, self.link = self.link, None
        if link is None or self._keeper is None or self._keeper.pid != os.getpid():
            return None
        if self._shared:
            return self._keeper.start(self._keeper.leave(self.target, linger_s))
        return self._keeper.start(self._keeper.drop(link))


def _as_tool(tool: Any, function: Any) -> Tool:
    spec = ToolSpec(
        tool.name, safe_text(tool.description or "", MAX_DESCRIPTION), _untitled(tool.input_schema)
    )
    return schema_tool(spec, function)


def _untitled(schema: Any) -> Any:
    """Return a JSON schema without its titles, which say what the names say."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _untitled(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }


class McpTasks(McpEnv):
    """Prompts and answers of a file, answered with the help of an MCP server's tools; needs no code.

        register("team/notes-v0", "rolloom.envs.adapters.mcp:McpTasks",
                 command="notes-server", args=["--demo"], data="notes.jsonl")

    The reward is 1.0 when the final content is exactly the row's answer. One row in five is held out.

    Args:
        data: JSONL, Parquet or CSV file, data set name, or rows, with the columns `prompt` and `answer`, and
            `gold` where a right first turn is known.
        kwargs: see `McpEnv`.
    """

    levels = (1, 1)

    def __init__(self, data: str | Path | Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = DatasetRows.load(data)

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a row."""
        row = self.rows[int(rng.integers(len(self.rows)))]
        if "prompt" not in row or "answer" not in row:
            raise EnvError(f"{self.rows.name}: expected columns prompt and answer, got {', '.join(row)}")
        return row

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the prompt."""
        return str(problem["prompt"])

    def prompt(self) -> Messages:
        """Return the row's prompt."""
        return (Message(role="user", content=str(self.problem["prompt"])),)

    def answer(self, turn: AssistantTurn) -> float:
        """Return 1.0 for the row's answer."""
        return float(turn.content == str(self.problem["answer"]).strip())

    def gold(self) -> str:
        """Return the row's `gold` on the first turn, then its answer."""
        if "gold" in self.problem and self.turn_index == 0:
            return str(self.problem["gold"])
        return str(self.problem["answer"])
