"""The record of a run on disk: metrics, TensorBoard events, rollouts, held-out evaluations.

Written so that a kill at any moment leaves at most one torn last line, and so that a resumed run counts no
step twice: opening the log at a checkpoint's step drops whatever was written after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NotRequired, TypedDict

from rolloom.errors import RolloomError
from rolloom.rollout.rundir import RunDir, json_ready, read_jsonl, write_atomic, write_jsonl

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class RunLogError(RolloomError):
    """A record that cannot be written into the run's log."""


class EnvStep(TypedDict):
    """One environment's share of a step, failed rollouts left out of every mean.

    Attributes:
        accuracy: share of rollouts with full marks.
        reward: mean reward, with the length term.
        score: mean of the environment's own reward.
        pass_at_k: share of groups with a rollout of full marks; k is the group's size.
        tokens: mean sampled tokens of a rollout, all turns.
        think_tokens: mean of those inside think tags.
        turns: mean turns of a rollout.
        env_s: mean seconds that a rollout spent in the environment's calls.
        env_s_max: the most seconds that a rollout did.
        groups: tasks drawn.
        effective_groups: groups whose scores differ: the others teach nothing by their score.
        n: rollouts that did not fail.
        failures: rollouts that failed.
        failure_kinds: rollouts that failed, by `StopReason`.
        length_scale: factor on the length term.
        curriculum: `pool`, `pass_rate` and `target` of `rolloom.rollout.curriculum`; without a pool, nothing.
        reprofiled: tasks whose pass rate was replaced after the step; absent away from a plateau.
    """

    accuracy: float
    reward: float
    score: NotRequired[float]
    pass_at_k: NotRequired[float]
    tokens: float
    think_tokens: NotRequired[float]
    turns: float
    env_s: NotRequired[float]
    env_s_max: NotRequired[float]
    groups: NotRequired[int]
    effective_groups: NotRequired[int]
    n: int
    failures: int
    failure_kinds: NotRequired[dict[str, int]]
    length_scale: NotRequired[float]
    curriculum: NotRequired[dict[str, float]]
    reprofiled: NotRequired[int]


class StepRecord(TypedDict):
    """What a step is logged as; the units are in the names, lengths are tokens.

    Attributes:
        step: steps trained, from 1.
        reward: mean shaped reward.
        accuracy: share of rollouts with full marks.
        tokens_per_answer: mean sampled tokens of a rollout.
        entropy: mean entropy of the sampling distribution, in nats a token.
        logprob_diff_max: largest |engine - learner| difference of a sampled token's log-prob.
        logprob_diff_mean: mean of the same.
        loss: GRPO loss.
        grad_norm: gradient norm before clipping.
        learning_rate: of the optimizer.
        clip_fraction: share of tokens whose ratio was clipped.
        mtp_loss: cross entropy of the multi-token prediction block a token, in nats; 0 without one.
        expert_violation: load of the most loaded expert over the mean, minus 1, of the worst MoE layer.
        expert_entropy: entropy of the experts' load over its largest, mean of MoE layers; 1 is balance.
        dead_experts: experts that no token chose.
        kl: k3 estimate against the initial policy; 0 without one.
        generated_tokens: sampled tokens of the step.
        generated_tokens_per_s: sampled tokens over rollout time.
        trained_tokens_per_s: tokens in the loss over learner time.
        rollout_s: seconds of rollouts.
        learn_s: seconds of the update.
        step_s: seconds of the whole step.
        elapsed_s: seconds since the run began, the evaluation before training and earlier sessions included.
        failures: failed rollouts.
        policy_version: version of the policy after the step.
        envs: environment id -> its share.
    """

    step: int
    reward: float
    accuracy: float
    tokens_per_answer: float
    entropy: float
    logprob_diff_max: float
    logprob_diff_mean: float
    loss: float
    grad_norm: float
    learning_rate: float
    clip_fraction: float
    kl: float
    mtp_loss: NotRequired[float]
    expert_violation: NotRequired[float]
    expert_entropy: NotRequired[float]
    dead_experts: NotRequired[int]
    generated_tokens: int
    generated_tokens_per_s: float
    trained_tokens_per_s: float
    rollout_s: float
    learn_s: float
    step_s: float
    elapsed_s: NotRequired[float]
    failures: int
    policy_version: int
    envs: dict[str, EnvStep]


