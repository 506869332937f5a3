"""Connections to MCP servers: one thread of the process holds them all, callers await them from any loop.

A server over stdio is a child of that thread (through `mcp_launch.py`), so a thread or an event loop that is
given up takes no server along, and a process that dies, however it dies, leaves none behind.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from rolloom.envs.errors import EnvError, ToolError

LAUNCHER = Path(__file__).with_name("mcp_launch.py")
CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND = -32000, -32602, -32601
CLOSE_TIMEOUT_S = 8.0
LINGER_S = 30.0
IDLE_S, CHECK_TIMEOUT_S = 1.0, 10.0
MAX_PAGES = 100
TAIL_BYTES = 600

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Which server: a command to run, or the URL of one that runs.

    Attributes:
        command: program, looked up in PATH.
        args: its arguments.
        env: variables added to the few that MCP's own client passes on (HOME, PATH, ...).
        cwd: working directory, "" for this process's.
        url: streamable HTTP endpoint.
        headers: HTTP headers, e.g. for authorization.
    """

    command: str = ""
    args: tuple[str, ...] = ()
    env: Pairs = ()
    cwd: str = ""
    url: str = ""
    headers: Pairs = ()

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise EnvError("an MCP server needs either `command` (with `args`) or `url`")

    def __str__(self) -> str:
        return self.url or " ".join((self.command, *self.args))


class Link:
    """One connection.

    Attributes:
        alive: it can take calls.
        tools: what the server offers, as the SDK's `Tool` objects.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.alive = False
        self.tools: list[Any] = []
        self._why = ""
        self._used = time.monotonic()
        self._closing = asyncio.Event()
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float) -> Link:
        """Connect and list the tools; runs on the keeper's loop.

        Raises:
            EnvError: no server could be reached within the time.
        """
        opened = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(opened))
        try:
            done, _ = await asyncio.wait(
                {opened, self._task}, timeout=timeout_s, return_when="FIRST_COMPLETED"
            )
        except asyncio.CancelledError:  # whoever wanted it is gone, so nobody would close it
            self._task.cancel()
            raise
        if opened in done:
            return self
        if not done:
            self._why = f"no answer within {timeout_s:g} s"
            self._task.cancel()
        raise EnvError(f"MCP server {self.target} cannot be used: {self._why}")

    async def _hold(self, opened: asyncio.Future[None]) -> None:
        # The SDK wants its contexts left in the task that entered them.
        with tempfile.TemporaryFile("w+") as told:
            try:
                async with self._transport(told) as transport, Client(transport, cache=None) as self._client:
                    self.tools = await self._list(self._client)
                    self.alive = True
                    opened.set_result(None)
                    await self._closing.wait()
            except BaseException as error:  # the SDK raises groups, and whatever the transport does
                self._why = self._why or _reason(error, told)
            finally:
                self.alive = False
                self._why = self._why or "the connection was closed"

    @contextlib.asynccontextmanager
    async def _transport(self, told: IO[str]) -> AsyncIterator[Any]:
        target = self.target
        if target.url:
            async with create_mcp_http_client(dict(target.headers)) as http:
                yield streamable_http_client(target.url, http_client=http)
            return
        launch = ["-I", "-S", str(LAUNCHER), str(os.getpid()), target.command, *target.args]
        yield stdio_client(
            StdioServerParameters(
                command=sys.executable, args=launch, env=dict(target.env), cwd=target.cwd or None
            ),
            errlog=told,  # type: ignore[arg-type]
        )

    @staticmethod
    async def _list(client: Client) -> list[Any]:
        found, cursor = [], None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, name: str, arguments: dict[str, Any], meta: dict[str, Any], timeout_s: float) -> str:
        """Call a tool; runs on the keeper's loop.

        Raises:
            ToolError: the server says that the call was wrong.
            EnvError: the server died, broke the protocol, or took longer than `timeout_s`.
        """
        if not self.alive or self._client is None:
            raise EnvError(f"MCP server {self.target} is gone: {self._why}")
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._client.call_tool(name, arguments, meta=meta)  # type: ignore[arg-type]
        except TimeoutError:
            raise EnvError(f"MCP server {self.target}: {name} took longer than {timeout_s:g} s") from None
        except MCPError as error:
            if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
                raise ToolError(error.message) from None
            if error.code == CONNECTION_CLOSED:
                self.alive = False
                self._closing.set()
            raise EnvError(f"MCP server {self.target} failed in {name}: {error.message}") from None
        except Exception as error:  # a result that breaks the server's own schema, a broken transport
            raise EnvError(f"MCP server {self.target} failed in {name}: {error!r:.300}") from error
        self._used = time.monotonic()
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text)
        return text

    async def check(self) -> None:
        """Find out whether a server that was idle for a while is still there; runs on the keeper's loop."""
        if not self.alive or self._client is None or time.monotonic() - self._used < IDLE_S:
            return
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._client.list_tools()
            self._used = time.monotonic()
        except Exception as error:  # however it fails, it is of no use any more
            self.alive, self._why = False, f"it ended while idle: {error!r:.200}"
            self._closing.set()

    async def close(self) -> None:
        """Close the connection and, over stdio, wait for the server's end; runs on the keeper's loop."""
        self.alive = False
        self._closing.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_S)


