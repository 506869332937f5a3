"""The peer's side, run by the interpreter of `.venv-peers`: the same episodes as verifiers environments.

Reads one request a line from standard input (`{"episodes", "concurrent", "turns", "siblings", "client"}`),
runs it, and answers one line (`{"seconds", "reward"}`). Nothing of rolloom is imported here.

Two ways, by `client`: `openai` is verifiers as it is shipped, `generate` (which its evaluation and its
trainer call) with its OpenAI client over a transport that answers in this process without a socket; `bare` is
the least work that it can be made to do, `run_rollout` alone with a client of a few lines.
"""

# `.venv-peers` has another major version of verifiers than `.venv`, where pyright looks names up.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import time
from typing import Any

import httpx
import verifiers as vf
from openai import AsyncOpenAI
from verifiers.clients import OpenAIChatCompletionsClient
from verifiers.clients.client import Client
from verifiers.types import Response, ResponseMessage, Usage

ANSWER = "42"


class InstantClient(Client):
    """Answers at once, always the same."""

    def setup_client(self, config: Any) -> Any:
        return None

    async def to_native_tool(self, tool: Any) -> Any:
        return tool

    async def to_native_prompt(self, messages: Any) -> tuple[Any, dict[str, Any]]:
        return messages, {}

    async def get_native_response(self, prompt: Any, model: str, *args: Any, **kwargs: Any) -> Any:
        return ANSWER

    async def raise_from_native_response(self, response: Any) -> None:
        pass

    async def from_native_response(self, response: Any) -> Response:
        message = ResponseMessage(
            role="assistant", content=response, finish_reason="stop", is_truncated=False
        )
        usage = Usage(prompt_tokens=20, reasoning_tokens=0, completion_tokens=4, total_tokens=24)
        return Response(id="r", created=0, model="m", usage=usage, message=message)

    async def close(self) -> None:
        pass


REPLY = json.dumps(
    {
        "id": "r",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24},
    }
).encode()


def client_of(kind: str) -> Client:
    """Return the client that a request names."""
    if kind == "bare":
        return InstantClient(object())
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, content=REPLY, headers={"content-type": "application/json"})
    )
    http = httpx.AsyncClient(transport=transport)
    return OpenAIChatCompletionsClient(
        AsyncOpenAI(api_key="none", base_url="http://mock/v1", http_client=http)
    )


class Sums(vf.MultiTurnEnv):
    """Add two numbers, turn after turn."""

    async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
        return [{"role": "user", "content": f"And plus {len(state['trajectory'])}?"}]


def right(completion: Any, answer: str, **kwargs: Any) -> float:
    """Return the share of turns that gave the answer, as on our side."""
    said = [m["content"] if isinstance(m, dict) else m.content for m in completion if _role(m) == "assistant"]
    return sum(text == answer for text in said) / max(1, len(said))


def _role(message: Any) -> str:
    return message["role"] if isinstance(message, dict) else message.role


def environment(turns: int) -> Any:
    """Return the environment; a single turn is verifiers' own `SingleTurnEnv`."""
    from datasets import Dataset

    rng = random.Random(0)
    rows = [
        {
            "question": f"What is {rng.randrange(100_000)} + {rng.randrange(100_000)}? Number only.",
            "answer": ANSWER,
        }
        for _ in range(256)
    ]
    rubric = vf.Rubric(funcs=[right], weights=[1.0])
    if turns == 1:
        return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=rubric)
    return Sums(dataset=Dataset.from_list(rows), rubric=rubric, max_turns=turns)


async def run(env: Any, order: dict[str, Any]) -> dict[str, float]:
    """Run the episodes of one request."""
    groups = -(-order["episodes"] // order["siblings"])
    rows = env.get_dataset(n=groups).to_list()
    inputs = [
        dict(rows[at % len(rows)], example_id=at) for at in range(groups) for _ in range(order["siblings"])
    ]
    inputs = inputs[: order["episodes"]]
    client = client_of(order["client"])
    gate = asyncio.Semaphore(order["concurrent"])

    async def one(row: Any) -> Any:
        async with gate:
            return await env.run_rollout(row, client, "m", {})

    started = time.perf_counter()
    if order["client"] == "openai":
        done = await env.generate(
            inputs, client, "m", max_concurrent=order["concurrent"], independent_scoring=True,
            on_start=lambda *_: None, on_progress=lambda *_: None, on_log=lambda *_: None,
        )  # fmt: skip
        outputs = done["outputs"]
    else:
        outputs = await asyncio.gather(*map(one, inputs))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "reward": sum(o["reward"] for o in outputs) / len(outputs)}


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    made: dict[int, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        turns = order["turns"]
        env = made.get(turns) or made.setdefault(turns, environment(turns))
        answers.write(json.dumps(asyncio.run(run(env, order))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
