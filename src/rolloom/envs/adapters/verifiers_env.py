"""Environments of the package verifiers, of both its generations.

`VerifiersTaskset` is for 0.4 and later (`verifiers.v1`: tasksets and tasks that score a trace).
`VerifiersEnv` is for 0.1 (`load_environment`, rubrics): its own rollout loop runs, and the policy sits where
it expects a client, so single-turn, multi-turn and tool environments need nothing special.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rolloom.envs import aio
from rolloom.envs.adapters.rows import Rows
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import render_call
from rolloom.envs.text import safe_text, whole
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Split, ToolSpec


def _load(name: str, **arguments: Any) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)(**arguments)


def _text(content: Any) -> str:
    """Return the text of a message's content.

    Raises:
        EnvError: it has parts that are no text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[str] = []
    for part in content:
        text = _field(part, "text")
        if not isinstance(text, str):
            raise EnvError("a prompt has parts that are no text")
        parts.append(text)
    return "\n".join(parts)


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)


def _read(messages: Any) -> list[Message]:
    """Return chat messages, dicts or objects, in our form."""
    if isinstance(messages, str):
        return [Message(role="user", content=messages)]
    found = []
    for message in messages:
        role, content = _field(message, "role"), _text(_field(message, "content"))
        for call in _field(message, "tool_calls") or ():
            function = _field(call, "function") or call
            arguments = json.loads(_field(function, "arguments") or "{}")
            content = f"{content}\n{render_call(_field(function, 'name'), arguments)}".strip()
        if role not in ("system", "user", "assistant", "tool"):
            raise EnvError(f"a prompt has a message of role {role!r}")
        found.append(Message(role=role, content=content))
    return found


class _Ranged(TextEnv):
    """What both generations share: rewards are weighted sums, with a range that the user has to know."""

    levels = (1, 1)
    asynchronous = True

    def __init__(self, low: float = 0.0, high: float = 1.0, **kwargs: Any) -> None:
        if not low < high:
            raise EnvError(f"expected low < high, got {low} and {high}")
        self.low, self.high = low, high
        super().__init__(**kwargs)

    def _paid(self, reward: Any, parts: Mapping[str, Any]) -> Reply:
        if not isinstance(reward, int | float) or not self.low - 1e-9 <= reward <= self.high + 1e-9:
            raise EnvError(f"a reward of {reward!r}, not in [{self.low}, {self.high}]; set low and high")
        share = min(1.0, max(0.0, (float(reward) - self.low) / (self.high - self.low)))
        numbers = {
            str(name): float(value)
            for name, value in parts.items()
            if isinstance(value, bool | int | float) and np.isfinite(value)
        }
        return Reply(reward=share, done=True, components={**numbers, "correct": share})


class VerifiersTaskset(_Ranged):
    """A taskset of verifiers 0.4 or later; each task is a problem of one turn.

    The task's own `@reward` and `@metric` methods score a trace that has the prompt and the completion. Tasks
    that need tool servers or a container are refused: those are run by a harness, not turn by turn.

    Register one with `register("vf/words-v0", "rolloom.envs.adapters.verifiers_env:VerifiersTaskset",
    taskset="my_package.words:make")`.

    Args:
        taskset: `module:attribute` that returns a taskset when called, or the id of an installed one.
        arguments: of that call; of the taskset's configuration, for an id.
        limit: most tasks that are read; some tasksets never end.
        gold: name of the field of a task's data that has a right answer.
        low: reward that is worth 0.
        high: reward that is worth 1.
        kwargs: arguments of `TextEnv`.
    """

    def __init__(
        self,
        taskset: str = "",
        arguments: dict[str, Any] | None = None,
        limit: int = 100_000,
        gold: str = "answer",
        **kwargs: Any,
    ) -> None:
        import verifiers.v1 as vf

        if not taskset:
            raise EnvError("taskset: expected `module:attribute`, or the id of an installed taskset")
        arguments = arguments or {}
        if ":" in taskset:
            made = _load(taskset, **arguments)
        else:
            config = vf.taskset_config_type(taskset)(id=taskset, **arguments)
            made = vf.load_taskset(config)
        self._tasks = list(made.take(limit))
        if self._tasks and (type(self._tasks[0]).NEEDS_CONTAINER or _has_tools(made, self._tasks[0])):
            raise EnvError(
                f"{taskset}: its tasks need a container or tool servers, which only a harness runs"
            )
        self._rows = Rows([task.data.model_dump(mode="json") for task in self._tasks], taskset)
        self._gold, self._task = gold, None
        super().__init__(**kwargs)

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        index = self._rows.draw(rng, split)
        self.problem, self._task = self._rows.rows[index], self._tasks[index]
        return self._rows.keys[index]

    def prompt(self) -> Messages:
        """Return the task's system prompt and prompt."""
        data = self._task.data  # type: ignore[union-attr]
        system = [Message(role="system", content=data.system_prompt)] if data.system_prompt else []
        return (*system, *_read(data.prompt or ""))

    async def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode with what the task scores."""
        task = self._task
        if turn.malformed is not None or turn.tool_calls or task is None:
            return Reply(done=True, components={"correct": 0.0})
        trace = _trace(task, self.prompt(), turn)
        try:
            await task.setup(trace, None)
            await task.finalize(trace, None)
            await task.score(trace)
        except Exception as error:  # a task may raise anything; its author's mistake, not the policy's
            raise EnvError(
                f"{type(task).__name__} raised {type(error).__name__}: {str(error)[:200]}"
            ) from error
        if not any(reward is not None for reward in trace.rewards.values()):
            raise EnvError(f"{type(task).__name__} has no reward that can be computed without a harness")
        return self._paid(trace.reward, trace.metrics)

    def gold(self) -> str:
        """Return the field of the task's data that has a right answer."""
        if self.problem.get(self._gold) is None:
            raise NotImplementedError
        return str(self.problem[self._gold])


