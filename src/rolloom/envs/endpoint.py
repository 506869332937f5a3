"""An asynchronous client of any OpenAI-compatible chat-completions endpoint (vLLM, SGLang, a vendor).

    async with ChatEndpoint("http://127.0.0.1:8000/v1", "my-model") as endpoint:
        result = await endpoint.chat([{"role": "user", "content": "2+2?"}], temperature=0.0)
        result.text

Judges, model users and `envs profile` speak to models through it. Replies are bounded in size and time, what
can be mended by waiting is tried again, and what fails says where, how, and what the server wrote.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import email.utils
import json
import os
import random
import time
import urllib.parse
import urllib.request
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp

from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN, parse_completion, render_call
from rolloom.envs.text import safe_text
from rolloom.envs.types import Message, ToolSpec

PREFIX = "openai:"
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses worth another try: rate limits, overload, gateways."""
BODY_START = 300


class EndpointError(EnvError):
    """A chat endpoint gave no usable completion.

    Attributes:
        url: address that was asked, without credentials or query.
        status: HTTP status, 0 when there was none.
        body: start of what the server wrote, made fit to be shown.
    """

    def __init__(self, message: str, url: str = "", status: int = 0, body: str = "") -> None:
        super().__init__(message, url, status, body)
        self.url, self.status, self.body = url, status, body

    def __str__(self) -> str:
        where = f" (status {self.status})" if self.status else ""
        said = f"; it said: {self.body}" if self.body else ""
        return f"{self.url}{where}: {self.args[0]}{said}"


class EndpointUnavailable(EndpointError):
    """Every try met a connection error, a rate limit or a server error."""


class EndpointTimeout(EndpointError):
    """The call's deadline passed."""


class EndpointRefused(EndpointError):
    """The endpoint refused the request itself (wrong model, key, arguments): trying again would not help."""


