"""Any rolloom environment over HTTP: `serve` runs a server, `RemoteEnv` uses one as an ordinary environment.

| route | body | answer |
|---|---|---|
| `GET /health` | | `{"status", "sessions", "max_sessions"}`; needs no token |
| `GET /environments` | | served ids with kind, description, levels, max_turns |
| `POST /sessions` | `{"id", "seed", "split", "level"}` | `{"session", "messages", "tools", "key", ...}` |
| `POST /sessions/{name}/step` | `{"action"}` | `{"messages", "reward", "terminated", "truncated", "info"}` |
| `DELETE /sessions/{name}` | | `{"closed"}` |

Every other request needs `Authorization: Bearer TOKEN`. Sessions are bounded (429 beyond), expire when idle,
and each is one environment that nothing else touches. Errors are `{"error": text}`: 400 malformed, 401 token,
404 unknown, 409 no episode running, 413 too large, 500 the environment failed, 504 its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jsonschema
from aiohttp import web

from rolloom.envs import aio, registry
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError, RolloomError
from rolloom.envs.parsing import MAX_CHARS
from rolloom.envs.serving.remote import RemoteEnv
from rolloom.envs.text import safe_text

__all__ = ["RemoteEnv", "Server", "serve"]

T = TypeVar("T")
TOKEN_VARIABLE = "ROLLOOM_SERVE_TOKEN"
MAX_BODY_BYTES = 12 * MAX_CHARS + 4_096
"""A completion of the longest kind that is read, each character two escapes (`\\ud83d\\ude00`): however bad
an answer is, it must not become an error."""

MAX_ERROR_CHARS = 500
MAX_STUCK = 8
"""Environments that outlived their deadline and still hold a thread, after which no session is opened."""

OPEN_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 200},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "split": {"enum": ["train", "heldout"]},
        "level": {"type": "integer", "minimum": 1, "maximum": 1_000},
        "kwargs": {"type": "object"},
    },
    "required": ["id"],
    "additionalProperties": False,
}
STEP_SCHEMA = {
    "type": "object",
    "properties": {"action": {"type": "string", "maxLength": MAX_CHARS}},
    "required": ["action"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class Session:
    """One client's environment.

    Attributes:
        env: made for this session alone.
        used: monotonic time of the last request.
        lock: held while a request works on the environment.
        stuck: a call outlived its deadline, so nobody may touch the environment any more.
    """

    env: TextEnv
    used: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stuck: bool = False


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: what was expected, what was got.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """An HTTP server of environments; `start` and `stop` in an event loop, or `serve` for a whole process.

    Args:
        ids: environments to serve; each is made once at the start to see that it can be.
        host: address to bind to; the loopback by default, because whoever has the token can play.
        port: 0 takes a free one, found in `port` after `start`.
        token: bearer token; a random one when empty.
        max_sessions: sessions at a time.
        idle_s: seconds without a request after which a session is closed.
        step_deadline_s: seconds that opening a session or a step may take, unless the environment declares
            its own.
        allow_kwargs: let clients pass keyword arguments to environments. Some name files, commands or
            addresses.
        threads: environments that compute at a time.
    """

    def __init__(
        self,
        ids: Sequence[str],
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = "",
        max_sessions: int = 256,
        idle_s: float = 600.0,
        step_deadline_s: float = 60.0,
        allow_kwargs: bool = False,
        threads: int = 16,
    ) -> None:
        self.host, self.port, self.token = host, port, token or secrets.token_urlsafe(32)
        self.max_sessions, self.idle_s, self.step_deadline_s = max_sessions, idle_s, step_deadline_s
        self.allow_kwargs = allow_kwargs
        self.sessions: dict[str, Session] = {}
        self.opening = 0
        self.stuck = 0
        self.listing = [_describe(id) for id in ids]
        self.ids = {entry["id"] for entry in self.listing}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve-env")
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the server is reached."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and begin to answer."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/environments", self._environments)
        app.router.add_post("/sessions", self._open)
        app.router.add_post("/sessions/{session}/step", self._step)
        app.router.add_delete("/sessions/{session}", self._close)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Finish the requests in flight, close every session and its environment."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        for name in list(self.sessions):
            await self._drop(name)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(30.0, self.idle_s / 4))
            now = time.monotonic()
            for name, session in list(self.sessions.items()):
                if now - session.used > self.idle_s and not session.lock.locked():
                    await self._drop(name)

    async def _drop(self, name: str) -> None:
        session = self.sessions.pop(name, None)
        if session is None or session.stuck:
            return
        async with session.lock:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._in_thread(session.env.close), 10.0)

    # -- requests --------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        """Check the token and turn whatever goes wrong into an answer."""
        try:
            if request.path != "/health":
                self._authorise(request)
            return web.json_response(await handler(request))
        except Refused as error:
            return _error(error.status, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except RolloomError as error:
            return _error(500, str(error))
        except Exception as error:  # an environment may fail in any way; the server goes on
            return _error(500, f"{type(error).__name__}: {error}")

    def _authorise(self, request: web.Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.token.encode())
        if kind.lower() != "bearer" or not right:
            raise Refused(401, "expected the header `Authorization: Bearer TOKEN` with this server's token")

    async def _health(self, request: web.Request) -> Any:
        return {"status": "ok", "sessions": len(self.sessions), "max_sessions": self.max_sessions}

    async def _environments(self, request: web.Request) -> Any:
        return {"environments": self.listing}

    async def _open(self, request: web.Request) -> Any:
        body = await _body(request, OPEN_SCHEMA)
        if body["id"] not in self.ids:
            raise Refused(404, f"this server has {', '.join(sorted(self.ids))}")
        kwargs = body.get("kwargs", {})
        if kwargs and not self.allow_kwargs:
            raise Refused(400, "kwargs: this server takes none; start it with --allow-kwargs")
        if self.stuck >= MAX_STUCK:
            raise Refused(
                503, f"{self.stuck} environments outlived their deadline; the server needs a restart"
            )
        if len(self.sessions) + self.opening >= self.max_sessions:
            raise Refused(429, f"all {self.max_sessions} sessions are taken; close one, or wait")
        self.opening += 1
        try:
            making = self._in_thread(lambda: registry.make(body["id"], **kwargs))
            env = await self._timed(None, making, lambda: self._discard_made(making))
            session = Session(env, time.monotonic())
            options = {name: body[name] for name in ("split", "level") if name in body}
            try:
                messages, info = await self._call(session, "reset", seed=body.get("seed"), options=options)
            except BaseException:
                if not session.stuck:
                    await self._in_thread(env.close)
                raise
            name = secrets.token_urlsafe(16)
            self.sessions[name] = session
        finally:
            self.opening -= 1
        return {
            "session": name,
            "messages": [dict(message) for message in messages],
            "tools": [tool.to_openai() for tool in info["tools"]],
            "key": info["key"],
            "level": info["level"],
            "split": info["split"],
            "max_turns": env.max_turns,
        }

    async def _step(self, request: web.Request) -> Any:
        session = self._find(request)
        body = await _body(request, STEP_SCHEMA)
        if session.stuck or session.lock.locked():
            raise Refused(409, "a step of this session is still running")
        async with session.lock:
            if not session.env._live:
                raise Refused(409, "the episode is over; open a new session")
            step = await self._call(session, "step", body["action"])
        messages, reward, terminated, truncated, info = step
        return {
            "messages": [dict(message) for message in messages],
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "info": {"components": info["components"], "malformed": info["malformed"]},
        }

    async def _close(self, request: web.Request) -> Any:
        self._find(request)
        await self._drop(request.match_info["session"])
        return {"closed": True}

    def _find(self, request: web.Request) -> Session:
        session = self.sessions.get(request.match_info["session"])
        if session is None:
            raise Refused(404, "no such session; it was closed, or has expired")
        session.used = time.monotonic()
        return session

    # -- running environments --------------------------------------------------------------------------------

    async def _call(self, session: Session, method: str, *args: Any, **kwargs: Any) -> Any:
        """Reset or step an environment where it belongs: on the event loop of environments or in a thread."""
        env = session.env
        if env.asynchronous:
            work = asyncio.wrap_future(aio.spawn(getattr(env, f"a{method}")(*args, **kwargs)))
        else:
            work = self._in_thread(lambda: getattr(env, method)(*args, **kwargs))

        try:
            return await self._timed(env.step_deadline_s, work, lambda: self._discard(env))
        except Refused:
            session.stuck = True
            raise
        finally:
            session.used = time.monotonic()

    async def _timed(self, seconds: float | None, work: asyncio.Future[T], late: Callable[[], None]) -> T:
        """Await some work until its deadline.

        Args:
            seconds: of the environment's own; the server's without.
            work: may go on in a thread after the deadline, which counts as stuck until it ends.
            late: called when work that was given up has ended after all.
        """
        deadline = seconds or self.step_deadline_s
        done, _ = await asyncio.wait([work], timeout=deadline)
        if done:
            return work.result()
        self.stuck += 1

        def ended(finished: asyncio.Future[T]) -> None:
            self.stuck -= 1
            if not finished.cancelled():
                finished.exception()  # looked at, so that asyncio does not warn of it
            late()

        work.add_done_callback(ended)
        raise Refused(504, f"the environment took over {deadline:g} s; its session is of no more use")

    def _discard_made(self, making: asyncio.Future[TextEnv]) -> None:
        if not making.cancelled() and making.exception() is None:
            self._discard(making.result())

    def _discard(self, env: TextEnv) -> None:
        """Close an environment that no session has any more, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # the pool is shut down when the server stops
            self._pool.submit(env.close)

    def _in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, function)


