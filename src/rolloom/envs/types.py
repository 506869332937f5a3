"""What crosses the border between an environment and the rest of the house. Plain data: no torch, no ray.

Words: a *task* is one problem; an *episode* is one attempt at it; a *turn* is one policy completion within an
episode; a *trajectory* is the finished record of an episode; a *group* is the trajectories of one task.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

Split = Literal["train", "heldout"]
"""Tasks are divided by a hash of their content, so no task is ever in both."""

Style = Literal["verbose", "medium", "compact"]
"""How long-windedly an expert demonstrates: over-reasoning, plain steps, or the least that works."""


class Message(TypedDict):
    """One chat message in the form every chat template takes."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    name: NotRequired[str]


Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function the policy may call.

    Attributes:
        name: identifier used in the call.
        description: one sentence for the policy.
        parameters: JSON schema of the arguments object.
    """

    name: str
    description: str
    parameters: dict[str, Any]

    def to_openai(self) -> dict[str, Any]:
        """Return the function dict that chat templates and endpoints take."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A parsed call: `name` and an `arguments` object of JSON types."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """One completion as the environment sees it.

    Attributes:
        text: the whole completion.
        reasoning: what stood between the think tags ("" without any).
        content: what followed them, without the tool calls, stripped.
        tool_calls: well-formed calls, in order.
        malformed: why the text could not be parsed, or None (an unclosed think tag, bad JSON in a call ...).
    """

    text: str
    reasoning: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an environment answers to a turn.

    Attributes:
        messages: new messages for the policy (tool results, user turns); empty when the episode is over.
        reward: reward of this turn; finite, and the episode's sum lies in [0, 1].
        done: the episode is over.
        components: named parts of the reward, for metrics.
    """

    messages: Messages = ()
    reward: float = 0.0
    done: bool = False
    components: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """One problem, reproducible from its fields alone: `env.reset(seed=seed, options={"split", "level"})`.

    Attributes:
        env_id: registry id, e.g. `math/affine_chain-v0`.
        split: `train` or `heldout`.
        level: difficulty, 1 (a 1M-parameter policy learns it) to 10 (a 30B one fails).
        seed: seed of the problem within (env, split, level).
        key: content key of the problem ("" until it has been generated once).
    """

    env_id: str
    split: Split
    level: int
    seed: int
    key: str = ""


class StopReason(enum.StrEnum):
    """Why an episode ended. The last four are failures: they carry no reward and enter no baseline."""

    DONE = "done"
    MAX_TOKENS = "max_tokens"
    MAX_TURNS = "max_turns"
    ENV_ERROR = "env_error"
    ENV_TIMEOUT = "env_timeout"
    ENGINE_ERROR = "engine_error"
    ABORTED = "aborted"

    @property
    def is_failure(self) -> bool:
        """True when the machinery failed, not the policy."""
        return self in (
            StopReason.ENV_ERROR,
            StopReason.ENV_TIMEOUT,
            StopReason.ENGINE_ERROR,
            StopReason.ABORTED,
        )


def content_key(text: str) -> str:
    """Return the 128-bit hex key of a problem's canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def split_of(key: str) -> Split:
    """Return the split a content key belongs to: one problem in five is held out, for ever."""
    return "heldout" if int(key[:8], 16) % 5 == 0 else "train"