class EndpointBadReply(EndpointError):
    """The endpoint answered with something that is no chat completion, or with too much."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion.

    Attributes:
        text: the completion in the text form that environments read: `<think>` reasoning, content, and tool
            calls as `<tool_call>` blocks.
        finish_reason: `stop`, `length`, `tool_calls` or what else the server says.
    """

    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class ChatResult:
    """What a call brought.

    Attributes:
        choices: the `n` completions.
        prompt_tokens: tokens of the prompt, as the server counts; 0 if it does not say.
        completion_tokens: tokens of all completions.
        model: what the server calls the model.
        tries: requests that were sent for this result.
        latency_s: seconds from the first request to the result.
    """

    choices: tuple[Choice, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""
    tries: int = 1
    latency_s: float = 0.0

    @property
    def text(self) -> str:
        """The first completion's text."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str:
        """Why the first completion ended."""
        return self.choices[0].finish_reason


class ChatEndpoint:
    """A chat-completions endpoint.

    Args:
        url: base address, e.g. `http://127.0.0.1:8000/v1`; `/chat/completions` is added if it is not there.
        model: model name sent with every request.
        api_key_env: environment variable that holds the API key, sent as a bearer token; "" sends none. The
            key is read when it is needed, and stands in no log, error or pickle.
        deadline_s: seconds a call may take once it has a slot, retries included.
        try_s: seconds one try may take.
        tries: requests sent at most for one call.
        backoff_s: mean wait before the second try; doubled each time, with jitter, unless the server names a
            time (`Retry-After`).
        concurrency: requests under way at once, for each event loop; more wait for a slot.
        max_bytes: largest response read.
        headers: further headers.

    Raises:
        EnvError: a malformed address or a number out of range.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key_env: str = "",
        deadline_s: float = 120.0,
        try_s: float = 60.0,
        tries: int = 5,
        backoff_s: float = 0.5,
        concurrency: int = 64,
        max_bytes: int = 8 << 20,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EnvError(f"endpoint: expected an address like http://host:8000/v1, got {_shown(url)!r}")
        if api_key_env and parts.username is not None:
            raise EnvError(
                f"endpoint: {_shown(url)} has a user in its address and a key; expected one of them"
            )
        for name, value in {
            **{"deadline_s": deadline_s, "try_s": try_s, "tries": tries},
            **{"concurrency": concurrency, "max_bytes": max_bytes},
        }.items():
            if not value > 0:
                raise EnvError(f"endpoint: {name} must be above 0, got {value!r}")
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path += "/chat/completions"
        self._url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
        self.url, self.model, self.api_key_env = _shown(self._url), model, api_key_env
        self.deadline_s, self.try_s, self.tries, self.backoff_s = deadline_s, try_s, int(tries), backoff_s
        self.concurrency, self.max_bytes, self.headers = int(concurrency), int(max_bytes), dict(headers or {})
        self._open: weakref.WeakKeyDictionary[Any, tuple[aiohttp.ClientSession, asyncio.Semaphore]]
        self._open = weakref.WeakKeyDictionary()

    @classmethod
    def parse(cls, spec: str, **settings: Any) -> ChatEndpoint:
        """Return the endpoint of a spec string `openai:URL#MODEL`, or `openai:URL#MODEL&key=VARIABLE`.

        Raises:
            EnvError: the string is none.
        """
        url, mark, rest = spec.removeprefix(PREFIX).partition("#")
        model, _, options = rest.partition("&")
        if not spec.startswith(PREFIX) or not mark or not model:
            raise EnvError(f"endpoint: expected openai:URL#MODEL, got {_shown(spec)!r}")
        if options:
            name, _, variable = options.partition("=")
            if name != "key" or not variable:
                raise EnvError(f"endpoint: expected &key=VARIABLE after the model, got {options!r}")
            settings = {**settings, "api_key_env": variable}
        return cls(url, model, **settings)

    @property
    def spec(self) -> str:
        """The spec string of this endpoint, without credentials."""
        return f"{PREFIX}{self.url.removesuffix('/chat/completions')}#{self.model}"

    def __repr__(self) -> str:
        return f"ChatEndpoint({self.url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=weakref.WeakKeyDictionary())

    async def __aenter__(self) -> ChatEndpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that this event loop holds."""
        session, _ = self._open.pop(asyncio.get_running_loop(), (None, None))
        if session is not None:
            await session.close()

    async def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        tools: Iterable[ToolSpec] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        n: int = 1,
        seed: int | None = None,
        stop: Sequence[str] = (),
        deadline_s: float | None = None,
        **extra: Any,
    ) -> ChatResult:
        """Return completions of a conversation.

        Args:
            messages: the conversation in our text form: tool calls as `<tool_call>` blocks of an assistant's
                text, each result a `tool` message.
            tools: functions that the model may call.
            temperature: sampling temperature; None leaves this and the next ones to the server.
            top_p: nucleus.
            max_tokens: tokens of a completion at most.
            n: completions.
            seed: sampling seed.
            stop: texts that end a completion.
            deadline_s: replaces the endpoint's.
            extra: further fields of the request (`response_format`, `chat_template_kwargs`, ...).

        Raises:
            EndpointError: there is no usable completion; the subclass says why.
        """
        optional: dict[str, Any] = {
            **{"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed},
            **{"n": n if n != 1 else None, "stop": list(stop) or None},
            "tools": [tool.to_openai() for tool in tools] or None,
        }
        body = {"model": self.model, "messages": to_openai(messages)}
        body |= {name: value for name, value in optional.items() if value is not None} | extra
        try:
            data = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise EnvError(f"{self.url}: the request is no JSON: {error}") from error
        session, slots = self._session()
        headers = self._headers()
        async with slots:
            return await self._until(data, headers, session, n, deadline_s or self.deadline_s)

    def _headers(self) -> dict[str, str]:
        # No compressed replies: a small one could unpack into gigabytes.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **self.headers}
        if self.api_key_env:
            key = os.environ.get(self.api_key_env, "")
            if not key:
                raise EnvError(
                    f"{self.url}: the environment variable {self.api_key_env}, which holds its API key, is"
                    " not set"
                )
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def _session(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        found = self._open.get(loop)
        if found is None or found[0].closed:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
            found = self._open[loop] = (session, asyncio.Semaphore(self.concurrency))
            _sessions[session] = loop
        return found

    async def _until(
        self, data: bytes, headers: dict[str, str], session: aiohttp.ClientSession, n: int, deadline_s: float
    ) -> ChatResult:
        """Try until there is a result, the tries are used up or the deadline would pass."""
        start = time.monotonic()
        for count in range(1, self.tries + 1):
            left = deadline_s - (time.monotonic() - start)
            wait = self.backoff_s * 2 ** (count - 1) * random.uniform(0.5, 1.5)
            try:
                result = await asyncio.wait_for(self._once(data, headers, session, n), min(left, self.try_s))
                return _with(result, count, time.monotonic() - start)
            except _Later as later:
                error, wait = later.error, later.wait_s if later.wait_s is not None else wait
            except EndpointBadReply as bad:
                error = bad
            except TimeoutError:
                error = EndpointTimeout(f"no answer within {min(left, self.try_s):.3g} s", self.url)
            except (aiohttp.ClientError, OSError) as broken:
                error = EndpointUnavailable(f"{type(broken).__name__}: {broken}"[:BODY_START], self.url)
            left = deadline_s - (time.monotonic() - start)
            if count == self.tries or left <= wait:
                raise _given_up(error, count, time.monotonic() - start) from None
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(
        self, data: bytes, headers: dict[str, str], session: aiohttp.ClientSession, n: int
    ) -> ChatResult:
        # A redirect would carry the prompt, and maybe the key, to a host nobody named.
        proxy = _proxy(self._url)
        async with session.post(
            self._url, data=data, headers=headers, allow_redirects=False, proxy=proxy
        ) as response:
            if response.status != 200:
                start = await response.content.read(4 * BODY_START)
                text = self._quoted(start, headers)
                if response.status in RETRIED:
                    error = EndpointUnavailable("is not serving", self.url, response.status, text)
                    raise _Later(error, _retry_after(response.headers.get("Retry-After", "")))
                raise EndpointRefused("refused the request", self.url, response.status, text)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise EndpointRefused("sent a compressed reply that nobody asked for", self.url, 200)
            read = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                read += chunk
                if len(read) > self.max_bytes:
                    message = f"sent more than max_bytes={self.max_bytes} bytes"
                    raise EndpointRefused(message, self.url, 200, self._quoted(bytes(read[:999]), headers))
        try:
            return _read(json.loads(bytes(read)), n)
        except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
            problem = f"is no chat completion ({type(error).__name__}: {str(error)[:100]})"
            start_of_body = self._quoted(bytes(read[:999]), headers)
            raise EndpointBadReply(problem, self.url, 200, start_of_body) from None

    def _quoted(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Return the start of what a server wrote; some repeat the key they were sent."""
        text = body.decode("utf-8", "replace")
        key = headers.get("Authorization", "").removeprefix("Bearer ")
        return safe_text(" ".join((text.replace(key, "***") if key else text).split()), BODY_START)


_sessions: weakref.WeakKeyDictionary[aiohttp.ClientSession, asyncio.AbstractEventLoop]
_sessions = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_sessions.clear)


