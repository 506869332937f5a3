"""A running OpenEnv server as an environment: one WebSocket a session, as OpenEnv's own client has it."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
from typing import Any

import aiohttp
import jsonschema.validators
import numpy as np

from rolloom.envs import aio
from rolloom.envs.adapters.gymnasium_env import Rule
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import nesting, refuse_constant
from rolloom.envs.text import safe_text, whole
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply

MAX_ACTION_CHARS, MAX_DEPTH = 100_000, 64
MAX_MESSAGE_BYTES = 16_000_000
HIDDEN = ("done", "reward", "metadata")


class OpenEnvClient(TextEnv):
    """An environment of an OpenEnv server, played over its WebSocket (`/ws`: reset, step, state).

    An action with one required text field is the content as it is; any other is written as a JSON object of
    the server's action schema, which the opening shows. Observations are shown as the field `shown`, or as
    JSON. A text that is no action costs a turn and changes nothing. The server's rewards become one in [0, 1]
    by a declared `Rule`, see `GymnasiumEnv`.

    Problems are seeds, which the server's `reset` gets; `arguments` go along.

    Register one with `register("open/echo-v0", "rolloom.envs.adapters.openenv_client:OpenEnvClient",
    url="http://127.0.0.1:8000", rule={"kind": "return", "high": 5})`.

    Args:
        url: of the server.
        rule: how its rewards become a reward in [0, 1], as keyword arguments of `Rule`.
        instruction: a sentence or two about the task, put before the first observation.
        shown: field of the observation that the policy sees; all of them without.
        arguments: further keyword arguments of the server's `reset`.
        gold: `module:function` that is given this adapter and returns the content of a right next turn.
        max_turns: most turns.
        timeout_s: seconds that the server may take for one message.
        kwargs: arguments of `TextEnv`.

    Attributes:
        observation: the last one, without what `HIDDEN` names.
    """

    levels = (1, 1)
    asynchronous = True

    def __init__(
        self,
        url: str = "",
        rule: dict[str, Any] | None = None,
        instruction: str = "",
        shown: str = "",
        arguments: dict[str, Any] | None = None,
        gold: str = "",
        max_turns: int = 32,
        timeout_s: float = 60.0,
        **kwargs: Any,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise EnvError(f"url: expected the http address of an OpenEnv server, got {url!r}")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self.rule, self.instruction, self.shown = Rule(**rule or {}), instruction, shown
        self.arguments, self._gold = arguments or {}, gold
        self.observation: dict[str, Any] = {}
        self.rewards: list[float] = []
        self.opening = ""
        self._schema: dict[str, Any] = {}
        self._validator: Any = None
        self._client: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        super().__init__(max_turns=max_turns, **kwargs)

    # -- one episode -----------------------------------------------------------------------------------------

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"seed"}`."""
        return {"seed": int(rng.integers(2**31))}

    async def begin(self) -> None:
        """Open a session of its own and reset it to the problem's seed."""
        await self.hang_up()
        self.rewards = []
        if self._client is None:
            self._client = aiohttp.ClientSession()
        try:
            if not self._schema:
                async with self._client.get(f"{self.url}/schema", timeout=self._timeout()) as answer:
                    self._set_schema((await answer.json())["action"])
            socket = f"ws{self.url.removeprefix('http')}/ws"
            self._socket = await self._client.ws_connect(socket, max_msg_size=MAX_MESSAGE_BYTES)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise EnvError(f"{self.url}: {type(error).__name__}: {str(error)[:200]}") from error
        answer = await self._ask("reset", {**self.arguments, **self.problem})
        if answer.get("type") != "observation":
            raise EnvError(f"{self.url}: reset failed: {safe_text(json.dumps(answer), 300)}")
        self._observe(answer["data"])
        self.opening = "\n".join(part for part in (self.instruction, self.scene(), self.how()) if part)

    def _set_schema(self, schema: dict[str, Any]) -> None:
        schema = copy.deepcopy(schema)
        schema.get("properties", {}).pop("metadata", None)
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
        self._schema, self._validator = schema, validator(schema)

    def _plain_field(self) -> str:
        """Return the name of the only required field, if it is text and there is no other."""
        properties, required = self._schema.get("properties", {}), self._schema.get("required", [])
        if len(required) == len(properties) == 1 and properties[required[0]].get("type") == "string":
            return required[0]
        return ""

    def how(self) -> str:
        """Return how an action is written."""
        if self._plain_field():
            told = self._schema["properties"][self._plain_field()].get("description", "")
            return f"Your answer is sent as it is ({told})." if told else "Your answer is sent as it is."
        parts = {
            name: self._schema[name] for name in ("properties", "required", "$defs") if name in self._schema
        }
        return f"Answer with one JSON object of this schema: {json.dumps(parts)}"

    def scene(self) -> str:
        """Return what the policy is shown of the last observation."""
        value = self.observation.get(self.shown) if self.shown else self.observation
        return safe_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    def prompt(self) -> Messages:
        """Return the instruction, the first observation and the form of actions."""
        return (Message(role="user", content=self.opening),)

    async def respond(self, turn: AssistantTurn) -> Reply:
        """Take one action, or say why the text is none."""
        action, problem = self._action(turn)
        if not problem:
            answer = await self._ask("step", action)
            data = answer.get("data") or {}
            if answer.get("type") == "observation":
                return self._stepped(data)
            if data.get("code") != "VALIDATION_ERROR":
                raise EnvError(f"{self.url}: step failed: {safe_text(json.dumps(answer), 300)}")
            problem = "the server does not take it"
        text = f"That is no action: {problem}. {self.how()}"
        return Reply((Message(role="user", content=text),), components={"invalid": 1.0})

    def _action(self, turn: AssistantTurn) -> tuple[dict[str, Any], str]:
        """Return the action that a turn means, or what is wrong with it."""
        content = whole(turn.content)
        if turn.malformed is not None or turn.tool_calls or len(content) > MAX_ACTION_CHARS:
            return {}, "too long, a tool call, or not closed"
        if self._plain_field():
            return {self._plain_field(): content}, ""
        try:
            if nesting(content, MAX_DEPTH) > MAX_DEPTH:
                return {}, f"nested deeper than {MAX_DEPTH}"
            action = json.loads(content, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            return {}, "not JSON"
        if not isinstance(action, dict) or "metadata" in action:
            return {}, "not an object of the schema"
        wrong = next(iter(self._validator.iter_errors(action)), None)
        return action, f"it does not fit the schema's {wrong.validator}" if wrong is not None else ""

    def _stepped(self, data: dict[str, Any]) -> Reply:
        done = self._observe(data)
        over = done or self.turn_index + 1 >= self.max_turns
        paid = self.rule.pay(self.rewards, done, over, self.max_turns)
        components = {"inner_return": sum(self.rewards), "steps": float(len(self.rewards))} if over else {}
        if done:
            return Reply(reward=paid, done=True, components=components | {"correct": float(paid >= 1)})
        return Reply((Message(role="user", content=self.scene()),), paid, components=components)

    def _observe(self, data: dict[str, Any]) -> bool:
        observation = data.get("observation", {})
        self.observation = {name: value for name, value in observation.items() if name not in HIDDEN}
        reward = data.get("reward")
        if reward is not None and not (isinstance(reward, int | float) and np.isfinite(reward)):
            raise EnvError(f"{self.url}: expected a finite reward, got {str(reward)[:40]}")
        self.rewards.append(float(reward or 0.0))
        return bool(data.get("done"))

    async def state(self) -> dict[str, Any]:
        """Return the server's state of this session."""
        return (await self._ask("state", None)).get("data", {})

    def gold(self) -> str:
        """Return what the declared gold does."""
        if not self._gold:
            raise NotImplementedError
        module, _, function = self._gold.partition(":")
        return getattr(importlib.import_module(module), function)(self)

    # -- the network -----------------------------------------------------------------------------------------

    async def _ask(self, kind: str, data: Any) -> dict[str, Any]:
        if self._socket is None:
            raise EnvError(f"{self.url}: no session is open")
        try:
            await self._socket.send_json({"type": kind} if data is None else {"type": kind, "data": data})
            answer = await self._socket.receive_json(timeout=self.timeout_s)
        except (aiohttp.ClientError, TimeoutError, TypeError, ValueError, ConnectionError) as error:
            # A session whose answers would come one behind is of no use.
            await self.hang_up()
            raise EnvError(f"{self.url}: {kind}: {type(error).__name__}: {str(error)[:200]}") from error
        if not isinstance(answer, dict):
            raise EnvError(f"{self.url}: {kind}: expected an object, got {type(answer).__name__}")
        return answer

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self.timeout_s)

    async def hang_up(self) -> None:
        """End the session on the server."""
        socket, self._socket = self._socket, None
        if socket is not None:
            with contextlib.suppress(Exception):
                await socket.send_json({"type": "close"})
            await socket.close()

    async def _leave(self) -> None:
        await self.hang_up()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def close(self) -> None:
        """End the session and close the connection."""
        if self._client is not None:
            aio.spawn(self._leave()).result(self.timeout_s)
