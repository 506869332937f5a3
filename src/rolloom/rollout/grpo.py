"""From a batch of trajectories to what the learner trains on: shaped rewards, advantages, sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rolloom.configs.schema import RewardConfig, TrainerConfig
from rolloom.envs.types import StopReason
from rolloom.policy.batch import TrainSequence
from rolloom.rewards.efficiency import shape_group
from rolloom.rollout.types import Trajectory


@dataclass(slots=True)
class ShapedBatch:
    """A batch ready to train on.

    Attributes:
        rewards: shaped reward of every trajectory, NaN for failed ones.
        advantages: of every trajectory, 0 for failed ones.
        sequences: one for each valid trajectory that sampled something.
    """

    rewards: list[float]
    advantages: list[float]
    sequences: list[TrainSequence]


def shape_batch(
    trajectories: Sequence[Trajectory],
    reward: RewardConfig,
    trainer: TrainerConfig,
    length_scales: Mapping[str, float] | None = None,
) -> ShapedBatch:
    """Compute rewards and advantages within each group (same `assignment.group`); failures enter nothing.

    Args:
        trajectories: of one step.
        reward: length control.
        trainer: baseline and normalisation.
        length_scales: factor on the length term by environment id; 1 where there is none.
    """
    groups: dict[int, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        groups.setdefault(trajectory.assignment.group, []).append(index)
    rewards, advantages = np.full(len(trajectories), np.nan), np.zeros(len(trajectories))
    for members in groups.values():
        rows = [trajectories[index] for index in members]
        scale = (length_scales or {}).get(rows[0].assignment.task.env_id, 1.0)
        shaped = shape_group(
            dataclasses.replace(reward, coefficient=reward.coefficient * scale),
            [row.score for row in rows],
            [row.completion_tokens for row in rows],
            think_tokens_G=[row.think_tokens for row in rows],
            truncated_G=[row.stop is StopReason.MAX_TOKENS for row in rows],
            failed_G=[row.failed for row in rows],
            baseline=trainer.baseline,
            std_normalization=trainer.std_normalization,
        )
        rewards[members], advantages[members] = shaped.rewards_G, shaped.advantages_G
    sequences = [
        TrainSequence(t.ids, t.mask, t.logprobs, float(advantage), t.experts, t.policy_version)
        for t, advantage in zip(trajectories, advantages, strict=True)
        if not t.failed and t.mask.any()
    ]
    return ShapedBatch(rewards.tolist(), advantages.tolist(), sequences)
