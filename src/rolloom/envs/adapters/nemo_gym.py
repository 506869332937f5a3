r"""NeMo Gym's data sets and resources servers as environments.

A row has `responses_create_params` (messages and tools as the Responses API takes them), mostly `agent_ref`,
and fields for its verifier. `NemoGymRows` verifies answers here by a named rule, `NemoGymServer` plays rows
against a running resources server: `/seed_session`, one POST a tool call, `/verify`, all with the session's
cookie.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import jsonschema.validators
import numpy as np

from rolloom.envs.adapters import responses_api
from rolloom.envs.adapters.rows import read_rows
from rolloom.envs.aio import settled, spawn
from rolloom.envs.base import Answer, TextEnv
from rolloom.envs.errors import EnvError, did_you_mean
from rolloom.envs.parsing import render_call
from rolloom.envs.text import safe_text
from rolloom.envs.tool import Tool, ToolEnv, schema_tool
from rolloom.envs.types import AssistantTurn, Messages, Reply, Split, ToolSpec

Row = dict[str, Any]
Rule = Callable[[AssistantTurn, Row], Any]
MAX_ANSWER_BYTES = 1_000_000


def _boxed(content: str) -> str | None:
    from rolloom.envs.math.verify import final_text

    return final_text(content) if "\\boxed{" in content else None


def _exact(turn: AssistantTurn, row: Row) -> bool:
    said = turn.content if row.get("extraction_mode") != "boxed" else _boxed(turn.content) or ""
    right = str(row["expected_answer"])
    if row.get("case_sensitive") is False:
        said, right = said.lower(), right.lower()
    return said.strip() == right.strip()


def _math(turn: AssistantTurn, row: Row) -> bool:
    from rolloom.envs.math.verify import final_answer, same_answer

    return same_answer(final_answer(turn), str(row["expected_answer"]))


def _mcq(turn: AssistantTurn, row: Row) -> bool:
    said = (_boxed(turn.content) or "").strip().removesuffix(".").strip("()")
    letters = {letter for option in row.get("options", ()) for letter in option}
    return said == str(row["expected_answer"]) and (not letters or said in letters)


def _json_schema(turn: AssistantTurn, row: Row) -> bool:
    from rolloom.envs.form.strict_json import read_json

    schema: Any = row["schema_str"]
    schema = json.loads(schema) if isinstance(schema, str) else schema
    try:
        value = read_json(turn.content)
    except ValueError:
        return False
    return jsonschema.validators.validator_for(schema)(schema).is_valid(value)


def _tool_call(turn: AssistantTurn, row: Row) -> bool:
    action = row["expected_action"]
    if action.get("type") == "message":
        return not turn.tool_calls and bool(turn.content)
    wanted = action["arguments"]
    wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
    return [(call.name, call.arguments) for call in turn.tool_calls] == [(action["name"], wanted)]


RULES: dict[str, Rule] = {
    "exact": _exact,
    "math": _math,
    "mcq": _mcq,
    "json_schema": _json_schema,
    "tool_call": _tool_call,
}


def rule_of(row: Row) -> str:
    """Return the rule that a row's fields ask for.

    Raises:
        EnvError: they ask for none that is known here.
    """
    agent = row.get("agent_ref") or {}
    name = agent.get("name", "") if isinstance(agent, dict) else str(agent)
    if "expected_action" in row:
        return "tool_call"
    if "schema_str" in row:
        return "json_schema"
    if "expected_answer" in row:
        if "options" in row:
            return "mcq"
        return "math" if "math" in name or ("question" in row and "extraction_mode" not in row) else "exact"
    raise EnvError(
        f"no rule fits a row with {', '.join(sorted(row))} (agent {name or 'unnamed'}); "
        f"name one of {', '.join(RULES)}, or a function `module:function`"
    )


class _NemoGym(TextEnv):
    """What rows have in common, wherever they are verified."""

    levels = (1, 1)

    def __init__(self, data: str | list[Row] = "", **kwargs: Any) -> None:
        if not data:
            raise EnvError("data: expected a JSONL file of NeMo Gym rows, or a list of rows")
        self.rows = read_rows(data)
        super().__init__(**kwargs)

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        index = self.rows.draw(rng, split)
        self.problem = self.rows.rows[index]
        if not isinstance(self.problem.get("responses_create_params"), dict):
            raise EnvError(f"{self.rows.name}: expected rows with responses_create_params")
        return self.rows.keys[index]

    @property
    def params(self) -> dict[str, Any]:
        """The row's request."""
        return self.problem["responses_create_params"]

    def prompt(self) -> Messages:
        """Return the row's messages."""
        return responses_api.read_messages(self.params)

    def key_text(self, problem: Row) -> str:
        """Return the row."""
        return json.dumps(problem, sort_keys=True, default=str)


