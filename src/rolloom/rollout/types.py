"""What travels between driver, environment workers, engines and learner. Picklable, no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rolloom.envs.types import Message, StopReason, Task
from rolloom.errors import RolloomError


class EngineError(RolloomError):
    """An engine could not serve a request, or stopped."""


class WorkerError(RolloomError):
    """An environment worker stopped."""


class StallError(RolloomError):
    """Nothing moved for longer than `rollout.stall_s`; the message says who waits on whom."""


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on nothing but its parts, so that any draw can be repeated alone."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to sample.

    Attributes:
        id: unique among the requests in flight.
        ids: tokens to feed: a whole prompt, or what was added since the session's last completion.
        seed: with the position, the only source of chance.
        max_new_tokens: limit, in tokens.
        temperature: 0 is greedy.
        session: continue this session if the engine holds it, and keep it open afterwards; None for one-off
            requests.
        continues: the session must exist already.
    """

    id: str
    ids: list[int]
    seed: int
    max_new_tokens: int
    temperature: float = 1.0
    session: str | None = None
    continues: bool = False


@dataclass(slots=True)
class Completion:
    """An engine's answer.

    Attributes:
        id: of the request.
        ids: sampled tokens, a stop token included.
        logprobs: of each sampled token under the distribution sampled from, fp32 `[len(ids)]`.
        experts: experts chosen for every token fed (all of the request's, and all sampled but the last),
            `[F, L, K]`.
        finish: `stop`, `length` (limit or context reached), `abort` or `error`.
        policy_version: version of the weights.
        error: what went wrong, if `finish` is `error`.
    """

    id: str
    ids: list[int]
    logprobs: np.ndarray
    experts: np.ndarray | None
    finish: str
    policy_version: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One episode to run.

    Attributes:
        batch: name of the batch, unique within a run, e.g. `step-12`.
        group: index of the task within the batch; siblings share it.
        sample: index within the group.
        task: the problem.
        seed: of the sampling.
        temperature: of the sampling.
        attempt: 0, or how often the machinery failed before.
        engine: index of the engine to use; siblings share it, so that their prompt is prefilled once.
    """

    batch: str
    group: int
    sample: int
    task: Task
    seed: int
    temperature: float
    attempt: int = 0
    engine: int = 0

    @property
    def id(self) -> str:
        """Unique within a run: a late answer to an abandoned episode is not taken for another's."""
        return f"{self.batch}.{self.group}.{self.sample}.{self.attempt}"


@dataclass(slots=True)
class Trajectory:
    """The record of one episode, tokens exactly as fed and sampled.

    Attributes:
        assignment: what was asked for, its task's key filled in.
        stop: why it ended.
        score: the environment's reward, summed over turns, in [0, 1]; None if the machinery failed.
        ids: all tokens in order, int32 `[T]`.
        mask: True where the policy sampled the token, `[T]`.
        logprobs: behaviour log-probability of sampled tokens, 0 elsewhere, fp32 `[T]`.
        experts: experts chosen at sampling, `[T, L, K]`, or None.
        completion_tokens: sampled tokens of all turns.
        think_tokens: sampled tokens before the end of reasoning, of all turns.
        turns: completions sampled.
        messages: the conversation as text, for people.
        components: named parts of the reward, summed over turns.
        policy_version: version that sampled the first token.
        last_policy_version: version that sampled the last one.
        seconds: wall time of the episode.
        turn_rewards: the environment's reward for each completion, in order; they sum to the score.
        env_s: seconds spent in the environment's own calls.
        error: what failed, if something did.
    """

    assignment: Assignment
    stop: StopReason
    score: float | None
    ids: np.ndarray
    mask: np.ndarray
    logprobs: np.ndarray
    experts: np.ndarray | None
    completion_tokens: int
    think_tokens: int
    turns: int
    messages: list[Message]
    components: dict[str, float] = field(default_factory=dict)
    policy_version: int = 0
    last_policy_version: int = 0
    seconds: float = 0.0
    turn_rewards: list[float] = field(default_factory=list)
    env_s: float = 0.0
    error: str = ""

    @property
    def failed(self) -> bool:
        """True when the machinery failed: no reward, in no baseline."""
        return self.score is None

    def to_row(
        self, step: int, advantage: float | None = None, reward: float | None = None
    ) -> dict[str, Any]:
        """Return the JSON row kept for every rollout; `logprobs` holds sampled tokens only."""
        task = self.assignment.task
        return {
            "step": step,
            "env_id": task.env_id,
            "split": task.split,
            "level": task.level,
            "task_seed": task.seed,
            "task_key": task.key,
            "group": self.assignment.group,
            "sample": self.assignment.sample,
            "attempt": self.assignment.attempt,
            "seed": self.assignment.seed,
            "score": self.score,
            "reward": reward,
            "advantage": advantage,
            "failure": self.failed,
            "stop": str(self.stop),
            "error": self.error,
            "tokens": self.completion_tokens,
            "think_tokens": self.think_tokens,
            "turns": self.turns,
            "turn_rewards": self.turn_rewards,
            "env_s": round(self.env_s, 4),
            "seconds": round(self.seconds, 4),
            "policy_version": self.policy_version,
            "last_policy_version": self.last_policy_version,
            "components": self.components,
            "text": self.messages,
            "ids": self.ids.tolist(),
            "mask": "".join("1" if sampled else "0" for sampled in self.mask),
            "logprobs": [round(float(value), 7) for value in self.logprobs[self.mask]],
        }