async def _body(request: web.Request, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body, checked.

    Raises:
        Refused: too large, not JSON, or not of the schema; the message repeats nothing of the body.
    """
    try:
        body = json.loads(await request.text(), parse_constant=_no_constant)
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"expected a body of at most {MAX_BODY_BYTES} bytes") from None
    except (ValueError, RecursionError, LookupError):
        raise Refused(400, "expected a JSON object as the body") from None
    problem = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(body)), None)
    if problem is not None:
        place = ".".join(str(part) for part in problem.absolute_path) or "body"
        wanted = json.dumps(problem.validator_value)[:200]
        raise Refused(400, f"{place}: expected {problem.validator} {wanted}")
    return body


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": safe_text(message, MAX_ERROR_CHARS)}, status=status)


def _describe(id: str) -> dict[str, Any]:
    spec = registry.spec(id)
    env = registry.make(id)
    try:
        return {
            "id": id,
            "kind": spec.kind,
            "description": spec.description,
            "levels": list(env.levels),
            "max_turns": env.max_turns,
            "step_deadline_s": env.step_deadline_s,
        }
    finally:
        env.close()


def serve(ids: Sequence[str], **settings: Any) -> None:
    """Serve environments until the process is told to stop (SIGINT or SIGTERM).

    Args:
        ids: environments to serve.
        settings: arguments of `Server`. A token that was generated is printed once.

    Raises:
        UnknownEnvError: nothing is registered under an id.
        EnvError: an environment cannot be made, or the address cannot be bound to.
    """
    given = bool(settings.get("token"))
    server = Server(ids, **settings)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            await server.start()
        except OSError as error:
            raise EnvError(f"{server.host}:{server.port} cannot be bound to: {error.strerror}") from error
        print(f"serving {len(server.ids)} environments at {server.url}", flush=True)
        if not given:
            print(f"token: {server.token}", flush=True)
        await stop.wait()
        print(f"stopping; {len(server.sessions)} sessions are closed", flush=True)
        await server.stop()

    asyncio.run(run())
