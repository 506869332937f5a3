"""A served environment, used as an ordinary one: `RemoteEnv`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp

from rolloom.envs import aio
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, ToolSpec

MAX_ANSWER_BYTES = 64_000_000
RETRY_S = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Waits before a server that has no free session is asked again."""


class RemoteEnv(TextEnv):
    """An environment of a `rolloom envs serve` server.

    Problems, rewards and turn limits are the server's; the same (seed, split, level) is the same problem as
    there. Steps wait on the network, so episodes share an event loop. There is no gold: the server keeps it.

    Register one with `register("far/chain-v0", "rolloom.envs.serve:RemoteEnv", url="http://host:8765",
    id="math/affine_chain-v0", token_env="CHAIN_TOKEN")`.

    Args:
        url: of the server.
        id: which of its environments.
        token_env: environment variable that has the token. Tokens do not stand in configurations.
        timeout_s: seconds that a request may take.
        kwargs: arguments of `TextEnv`; without `level`, the lowest that the server has.
    """

    asynchronous = True

    def __init__(
        self,
        url: str = "",
        id: str = "",
        token_env: str = "ROLLOOM_SERVE_TOKEN",
        timeout_s: float = 120.0,
        **kwargs: Any,
    ) -> None:
        if not url.startswith(("http://", "https://")) or not id:
            raise EnvError(f"expected the url of a server and the id of its environment, got {url!r}, {id!r}")
        self.url, self.remote_id, self.timeout_s = url.rstrip("/"), id, timeout_s
        self._token = os.environ.get(token_env, "")
        if not self._token:
            raise EnvError(f"the environment variable {token_env} with the server's token is not set")
        self._client: aiohttp.ClientSession | None = None
        self._session = ""
        self._opened: dict[str, Any] = {}
        # `levels` is checked by the server.
        self.levels = (1, 1_000)  # pyright: ignore[reportAttributeAccessIssue]
        super().__init__(**kwargs)

    # -- one episode -----------------------------------------------------------------------------------------

    async def areset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict]:
        """Open a session; see `TextEnv.reset`."""
        await self._end_session()
        return await super().areset(seed=seed, options=options)

    async def _draw(self, seed: int, level: int, split: Any) -> str:
        body = {"id": self.remote_id, "seed": seed, "level": level, "split": split}
        for wait in (*RETRY_S, None):
            status, opened = await self._request("POST", "/sessions", body)
            if status != 429 or wait is None:
                break
            await asyncio.sleep(wait)
        if status != 200:
            raise EnvError(f"{self.url}: {opened.get('error', status)}")
        self._session, self._opened = str(opened["session"]), opened
        self.max_turns = int(opened["max_turns"])  # pyright: ignore[reportAttributeAccessIssue]  # by problem
        self.problem = {"key": str(opened["key"]), "messages": opened["messages"]}
        return self.problem["key"]

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the server's key."""
        return problem["key"]

    def prompt(self) -> Messages:
        """Return the server's opening messages."""
        return _messages(self._opened["messages"])

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the server's tools."""
        functions = [tool["function"] for tool in self._opened.get("tools", ())]
        return tuple(ToolSpec(f["name"], f["description"], f["parameters"]) for f in functions)

    async def respond(self, turn: AssistantTurn) -> Reply:
        """Send the completion and return the server's answer."""
        path = f"/sessions/{self._session}/step"
        status, answer = await self._request("POST", path, {"action": turn.text})
        if status != 200:
            raise EnvError(f"{self.url}: {answer.get('error', status)}")
        over = bool(answer["terminated"] or answer["truncated"])
        if over:
            await self._end_session()
        components = {str(name): float(value) for name, value in answer["info"]["components"].items()}
        return Reply(
            _messages(answer["messages"]), float(answer["reward"]), bool(answer["terminated"]), components
        )

    # -- the network -----------------------------------------------------------------------------------------

    async def _request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        if self._client is None or self._client.closed:
            timeout = aiohttp.ClientTimeout(total=self.timeout_s)
            headers = {"Authorization": f"Bearer {self._token}"}
            self._client = aiohttp.ClientSession(timeout=timeout, headers=headers)
        try:
            async with self._client.request(method, self.url + path, json=body) as response:
                length = response.content_length
                if length is None or length > MAX_ANSWER_BYTES:
                    raise EnvError(f"{self.url}: an answer of {length} bytes; this is no rolloom server")
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise EnvError(f"{self.url}: {type(error).__name__}: {str(error)[:200]}") from error
        if not isinstance(answer, dict):
            raise EnvError(f"{self.url}: expected a JSON object, got {type(answer).__name__}")
        return response.status, answer

    async def _end_session(self) -> None:
        name, self._session = self._session, ""
        if name:
            await self._request("DELETE", f"/sessions/{name}")

    async def _leave(self) -> None:
        try:
            await self._end_session()
        except EnvError:
            pass  # the server is gone, and the session with it
        finally:
            if self._client is not None:
                await self._client.close()

    def close(self) -> None:
        """Close the session and the connection."""
        if self._client is not None and not self._client.closed:
            aio.spawn(self._leave()).result(self.timeout_s)


def _messages(given: Any) -> Messages:
    return tuple(Message(**message) for message in given)
