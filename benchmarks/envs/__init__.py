"""Episodes a second of every built-in environment, and runs a second of the sandbox.

Episodes run in this process, one at a time, answered by the environment's own expert, so what is measured is
drawing the problem, the expert's text, parsing and scoring, and no policy. No peer was installed to run the
same episodes, so these rows have none. The sandbox's peer is one unconfined interpreter start a run, the
usual way to keep a program out of the worker.
"""

from __future__ import annotations

import numpy as np

from benchmarks.envs.sandbox import measure_sandbox
from benchmarks.harness import Bench, ParityError, Rates, rate_for
from rolloom.envs import registry
from rolloom.envs.base import TextEnv

BUILT_IN = ("math/affine_chain-v0", "code/int_function-v0", "tools/lookup-v0", "agent/workplace-v0")
RUN_S, QUICK_S = 1.0, 0.05


def measure(bench: Bench) -> None:
    """Measure every case."""
    seconds = QUICK_S if bench.quick else RUN_S
    for env_id in BUILT_IN:
        env = registry.make(env_id)

        def episodes(index: int, env: TextEnv = env) -> Rates:
            return {"episodes/s": rate_for(seconds, lambda seed: run_episode(env, 1_000_000 * index + seed))}

        bench.compare(f"{env_id} level 1, verbose expert, in process", episodes, None, "none")
        env.close()
    measure_sandbox(bench)


def run_episode(env: TextEnv, seed: int) -> None:
    """Run one episode with the environment's expert.

    Raises:
        ParityError: the expert did not score 1.
    """
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    score, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.expert("verbose", rng))
        score += reward
        over = terminated or truncated
    if score != 1.0:
        raise ParityError(f"{type(env).__name__}, seed {seed}: the expert scored {score}, expected 1.0")
