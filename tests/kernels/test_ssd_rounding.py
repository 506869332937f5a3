"""Rounding of cached states: exact to nearest, unbiased and reproducible at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rolloom.kernels.ssd.rounding import LARGEST_HALF, from_int8, philox, to_half, to_int8, uniform

DRAWS = 10**6
TINY = 2.0**-24
"""The smallest fp16 subnormal."""


def words(count: int, seed: int = 0, step: int = 0, rounds: int = 10) -> torch.Tensor:
    return philox(torch.tensor(seed), torch.arange(count), torch.tensor(step), rounds)


def test_philox_gives_the_published_numbers() -> None:
    # Known answers of Random123 (kat_vectors): philox4x32, 10 rounds, counter and key 0.
    assert int(philox(torch.tensor(0), torch.tensor(0), torch.tensor(0))) == 0x6627E8D5
    # The same in Python's own integers, with a wide key and a second counter word, at 5 and 10 rounds.
    for rounds in (5, 10):
        seed = 0x1234_5678_9ABC_DEF0
        for offset, step in ((7, 3), (0xFFFFFFFF, 0xFFFFFFFE)):
            counter, key = [offset, step, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
            for _ in range(rounds):
                a, c = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
                counter = [
                    (c >> 32) ^ counter[1] ^ key[0], c & 0xFFFFFFFF,
                    (a >> 32) ^ counter[3] ^ key[1], a & 0xFFFFFFFF,
                ]  # fmt: skip
                key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
            found = philox(torch.tensor(seed), torch.tensor(offset), torch.tensor(step), rounds)
            assert int(found) == counter[0]


def test_draws_are_uniform_and_never_a_bound() -> None:
    draws = uniform(words(DRAWS)).double()
    assert draws.min() > 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 5 * (1 / 12 / DRAWS) ** 0.5
    counts = torch.histc(draws, 100, 0, 1)
    assert ((counts - DRAWS / 100) ** 2 / (DRAWS / 100)).sum() < 99 + 6 * (2 * 99) ** 0.5
    assert torch.equal(uniform(torch.tensor([0, 0xFFFFFFFF])), torch.tensor([2.0**-24, 1 - 2.0**-24]))


VALUES = {
    "normal": 1.2345, "negative": -0.7654321, "nearly up": 1.0 + 0.999 * 2**-10, "subnormal": 3.3 * TINY,
    "below the least": 0.3 * TINY, "negative, below it": -0.01 * TINY, "at the edge": 65000.0,
    "into the subnormals": 2.0**-14 - 0.25 * TINY, "large": 4097.3,
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_stochastic_halves_are_unbiased_and_next_to_the_value(value: float) -> None:
    x = torch.full((DRAWS,), value)
    rounded = to_half(x, uniform(words(DRAWS, seed=5)))
    kinds = rounded.unique().double()
    exact = np.float32(value)
    below = np.float16(exact)
    below = below if below <= exact else np.nextafter(below, np.float16(-np.inf))
    above = np.nextafter(below, np.float16(np.inf))
    assert set(kinds.tolist()) <= {float(below), float(above)}
    gap = float(above) - float(below)
    assert abs(float(rounded.double().mean()) - float(exact)) < 5 * gap * 0.5 / DRAWS**0.5


def test_what_a_half_holds_is_kept_and_what_it_cannot_saturates() -> None:
    every = torch.arange(-(2**15), 2**15).short().view(torch.float16)
    finite = every[every.isfinite()]
    draws = uniform(words(len(finite)))
    assert torch.equal(to_half(finite.float(), draws).view(torch.int16), finite.view(torch.int16))
    assert torch.equal(to_half(finite.float()).view(torch.int16), finite.view(torch.int16))
    large = torch.tensor([65504.0, 65519.0, 65536.0, 1e30, float("inf")])
    for draw in (None, torch.full((5,), 1e-6), torch.full((5,), 1 - 1e-6)):
        assert torch.equal(to_half(large, draw).float(), torch.full((5,), LARGEST_HALF))
        assert torch.equal(to_half(-large, draw).float(), torch.full((5,), -LARGEST_HALF))
    nan = torch.tensor([float("nan")])
    assert to_half(nan).isnan().all() and to_half(nan, torch.tensor([0.5])).isnan().all()


def test_the_formula_of_the_report() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20000, generator=g) * torch.exp(torch.randn(20000, generator=g) * 6)
    x = x[x.abs() < LARGEST_HALF]
    random = words(len(x), seed=3)
    expected = []
    for value, word in zip(x.numpy(), random.tolist(), strict=True):
        low = np.float16(value)
        if abs(float(low)) > abs(float(value)):
            low = np.nextafter(low, np.float16(0))
        high = np.nextafter(low, np.float16(np.copysign(np.inf, value)))
        u = ((word >> 9) + 0.5) / 2**23
        up = u * abs(float(high) - float(low)) < abs(float(value) - float(low))
        expected.append(float(high if up else low))
    assert torch.equal(to_half(x, uniform(random)).double(), torch.tensor(expected, dtype=torch.float64))


def test_draws_depend_on_seed_element_and_step_alone() -> None:
    base = words(1000)
    assert torch.equal(base, words(1000)) and torch.equal(base[:10], words(10))
    for other in (words(1000, seed=1), words(1000, step=1), words(1000, seed=1 << 32), words(1000, rounds=5)):
        assert (base == other).float().mean() < 0.01


def test_int8_is_unbiased_and_within_a_step() -> None:
    g = torch.Generator().manual_seed(1)
    row = torch.randn(200, generator=g)
    x = row.expand(DRAWS // 200, 200)
    quantised, scale = to_int8(x, uniform(words(DRAWS).view(-1, 200)))
    assert quantised.dtype == torch.int8 and scale.shape == (DRAWS // 200, 2)
    back = from_int8(quantised, scale)
    steps = scale[0].repeat_interleave(128)[:200]
    assert ((back - x).abs() <= steps * 1.0001).all()
    error = (back.double().mean(0) - row.double()).abs() / steps
    assert error.max() < 5 * 0.5 / (DRAWS // 200) ** 0.5
    nearest, scale = to_int8(row[None])
    assert ((from_int8(nearest, scale) - row).abs() <= steps * 0.5001).all()
    zeros, scale = to_int8(torch.zeros(1, 130), torch.full((1, 130), 0.5))
    assert not zeros.any() and not scale.any()


def test_a_slow_decay_drifts_when_rounded_to_nearest_only() -> None:
    """A state that loses a quarter of a step each time never moves when rounded to nearest."""
    keep = 1 - 2.0**-13
    nearest, random = torch.ones(2000), torch.ones(2000)
    seed, element = torch.tensor(0), torch.arange(2000)
    for step in range(2000):
        nearest = to_half(nearest * keep).float()
        draw = uniform(philox(seed, element, torch.tensor(step)))
        random = to_half(random * keep, draw).float()
    assert float(nearest.mean()) == 1.0
    assert float(random.mean()) == pytest.approx(keep**2000, abs=2e-3)
