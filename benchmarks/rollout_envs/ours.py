"""Our side: the environment worker as it runs on Ray, with an engine that answers at once."""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import Future
from typing import Any

import numpy as np

from benchmarks.rollout_envs.tasks import ANSWER
from rolloom.configs.schema import RolloutConfig
from rolloom.envs import registry
from rolloom.envs.types import Task
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.env_worker import EnvWorker
from rolloom.rollout.types import Assignment, Completion, Request, Trajectory


class InstantEngine:
    """A handle whose engine answers every request at once with the same completion."""

    name = "instant"

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.ids = tokenizer.completion_ids(f"<think>\n</think>\n{ANSWER}")
        self.logprobs = np.full(len(self.ids), -0.5, np.float32)
        self._ready: dict[str, list[Completion]] = defaultdict(list)
        self._waiting: dict[str, Future[Any]] = {}

    def call(self, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Answer `submit` and `collect`."""
        future: Future[Any] = Future()
        if method == "submit":
            owner, requests, _ = args
            self._ready[owner] += map(self._completion, requests)
            future.set_result(None)
            waiting = self._waiting.pop(owner, None) if self._ready[owner] else None
            if waiting is not None:
                waiting.set_result(self._ready.pop(owner))
        elif self._ready.get(args[0]):
            future.set_result(self._ready.pop(args[0]))
        else:
            self._waiting[args[0]] = future
        return future

    def _completion(self, request: Request) -> Completion:
        return Completion(request.id, list(self.ids), self.logprobs, None, "stop", 1)


class OurSide:
    """An environment worker kept for many runs, as in training.

    Args:
        env_id: the environment.
        kwargs: of the environment.
        concurrent: episodes in flight.
        siblings: rollouts of each task.
    """

    def __init__(
        self, policy: str, env_id: str, kwargs: dict[str, Any], concurrent: int, siblings: int = 8
    ) -> None:
        config = RolloutConfig(
            max_context=4096, episodes_per_worker=concurrent, env_threads=max(256, concurrent),
            step_deadline_s=60.0, episode_deadline_s=600.0,
        )  # fmt: skip
        engine = InstantEngine(ChatTokenizer.load(policy))
        self.worker = EnvWorker(
            "bench", [engine], policy, config, registry.all_specs(), {env_id: kwargs}, threaded=True
        )
        self.env_id, self.siblings, self._batches = env_id, siblings, 0

    def run(self, episodes: int) -> tuple[float, list[Trajectory]]:
        """Run episodes; return seconds and what came of them."""
        self._batches += 1
        assignments = [
            Assignment(
                f"b{self._batches}", group, index,
                Task(self.env_id, "train", 1, self._batches * 10_000 + group),
                self._batches * 1_000_000 + group * self.siblings + index, 1.0,
            )
            for group in range(-(-episodes // self.siblings))
            for index in range(self.siblings)
        ][:episodes]  # fmt: skip
        started = time.perf_counter()
        self.worker.submit("driver", assignments)
        done: list[Trajectory] = []
        while len(done) < episodes:
            done += self.worker.collect("driver", 5.0)
        return time.perf_counter() - started, done

    def close(self) -> None:
        """End the worker's thread."""
        self.worker.stop()
