"""`rolloom train --dry-run`: resolves all a run needs, does one small step for real, writes nothing."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np

from rolloom.configs.load import describe
from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.envs import registry
from rolloom.errors import RolloomError
from rolloom.policy.loading import lora_need, memory_need
from rolloom.policy.lora import Adaptation
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.cluster import Cluster
from rolloom.rollout.curriculum import Curriculum
from rolloom.rollout.grpo import shape_batch
from rolloom.rollout.mixture import draw_tasks
from rolloom.rollout.scheduler import Scheduler

MIB = 2**20


class DryRunError(RolloomError):
    """Something the run needs does not work; the message says what."""


def dry_run(config: RunConfig, policy_path: str, say: Callable[[str], None] = print) -> int:
    """Check configuration, environments, checkpoint and memory, then push one batch through the learner.

    Args:
        config: validated configuration.
        policy_path: checkpoint directory of the policy.
        say: receives lines for the person.

    Returns:
        0 when everything works.

    Raises:
        RolloomError: what does not.
    """
    say(describe(config).rstrip())
    tokenizer = ChatTokenizer.load(policy_path)
    say("\nenvironments")
    for env in config.envs:
        say("  " + check_environment(env, tokenizer, config))
    say("\n" + "\n".join(memory_lines(config, policy_path)))
    say("\none small batch: rollouts, advantages, forward, backward, optimizer (nothing is kept)")
    for line in _one_batch(config, policy_path):
        say("  " + line)
    t = config.trainer
    say(
        f"\nwould run: {t.steps} steps of {t.prompts_per_step} prompts x {t.group_size} rollouts, "
        f"{'in this process' if config.local else 'on Ray'}, into {config.runs_dir}/{config.name}"
    )
    return 0


def check_environment(chosen: EnvConfig, tokenizer: ChatTokenizer, config: RunConfig) -> str:
    """Let an environment's expert solve one task and return a line about it.

    Raises:
        DryRunError: the expert does not score 1.0, or the prompt leaves no room for an answer.
    """
    env_id, level = chosen.id, chosen.max_level
    env = registry.make(env_id, **chosen.kwargs)
    messages, info = env.reset(seed=0, options={"split": "train", "level": level})
    prompt = len(tokenizer.prompt_ids(messages, info["tools"]))
    rng, score, turns, done = np.random.default_rng(0), 0.0, 0, False
    while not done:
        _, reward, terminated, truncated, _ = env.step(env.expert("compact", rng))
        score, turns, done = score + reward, turns + 1, terminated or truncated
    env.close()
    if abs(score - 1.0) > 1e-6:
        raise DryRunError(f"{env_id}: expected its expert to score 1.0 at level {level}, it scored {score}")
    if prompt + 16 > config.rollout.max_context:
        raise DryRunError(
            f"rollout.max_context: expected more than {prompt + 16}, got {config.rollout.max_context}; "
            f"a prompt of {env_id} at level {level} has {prompt} tokens"
        )
    return f"{env_id}: level {level}, prompt {prompt} tokens, expert scores 1.0 in {turns} turns"


def memory_lines(config: RunConfig, policy_path: str) -> list[str]:
    """Return the memory estimate as lines of text."""
    need, shape = memory_need(policy_path, 2 if config.policy.dtype == "bfloat16" else 4)
    engines = 1 if config.local else config.rollout.engines
    cache = need.cache(config.rollout.slots, config.rollout.max_context)
    copies = 2 if config.trainer.kl_coefficient > 0 else 1
    learner, parts = need.weights * copies + need.optimizer, "weights, gradients, AdamW"
    lora = config.policy.lora
    if lora.rank:
        made, held = lora_need(policy_path, Adaptation(lora.rank, lora.alpha, tuple(lora.target_modules)))
        learner = need.weights + held * need.weights // need.parameters + 16 * made
        parts = f"weights, the changed ones twice, and LoRA of {made:,} parameters with gradients and AdamW"
    return [
        f"policy {policy_path}",
        f"  {need.parameters:,} parameters, {shape}, {config.policy.dtype}",
        "memory, without activations",
        f"  learner {learner / MIB:.1f} MiB: {parts}",
        f"  engine  {(need.weights + cache) / MIB:.1f} MiB each, {engines} of them: weights and the cache of "
        f"{config.rollout.slots} slots ({need.state_per_sequence / 1024:.0f} KiB of state a sequence, "
        f"{need.kv_per_token} bytes of keys and values a token)",
    ]


def _one_batch(config: RunConfig, policy_path: str) -> list[str]:
    small = copy.deepcopy(config)
    small.local = True
    pools = Curriculum(small.envs, small.trainer.steps).pools
    tasks = [
        task
        for index, env in enumerate(small.envs)
        for task in draw_tasks([env], 1, 1, small.seed + index, pools=pools)
    ]
    cluster = Cluster(small, policy_path, policy_path)
    scheduler = Scheduler(cluster.workers, cluster.engines, small.rollout, small.seed)
    started = time.perf_counter()
    group = min(4, small.trainer.group_size)
    batch = scheduler.run(scheduler.assignments(tasks, group, "dry-run", small.rollout.temperature))
    rolled = time.perf_counter()
    failed = [t for t in batch if t.failed]
    if failed:
        first = failed[0]
        raise DryRunError(f"{first.assignment.task.env_id}: {first.stop}: {first.error}")
    shaped = shape_batch(batch, small.reward, small.trainer)
    assert cluster.learner is not None
    stats = cluster.learner.call("train", shaped.sequences, 1).result()
    tokens = sum(t.completion_tokens for t in batch)
    return [
        f"{len(batch)} rollouts, {tokens} tokens in {rolled - started:.1f} s",
        f"learner: {stats['trained_tokens']} tokens in {stats['learn_s']:.1f} s, loss {stats['loss']:.4f}, "
        f"gradient norm {stats['grad_norm']:.3f}",
        f"largest |log-prob difference| between engine and learner: {stats['logprob_diff_max']:.1e}",
    ]
