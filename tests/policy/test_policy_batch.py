"""Microbatches: nothing lost, nothing twice, within the budget, and every target beside its prediction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloom.policy.batch import TrainSequence, make_microbatches, plan

lengths = st.lists(st.integers(2, 70), max_size=30)
budgets = st.integers(1, 300)


@given(lengths, budgets)
def test_a_plan_takes_everything_once_within_the_budget(sizes: list[int], budget: int) -> None:
    groups = plan(sizes, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(sizes)))
    for group in groups:
        assert group
        assert len(group) == 1 or sum(sizes[index] for index in group) <= budget


@given(lengths, budgets)
def test_a_plan_sorts_by_length_and_opens_no_group_too_early(sizes: list[int], budget: int) -> None:
    groups = plan(sizes, budget)
    flat = [sizes[index] for group in groups for index in group]
    assert flat == sorted(flat)
    for group, following in itertools.pairwise(groups):
        assert sum(sizes[index] for index in [*group, following[0]]) > budget


def sequence(length: int, index: int, rng: np.random.Generator, layers: int | None) -> TrainSequence:
    """A sequence whose tokens say which it is and where: id = 1000 * (index + 1) + position."""
    mask = rng.random(length) < rng.random()
    mask[0] = False
    ids = (1000 * (index + 1) + np.arange(length)).astype(np.int32)
    logprobs = np.where(mask, -rng.random(length), 0).astype(np.float32)
    experts = None if layers is None else rng.integers(0, 8, (length, layers, 2)).astype(np.uint8)
    return TrainSequence(ids, mask, logprobs, float(index) - 2.5, experts, policy_version=index)


@settings(max_examples=60)
@given(lengths, budgets, st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 3]))
def test_targets_stand_beside_their_predictions(
    sizes: list[int], budget: int, seed: int, layers: int | None
) -> None:
    rng = np.random.default_rng(seed)
    rows = [sequence(size, index, rng, layers) for index, size in enumerate(sizes)]
    seen: list[int] = []
    for micro in make_microbatches(rows, budget):
        parts = micro.ids.split(micro.packing.lengths)
        owners = [int(part[0]) // 1000 - 1 for part in parts]
        seen += owners
        # A target is the token after the one whose hidden state predicts it, in the same sequence.
        assert torch.equal(micro.ids[micro.at] + 1, micro.targets)
        assert torch.equal(micro.packing.owners()[micro.at], micro.rows)
        assert micro.tokens == sum(len(rows[owner].ids) for owner in owners)
        for row, owner in enumerate(owners):
            source, mine = rows[owner], micro.rows == row
            assert parts[row].tolist() == source.ids.tolist()
            assert micro.targets[mine].tolist() == source.ids[source.mask].tolist()
            np.testing.assert_array_equal(micro.logprobs[mine].numpy(), source.logprobs[source.mask])
            assert (micro.advantages[mine] == source.advantage).all()
            if source.experts is None:
                assert micro.replay is None
            else:
                assert micro.replay is not None
                replay = micro.replay.split(micro.packing.lengths)[row]
                np.testing.assert_array_equal(replay.numpy(), source.experts)
    assert sorted(seen) == list(range(len(rows)))


def test_experts_of_some_are_not_replayed_for_all() -> None:
    rng = np.random.default_rng(0)
    rows = [sequence(9, 0, rng, 1), sequence(9, 1, rng, None)]
    assert make_microbatches(rows, 100)[0].replay is None


def test_a_sampled_first_token_is_refused() -> None:
    row = sequence(5, 0, np.random.default_rng(0), None)
    row.mask[0] = True
    with pytest.raises(AssertionError, match="first token"):
        make_microbatches([row], 100)
