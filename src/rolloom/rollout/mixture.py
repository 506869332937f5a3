"""Which tasks a step draws: a function of the seed, the step and the place, so that a resume repeats it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rolloom.configs.schema import EnvConfig
from rolloom.envs import registry
from rolloom.envs.types import Split, Task
from rolloom.rollout.types import derive_seed


def shares(weights: Sequence[float], per_step: int, step: int) -> list[int]:
    """Divide a step's prompts by weight; running totals are as exact as whole numbers allow.

    Args:
        weights: positive.
        per_step: prompts of one step.
        step: 1-based.

    Returns:
        Prompts of each weight; they sum to `per_step`.
    """
    edges = np.concatenate(([0.0], np.cumsum(np.asarray(weights) / sum(weights))))

    def upto(count: int) -> list[int]:
        # Rounding the running edges, not the shares, makes the parts sum to the whole.
        return [math.floor(edge * count + 0.5) for edge in edges[:-1]] + [count]

    before, after = upto((step - 1) * per_step), upto(step * per_step)
    gained = [b - a for a, b in zip(before, after, strict=True)]
    counts = [gained[i + 1] - gained[i] for i in range(len(weights))]
    # The offsets of `before` and `after` can differ by one in either direction; shift what went negative.
    while min(counts) < 0:
        counts[int(np.argmin(counts))] += 1
        counts[int(np.argmax(counts))] -= 1
    return counts


def draw_tasks(
    envs: Sequence[EnvConfig], per_step: int, step: int, seed: int, split: Split = "train"
) -> list[Task]:
    """Return the tasks of a step, environments interleaved by their shares."""
    tasks = []
    for env, count in zip(envs, shares([env.weight for env in envs], per_step, step), strict=True):
        for index in range(count):
            chosen = derive_seed(seed, "task", env.id, step, index)
            level = env.min_level + chosen % (env.max_level - env.min_level + 1)
            tasks.append(Task(env.id, split, level, (chosen >> 16) % 2**31))
    return tasks


def heldout_tasks(envs: Sequence[EnvConfig], each: int, seed: int) -> list[Task]:
    """Return `each` distinct held-out tasks of every environment, levels in turn.

    Distinct by content key. Where an environment has fewer distinct held-out problems, as many as it has.
    """
    tasks: list[Task] = []
    for env in envs:
        made = registry.make(env.id, **env.kwargs)
        seen: set[str] = set()
        levels = range(env.min_level, env.max_level + 1)
        for index in range(each * 20):
            if len(seen) == each:
                break
            level = levels[index % len(levels)]
            _, info = made.reset(seed=seed + index, options={"split": "heldout", "level": level})
            if info["key"] not in seen:
                seen.add(info["key"])
                tasks.append(Task(env.id, "heldout", level, seed + index, info["key"]))
        made.close()
    return tasks
