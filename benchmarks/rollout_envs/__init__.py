"""Rollouts a second with a model that answers at once, against verifiers; and with slow tools.

Ours is the environment worker of a run, threaded as it is on Ray, with an engine handle that answers every
request at once: episodes are set up, prompts rendered and tokenised, completions decoded, steps taken, and
trajectories with token ids and log-probs handed over. The peer runs the same conversations with no tokenising
at all, in two ways: as it is shipped (`generate`, its OpenAI client, a transport in this process), and the
least it can be made to do (`run_rollout` alone, a client of a few lines that answers at once).

With slow tools there is no peer but the ideal: every episode waits for its own tools only. Ideal seconds are
the longest episode's waits plus the same run without waits; the rate is ideal / measured.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Bench, ParityError, Rates
from benchmarks.rollout_envs import tasks
from benchmarks.rollout_envs.ours import OurSide
from benchmarks.rollout_envs.peers import NAME, Peer, python
from rolloom.rollout.launch import policy_directory
from rolloom.rollout.types import Trajectory

POLICY = "shipped:tiny"
CONCURRENT = (16, 64, 256, 1024)
SIBLINGS = 8
EPISODES = {1: 1024, 8: 128}
"""Episodes of a run on either side; as many as are in flight where those are more."""
OPENAI_UP_TO = 2048
"""Turns in flight up to which the peer is measured as shipped: beyond, a run takes half a minute."""


def measure(bench: Bench) -> None:
    """Measure every case."""
    tasks.register()
    interpreter = python()
    if interpreter is None:
        print("no peer: make it with `python -m benchmarks.rollout_envs.peers`")
    peer = Peer(interpreter) if interpreter else None
    try:
        for turns in (1, 8):
            for concurrent in CONCURRENT[:1] if bench.quick else CONCURRENT:
                _measure_instant(bench, peer, turns, concurrent)
    finally:
        if peer is not None:
            peer.close()
    _measure_waiting(bench)


def _measure_instant(bench: Bench, peer: Peer | None, turns: int, concurrent: int) -> None:
    case = f"{concurrent} concurrent, {turns} turn{'s' if turns > 1 else ''}, instant model"
    ours = OurSide(policy_directory(POLICY), tasks.SYNC, {"turns": turns}, concurrent, SIBLINGS)
    episodes = concurrent if bench.quick else max(concurrent, EPISODES[turns])

    def mine(index: int) -> Rates:
        seconds, done = ours.run(episodes)
        check(done, turns)
        return {"rollouts/s": episodes / seconds}

    def theirs(client: str) -> Any:
        def run(index: int) -> Rates:
            assert peer is not None
            seconds = peer.run(
                episodes=episodes, concurrent=concurrent, turns=turns, siblings=SIBLINGS, client=client
            )
            return {"rollouts/s": episodes / seconds}

        return run

    if peer is None:
        bench.compare(case, mine, None, "none")
    else:
        if concurrent * turns <= OPENAI_UP_TO:
            bench.compare(f"{case}; peer as shipped", mine, theirs("openai"), NAME)
        bench.compare(f"{case}; peer at its least", mine, theirs("bare"), NAME)
    ours.close()


def check(done: list[Trajectory], turns: int) -> None:
    """Hold our side to what the peer does.

    Raises:
        ParityError: an episode failed, ended early or was not paid in full.
    """
    for t in done:
        if t.failed or t.turns != turns or abs((t.score or 0.0) - 1.0) > 1e-6 or not t.mask.any():
            raise ParityError(
                f"ours: expected {turns} turns and a score of 1, got {t.turns}, {t.score}, {t.error}"
            )


def _measure_waiting(bench: Bench) -> None:
    kinds = ((tasks.SYNC, "blocking"), (tasks.ASYNC, "awaited"))
    latencies = ((0.01, "10 ms"), (0.1, "100 ms"), (0.5, "500 ms"), (-1.0, "10 to 500 ms"))
    for env_id, kind in kinds:
        for latency, words in latencies[:1] if bench.quick else latencies:
            sizes = (16,) if bench.quick else (64, 256, 512) if latency < 0 else (256,)
            for concurrent in sizes:
                case = f"{concurrent} concurrent, 8 turns, {kind} tools of {words}"
                _measure_latency(bench, case, env_id, latency, concurrent)


def _measure_latency(bench: Bench, case: str, env_id: str, latency: float, concurrent: int) -> None:
    path, turns = policy_directory(POLICY), 8
    instant = OurSide(path, env_id, {"turns": turns}, concurrent, SIBLINGS)
    waiting = OurSide(path, env_id, {"turns": turns, "latency": latency}, concurrent, SIBLINGS)
    # The first episodes of a worker find no threads yet; they are made once and kept.
    waiting.run(concurrent)
    instant.run(concurrent)

    def mine(index: int) -> Rates:
        without, _ = instant.run(concurrent)
        seconds, done = waiting.run(concurrent)
        check(done, turns)
        return {"share of the ideal": (longest_wait(done, latency) + without) / seconds}

    bench.compare(case, mine, None, "none")
    instant.close()
    waiting.close()


def longest_wait(done: list[Trajectory], latency: float) -> float:
    """Return the most seconds that an episode's tools took by themselves."""
    env = tasks.Sums(8, latency)
    waits = []
    for seed in {t.assignment.task.seed for t in done}:
        env.reset(seed=seed)
        waits.append(sum(env.pauses))
    return max(waits)
