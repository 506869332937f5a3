"""Starts the actors of a run, on Ray or in this process, and ends them."""

from __future__ import annotations

import logging
import os
import uuid
from concurrent.futures import Future
from typing import Any

from rolloom.configs.schema import RunConfig
from rolloom.envs import registry
from rolloom.rollout.engine_host import EngineHost
from rolloom.rollout.env_worker import EnvWorker, deadlines_of
from rolloom.rollout.handles import Handle, LocalHandle, RayHandle
from rolloom.rollout.learner import Learner
from rolloom.rollout.types import EngineError

START_S = 180.0


class Cluster:
    """Engines, environment workers and the learner of one run.

    Args:
        config: the run.
        policy_path: checkpoint the policy starts from.
        reference_path: checkpoint of the reference policy.
        learner: also start a learner.
    """

    def __init__(
        self, config: RunConfig, policy_path: str, reference_path: str, learner: bool = True
    ) -> None:
        self.config = config
        self._ray: Any = None
        self._owns_ray = False
        if not config.local:
            self._ray, self._owns_ray = _connect(config)
        self.engines: list[Handle] = []
        self.workers: list[Handle] = []
        self.learner: Handle | None = None
        try:
            self._start(policy_path, reference_path, learner)
        except BaseException:
            self.stop()
            raise

    def _start(self, policy_path: str, reference_path: str, learner: bool) -> None:
        config = self.config
        policy, sampling = config.policy, config.rollout
        threaded = not config.local
        # In one process there is one torch thread count: the learner's and the engines' cannot differ.
        engine_threads = sampling.engine_threads if threaded else 0
        engine_args = (
            policy_path,
            sampling.slots,
            sampling.max_context,
            policy.device,
            policy.dtype,
            engine_threads,
            threaded,
            policy.deterministic,
            sampling.speculative_tokens,
            (sampling.state_dtype, sampling.state_rounding),
        )
        self.engines += [
            self._spawn(EngineHost, f"engine-{index}", sampling.engine_threads, *engine_args)
            for index in range(sampling.engines if threaded else 1)
        ]
        env_kwargs = {env.id: dict(env.kwargs) for env in config.envs}
        self.workers += [
            self._spawn(
                EnvWorker,
                f"env-worker-{index}",
                1,
                f"env-worker-{index}",
                self.engines,
                policy_path,
                sampling,
                registry.all_specs(),
                env_kwargs,
                threaded,
                deadlines_of(config.envs),
                config.imports,
            )
            for index in range(sampling.env_workers if threaded else 1)
        ]
        if learner:
            self.learner = self._spawn(
                Learner,
                "learner",
                config.trainer.threads,
                policy_path,
                config.trainer,
                sampling.temperature,
                policy.device,
                policy.dtype,
                reference_path,
                policy.lora,
                policy.deterministic,
            )
        for handle in self.components:
            handle.call("status").result(START_S)

    @property
    def components(self) -> list[Handle]:
        """Every handle."""
        return [*self.engines, *self.workers, *([self.learner] if self.learner else [])]

    def _spawn(self, cls: type, name: str, threads: int, *args: Any) -> Handle:
        if self._ray is None:
            return LocalHandle(cls(*args), name)
        remote = self._ray.remote(cls)
        gpus = 0.0
        if self.config.policy.device.startswith("cuda") and cls is not EnvWorker:
            # Rounded down: Ray counts in ten-thousandths, and what it rounds up must still fit the device.
            gpus = 10_000 // (self.config.rollout.engines + 1) / 10_000
        options = remote.options(
            # Unique: a name is free again only some time after its actor was killed.
            name=f"{self.config.name}-{name}-{uuid.uuid4().hex[:8]}",
            # Cores are shared on purpose: engines idle while the learner works. Thread counts are set, not
            # reserved.
            num_cpus=0 if self.config.ray.address == "local" else threads,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            # Every environment worker keeps one call waiting in every engine.
            max_concurrency=1 if cls is Learner else 8 + self.config.rollout.env_workers,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(max(1, threads)), "OMP_WAIT_POLICY": "PASSIVE"}},
        )
        return RayHandle(options.remote(*args), name)

    def publish(self, version: int) -> str:
        """Send the learner's weights to every engine and return their checksum.

        Raises:
            EngineError: an engine does not hold the weights that were sent.
        """
        assert self.learner is not None
        state, checksum = self.learner.call("weights").result(START_S)
        shared = state if self._ray is None else self._ray.put(state)
        answers: list[Future[str]] = [
            engine.call("load_weights", shared, version, checksum) for engine in self.engines
        ]
        for engine, answer in zip(self.engines, answers, strict=True):
            if answer.result(START_S) != checksum:
                raise EngineError(f"{engine.name} did not take weights version {version}")
        return checksum

    def stop(self) -> None:
        """End every actor, and Ray if this run started it."""
        if self._ray is None:
            return
        for handle in self.components:
            if isinstance(handle, RayHandle):
                self._ray.kill(handle.actor)
        if self._owns_ray:
            self._ray.shutdown()


def _connect(config: RunConfig) -> tuple[Any, bool]:
    """Return the ray module, connected, and whether this call started the cluster it is connected to."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's default of 15 would let any other process of the machine starve the run.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    if config.ray.address != "local":
        ray.init(address=config.ray.address, logging_level=logging.ERROR, log_to_driver=True)
        return ray, False
    ray.init(
        address="local",
        num_cpus=config.ray.num_cpus or None,
        object_store_memory=config.ray.object_store_mb * 2**20,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=True,
    )
    return ray, True