class NemoGymRows(_NemoGym):
    r"""Rows of a NeMo Gym data set, one turn each, verified by a rule.

    | rule | the answer has to be |
    |---|---|
    | `exact` | `expected_answer`, whole or in `\boxed{}` (`extraction_mode`, `case_sensitive`) |
    | `math` | equal to `expected_answer` as mathematics |
    | `mcq` | the letter `expected_answer` in `\boxed{}` |
    | `json_schema` | JSON that fits `schema_str` |
    | `tool_call` | exactly the call `expected_action`; for one of type `message`, any text without a call |

    Without a rule, the row's fields and `agent_ref` say which. Reward 1.0 or 0.0; a function
    `module:function(turn, row)`, sync or async, may return any number in [0, 1].

    Register one with `register("nemo/mcqa-v0", "rolloom.envs.adapters.nemo_gym:NemoGymRows",
    data="mcqa.jsonl")`.

    Args:
        data: JSONL file, or rows.
        rule: name of a rule, or `module:function`.
        kwargs: arguments of `TextEnv`.
    """

    asynchronous = True

    def __init__(self, data: str | list[Row] = "", rule: str = "", **kwargs: Any) -> None:
        self._rule = rule
        if rule and ":" not in rule and rule not in RULES:
            raise EnvError(f"rule: expected one of {', '.join(RULES)} or `module:function`, got {rule!r}."
                           f"{did_you_mean(rule, RULES)}")  # fmt: skip
        super().__init__(data, **kwargs)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the row's tools."""
        return responses_api.read_tools(self.params)

    async def respond(self, turn: AssistantTurn) -> Answer:
        """End the episode with the rule's verdict."""
        if turn.malformed is not None:
            return 0.0
        name = self._rule or rule_of(self.problem)
        if ":" in name:
            module, _, function = name.partition(":")
            verdict = await settled(getattr(importlib.import_module(module), function)(turn, self.problem))
            return float(verdict)
        if turn.tool_calls and name != "tool_call":
            return 0.0
        try:
            # In a thread: a comparison may wait for the verifier, and the loop is shared.
            return float(await asyncio.to_thread(RULES[name], turn, self.problem))
        except KeyError as error:
            raise EnvError(f"rule {name}: the row has no {error}") from error

    def gold(self) -> str:
        """Return an answer that the rule accepts, where the row has one."""
        name = self._rule or rule_of(self.problem)
        if name == "tool_call":
            action = self.problem["expected_action"]
            if action.get("type") == "message":
                return str(action.get("content") or "I cannot do that.")
            arguments = action["arguments"]
            return render_call(
                action["name"], json.loads(arguments) if isinstance(arguments, str) else arguments
            )
        answer = self.problem.get("gold", self.problem.get("expected_answer"))
        if answer is None:
            raise NotImplementedError
        boxed = name == "mcq" or self.problem.get("extraction_mode") == "boxed"
        return f"\\boxed{{{answer}}}" if boxed else str(answer)


