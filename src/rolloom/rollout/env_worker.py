"""Runs many episodes at once: steps on threads or a loop, completions from engines, nobody waits for others.

One event queue drives it. Engine answers, finished environment steps and new assignments are events; between
events only deadlines are checked.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from rolloom.configs.schema import EnvConfig, RolloutConfig
from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.registry import EnvSpec
from rolloom.envs.types import StopReason
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.daemon_pool import Job
from rolloom.rollout.env_boundary import aguarded, areset, astep, close, guarded, in_words, reset
from rolloom.rollout.env_calls import AnyJob, EnvCalls
from rolloom.rollout.episode import EnvReply, Episode, checked_reply
from rolloom.rollout.handles import Handle, when_done
from rolloom.rollout.loop_runner import LoopJob
from rolloom.rollout.prompts import LONG_CHARS, PromptCache, length
from rolloom.rollout.pump import STOP_S, Pump, Retired
from rolloom.rollout.types import Assignment, Completion, Request, Trajectory, WorkerError

COLLECT_S = 1.0
DEADLINES_S = 0.05
"""Deadlines are looked at this often; with a thousand episodes a look costs as much as an episode."""
LOOK_S, IDLE_S = 0.005, 0.05
"""How often it is looked whether a call holds up the loop; at the second look another thread takes over."""
INLINE_AT_ONCE = 256
GC_THRESHOLDS = (200_000, 20, 100)
TOKENISE = "tokenising an opening"


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
        deadlines: (step, episode) in seconds by environment id; 0 leaves one to the environment, which may
            leave it to `config`.
        imports: modules or files to import first, because they register environments.
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
        deadlines: Mapping[str, tuple[float, float]] | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self.name, self.engines, self.config, self.env_kwargs = name, engines, config, env_kwargs
        self.deadlines = dict(deadlines or {})
        registry.import_modules(imports)
        for spec in specs:
            registry.register_spec(spec)
        self.tokenizer = ChatTokenizer.load(path)
        self._prompts = PromptCache(self.tokenizer)
        self._calls = EnvCalls(config.env_threads, inline=threaded)
        self._baton = threading.Lock()
        self._running: Job | None = None
        self._closing: list[tuple[AnyJob, float]] = []
        self._looked = 0.0
        self._idle_envs: dict[str, list[TextEnv]] = {}
        self._queue: deque[tuple[str, Assignment]] = deque()
        self._events: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()
        self._episodes: dict[str, Episode] = {}
        self._owner: dict[str, str] = {}
        self._finished: dict[str, list[Trajectory]] = {}
        self._settled: list[tuple[Episode, AnyJob, Any, str]] = []
        self._outbox: list[list[Request]] = [[] for _ in engines]
        self._released: list[list[str]] = [[] for _ in engines]
        self._awaited: list[set[str]] = [set() for _ in engines]
        self._collecting = [False] * len(engines)
        if threaded:
            # This process does little else than keep episodes: the default walks all of them far too often.
            gc.set_threshold(*GC_THRESHOLDS)
        super().__init__(threaded)
        if threaded:
            threading.Thread(target=self._look_after, daemon=True, name="env-watch").start()

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
        self._run_inline()
        self._talk_to_engines()
        handled = self._drain_events(0.0 if self._calls.inline else wait)
        self._check_deadlines()
        # At once for all that finished: whoever collects is woken once.
        finished, self._finished = self._finished, {}
        for owner, trajectories in finished.items():
            self._deliver(owner, trajectories)
        return bool(handled or self._episodes or self._queue)

    def _run_inline(self) -> None:
        """Run quick environment calls here: to hand them to another thread would cost more than they do.

        Raises:
            Retired: one did not come back in time, and another thread has taken over.
        """
        for _ in range(INLINE_AT_ONCE):
            job = self._calls.next_inline()
            if job is None:
                return
            result: Any = None
            error: BaseException | None = None
            job.started = started = time.monotonic()
            self._running = job
            try:
                result = job.function()
            except BaseException as caught:
                error = caught
            with self._baton:
                replaced = self._running is not job
                self._running = None if not replaced else self._running
                if not job.abandoned:
                    job.finished = True
                    job.seconds = time.monotonic() - started
            if not job.abandoned:
                job.done(job, result, error)
            if replaced:
                raise Retired

    def _look_after(self) -> None:
        """Let another thread go on with the loop where an environment's call holds it up."""
        before: Job | None = None
        while not self._stopping:
            time.sleep(LOOK_S if self._episodes else IDLE_S)
            job = self._running
            if job is None or job is not before:
                before = job
                continue
            with self._baton:
                if self._running is not job or job.started is None:
                    continue
                self._running = before = None
                self._calls.blocks(job)
                self._thread = threading.Thread(target=self._loop, daemon=True, name="EnvWorker")
            self._thread.start()

    def _drain_events(self, wait: float) -> int:
        handled = 0
        patience = self._calls.patience
        while True:
            try:
                if handled:
                    event, subject, value = self._events.get_nowait()
                else:
                    event, subject, value = self._events.get(
                        timeout=wait if patience is None else min(wait, patience)
                    )
            except queue.Empty:
                self._calls.tend(waited=not handled and patience is not None)
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
            answered = {id(job) for _, job, _, _ in self._settled}
            if all(e.job is None or id(e.job) in answered for e in self._episodes.values()):
                break
            self._drain_events(0.05)
            self._check_deadlines()
        place = {id(episode): index for index, episode in enumerate(self._episodes.values())}
        settled, self._settled = self._settled, []
        for answer in sorted(settled, key=lambda item: place.get(id(item[0]), -1)):
            self._env_answered(*answer)

    def _forget_everything(self) -> None:
        for episode in self._episodes.values():
            if episode.job is not None:
                self._calls.abandon(episode.job)
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
            episode = Episode(
                assignment, self._prompts, self.config.max_context, self.config.max_new_tokens,
                *self._limits(assignment.task.env_id, None),
            )  # fmt: skip
            self._episodes[episode.session] = episode
            self._owner[episode.session] = owner
            idle = self._idle_envs.get(assignment.task.env_id)
            if idle:
                episode.env = idle.pop()
                self._open(episode)
            else:
                self._call(episode, "make", partial(self._make_env, episode))

    def _limits(self, env_id: str, env: TextEnv | None) -> tuple[float, float]:
        """Return the seconds a step and an episode may take: the run's for this environment, its own, any."""
        step_s, episode_s = self.deadlines.get(env_id, (0.0, 0.0))
        if env is not None:
            step_s, episode_s = (
                step_s or env.step_deadline_s or 0.0,
                episode_s or env.episode_deadline_s or 0.0,
            )
        return step_s or self.config.step_deadline_s, episode_s or self.config.episode_deadline_s

    def _make_env(self, episode: Episode) -> tuple[TextEnv, EnvReply | None]:
        task = episode.assignment.task
        env = registry.make(task.env_id, **self.env_kwargs.get(task.env_id, {}))
        episode.step_s, episode.episode_s = self._limits(task.env_id, env)
        # One that waits is reset on the event loop.
        return env, None if env.asynchronous else reset(env, episode)

    def _open(self, episode: Episode) -> None:
        env = episode.env
        assert env is not None
        episode.step_s, episode.episode_s = self._limits(episode.assignment.task.env_id, env)
        if env.asynchronous:
            self._await(episode, partial(areset, env, episode))
        else:
            self._call(episode, "reset", partial(reset, env, episode))

    def _call(self, episode: Episode, what: str, function: Callable[[], Any], blocks: bool = False) -> None:
        env_id = episode.assignment.task.env_id
        episode.waits_on = f"environment {env_id}"
        episode.job = self._calls.call(
            f"{what} {env_id}", partial(guarded, function), partial(self._report, episode), blocks
        )

    def _await(self, episode: Episode, function: Callable[[], Awaitable[Any]]) -> None:
        episode.waits_on = f"environment {episode.assignment.task.env_id}"
        episode.job = self._calls.wait_for(partial(aguarded, function), partial(self._report, episode))

    def _report(self, episode: Episode, job: AnyJob, result: Any, error: BaseException | None) -> None:
        self._events.put(("env", episode, (job, result, str(error) if error is not None else "")))

    def _env_answered(self, episode: Episode, job: AnyJob, result: Any, error: str) -> None:
        self._calls.learn(job)
        self.last_progress = time.monotonic()
        if self._episodes.get(episode.session) is not episode or episode.job is not job:
            return
        episode.job = None
        if episode.waits_on != TOKENISE:
            episode.env_s += job.seconds
        if error:
            self._finish(episode, StopReason.ENV_ERROR, error)
            return
        if episode.env is None:
            episode.env, result = result
            if result is None:
                self._open(episode)
                return
        self._take_reply(episode, result)

    def _take_reply(self, episode: Episode, reply: EnvReply) -> None:
        try:
            if episode.opened:
                request = episode.answer(reply)
            elif length(reply.messages) > LONG_CHARS and episode.waits_on != TOKENISE:
                self._call(episode, "tokenise", lambda: self._tokenised(reply), blocks=True)
                episode.waits_on = TOKENISE
                return
            else:
                request = episode.open(reply)
        except Exception as broken:
            self._finish(episode, StopReason.ENV_ERROR, in_words(broken))
            return
        if isinstance(request, StopReason):
            self._finish(episode, request)
            return
        episode.waits_on = f"engine {self.engines[episode.assignment.engine].name}"
        self._outbox[episode.assignment.engine].append(request)

    def _tokenised(self, reply: EnvReply) -> EnvReply:
        """Leave the ids of a long opening in the cache, from where the loop takes them."""
        self._prompts.opening(reply.messages, reply.tools)
        return reply

    def _engine_answered(self, index: int, future: Future[list[Completion]]) -> None:
        self._collecting[index] = False
        error = future.exception()
        if error is not None:
            self._awaited[index].clear()
            for episode in [
                e for e in self._episodes.values() if e.assignment.engine == index and e.job is None
            ]:
                self._finish(episode, StopReason.ENGINE_ERROR, in_words(error))
            return
        for completion in future.result():
            self.last_progress = time.monotonic()
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
        env = episode.env
        assert env is not None
        if env.asynchronous:
            self._await(episode, partial(astep, env, text))
        else:
            self._call(episode, "step", lambda: checked_reply(*env.step(text)))

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
        now = time.monotonic()
        if now - self._looked < DEADLINES_S:
            return
        self._looked = now
        waiting_s, silent = self.config.step_deadline_s, self._calls.loop.silent(now)
        for episode in list(self._episodes.values()):
            job = episode.job if episode.job is not None and not episode.job.finished else None
            if job is not None:
                waiting_s = min(waiting_s, episode.step_s)
            excused = (silent and isinstance(job, LoopJob)) or episode.waits_on == TOKENISE
            if job and job.started is not None and now - job.started > episode.step_s and not excused:
                self._give_up(
                    episode,
                    StopReason.ENV_TIMEOUT,
                    f"a step took longer than step_deadline_s={episode.step_s:g}",
                )
            elif now - episode.started > episode.episode_s:
                stop = StopReason.ENGINE_ERROR if episode.job is None else StopReason.ENV_TIMEOUT
                self._give_up(
                    episode,
                    stop,
                    f"longer than episode_deadline_s={episode.episode_s:g}: {episode.waits_on}",
                )
        for job, due in self._closing:
            if now > due:
                self._calls.abandon(job)
        self._closing = [(job, due) for job, due in self._closing if not job.finished and now <= due]
        self._replace_hung_loop(now, waiting_s)

    def _replace_hung_loop(self, now: float, limit_s: float) -> None:
        hung = self._calls.watch(now, limit_s)
        if hung is None:
            return
        by_job = {id(episode.job): episode for episode in self._episodes.values() if episode.job is not None}
        culprit = by_job.get(id(hung.culprit)) if hung.culprit else None
        name = culprit.assignment.task.env_id if culprit else "an episode given up before"
        if culprit is not None:
            error = f"a step blocked the event loop for longer than step_deadline_s={limit_s:g}"
            self._finish(culprit, StopReason.ENV_TIMEOUT, error)
        for job in hung.others:
            episode = by_job.get(id(job))
            if episode is not None:
                error = f"the event loop it shares with others was blocked by {name}"
                self._finish(episode, StopReason.ENV_ERROR, error)

    def _give_up(self, episode: Episode, stop: StopReason, error: str) -> None:
        if episode.job is not None:
            self._calls.abandon(episode.job)
        self._finish(episode, stop, error)

    def _finish(self, episode: Episode, stop: StopReason, error: str = "") -> None:
        del self._episodes[episode.session]
        self._released[episode.assignment.engine].append(episode.session)
        if episode.env is not None and not stop.is_failure:
            self._idle_envs.setdefault(episode.assignment.task.env_id, []).append(episode.env)
        elif episode.env is not None:
            job = self._calls.call("close", partial(close, episode.env), lambda *answer: None)
            self._closing.append((job, time.monotonic() + episode.step_s))
        self._finished.setdefault(self._owner.pop(episode.session), []).append(episode.finish(stop, error))

    def stop(self) -> None:
        """End the loop and close the environments that are at rest."""
        super().stop()
        idle = [env for envs in self._idle_envs.values() for env in envs]
        self._idle_envs.clear()
        # An environment that hangs while it is closed must not hold up the end of the run.
        closer = threading.Thread(target=lambda: [close(env) for env in idle], daemon=True)
        closer.start()
        closer.join(STOP_S)

    def status(self) -> dict[str, Any]:
        """Return what is in flight and what it waits for."""
        waits: dict[str, int] = {}
        allows_s = 0.0
        for episode in list(self._episodes.values()):
            waits[episode.waits_on] = waits.get(episode.waits_on, 0) + 1
            if episode.job is not None and episode.step_s > self.config.step_deadline_s:
                allows_s = max(allows_s, episode.step_s)
        return {
            **super().status(),
            # The longest that a running step may take where its environment allows it more than the run does.
            "step_allows_s": allows_s,
            "episodes": len(self._episodes),
            "queued": len(self._queue),
            "waits_on": waits,
            "threads": self._calls.pool.threads,
            "threads_written_off": self._calls.pool.replaced,
            "loops_written_off": self._calls.loop.replaced,
        }


def deadlines_of(envs: Sequence[EnvConfig]) -> dict[str, tuple[float, float]]:
    """Return what a run's mixture says of deadlines, as `EnvWorker` takes it."""
    return {env.id: (env.step_deadline_s, env.episode_deadline_s) for env in envs}
