"""One episode in flight: its environment, and the tokens exactly as they were fed and sampled."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Message, Messages, StopReason
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.daemon_pool import Job
from rolloom.rollout.types import Assignment, Completion, Request, Trajectory, derive_seed

MAX_REPLY_CHARS = 200_000


@dataclass(slots=True)
class EnvReply:
    """What came back from one environment call, checked at the boundary."""

    messages: Messages
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)


def checked_reply(messages: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> EnvReply:
    """Return an environment's answer in exact types.

    Raises:
        EnvError: messages of another shape, more than `MAX_REPLY_CHARS` characters, or a reward that is not
            finite.
    """
    if not isinstance(messages, tuple | list):
        raise EnvError(f"expected a tuple of messages, got {type(messages).__name__}")
    total = 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise EnvError("expected messages with a 'role' and string 'content'")
        total += len(message["content"])
    if total > MAX_REPLY_CHARS:
        raise EnvError(f"expected at most {MAX_REPLY_CHARS} characters in a reply, got {total}")
    number = float(reward)
    if not math.isfinite(number):
        raise EnvError(f"expected a finite reward, got {number}")
    return EnvReply(tuple(messages), number, bool(terminated), bool(truncated), dict(info or {}))


class Episode:
    """State of one assignment inside an environment worker.

    Args:
        assignment: what to run.
        tokenizer: the policy's.
        max_context: longest sequence, in tokens.
        max_new_tokens: limit of one completion.
    """

    def __init__(
        self, assignment: Assignment, tokenizer: ChatTokenizer, max_context: int, max_new_tokens: int
    ) -> None:
        self.assignment = assignment
        self.tokenizer = tokenizer
        self.max_context, self.max_new_tokens = max_context, max_new_tokens
        self.env: TextEnv | None = None
        self.job: Job | None = None
        self.started = time.monotonic()
        self.waits_on = "start"
        self.turns = 0
        self._key = ""
        self._ids: list[int] = []
        self._mask: list[bool] = []
        self._logprobs: list[float] = []
        self._experts: list[np.ndarray] = []
        self._messages: list[Message] = []
        self._score = 0.0
        self._components: dict[str, float] = {}
        self._think_tokens = 0
        self._versions: list[int] = []

    @property
    def session(self) -> str:
        """Name of the episode's session in its engine."""
        return self.assignment.id

    def open(self, messages: Messages, tools: Any, key: str) -> Request:
        """Tokenise the opening and return the first request."""
        self._key = key
        self._messages.extend(messages)
        return self._request(self.tokenizer.prompt_ids(messages, tools), continues=False)

    def answer(self, reply: EnvReply) -> Request | StopReason:
        """Take an environment's answer; return the next request, or why the episode is over."""
        self._score += reply.reward
        for name, value in reply.info.get("components", {}).items():
            self._components[name] = self._components.get(name, 0.0) + float(value)
        self._messages.extend(reply.messages)
        if reply.terminated:
            return StopReason.DONE
        if reply.truncated:
            return StopReason.MAX_TURNS
        ids = self.tokenizer.continuation_ids(reply.messages)
        # Two more tokens are needed: one to sample, one to stop.
        if len(self._ids) + len(ids) + 2 >= self.max_context:
            return StopReason.MAX_TOKENS
        return self._request(ids, continues=True)

    def _request(self, ids: list[int], continues: bool) -> Request:
        self._ids += ids
        self._mask += [False] * len(ids)
        self._logprobs += [0.0] * len(ids)
        seed = derive_seed(self.assignment.seed, self.turns)
        return Request(
            f"{self.assignment.id}/{self.turns}", ids, seed, self.max_new_tokens,
            self.assignment.temperature, self.session, continues,
        )  # fmt: skip

    def take(self, completion: Completion) -> str:
        """Append a completion's tokens and return its text for the environment."""
        self.turns += 1
        self._versions.append(completion.policy_version)
        self._ids += completion.ids
        self._mask += [True] * len(completion.ids)
        self._logprobs += completion.logprobs.tolist()
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
        task = self.assignment.task
        known = dataclasses.replace(task, key=self._key or task.key)
        assignment = dataclasses.replace(self.assignment, task=known)
        mask = np.asarray(self._mask, bool)
        return Trajectory(
            assignment=assignment,
            stop=stop,
            score=None if stop.is_failure else min(1.0, max(0.0, self._score)),
            ids=ids,
            mask=mask,
            logprobs=np.asarray(self._logprobs, np.float32),
            experts=experts,
            completion_tokens=int(mask.sum()),
            think_tokens=self._think_tokens,
            turns=self.turns,
            messages=self._messages,
            components=self._components,
            policy_version=self._versions[0] if self._versions else 0,
            last_policy_version=self._versions[-1] if self._versions else 0,
            seconds=time.monotonic() - self.started,
            error=error,
        )
