"""Episodes played by a model behind an OpenAI-compatible endpoint: no token ids, no log-probs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from rolloom.configs.schema import RolloutConfig
from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.endpoint import ChatEndpoint, ChatResult, EndpointError
from rolloom.envs.types import Message, StopReason, Task
from rolloom.rollout.episode import MAX_OPENING_CHARS, EnvReply, checked_reply
from rolloom.rollout.profile import Outcome
from rolloom.rollout.types import derive_seed

CONCURRENT = 64


class EndpointRunner:
    """Plays episodes against an endpoint, `CONCURRENT` at a time.

    Args:
        policy: `openai:URL#MODEL`.
        sampling: temperature, limits and deadlines.
        seed: root of the sampling seeds.
    """

    def __init__(self, policy: str, sampling: RolloutConfig, seed: int) -> None:
        self.endpoint = ChatEndpoint.parse(policy, concurrency=CONCURRENT)
        self.sampling, self.seed = sampling, seed

    def __call__(self, tasks: Sequence[Task], k: int, done: Callable[[int, Outcome], None]) -> None:
        """Run every task `k` times; see `rolloom.rollout.profile.Runner`."""
        asyncio.run(self._all(tasks, k, done))

    async def _all(self, tasks: Sequence[Task], k: int, done: Callable[[int, Outcome], None]) -> None:
        # In order, so that tasks are finished one after another and not all at the end.
        places = iter([(index, sample) for index in range(len(tasks)) for sample in range(k)])

        async def player() -> None:
            for index, sample in places:
                done(index, await self._rollout(tasks[index], sample))

        async with self.endpoint, asyncio.TaskGroup() as group:
            for _ in range(min(CONCURRENT, len(tasks) * k)):
                group.create_task(player())

    async def _rollout(self, task: Task, sample: int) -> Outcome:
        outcome = Outcome(None, 0.0, str(StopReason.ENV_ERROR))
        for attempt in range(self.sampling.max_attempts):
            seed = derive_seed(self.seed, task.env_id, task.split, task.level, task.seed, sample, attempt)
            try:
                async with asyncio.timeout(self.sampling.episode_deadline_s):
                    return await self._episode(task, seed)
            except EndpointError:
                # The endpoint has tried as often as it may.
                return Outcome(None, 0.0, str(StopReason.ENGINE_ERROR))
            except TimeoutError:
                outcome = Outcome(None, 0.0, str(StopReason.ENV_TIMEOUT))
            # An author's environment may raise anything; it is this rollout's failure.
            except Exception:
                outcome = Outcome(None, 0.0, str(StopReason.ENV_ERROR))
        return outcome

    async def _episode(self, task: Task, seed: int) -> Outcome:
        env = registry.make(task.env_id)
        try:
            options = {"split": task.split, "level": task.level}
            opening = await self._call(env, "reset", seed=task.seed, options=options)
            first = checked_reply(opening[0], 0.0, False, False, opening[1], MAX_OPENING_CHARS)
            messages: list[Message] = list(first.messages)
            tools = opening[1].get("tools", ())
            score, tokens, turn = 0.0, 0.0, 0
            while True:
                result = await self._sample(messages, tools, derive_seed(seed, turn))
                tokens, turn = tokens + result.completion_tokens, turn + 1
                if result.finish_reason == "length":
                    return Outcome(_bounded(score), tokens, str(StopReason.MAX_TOKENS))
                messages.append(Message(role="assistant", content=result.text))
                reply: EnvReply = checked_reply(*await self._call(env, "step", result.text))
                score += reply.reward
                if reply.terminated or reply.truncated:
                    stop = StopReason.DONE if reply.terminated else StopReason.MAX_TURNS
                    return Outcome(_bounded(score), tokens, str(stop))
                messages.extend(reply.messages)
        finally:
            with contextlib.suppress(Exception):
                env.close()

    async def _sample(self, messages: Sequence[Message], tools: Any, seed: int) -> ChatResult:
        return await self.endpoint.chat(
            messages,
            tools=tools,
            temperature=self.sampling.temperature,
            max_tokens=self.sampling.max_new_tokens,
            # Servers take 31 bits.
            seed=seed % 2**31,
        )

    async def _call(self, env: TextEnv, method: str, *args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(env.step_deadline_s or self.sampling.step_deadline_s):
            if env.asynchronous:
                return await getattr(env, f"a{method}")(*args, **kwargs)
            return await asyncio.to_thread(getattr(env, method), *args, **kwargs)


def _bounded(score: float) -> float:
    return min(1.0, max(0.0, score))