class NemoGymServer(_NemoGym, ToolEnv):
    """Rows played against a running NeMo-Gym-style resources server.

    An episode seeds a session with the row (`POST /seed_session`), answers tool calls by `POST /<tool>` with
    the arguments as the body, and ends with the first turn that calls no tool, or with the last turn: `POST
    /verify` with the row and the whole response brings the reward. Cookies of the session go along. What a
    tool answers, an error status included, is what the policy sees, as NeMo Gym's own agent does it.

    Register one with `register("nemo/counter-v0", "rolloom.envs.adapters.nemo_gym:NemoGymServer",
    url="http://127.0.0.1:8000", data="counter.jsonl")`.

    Args:
        url: of the resources server.
        data: JSONL file, or rows.
        low: server's reward that is worth 0.
        high: server's reward that is worth 1.
        timeout_s: seconds that a request may take.
        max_turns: most turns, the answer included.
        kwargs: arguments of `TextEnv`.
    """

    asynchronous = True

    def __init__(
        self,
        url: str = "",
        data: str | list[Row] = "",
        low: float = 0.0,
        high: float = 1.0,
        timeout_s: float = 60.0,
        max_turns: int = 16,
        **kwargs: Any,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise EnvError(f"url: expected the http address of a resources server, got {url!r}")
        if not low < high:
            raise EnvError(f"expected low < high, got {low} and {high}")
        self.url, self.low, self.high, self.timeout_s = url.rstrip("/"), low, high, timeout_s
        self.output: list[dict[str, Any]] = []
        self._client: aiohttp.ClientSession | None = None
        super().__init__(data=data, max_turns=max_turns, **kwargs)

    # -- one episode -----------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Seed a fresh session with the row."""
        await self._hang_up()
        self.output = []
        status, text = await self._post("/seed_session", self.problem)
        if status >= 400:
            raise EnvError(f"{self.url}/seed_session: status {status}: {safe_text(text, 200)}")

    def toolbox(self) -> dict[str, Tool]:
        """Return the row's tools; the server answers them."""
        specs = responses_api.read_tools(self.params)
        return {spec.name: schema_tool(spec, self._caller(spec.name)) for spec in specs}

    def _caller(self, name: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> str:
            _, text = await self._post("/" + quote(name, safe=""), arguments)
            return text

        return call

    async def respond(self, turn: AssistantTurn) -> Answer:
        """Run the calls of a turn; verify one without calls, or the last."""
        items = responses_api.output_items(turn, self.turn_index)
        self.output += items
        last = self.turn_index + 1 >= self.max_turns
        if turn.malformed is not None or not turn.tool_calls:
            return await self._verify()
        reply = await self._run_all(turn.tool_calls)
        calls = [item["call_id"] for item in items if item["type"] == "function_call"]
        for call_id, message in zip(calls, reply.messages, strict=True):
            self.output.append(responses_api.call_output(call_id, message["content"]))
        return await self._verify() if last else reply

    async def _verify(self) -> Reply:
        answer = responses_api.response(self.output, self.params.get("tools") or ())
        status, text = await self._post("/verify", {**self.problem, "response": answer})
        try:
            verdict = json.loads(text)
            reward = float(verdict["reward"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EnvError(f"{self.url}/verify: status {status}, no reward: {safe_text(text, 200)}") from None
        if not self.low <= reward <= self.high:
            raise EnvError(
                f"{self.url}/verify: a reward of {reward}, not in [{self.low}, {self.high}]; set low, high"
            )
        paid = (reward - self.low) / (self.high - self.low)
        numbers = {
            safe_text(name, 60): float(value)
            for name, value in list(verdict.items())[:64]
            if isinstance(value, bool | int | float) and math.isfinite(value) and name != "reward"
        }
        return Reply(reward=paid, done=True, components={**numbers, "correct": paid})

    # -- the network -----------------------------------------------------------------------------------------

    async def _post(self, path: str, body: Any) -> tuple[int, str]:
        if self._client is None:
            # A jar of its own: the cookie is the session. Servers are mostly reached by an address.
            self._client = aiohttp.ClientSession(
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            )
        try:
            sent = json.dumps(body).encode()
            # A verifier sends back what it was sent: a long answer must not become an error.
            most = MAX_ANSWER_BYTES + 2 * len(sent)
            headers = {"Content-Type": "application/json"}
            async with self._client.post(self.url + path, data=sent, headers=headers) as answer:
                data = b""
                while len(data) <= most and (piece := await answer.content.readany()):
                    data += piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EnvError(f"{self.url}{path}: {type(error).__name__}: {str(error)[:200]}") from error
        if len(data) > most:
            raise EnvError(f"{self.url}{path}: expected an answer of at most {most} bytes, got more")
        return answer.status, data.decode("utf-8", "replace")

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            spawn(self._hang_up()).result(self.timeout_s)