def _has_tools(taskset: Any, task: Any) -> bool:
    shared = type(taskset).toolsets(getattr(taskset, "config", None))
    return bool(shared or type(task).toolsets(task.config))


def _trace(task: Any, prompt: Messages, turn: AssistantTurn) -> Any:
    """Return a trace of one turn: the prompt's messages, then the completion as the sampled one."""
    import verifiers.v1 as vf
    from verifiers.v1.state import state_cls

    kinds = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
    messages = [kinds[message["role"]](content=message["content"]) for message in prompt]
    said = vf.AssistantMessage(content=whole(turn.content), reasoning_content=whole(turn.reasoning) or None)
    nodes = [
        vf.MessageNode(parent=index - 1 if index else None, message=message, sampled=message is said)
        for index, message in enumerate([*messages, said])
    ]
    known = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
    agent, state = vf.AgentInfo(config=vf.AgentConfig()), state_cls(type(task))()
    return vf.Trace(task=known, agent=agent, state=state, nodes=nodes, is_completed=True, ok=True)


class VerifiersEnv(_Ranged):
    """An environment of verifiers 0.1 (written against 0.1.14), of any number of turns, tools included.

    Its own `rollout` runs from beginning to end; where it asks a model, the episode waits for the policy. Its
    rubric's score is the reward. Rows of its data set are the problems; our rule says which are held out.

    Register one with `register("vf/wordle-v0", "rolloom.envs.adapters.verifiers_env:VerifiersEnv",
    env_id="wordle", max_turns=8)`.

    Args:
        env_id: id for `verifiers.load_environment`, or `module:attribute` that returns an environment.
        arguments: of that call.
        max_turns: most turns; the environment's own limit by default.
        low: reward that is worth 0.
        high: reward that is worth 1.
        kwargs: arguments of `TextEnv`.
    """

    def __init__(
        self,
        env_id: str = "",
        arguments: dict[str, Any] | None = None,
        max_turns: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not env_id:
            raise EnvError("env_id: expected the id of a verifiers environment, or `module:attribute`")
        arguments = arguments or {}
        if ":" in env_id:
            self.inner = _load(env_id, **arguments)
        else:
            verifiers = importlib.import_module("verifiers")
            if not hasattr(verifiers, "load_environment"):
                raise EnvError("this version of verifiers has no load_environment; use VerifiersTaskset")
            self.inner = verifiers.load_environment(env_id, **arguments)
        self._rows = Rows([dict(row) for row in self.inner.get_dataset()], env_id)
        limit = getattr(self.inner, "max_turns", 1)
        super().__init__(max_turns=max_turns or (limit if limit and limit > 0 else 100), **kwargs)
        self._episode: _Episode | None = None

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        index = self._rows.draw(rng, split)
        self.problem = self._rows.rows[index]
        return self._rows.keys[index]

    async def begin(self) -> None:
        """Start the environment's rollout and wait for its first question to the model."""
        if self._episode is not None:
            await self._episode.stop()
        self._episode = _Episode(self.inner, self.problem)
        if not await self._episode.asked():
            raise EnvError("the rollout ended before it asked the policy anything")

    def prompt(self) -> Messages:
        """Return the first question."""
        assert self._episode is not None
        return tuple(self._episode.opening)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the tools that came with the question."""
        assert self._episode is not None
        return self._episode.tools

    async def respond(self, turn: AssistantTurn) -> Reply:
        """Give the completion to the rollout; return its next question, or its score."""
        episode = self._episode
        assert episode is not None
        episode.answer(turn)
        if await episode.asked():
            return Reply(tuple(episode.added))
        return self._paid(episode.state["reward"], episode.state.get("metrics") or {})

    def gold(self) -> str:
        """Return the row's answer."""
        if self.max_turns > 1 or not self.problem.get("answer"):
            raise NotImplementedError
        return str(self.problem["answer"])

    def close(self) -> None:
        """Give up the running rollout."""
        if self._episode is not None:
            with contextlib.suppress(Exception):
                aio.spawn(self._episode.stop()).result(10)


class _Episode:
    """One rollout of theirs in a task of its own; both sides wait for each other.

    Attributes:
        opening: messages of the first question.
        added: messages since the policy's last completion.
        tools: on offer.
        state: theirs, when the rollout is over and scored.
    """

    def __init__(self, inner: Any, row: Mapping[str, Any]) -> None:
        self.questions: asyncio.Queue[tuple[list[Message], Sequence[Any]] | None] = asyncio.Queue()
        self.answers: asyncio.Queue[AssistantTurn] = asyncio.Queue()
        self.opening: list[Message] = []
        self.added: list[Message] = []
        self.tools: tuple[ToolSpec, ...] = ()
        self.state: dict[str, Any] = {}
        self._task = asyncio.get_running_loop().create_task(self._run(inner, dict(row)))

    async def _run(self, inner: Any, row: dict[str, Any]) -> None:
        try:
            state = await inner.rollout(row, _client(self), "policy", {})
            if state.get("error") is not None:
                raise EnvError(f"the rollout failed: {safe_text(repr(state['error']), 300)}")
            score = inner.rubric.score_rollout(state)
            if inspect.isawaitable(score):
                await score
            self.state = state
        finally:
            self.questions.put_nowait(None)

    async def ask(self, prompt: Any, tools: Sequence[Any]) -> AssistantTurn:
        """Put a question to the policy and return what it answers; called from their loop."""
        self.questions.put_nowait((_read(prompt), tools or ()))
        return await self.answers.get()

    async def asked(self) -> bool:
        """Wait for the next question; False when the rollout is over.

        Raises:
            EnvError: it failed.
        """
        question = await self.questions.get()
        if question is None:
            try:
                await self._task
            except EnvError:
                raise
            except Exception as error:  # their code may raise anything
                raise EnvError(f"the rollout raised {type(error).__name__}: {str(error)[:200]}") from error
            return False
        messages, tools = question
        if not self.opening:
            self.opening = messages
        last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
        self.added = [
            Message(role=message["role"], content=safe_text(message["content"]))
            for message in messages[last + 1 :]
        ]
        self.tools = tuple(
            ToolSpec(
                _field(tool, "name"), _field(tool, "description") or "", dict(_field(tool, "parameters"))
            )
            for tool in tools
        )
        return True

    def answer(self, turn: AssistantTurn) -> None:
        """Let the rollout go on with a completion."""
        self.answers.put_nowait(turn)

    async def stop(self) -> None:
        """End the rollout, whatever it is doing."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task


def _client(episode: _Episode) -> Any:
    """Return a client of theirs that asks the episode's policy."""
    client_class = importlib.import_module("verifiers.clients.client").Client
    types = importlib.import_module("verifiers.types")

    async def get_response(
        self: Any, prompt: Any, model: str, sampling_args: Any, tools: Any = None, **kwargs: Any
    ) -> Any:
        turn = await episode.ask(prompt, tools)
        calls = [
            types.ToolCall(
                id=f"call_{time.monotonic_ns()}_{i}", name=call.name, arguments=json.dumps(call.arguments)
            )
            for i, call in enumerate(turn.tool_calls)
        ]
        message = types.ResponseMessage(
            content=whole(turn.content) if turn.malformed is None else "",
            reasoning_content=whole(turn.reasoning) or None,
            tool_calls=calls or None,
            finish_reason="tool_calls" if calls else "stop",
            is_truncated=False,
        )
        return types.Response(id="rolloom", created=0, model=model, message=message)

    def unused(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    names = dict.fromkeys(getattr(client_class, "__abstractmethods__", ()), unused)
    made = type("PolicyClient", (client_class,), {**names, "get_response": get_response})
    return made(None)
