"""`rolloom policy quantize`: a checkpoint in NVFP4, after quantisation-aware distillation if wished.

Distillation samples the policy itself on the training tasks of a configuration's environments: each round of
rollouts is learnt from for a few steps, as the teacher's distribution and not as its reward.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rolloom.configs.load import load_run_config
from rolloom.configs.schema import RunConfig
from rolloom.errors import RolloomError
from rolloom.policy.checkpoint import to_released
from rolloom.policy.qad import LEARNING_RATE, Distillation, FakeQuantized, distill, divergence
from rolloom.policy.quantize import KindBytes, Rounding, load_plain, quantize_policy
from rolloom.policy.quantize_layers import DEFAULT, chosen

if TYPE_CHECKING:
    from rolloom.policy.batch import TrainSequence
    from rolloom.policy.model import HybridLM

PROMPTS, STEPS_PER_ROUND, BATCH = 128, 16, 32
"""Tasks of a round of rollouts; steps until the next; sequences of a step."""
HELD_BACK = 32
"""Sequences of the first round that nothing is learnt from: the divergence is measured on them."""


class QuantizeError(RolloomError):
    """A policy cannot be quantised as asked."""


def main(
    path: str, out: str | Path, layers: str = DEFAULT, rounding: Rounding = "nearest", seed: int = 0,
    steps: int = 0, config: str | Path = "quickstart", overrides: Sequence[str] = (),
    learning_rate: float = LEARNING_RATE, say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Quantise a checkpoint and say what it takes now.

    Args:
        path: checkpoint directory or `shipped:NAME`.
        out: directory to write.
        layers: `default`, `all` or a regular expression.
        rounding: `nearest` or `stochastic`.
        seed: of stochastic rounding.
        steps: of distillation before; 0 leaves it out.
        config: whose environments and sampling distillation takes.
        overrides: `key=value` words for it.
        learning_rate: of distillation.
        say: receives lines for the person.

    Raises:
        RolloomError: what cannot be read, quantised, sampled or written over.
    """
    from rolloom.rollout.launch import policy_directory

    source = policy_directory(path)
    if steps < 0:
        raise QuantizeError(f"distill: expected at least 0 steps, got {steps}")
    started = time.monotonic()
    model = None
    if steps:
        run = load_run_config(config, [*overrides, "local=true", f"seed={seed}"])
        model = distilled(source, layers, run, steps, learning_rate, say)
    counted = quantize_policy(source, out, layers, rounding, seed, model)
    say(table(counted))
    say(f"wrote {out} in {time.monotonic() - started:.0f} s")
    return 0


def distilled(
    source: str, layers: str, run: RunConfig, steps: int, learning_rate: float, say: Callable[[str], None]
) -> HybridLM:
    """Return the policy at `source` after distillation; see `qad.distill`."""
    import torch

    from rolloom.rollout.cluster import Cluster
    from rolloom.rollout.launch import imported
    from rolloom.rollout.scheduler import Scheduler

    run.imports = imported(run.imports)
    teacher = load_plain(source, torch.float32)
    student = copy.deepcopy(teacher)
    names = chosen(to_released(teacher.state_dict()), teacher.config.pattern, layers)
    student_view = FakeQuantized(student, names)
    cluster = Cluster(run, source, source, learner=False)
    try:
        scheduler = Scheduler(cluster.workers, cluster.engines, run.rollout, run.seed)
        first = _sampled(scheduler, run, 1)
        back, pool = first[:HELD_BACK], first[HELD_BACK:]
        if not back or not pool:
            raise QuantizeError(f"distill: expected more than {HELD_BACK} rollouts that sampled something, "
                                f"got {len(first)}")  # fmt: skip
        before = divergence(teacher, student_view, back)
        held = {"round": 1, "pool": pool}

        def batches(step: int) -> list[TrainSequence]:
            number = step // STEPS_PER_ROUND + 1
            if number != held["round"]:
                held.update(round=number, pool=_sampled(scheduler, run, number))
            rows = held["pool"]
            begin = step % STEPS_PER_ROUND * BATCH
            return [rows[index % len(rows)] for index in range(begin, begin + min(BATCH, len(rows)))]

        def report(step: int, loss: float) -> None:
            if step % STEPS_PER_ROUND == 0 or step + 1 == steps:
                say(f"step {step + 1}/{steps}  KL {loss:.5f} nats a token")

        distill(teacher, student, names, batches, steps, Distillation(learning_rate), report)
    finally:
        cluster.stop()
    after = divergence(teacher, student_view, back)
    say(f"KL to the policy as it was, on {len(back)} rollouts not learnt from: {before:.5f} nats a token "
        f"quantised as it is, {after:.5f} after {steps} steps")  # fmt: skip
    return student


def _sampled(scheduler: object, run: RunConfig, number: int) -> list[TrainSequence]:
    """Return rollouts of fresh training tasks, in a fixed order that mixes environments."""
    from rolloom.rollout.grpo import shape_batch
    from rolloom.rollout.mixture import draw_tasks
    from rolloom.rollout.scheduler import Scheduler

    assert isinstance(scheduler, Scheduler)
    tasks = draw_tasks(run.envs, PROMPTS, number, run.seed)
    mixed = [tasks[index] for place in range(7) for index in range(place, len(tasks), 7)]
    batch = scheduler.assignments(mixed, 1, f"distill-{number}", run.rollout.temperature)
    return shape_batch(scheduler.run(batch), run.reward, run.trainer).sequences


def table(counted: Sequence[KindBytes]) -> str:
    """Return what each kind of tensor takes, in Markdown."""
    rows = [(k.kind, k.elements, k.quantized, k.before, k.after) for k in counted]
    total = ("all", *map(sum, zip(*(row[1:] for row in rows), strict=True)))
    lines = ["| tensors | elements | in NVFP4 | bytes before | bytes after | bits an element |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for kind, elements, quantized, before, after in [*rows, total]:
        bits = 8 * int(after) / max(1, int(elements))
        lines.append(f"| {kind} | {elements:,} | {quantized:,} | {before:,} | {after:,} | {bits:.3f} |")
    return "\n".join(lines)
