"""The endpoint client against a real local server that misbehaves in every way servers do."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from rolloom.envs.endpoint import (
    ChatEndpoint,
    ChatResult,
    EndpointBadReply,
    EndpointError,
    EndpointRefused,
    EndpointTimeout,
    EndpointUnavailable,
    shared,
    to_openai,
)
from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import parse_completion, render_call
from rolloom.envs.types import Message, ToolSpec

ASK = [Message(role="user", content="2+2?")]
QUICK: dict[str, Any] = {"backoff_s": 0.01, "tries": 3, "deadline_s": 5.0}


def completion(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"model": "m-1", "choices": [choice], "usage": usage}


class Server:
    """Answers the n-th request with the n-th behaviour, the last one for ever."""

    def __init__(self, *behaviours: Any) -> None:
        self.behaviours: tuple[Any, ...] = behaviours
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.running = self.peak = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(json.loads(await request.read()))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            behaviour: Any = self.behaviours[min(len(self.requests), len(self.behaviours)) - 1]
            if not isinstance(behaviour, dict):
                return await behaviour(request)
            return web.json_response(behaviour)
        finally:
            self.running -= 1


def served(server: Server, work: Callable[[str], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            return await work(f"http://127.0.0.1:{port}/v1")
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def ask(server: Server, settings: dict[str, Any] | None = None, **kwargs: Any) -> ChatResult:
    async def work(url: str) -> ChatResult:
        async with ChatEndpoint(url, "m", **{**QUICK, **(settings or {})}) as endpoint:
            return await endpoint.chat(ASK, **kwargs)

    return served(server, work)


def status(code: int, text: str = "no", **headers: str):
    async def behave(request: web.Request) -> web.Response:
        return web.Response(status=code, text=text, headers=headers)

    return behave


async def hang(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b"x" * (1 << 20))
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return response


def test_a_completion_comes_with_its_tokens():
    server = Server(completion(content="4"))
    result = ask(server, temperature=0.0, max_tokens=9, seed=5, stop=["\n"], top_p=0.9, logit_bias={})
    assert (result.text, result.finish_reason, result.model) == ("4", "stop", "m-1")
    assert (result.prompt_tokens, result.completion_tokens, result.tries) == (7, 3, 1)
    assert server.bodies[0] == {
        **{"model": "m", "messages": [{"role": "user", "content": "2+2?"}], "temperature": 0.0},
        **{"max_tokens": 9, "seed": 5, "stop": ["\n"], "top_p": 0.9, "logit_bias": {}},
    }


def test_reasoning_and_calls_come_in_the_text_form():
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": "</tool_call>"}'}}
    server = Server(completion(content=None, reasoning_content="hm", tool_calls=[call]))
    result = ask(server, tools=[ToolSpec("add", "adds", {"type": "object"})])
    turn = parse_completion(result.text)
    assert turn.malformed is None and turn.reasoning == "hm" and turn.content == ""
    assert [(c.name, c.arguments) for c in turn.tool_calls] == [("add", {"a": "</tool_call>"})]
    assert server.bodies[0]["tools"][0]["function"]["name"] == "add"


def test_arguments_that_are_no_json_are_the_policys_mistake():
    call = {"function": {"name": "add", "arguments": '{"a": '}}
    turn = parse_completion(ask(Server(completion(content="x", tool_calls=[call]))).text)
    assert turn.malformed is not None and "not JSON" in turn.malformed


def test_several_completions():
    choices = [
        {"index": i, "message": {"content": [{"type": "text", "text": str(i)}]}, "finish_reason": "length"}
        for i in (1, 0)
    ]
    result = ask(Server({"choices": choices}), n=2)
    assert [choice.text for choice in result.choices] == ["0", "1"]
    with pytest.raises(EndpointBadReply, match="expected 3 choices, got 2"):
        ask(Server({"choices": choices}), n=3)


@pytest.mark.parametrize("fault", [status(429), status(500), status(503), reset, cut, status(200, "<html>")])
def test_what_passes_is_tried_again(fault):
    server = Server(fault, fault, completion(content="4"))
    result = ask(server)
    assert result.text == "4" and result.tries == 3 and len(server.requests) == 3


def test_a_try_that_hangs_is_tried_again():
    result = ask(Server(hang, completion(content="4")), {"try_s": 0.2})
    assert result.text == "4" and result.tries == 2


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (status(429, "slow down"), EndpointUnavailable, "slow down"),
        (status(500, "oops"), EndpointUnavailable, "status 500"),
        (reset, EndpointUnavailable, "given up after 3 tries"),
        (status(200, "<html>\x1b[2J"), EndpointBadReply, "<html>"),
        (status(200, "[" * 200_000), EndpointBadReply, "RecursionError"),
        (status(200, '{"choices": []}'), EndpointBadReply, "expected 1 choices, got 0"),
        (status(200, '{"choices": [{"message": {"content": 7}}]}'), EndpointBadReply, "content in text"),
        (status(200, '{"choices": [null]}'), EndpointBadReply, "no chat completion"),
        (status(200, "9" * 10_000), EndpointBadReply, "no chat completion"),
    ],
)
def test_what_never_passes_is_told(fault, error, said):
    server = Server(fault)
    with pytest.raises(error) as caught:
        ask(server)
    assert len(server.requests) == 3
    assert said in str(caught.value) and "/v1/chat/completions" in str(caught.value)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(401, "bad key"), "status 401"),
        (status(404, "no model m"), "no model m"),
        (status(307, "", Location="http://127.0.0.1:9/"), "status 307"),
        (flood, "more than max_bytes=1048576"),
        (status(200, "x", **{"Content-Encoding": "gzip"}), "compressed"),
    ],
)
def test_what_cannot_be_mended_is_asked_once(fault, said):
    server = Server(fault)
    with pytest.raises(EndpointRefused, match=said):
        ask(server, {"max_bytes": 1 << 20})
    assert len(server.requests) == 1


def test_the_deadline_holds():
    with pytest.raises(EndpointTimeout, match="no answer within"):
        ask(Server(hang), {"deadline_s": 0.3})


def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for():
    server = Server(status(429, "later", **{"Retry-After": "3600"}))
    with pytest.raises(EndpointUnavailable, match="given up after 1 tries"):
        ask(server)


@pytest.mark.parametrize("after", ["0.3", "date"])
def test_retry_after_is_honoured(after):
    import email.utils

    value = email.utils.formatdate(time.time() + 1.6, usegmt=True) if after == "date" else after
    start = time.monotonic()
    server = Server(status(429, "later", **{"Retry-After": value}), completion(content="4"))
    assert ask(server, {"backoff_s": 0.001}).text == "4"
    assert time.monotonic() - start > 0.29


def test_at_most_so_many_requests_are_under_way():
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.json_response(completion(content="4"))

    server = Server(slow)

    async def work(url: str) -> list[ChatResult]:
        async with ChatEndpoint(url, "m", concurrency=4) as endpoint:
            return await asyncio.gather(*(endpoint.chat(ASK) for _ in range(40)))

    assert len(served(server, work)) == 40
    assert server.peak == 4


def test_the_key_is_sent_and_never_told(monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_KEY", "sk-secret-123")

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=401, text=f"wrong key {request.headers['Authorization']}")

    server = Server(refuse)
    with pytest.raises(EndpointRefused) as caught:
        ask(server, {"api_key_env": "TEST_JUDGE_KEY"})
    assert server.requests[0].headers["Authorization"] == "Bearer sk-secret-123"
    endpoint = ChatEndpoint("http://user:pw@host/v1?token=t", "m")
    with pytest.raises(EnvError, match="expected one of them"):
        ChatEndpoint("http://user:pw@host/v1", "m", api_key_env="TEST_JUDGE_KEY")
    for shown in (str(caught.value), repr(caught.value), repr(endpoint), endpoint.spec, endpoint.url):
        assert "secret" not in shown and "pw" not in shown and "token" not in shown
    assert b"secret" not in pickle.dumps(ChatEndpoint("http://h", "m", api_key_env="TEST_JUDGE_KEY"))
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(EnvError, match="TEST_JUDGE_KEY"):
        ask(Server(refuse), {"api_key_env": "TEST_JUDGE_KEY"})


def test_a_proxy_of_the_environment_is_used_unless_it_is_bypassed(monkeypatch):
    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(completion(content="4"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(EndpointUnavailable):
        ask(server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert ask(server).text == "4" and len(server.requests) == 1


def test_errors_and_endpoints_travel():
    error = EndpointRefused("refused the request", "http://h/v1", 404, "no")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is EndpointRefused and (again.url, again.status, again.body) == (
        "http://h/v1",
        404,
        "no",
    )
    assert str(again) == str(error) and isinstance(again, EndpointError)
    endpoint = pickle.loads(pickle.dumps(ChatEndpoint("http://h:1/v1/", "m", tries=2)))
    assert endpoint.url == "http://h:1/v1/chat/completions" and endpoint.tries == 2


def test_spec_strings():
    endpoint = ChatEndpoint.parse("openai:http://h:8000/v1#org/model-7B", tries=2)
    assert (endpoint.url, endpoint.model) == ("http://h:8000/v1/chat/completions", "org/model-7B")
    assert endpoint.spec == "openai:http://h:8000/v1#org/model-7B"
    assert ChatEndpoint.parse("openai:http://h/v1#m&key=MY_KEY").api_key_env == "MY_KEY"
    assert shared("openai:http://h/v1#m") is shared("openai:http://h/v1#m")
    for bad in (
        "http://h/v1#m",
        "openai:http://h/v1",
        "openai:ftp://h#m",
        "openai:http://h#m&k=v",
        "openai:#m",
    ):
        with pytest.raises(EnvError, match="endpoint: expected"):
            ChatEndpoint.parse(bad)
    with pytest.raises(EnvError, match="tries must be above 0"):
        ChatEndpoint("http://h", tries=0)


def test_conversations_are_sent_as_endpoints_want_them():
    said = "<think>\nhm</think>\nlet me see\n" + render_call("f", {"a": 1}) + render_call("g", {})
    sent = to_openai(
        [
            *(Message(role="system", content="s"), Message(role="user", content="q")),
            *(Message(role="assistant", content=said), Message(role="tool", content="1")),
            *(Message(role="tool", content="2"), Message(role="assistant", content="<tool_call>{")),
            Message(role="tool", content="error: not closed"),
        ]
    )
    assert [message["role"] for message in sent] == [
        *("system", "user", "assistant", "tool", "tool", "assistant", "user"),
    ]
    assert sent[2]["content"] == "let me see"
    assert [call["function"]["arguments"] for call in sent[2]["tool_calls"]] == ['{"a": 1}', "{}"]
    assert [call["id"] for call in sent[2]["tool_calls"]] == [m["tool_call_id"] for m in sent[3:5]]