@atexit.register
def _close_all() -> None:
    """Close what loops in threads of their own still hold, so that a program ends without complaints."""
    for session, loop in list(_sessions.items()):
        if loop.is_running() and not session.closed:
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(session.close(), loop).result(1.0)


class _Later(Exception):
    """The server asks for patience: an error that another try may mend, and how long to wait."""

    def __init__(self, error: EndpointError, wait_s: float | None) -> None:
        super().__init__(error)
        self.error, self.wait_s = error, wait_s


def _given_up(error: EndpointError, tries: int, seconds: float) -> EndpointError:
    told = f"{error.args[0]} (given up after {tries} tries, {seconds:.1f} s)"
    return type(error)(told, error.url, error.status, error.body)


def _with(result: ChatResult, tries: int, latency_s: float) -> ChatResult:
    return ChatResult(
        result.choices, result.prompt_tokens, result.completion_tokens, result.model, tries, latency_s
    )


def _shown(url: str) -> str:
    """Return an address without user, password and query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _proxy(url: str) -> str | None:
    """Return the proxy that environment variables name for an address; `.netrc` is not read."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _retry_after(value: str) -> float | None:
    """Return the seconds that a `Retry-After` header asks for: a number, or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def to_openai(messages: Sequence[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a conversation as endpoints take it: calls as objects, each result with its call's id.

    Reasoning of earlier turns is left out, as chat templates do. A `tool` message that answers no call (an
    environment telling what was wrong with a malformed turn) becomes a user message: endpoints refuse it.
    """
    made: list[dict[str, Any]] = []
    waiting: list[str] = []
    count = 0
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "assistant":
            turn = parse_completion(content)
            waiting = [f"call_{count + index}" for index in range(len(turn.tool_calls))]
            count += len(waiting)
            said: dict[str, Any] = {"role": role, "content": content if turn.malformed else turn.content}
            if waiting:
                said["tool_calls"] = [
                    {
                        "id": id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                    }
                    for id, call in zip(waiting, turn.tool_calls, strict=True)
                ]
            made.append(said)
        elif role == "tool" and waiting:
            made.append({"role": role, "tool_call_id": waiting.pop(0), "content": content})
        else:
            made.append({"role": "user" if role == "tool" else role, "content": content})
    return made


def _read(reply: Any, n: int) -> ChatResult:
    choices = tuple(
        Choice(_text_of(choice["message"]), str(choice.get("finish_reason") or ""))
        for choice in sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
    )
    if len(choices) < n:
        raise ValueError(f"expected {n} choices, got {len(choices)}")
    usage = reply.get("usage") or {}
    tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    counts = [token if type(token) is int and token >= 0 else 0 for token in tokens]
    return ChatResult(choices[:n], *counts, model=str(reply.get("model") or ""))


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError(f"expected content in text, got {type(content).__name__}")
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    parts = [content, *(_call_text(call["function"]) for call in message.get("tool_calls") or ())]
    text = "\n".join(part for part in parts if part)
    if isinstance(reasoning, str) and reasoning:
        return f"{THINK_OPEN}\n{reasoning.strip()}\n{THINK_CLOSE}\n{text}"
    return text


def _call_text(function: Mapping[str, Any]) -> str:
    """Return a call in text; arguments that are no JSON stay as they are, for the environment to refuse."""
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, dict):
        return render_call(str(function["name"]), arguments)
    raw = str(arguments).replace("<", "\\u003c")
    return f'{CALL_OPEN}{{"name": {json.dumps(str(function["name"]))}, "arguments": {raw}}}{CALL_CLOSE}'


@cache
def shared(spec: str, **settings: Any) -> ChatEndpoint:
    """Return this process's one endpoint of a spec string: its concurrency limit then holds for all users."""
    return ChatEndpoint.parse(spec, **settings)
