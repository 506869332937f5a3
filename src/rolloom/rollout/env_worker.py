"""Runs many episodes at once: steps in a thread pool, completions from engines, nobody waits for others.

One event queue drives it. Engine answers, finished environment steps and new assignments are events; between
events only deadlines are checked.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from rolloom.configs.schema import RolloutConfig
from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.registry import EnvSpec
from rolloom.envs.types import StopReason
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.daemon_pool import DaemonPool
from rolloom.rollout.episode import EnvReply, Episode, checked_reply
from rolloom.rollout.handles import Handle, when_done
from rolloom.rollout.pump import Pump
from rolloom.rollout.types import Assignment, Completion, Request, Trajectory, WorkerError

COLLECT_S = 1.0


class EnvWorker(Pump[Trajectory]):
    """A pool of episodes.

    Args:
        name: owner name under which it talks to engines.
        engines: their handles.
        path: checkpoint directory, for its tokenizer.
        config: sampling limits and deadlines.
        specs: every registered environment of the driver, so that a driver's registrations reach workers.
        env_kwargs: keyword arguments by environment id.
        threaded: run the loop in a thread of its own.
    """

    def __init__(
        self,
        name: str,
        engines: list[Handle],
        path: str,
        config: RolloutConfig,
        specs: list[EnvSpec],
        env_kwargs: dict[str, dict[str, Any]],
        threaded: bool,
    ) -> None:
        self.name, self.engines, self.config, self.env_kwargs = name, engines, config, env_kwargs
        for spec in specs:
            registry.register_spec(spec)
        self.tokenizer = ChatTokenizer.load(path)
        self._pool = DaemonPool(config.env_threads)
        self._idle_envs: dict[str, list[TextEnv]] = {}
        self._queue: deque[tuple[str, Assignment]] = deque()
        self._events: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()
        self._episodes: dict[str, Episode] = {}
        self._owner: dict[str, str] = {}
        self._settled: list[tuple[Episode, Any, str]] = []
        self._outbox: list[list[Request]] = [[] for _ in engines]
        self._released: list[list[str]] = [[] for _ in engines]
        self._awaited: list[set[str]] = [set() for _ in engines]
        self._collecting = [False] * len(engines)
        super().__init__(threaded)

    def submit(self, owner: str, assignments: list[Assignment]) -> None:
        """Queue episodes.

        Raises:
            WorkerError: the loop has died.
        """
        self._raise_failure()
        self._events.put(("assign", owner, assignments))

    def reset(self) -> None:
        """Drop every episode; used when a step is given up."""
        self._events.put(("reset", None, None))

    def _error(self, text: str) -> Exception:
        return WorkerError(f"environment worker {self.name} stopped:\n{text}")

    # -- the loop --------------------------------------------------------------------------------------------

    def _pump_once(self, wait: float) -> bool:
        self._start_episodes()
        if not self._threaded:
            self._settle_environments()
        self._talk_to_engines()
        handled = self._drain_events(wait)
        self._check_deadlines()
        return bool(handled or self._episodes or self._queue)

    def _drain_events(self, wait: float) -> int:
        handled = 0
        while True:
            try:
                event, subject, value = (
                    self._events.get(timeout=wait) if handled == 0 else self._events.get_nowait()
                )
            except queue.Empty:
                return handled
            handled += 1
            if event == "assign":
                self._queue.extend((subject, assignment) for assignment in value)
            elif event == "env":
                if self._threaded:
                    self._env_answered(subject, *value)
                else:
                    self._settled.append((subject, *value))
            elif event == "engine":
                self._engine_answered(subject, value)
            elif event == "reset":
                self._forget_everything()

    def _settle_environments(self) -> None:
        """Wait until every running environment step has answered or overstayed; take the answers in order."""
        while True:
            answered = {id(episode) for episode, _, _ in self._settled}
            if all(e.job is None or id(e) in answered for e in self._episodes.values()):
                break
            self._drain_events(0.05)
            self._check_deadlines()
        place = {id(episode): index for index, episode in enumerate(self._episodes.values())}
        settled, self._settled = self._settled, []
        for episode, result, error in sorted(settled, key=lambda item: place.get(id(item[0]), -1)):
            self._env_answered(episode, result, error)

    def _forget_everything(self) -> None:
        for episode in self._episodes.values():
            if episode.job is not None:
                self._pool.abandon(episode.job)
            self._released[episode.assignment.engine].append(episode.session)
        self._queue.clear()
        self._episodes.clear()
        self._owner.clear()
        self._settled.clear()
        # What engines still work on stays awaited: their answers come, and are dropped.
        self._outbox = [[] for _ in self.engines]

    def _start_episodes(self) -> None:
        while self._queue and len(self._episodes) < self.config.episodes_per_worker:
            owner, assignment = self._queue.popleft()
            episode = Episode(assignment, self.tokenizer, self.config.max_context, self.config.max_new_tokens)
            self._episodes[assignment.id] = episode
            self._owner[assignment.id] = owner
            self._run_env(episode, partial(self._reset_env, assignment))

    def _reset_env(self, assignment: Assignment) -> tuple[TextEnv, EnvReply]:
        task = assignment.task
        idle = self._idle_envs.get(task.env_id)
        try:
            env = idle.pop() if idle else None
        except IndexError:
            env = None
        if env is None:
            env = registry.make(task.env_id, **self.env_kwargs.get(task.env_id, {}))
        messages, info = env.reset(seed=task.seed, options={"split": task.split, "level": task.level})
        return env, checked_reply(messages, 0.0, False, False, info)

    def _run_env(self, episode: Episode, function: Callable[[], Any]) -> None:
        episode.waits_on = f"environment {episode.assignment.task.env_id}"

        def done(result: Any, error: BaseException | None) -> None:
            self._events.put(("env", episode, (result, str(error) if error is not None else "")))

        episode.job = self._pool.submit(partial(_guarded, function), done)

    def _env_answered(self, episode: Episode, result: Any, error: str) -> None:
        if self._episodes.get(episode.assignment.id) is not episode:
            return
        episode.job = None
        if error:
            self._finish(episode, StopReason.ENV_ERROR, error)
            return
        try:
            if episode.env is None:
                episode.env, reply = result
                request = episode.open(reply)
            else:
                request = episode.answer(result)
        except Exception as broken:
            self._finish(episode, StopReason.ENV_ERROR, _in_words(broken))
            return
        if isinstance(request, StopReason):
            self._finish(episode, request)
            return
        episode.waits_on = f"engine {self.engines[episode.assignment.engine].name}"
        self._outbox[episode.assignment.engine].append(request)

    def _engine_answered(self, index: int, future: Future[list[Completion]]) -> None:
        self._collecting[index] = False
        error = future.exception()
        if error is not None:
            self._awaited[index].clear()
            for episode in [
                e for e in self._episodes.values() if e.assignment.engine == index and e.job is None
            ]:
                self._finish(episode, StopReason.ENGINE_ERROR, _in_words(error))
            return
        for completion in future.result():
            self._awaited[index].discard(completion.id)
            episode = self._episodes.get(completion.id.partition("/")[0])
            if episode is not None:
                self._take_completion(episode, completion)

    def _take_completion(self, episode: Episode, completion: Completion) -> None:
        if completion.finish in ("error", "abort"):
            self._finish(episode, StopReason.ENGINE_ERROR, completion.error)
            return
        text = episode.take(completion)
        if completion.finish == "length":
            self._finish(episode, StopReason.MAX_TOKENS)
            return
        assert episode.env is not None
        self._run_env(episode, partial(self._step_env, episode.env, text))

    @staticmethod
    def _step_env(env: TextEnv, text: str) -> EnvReply:
        return checked_reply(*env.step(text))

    def _talk_to_engines(self) -> None:
        for index, engine in enumerate(self.engines):
            if self._outbox[index] or self._released[index]:
                requests, released = self._outbox[index], self._released[index]
                self._outbox[index], self._released[index] = [], []
                self._awaited[index].update(request.id for request in requests)
                engine.call("submit", self.name, requests, released)
            if self._awaited[index] and not self._collecting[index]:
                self._collecting[index] = True
                future = engine.call("collect", self.name, COLLECT_S)
                when_done(future, lambda done, at=index: self._events.put(("engine", at, done)))

    def _check_deadlines(self) -> None:
        now, step_s, episode_s = time.monotonic(), self.config.step_deadline_s, self.config.episode_deadline_s
        for episode in list(self._episodes.values()):
            job = episode.job if episode.job is not None and not episode.job.finished else None
            if job is not None and job.started is not None and now - job.started > step_s:
                self._give_up(
                    episode, StopReason.ENV_TIMEOUT, f"a step took longer than step_deadline_s={step_s}"
                )
            elif now - episode.started > episode_s:
                stop = StopReason.ENGINE_ERROR if episode.job is None else StopReason.ENV_TIMEOUT
                self._give_up(
                    episode, stop, f"longer than episode_deadline_s={episode_s}: {episode.waits_on}"
                )

    def _give_up(self, episode: Episode, stop: StopReason, error: str) -> None:
        if episode.job is not None:
            self._pool.abandon(episode.job)
        self._finish(episode, stop, error)

    def _finish(self, episode: Episode, stop: StopReason, error: str = "") -> None:
        del self._episodes[episode.assignment.id]
        self._released[episode.assignment.engine].append(episode.session)
        if episode.env is not None and not stop.is_failure:
            self._idle_envs.setdefault(episode.assignment.task.env_id, []).append(episode.env)
        self._deliver(self._owner.pop(episode.assignment.id), [episode.finish(stop, error)])

    def status(self) -> dict[str, Any]:
        """Return what is in flight and what it waits for."""
        waits: dict[str, int] = {}
        for episode in list(self._episodes.values()):
            waits[episode.waits_on] = waits.get(episode.waits_on, 0) + 1
        return {
            **super().status(),
            "episodes": len(self._episodes),
            "queued": len(self._queue),
            "waits_on": waits,
            "threads_written_off": self._pool.replaced,
        }


class _EnvFailure(Exception):
    """An environment's error in words, made where the environment ran."""


def _guarded(function: Callable[[], Any]) -> Any:
    # The words are made here, inside the deadline: an exception's own `__str__` may raise, hang or be huge.
    try:
        return function()
    except BaseException as error:
        raise _EnvFailure(_in_words(error)) from None


def _in_words(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text[:2000]}"
