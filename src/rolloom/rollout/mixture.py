"""Which tasks a step draws: a function of the seed, the step and the place, so that a resume repeats it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from rolloom.configs.schema import EnvConfig
from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.envs.types import Split, Task
from rolloom.rollout.curriculum import Pool
from rolloom.rollout.types import derive_seed

MAX_PARTS = 10_000


def shares(weights: Sequence[float], per_step: int, step: int) -> list[int]:
    """Divide a step's prompts by weight.

    The totals of all steps so far are as exact as whole numbers allow: none is a whole prompt away from its
    weight's share.

    Args:
        weights: none negative, one positive; ratios are kept to 1e-4.
        per_step: prompts of one step.
        step: 1-based.

    Returns:
        Prompts of each weight; they sum to `per_step`.
    """
    parts = _whole_parts(weights)
    before, after = _totals(parts, (step - 1) * per_step), _totals(parts, step * per_step)
    return [b - a for a, b in zip(before, after, strict=True)]


def _whole_parts(weights: Sequence[float]) -> tuple[int, ...]:
    """Return the smallest integers in the ratio of the weights, or close to it where those are too large."""
    exact = [Fraction(str(weight)) for weight in weights]
    common = math.lcm(*(part.denominator for part in exact))
    parts = [int(part * common) for part in exact]
    if sum(parts) // math.gcd(*parts) > MAX_PARTS:
        parts = [max(1, round(part * MAX_PARTS / sum(parts))) if part else 0 for part in parts]
    return tuple(part // math.gcd(*parts) for part in parts)


@lru_cache(maxsize=8)
def _totals(parts: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Divide `count` prompts by the quota method of Balinski and Young (1975).

    It never takes a prompt back as the count grows, and never strays a whole prompt from a share.
    """
    whole = sum(parts)
    rounds, rest = divmod(count, whole)
    held = [0] * len(parts)
    for drawn in range(1, rest + 1):
        below = [index for index, part in enumerate(parts) if held[index] * whole < part * drawn]
        held[min(below, key=lambda index: (held[index] + 1) / parts[index])] += 1
    return tuple(rounds * part + more for part, more in zip(parts, held, strict=True))


def draw_tasks(
    envs: Sequence[EnvConfig], per_step: int, step: int, seed: int, split: Split = "train",
    pools: Mapping[str, Pool] | None = None,
) -> list[Task]:  # fmt: skip
    """Return the tasks of a step, as many of each environment as its share.

    Args:
        envs: the mixture.
        per_step: tasks in all.
        step: 1-based.
        seed: of the run.
        split: of the tasks.
        pools: profiled tasks by environment id; an environment with a pool draws from it alone.
    """
    tasks = []
    for env, count in zip(envs, shares([env.weight for env in envs], per_step, step), strict=True):
        if pools and env.id in pools:
            tasks += pools[env.id].draw(count, step, seed, split)
            continue
        for index in range(count):
            chosen = derive_seed(seed, "task", env.id, step, index)
            level = env.min_level + chosen % (env.max_level - env.min_level + 1)
            tasks.append(Task(env.id, split, level, (chosen >> 16) % 2**31))
    return tasks


def heldout_tasks(envs: Sequence[EnvConfig], each: int, seed: int) -> list[Task]:
    """Return `each` distinct held-out tasks of every environment; see `distinct_tasks`."""
    return [task for env in envs for task in distinct_tasks(env, each, seed, "heldout")]


def distinct_tasks(env: EnvConfig, each: int, seed: int, split: Split) -> list[Task]:
    """Return `each` tasks of one environment, levels in turn, distinct by content key.

    Where the environment has fewer distinct problems, as many as it has.

    Args:
        env: its id, levels and keyword arguments.
        each: tasks wanted.
        seed: of the first one.
        split: of all.

    Raises:
        EnvError: the environment fails to make one of its problems.
    """
    tasks: list[Task] = []
    made = registry.make(env.id, **env.kwargs)
    seen: set[str] = set()
    levels = range(env.min_level, env.max_level + 1)
    for index in range(each * 20):
        if len(seen) == each:
            break
        level = levels[index % len(levels)]
        try:
            _, info = made.reset(seed=seed + index, options={"split": split, "level": level})
        except Exception as error:
            name = "held-out" if split == "heldout" else "training"
            raise EnvError(
                f"{env.id}: its {name} problem of level {level}, seed {seed + index} cannot be made: "
                f"{type(error).__name__}: {error}"
            ) from error
        if info["key"] not in seen:
            seen.add(info["key"])
            tasks.append(Task(env.id, split, level, seed + index, info["key"]))
    made.close()
    return tasks
