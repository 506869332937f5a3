"""Counter-based draws: repeatable, uniform, and of the distribution whose log-probs are reported."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rolloom.rollout.sampling import sample, uniform

DRAWS = 40_000
VOCAB = 16


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = probabilities.double() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def limit(cells: int) -> float:
    """Five standard deviations above the mean of chi-square."""
    return (cells - 1) + 5 * (2 * (cells - 1)) ** 0.5


def draw(logits: torch.Tensor, temperature: float, vary: str) -> torch.Tensor:
    """Tokens of many draws from one row of logits, over seeds or over positions."""
    many, one = torch.arange(DRAWS), torch.full((DRAWS,), 12345)
    seeds, positions = (many, one) if vary == "seeds" else (one, many)
    temperatures = torch.full((DRAWS,), temperature)
    return sample(logits.expand(DRAWS, -1), seeds, positions, temperatures)[0]


@pytest.mark.parametrize("vary", ["seeds", "positions"])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_draws_follow_the_softmax(temperature: float, vary: str) -> None:
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(1)) * 1.2
    counts = torch.bincount(draw(logits, temperature, vary), minlength=VOCAB)
    assert chi_square(counts, (logits / temperature).softmax(-1)) < limit(VOCAB)
    wrong = (logits / (temperature * 1.1)).softmax(-1)
    assert chi_square(counts, wrong) > limit(VOCAB), "the test could not tell a temperature 10% off"


def test_consecutive_positions_are_independent() -> None:
    seeds = torch.full((DRAWS,), 7)
    cells = (uniform(seeds, torch.arange(DRAWS)) * 8).long()
    pairs = torch.bincount(cells[:-1:2] * 8 + cells[1::2], minlength=64)
    assert chi_square(pairs, torch.full((64,), 1 / 64)) < limit(64)


def test_neighbouring_seeds_are_independent() -> None:
    seeds, positions = torch.arange(DRAWS), torch.zeros(DRAWS, dtype=torch.int64)
    cells = torch.stack([(uniform(seeds + shift, positions) * 8).long() for shift in (0, 1)])
    pairs = torch.bincount(cells[0, ::2] * 8 + cells[1, ::2], minlength=64)
    assert chi_square(pairs, torch.full((64,), 1 / 64)) < limit(64)


seeds63 = st.integers(0, 2**63 - 1)


@given(seeds63, st.integers(0, 10**6))
def test_uniform_is_splitmix64_twice_mixed(seed: int, position: int) -> None:
    word = 2**64 - 1
    x = (seed + (position + 1) * 0x9E3779B97F4A7C15) & word
    for _ in range(2):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
        x ^= x >> 31
    value = uniform(torch.tensor([seed]), torch.tensor([position])).item()
    assert value == (x >> 11) * 2.0**-53
    assert 0 <= value < 1


@given(
    st.lists(
        st.tuples(seeds63, st.integers(0, 500), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=8
    )
)
def test_a_draw_depends_on_nothing_but_its_row(rows: list[tuple[int, int, float]]) -> None:
    seeds, positions = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
    temperatures = torch.tensor([r[2] for r in rows])
    logits = torch.randn(len(rows), VOCAB, generator=torch.Generator().manual_seed(len(rows)))
    tokens, logprobs = sample(logits, seeds, positions, temperatures)
    for i in range(len(rows)):
        one = slice(i, i + 1)
        token, logprob = sample(logits[one], seeds[one], positions[one], temperatures[one])
        assert token.item() == tokens[i] and logprob.item() == logprobs[i]


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.7, 1.0, 2.0])
def test_logprobs_are_of_the_distribution_drawn_from(temperature: float) -> None:
    logits = torch.randn(200, VOCAB, generator=torch.Generator().manual_seed(2)) * 3
    seeds, positions = torch.arange(200), torch.zeros(200, dtype=torch.int64)
    tokens, logprobs = sample(logits, seeds, positions, torch.full((200,), temperature))
    exact = (logits.double() / (temperature or 1.0)).log_softmax(-1)
    torch.testing.assert_close(logprobs.double(), exact[torch.arange(200), tokens], atol=1e-5, rtol=1e-5)
    assert logprobs.dtype == torch.float32
    if temperature == 0:
        assert torch.equal(tokens, logits.argmax(-1))


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.zeros(VOCAB)
    impossible = torch.tensor([0, 5, VOCAB - 1])
    logits[impossible] = float("-inf")
    counts = torch.bincount(draw(logits, 1.0, "seeds"), minlength=VOCAB)
    assert (counts[impossible] == 0).all() and (counts > 0).sum() == VOCAB - len(impossible)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_logits_draw_the_best(scale: float) -> None:
    logits = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(3)) * scale
    seeds, positions = torch.arange(64), torch.zeros(64, dtype=torch.int64)
    tokens, logprobs = sample(logits, seeds, positions, torch.ones(64))
    assert torch.equal(tokens, logits.argmax(-1)) and logprobs.abs().max() < 1e-3
