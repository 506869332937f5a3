"""Narrow state caches over many tokens: to nearest they stall and drift, stochastic they average right."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels.drift import DRAWN, simulate
from rolloom.kernels.ssd import rounding

STEPS = 1024


def run(decay: float, gain: float, start: float, stochastic: bool, elements: int = 512) -> torch.Tensor:
    """Feed the same gain to a state in fp16 and return its elements, which differ in their draws only."""
    state = torch.full((elements,), start, dtype=torch.float16)
    offsets = torch.arange(elements)
    draw = None
    for step in range(STEPS):
        if stochastic:
            draw = rounding.uniform(rounding.philox(torch.tensor(7), offsets, torch.tensor(step)))
        state = rounding.to_half(state.float() * decay + gain, draw)
    return state.double()


@pytest.mark.parametrize("sign", [1, -1])
def test_gains_below_half_a_step_are_lost_to_nearest_and_kept_stochastically(sign: int) -> None:
    # Around 1.5 numbers in fp16 are 2^-10 apart; 1024 gains of 2^-13 make 0.125.
    gain = sign * 2.0**-13
    stalled = run(1.0, gain, sign * 1.5, stochastic=False)
    assert torch.equal(stalled, torch.full_like(stalled, sign * 1.5))
    kept = run(1.0, gain, sign * 1.5, stochastic=True)
    error = kept.mean() - sign * 1.625
    assert error.abs() < 5 * kept.std() / len(kept) ** 0.5
    assert kept.std() < 0.03


def test_stochastic_rounding_is_unbiased_where_nearest_is_not() -> None:
    decay, gain = 1 - 1e-3, 1e-3
    truth, exact = torch.tensor(0.2, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    for _ in range(STEPS):
        exact = exact * torch.tensor(decay).double() + torch.tensor(gain).double()
    assert exact > truth
    near, kept = run(decay, gain, 0.2, stochastic=False), run(decay, gain, 0.2, stochastic=True)
    bound = 5 * kept.std() / len(kept) ** 0.5
    assert (kept.mean() - exact).abs() < bound
    assert (near.mean() - exact).abs() > 10 * bound


def test_the_simulation_of_the_docs_shows_it_and_repeats_itself() -> None:
    steps = 24 * DRAWN
    modes = ("int8 nearest", "int8 stochastic", "fp32")
    found = simulate(steps, seed=3, modes=modes)
    longest = {mode: abs(found.bias[mode][-1][-1]) for mode in modes}
    assert longest["int8 nearest"] > 3 * longest["int8 stochastic"]
    assert max(found.error["fp32"][-1]) < 1e-5
    # A state that rests for 32 tokens is rounded 32 times less often.
    rested = simulate(steps, every=32, seed=3, modes=modes[:1])
    assert rested.error["int8 nearest"][-1][-1] < found.error["int8 nearest"][-1][-1] / 3
    again = simulate(3 * DRAWN, seed=3, modes=modes[1:2])
    assert again == simulate(3 * DRAWN, seed=3, modes=modes[1:2])


def test_steps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=f"multiple of {DRAWN}, got 100"):
        simulate(100)