def _reason(error: BaseException, told: IO[str]) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    told.flush()
    size = os.fstat(told.fileno()).st_size
    tail = os.pread(told.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace").strip()
    return f"{type(error).__name__}: {error}"[:300] + (f"; its last words: {tail}" if tail else "")


def _text_of(result: Any) -> str:
    """Return the text parts of a result, one after another; what is not text is named."""
    parts = []
    for part in result.content:
        text = getattr(part, "text", None)
        if text is None:
            text = getattr(getattr(part, "resource", None), "text", None)
        parts.append(text if isinstance(text, str) else f"[{part.type} left out]")
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


class Keeper:
    """The thread that holds a process's connections.

    Attributes:
        pid: the process; after a fork, the connections are still the parent's.
        loop: its event loop.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._shared: dict[Target, Link] = {}
        self._users: dict[Target, int] = {}
        self._locks: dict[Target, asyncio.Lock] = {}
        self._links: set[Link] = set()
        threading.Thread(target=self.loop.run_forever, name="mcp-keeper", daemon=True).start()
        atexit.register(self._close_all)

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the keeper's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def open(self, target: Target, timeout_s: float) -> Link:
        """Return a new connection."""
        link = await Link(target).open(timeout_s)
        self._links.add(link)
        return link

    async def drop(self, link: Link) -> None:
        """Close a connection."""
        self._links.discard(link)
        await link.close()

    async def join(self, target: Target, timeout_s: float) -> Link:
        """Return the connection that all users of a target share, opened by the first."""
        self._users[target] = self._users.get(target, 0) + 1
        try:
            async with self._locks.setdefault(target, asyncio.Lock()):
                link = self._shared.get(target)
                if link is None or not link.alive:
                    if link is not None:
                        await self.drop(link)
                    link = self._shared[target] = await self.open(target, timeout_s)
                return link
        except BaseException:
            self._users[target] -= 1
            raise

    async def leave(self, target: Target, linger_s: float) -> None:
        """Take a user off a shared connection; without any it is closed after `linger_s`."""
        self._users[target] -= 1
        await asyncio.sleep(linger_s)
        if self._users[target] == 0 and target in self._shared:
            await self.drop(self._shared.pop(target))

    def _close_all(self) -> None:
        if os.getpid() != self.pid or not self._links:
            return

        async def close_all() -> None:
            await asyncio.gather(*(link.close() for link in list(self._links)))

        with contextlib.suppress(TimeoutError):
            self.start(close_all()).result(CLOSE_TIMEOUT_S)


_lock = threading.Lock()
_keeper: Keeper | None = None


def keeper() -> Keeper:
    """Return this process's keeper, started on first use."""
    global _keeper
    with _lock:
        if _keeper is None:
            _keeper = Keeper()
        return _keeper


def _forget() -> None:
    global _lock, _keeper
    _lock, _keeper = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)


async def on_keeper(work: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine that runs on the keeper's loop; cancelling this cancels it."""
    return await asyncio.wrap_future(keeper().start(work))
