"""One episode in flight: its environment, and the tokens exactly as they were fed and sampled."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rolloom.envs.base import ROLES, TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, Messages, StopReason, Task
from rolloom.rollout.env_calls import AnyJob
from rolloom.rollout.prompts import PromptCache
from rolloom.rollout.types import Assignment, Completion, Request, Trajectory, derive_seed

MAX_REPLY_CHARS = 200_000
MAX_OPENING_CHARS = 16_000_000
"""An opening may be a long document: some four million tokens of text."""
MAX_COMPONENTS = 64
MAX_KEY_CHARS = 256


@dataclass(slots=True)
class EnvReply:
    """What came back from one environment call, checked at the boundary.

    Attributes:
        messages: new messages, plain dicts of plain strings.
        reward: finite.
        terminated: the episode is over.
        truncated: the turn limit was reached.
        tools: function dicts in the OpenAI form, of JSON types only.
        key: content key of the problem, "" if the environment told none.
        components: finite parts of the reward.
    """

    messages: Messages
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    tools: tuple[dict[str, Any], ...] = ()
    key: str = ""
    components: dict[str, float] = field(default_factory=dict)


def checked_reply(
    messages: Any, reward: Any, terminated: Any, truncated: Any, info: Any, limit: int = MAX_REPLY_CHARS
) -> EnvReply:
    """Return an environment's answer in exact types, whatever classes the environment made it of.

    It runs where the environment runs: a conversion that hangs is the environment's own.

    Args:
        messages: new messages.
        reward: of the turn.
        terminated: the episode is over.
        truncated: the turn limit was reached.
        info: `tools`, `key` and `components`.
        limit: most characters of messages and tools together.

    Raises:
        EnvError: messages of another shape, more than `limit` characters, or a reward that is not finite.
    """
    if not isinstance(messages, tuple | list):
        raise EnvError(f"expected a tuple of messages, got {type(messages).__name__}")
    plain = tuple(_plain_message(message, limit) for message in messages)
    info = dict(info or {})
    tools = [tool.to_openai() if hasattr(tool, "to_openai") else tool for tool in info.get("tools", ())]
    try:
        written = json.dumps(tools, allow_nan=False) if tools else "[]"
    except (TypeError, ValueError, RecursionError) as error:
        raise EnvError(f"info['tools']: expected JSON types, got {error}") from error
    total = len(written) + sum(len(message["content"]) + len(message.get("name", "")) for message in plain)
    if total > limit:
        raise EnvError(f"expected at most {limit} characters in a reply, got {total}")
    number = float(reward)
    if not math.isfinite(number):
        raise EnvError(f"expected a finite reward, got {number}")
    parts = {
        str(name)[:MAX_KEY_CHARS]: float(value) for name, value in dict(info.get("components") or {}).items()
    }
    if len(parts) > MAX_COMPONENTS or not all(map(math.isfinite, parts.values())):
        raise EnvError(
            f"info['components']: expected at most {MAX_COMPONENTS} finite numbers, got {len(parts)}"
        )
    key = str(info.get("key", ""))[:MAX_KEY_CHARS]
    told = tuple(json.loads(written)) if tools else ()
    return EnvReply(plain, number, bool(terminated), bool(truncated), told, key, parts)


def _plain_message(message: Any, limit: int) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise EnvError("expected messages with a 'role' and string 'content'")
    role, name = message.get("role"), message.get("name")
    role = _as_str(role, limit) if isinstance(role, str) else repr(type(role))
    if role not in ROLES:
        raise EnvError(f"expected a message's role to be one of {', '.join(ROLES)}, got {role[:80]!r}")
    plain = Message(role=role, content=_as_str(message["content"], limit))  # type: ignore[typeddict-item]
    if isinstance(name, str):
        plain["name"] = _as_str(name, limit)
    return plain


def _as_str(text: str, limit: int) -> str:
    length = str.__len__(text)
    if length > limit:
        raise EnvError(f"expected at most {limit} characters in a reply, got {length}")
    # A subclass may lie in any method it overrides; the base's own iterator reads the characters.
    return text if type(text) is str else "".join(str.__iter__(text))


class Episode:
    """State of one assignment inside an environment worker.

    Args:
        assignment: what to run.
        prompts: tokenises what the environment says.
        max_context: longest sequence, in tokens.
        max_new_tokens: limit of one completion.
        step_s: seconds an environment call may take.
        episode_s: seconds the episode may take.

    Attributes:
        session: id of the assignment, and name of the episode's session in its engine.
        env_s: seconds spent in the environment's own calls.
    """

    def __init__(
        self, assignment: Assignment, prompts: PromptCache, max_context: int, max_new_tokens: int,
        step_s: float, episode_s: float,
    ) -> None:  # fmt: skip
        self.assignment = assignment
        self.session = assignment.id
        self.prompts, self.tokenizer = prompts, prompts.tokenizer
        self.step_s, self.episode_s = step_s, episode_s
        self.max_context, self.max_new_tokens = max_context, max_new_tokens
        self.env: TextEnv | None = None
        self.job: AnyJob | None = None
        self.env_s = 0.0
        self.started = time.monotonic()
        self.waits_on = "start"
        self.turns = 0
        self._key = ""
        self._ids: list[int] = []
        # Where each completion begins in `_ids`, and its log-probs.
        self._sampled: list[tuple[int, np.ndarray]] = []
        self._experts: list[np.ndarray] = []
        self._messages: list[Message] = []
        self._turn_rewards: list[float] = []
        self._components: dict[str, float] = {}
        self._think_tokens = 0
        self._versions: list[int] = []

    @property
    def opened(self) -> bool:
        """True once the environment's opening has been taken."""
        return bool(self._ids)

    def open(self, reply: EnvReply) -> Request:
        """Tokenise the opening and return the first request."""
        self._key = reply.key
        self._messages.extend(reply.messages)
        ids = self.prompts.opening(reply.messages, reply.tools)
        return self._request(ids, continues=False)

    def answer(self, reply: EnvReply) -> Request | StopReason:
        """Take an environment's answer; return the next request, or why the episode is over."""
        self._turn_rewards.append(reply.reward)
        for name, value in reply.components.items():
            self._components[name] = self._components.get(name, 0.0) + value
        self._messages.extend(reply.messages)
        if reply.terminated:
            return StopReason.DONE
        if reply.truncated:
            return StopReason.MAX_TURNS
        ids = self.prompts.continuation(reply.messages)
        # Two more tokens are needed: one to sample, one to stop.
        if len(self._ids) + len(ids) + 2 >= self.max_context:
            return StopReason.MAX_TOKENS
        return self._request(ids, continues=True)

    def _request(self, ids: list[int], continues: bool) -> Request:
        self._ids += ids
        seed = derive_seed(self.assignment.seed, self.turns)
        return Request(
            f"{self.session}/{self.turns}", ids, seed, self.max_new_tokens,
            self.assignment.temperature, self.session, continues,
        )  # fmt: skip

    def take(self, completion: Completion) -> str:
        """Append a completion's tokens and return its text for the environment."""
        self.turns += 1
        self._versions.append(completion.policy_version)
        self._sampled.append((len(self._ids), completion.logprobs))
        self._ids += completion.ids
        if completion.experts is not None:
            self._experts.append(completion.experts)
        close = self.tokenizer.think_close_id
        self._think_tokens += completion.ids.index(close) if close in completion.ids else len(completion.ids)
        text = self.tokenizer.completion_text(completion.ids)
        self._messages.append(Message(role="assistant", content=text))
        return text

    def finish(self, stop: StopReason, error: str = "") -> Trajectory:
        """Return the record of the episode."""
        ids = np.asarray(self._ids, np.int32)
        experts = None
        if self._experts:
            recorded = np.concatenate(self._experts)
            # The last sampled token was never fed, so no experts were chosen for it; nothing is predicted
            # from it.
            experts = np.zeros((len(ids), *recorded.shape[1:]), recorded.dtype)
            experts[: len(recorded)] = recorded[: len(ids)]
        a, task = self.assignment, self.assignment.task
        if self._key and self._key != task.key:
            # `dataclasses.replace` takes ten times as long.
            task = Task(task.env_id, task.split, task.level, task.seed, self._key)
            a = Assignment(a.batch, a.group, a.sample, task, a.seed, a.temperature, a.attempt, a.engine)
        mask, logprobs = np.zeros(len(ids), bool), np.zeros(len(ids), np.float32)
        for start, values in self._sampled:
            mask[start : start + len(values)] = True
            logprobs[start : start + len(values)] = values
        return Trajectory(
            assignment=a,
            stop=stop,
            score=None if stop.is_failure else min(1.0, max(0.0, sum(self._turn_rewards))),
            ids=ids,
            mask=mask,
            logprobs=logprobs,
            experts=experts,
            completion_tokens=int(mask.sum()),
            think_tokens=self._think_tokens,
            turns=self.turns,
            # A completion that was cut short was never answered.
            turn_rewards=self._turn_rewards + [0.0] * (self.turns - len(self._turn_rewards)),
            env_s=self.env_s,
            messages=self._messages,
            components=self._components,
            policy_version=self._versions[0] if self._versions else 0,
            last_policy_version=self._versions[-1] if self._versions else 0,
            seconds=time.monotonic() - self.started,
            error=error,
        )