class EvalRecord(TypedDict):
    """One held-out rollout. The two evaluations of a run are paired by (env_id, task_key).

    Attributes:
        env_id: registry id.
        task_key: content key of the task.
        score: in [0, 1]; None when the rollout failed.
        tokens: sampled tokens, all turns.
        think_tokens: those of them inside think tags.
        turns: completions.
        stop: the `StopReason` value.
        failure: the machinery failed; the task counts for neither side.
        text: the conversation, in chat messages.
    """

    env_id: str
    task_key: str
    score: float | None
    tokens: int
    think_tokens: NotRequired[int]
    turns: NotRequired[int]
    stop: NotRequired[str]
    failure: NotRequired[bool]
    text: NotRequired[list[dict[str, Any]]]


class RunLog:
    """Writes one run's record.

    Args:
        run_dir: the run's directory, made when missing.
        resume_step: step of the checkpoint the run goes on from; 0 for a new run. Records of later steps are
            dropped, here, in the rollouts and in TensorBoard.
        tensorboard: also write TensorBoard events.
    """

    def __init__(
        self, run_dir: str | os.PathLike[str] | RunDir, *, resume_step: int = 0, tensorboard: bool = True
    ) -> None:
        self.dir = RunDir.create(run_dir.root if isinstance(run_dir, RunDir) else run_dir)
        self.last_step = resume_step
        self._drop_after(resume_step)
        self._metrics: IO[str] | None = self.dir.metrics.open("a", encoding="utf-8")
        self._events: SummaryWriter | None = None
        if tensorboard:
            # TensorBoard costs seconds to import, and a run that asks for none should not pay them.
            from torch.utils.tensorboard.writer import SummaryWriter

            purge = resume_step + 1 if any(self.dir.tensorboard.glob("events.*")) else None
            self._events = SummaryWriter(str(self.dir.tensorboard), purge_step=purge, flush_secs=10)

    def __enter__(self) -> RunLog:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def step(self, record: Mapping[str, Any]) -> None:
        """Append a step (see `StepRecord`) to metrics.jsonl and TensorBoard; on disk when this returns.

        Raises:
            RunLogError: when the step was logged before, or the log is closed.
        """
        if self._metrics is None:
            raise RunLogError(f"step {record.get('step')} after close(); expected an open log.")
        step = record.get("step")
        if not isinstance(step, int) or step <= self.last_step:
            raise RunLogError(
                f"record's step is {step!r}; expected an integer above {self.last_step}, the last one."
            )
        self._metrics.write(json.dumps(json_ready(record), ensure_ascii=False) + "\n")
        self._metrics.flush()
        os.fsync(self._metrics.fileno())
        self.last_step = step
        if self._events is not None:
            for name, value in _scalars(record):
                self._events.add_scalar(name, value, step)

    def rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write the rollouts of a step, one object a line, in one go; return the file."""
        path = self.dir.rollouts_of(step)
        write_jsonl(path, rows)
        return path

    def evaluation(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write a held-out evaluation (rows of `EvalRecord`); `before` and `after` are what the report reads.

        Raises:
            RunLogError: when the name is no plain file name.
        """
        if not name.isidentifier():
            raise RunLogError(f"evaluation is named {name!r}; expected letters, digits and underscores.")
        path = self.dir.evaluation / f"{name}.jsonl"
        write_jsonl(path, rows)
        return path

    def config(self, yaml_text: str) -> None:
        """Write the resolved configuration."""
        write_atomic(self.dir.config, yaml_text)

    def close(self) -> None:
        """Flush and close; twice is fine."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def _drop_after(self, step: int) -> None:
        """Keep the records up to `step`, one a step, and remove torn lines and later rollouts."""
        if self.dir.metrics.exists():
            kept = {row["step"]: row for row in read_metrics(self.dir) if row["step"] <= step}
            write_jsonl(self.dir.metrics, kept.values())
        for path in self.dir.rollouts.glob("step_*.jsonl"):
            number = path.stem.removeprefix("step_")
            if number.isdigit() and int(number) > step:
                path.unlink()


def read_metrics(run_dir: RunDir) -> list[dict[str, Any]]:
    """Return the step records in order of step, the last one of each; torn lines are skipped."""
    rows = {row["step"]: row for row in read_jsonl(run_dir.metrics) if isinstance(row.get("step"), int)}
    return [rows[step] for step in sorted(rows)]


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
