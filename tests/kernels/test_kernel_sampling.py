"""Truncated sampling: brute force over words, frequencies, ties, limits, and the log-probability returned."""

from __future__ import annotations

import math

import pytest
import torch

from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.sampling.op import processed_log_probs, sample
from rolloom.rollout.sampling import sample as engine_sample
from rolloom.rollout.sampling import uniform

BACKENDS = ["reference", "torch", "triton"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on(backend: str) -> str:
    return DEVICE if backend == "triton" else "cpu"


def normal(*shape: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def brute(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """Return probabilities, by sorting words and adding them up one at a time."""
    order = sorted(range(len(logits)), key=lambda word: (-logits[word], word))
    if temperature == 0:
        temperature, top_k = 1.0, 1
    order = order[: top_k or len(order)]
    mass = {word: math.exp((logits[word] - logits[order[0]]) / temperature) for word in order}
    kept, held, total = [], 0.0, sum(mass.values())
    for word in order:
        if kept and top_p < 1 and held >= top_p * total * (1 - 1e-12):
            break
        kept.append(word)
        held += mass[word]
    return [mass[word] / held if word in kept else 0.0 for word in range(len(logits))]


SETTINGS = [
    (1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 3, 1.0), (1.0, 1, 1.0), (1.0, 99, 1.0), (1.0, 0, 0.6), (2.0, 4, 0.7),
    (1.0, 0, 0.0), (1.0, 0, 1e-9), (1.0, 0, 0.999999), (0.0, 5, 0.5), (0.01, 0, 0.9),
]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_distribution_is_that_of_brute_force(backend: str, setting: tuple[float, int, float]) -> None:
    rows = normal(2, 13)
    rows = torch.cat([rows, (rows[:1] / 2).round() * 2])
    logp = processed_log_probs(rows.to(on(backend)), *setting, backend=backend).cpu()
    for row, ours in zip(rows.tolist(), logp, strict=True):
        truth = torch.tensor(brute(row, *setting), dtype=torch.float64)
        torch.testing.assert_close(ours.double().exp(), truth, atol=1e-6, rtol=1e-5)
        assert torch.equal(ours.isinf(), truth == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "setting", [(1.0, 0, 1.0), (0.7, 4, 1.0), (1.0, 0, 0.7), (1.3, 5, 0.9), (0.0, 0, 1.0)]
)
def test_evenly_spaced_uniforms_draw_each_word_as_often_as_its_probability(
    backend: str, setting: tuple[float, int, float]
) -> None:
    count = 20 if backend == "triton" else 2000
    row = normal(7, seed=3)
    uniforms = (torch.arange(count) + 0.5) / count
    tokens, logp = (
        value.cpu()
        for value in sample(row.expand(count, 7).to(on(backend)), uniforms.to(on(backend)), *setting, backend)
    )
    truth = torch.tensor(brute(row.tolist(), *setting), dtype=torch.float64)
    found = torch.bincount(tokens, minlength=7) / count
    assert ((found - truth).abs() <= 1.001 / count).all()
    assert (truth[tokens] > 0).all()
    torch.testing.assert_close(logp.double(), truth[tokens].log(), atol=1e-5, rtol=1e-5)
    assert (tokens[1:] >= tokens[:-1]).all()


def chi_square(tokens: torch.Tensor, truth: torch.Tensor) -> tuple[float, int]:
    seen = truth > 0
    expected = truth[seen] * len(tokens)
    counts = torch.bincount(tokens, minlength=len(truth))[seen]
    return float(((counts - expected).square() / expected).sum()), int(seen.sum()) - 1


@pytest.mark.parametrize(
    "setting", [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 6, 1.0), (1.0, 0, 0.8), (1.5, 9, 0.9)]
)
def test_frequencies_pass_a_chi_square_test(setting: tuple[float, int, float]) -> None:
    row, draws = normal(16, seed=5, scale=1.0), 200_000
    generator = torch.Generator().manual_seed(7)
    uniforms = torch.rand(draws, generator=generator, dtype=torch.float64)
    tokens, _ = sample(row.expand(draws, 16), uniforms, *setting)
    truth = torch.tensor(brute(row.tolist(), *setting), dtype=torch.float64)
    assert (truth[tokens] > 0).all()
    statistic, freedom = chi_square(tokens, truth)
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)
    wrong = torch.tensor(brute(row.tolist(), 1.05 * setting[0], *setting[1:]), dtype=torch.float64)
    statistic, freedom = chi_square(tokens, wrong)
    assert statistic > freedom + 10 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_words_the_first_are_kept(backend: str) -> None:
    logits = torch.zeros(1, 8)
    logits[0, 5] = 1.0
    kept = [
        processed_log_probs(logits.to(on(backend)), 1.0, k, p, backend)
        .isfinite()
        .flatten()
        .nonzero()
        .flatten()
        for k, p in ((3, 1.0), (1, 1.0), (0, 0.5), (4, 0.8))
    ]
    # Of the mass e + 7, half is e + 2.14; of e + 3, four fifths are e + 1.86.
    assert [each.tolist() for each in kept] == [[0, 1, 5], [5], [0, 1, 2, 5], [0, 1, 5]]
    logits = torch.tensor([[0.0, -0.0, 0.0, -0.0]], device=on(backend))
    kept = processed_log_probs(logits, 1.0, 0, 0.5, backend).isfinite()
    assert kept.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_ignores_uniforms_and_takes_the_first_best(backend: str) -> None:
    rows = normal(4, 40, seed=2)
    rows[:, 30] = rows[:, 10] = 9.0
    for setting in ((0.0, 0, 1.0), (1.0, 1, 1.0), (1.0, 0, 0.0)):
        uniforms = torch.tensor([0.0, 0.3, 0.7, 1 - 2**-24], device=on(backend))
        tokens, logp = sample(rows.to(on(backend)), uniforms, *setting, backend)
        assert tokens.tolist() == [10] * 4
        assert logp.tolist() == [0.0] * 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_banned_words_are_never_drawn_whatever_the_uniform(backend: str) -> None:
    logits = torch.full((3, 6), float("-inf"))
    logits[:, 1:4] = torch.tensor([0.0, 1.0, 0.5])
    uniforms = torch.tensor([0.0, 1 - 2**-24, 1.0], device=on(backend))
    for setting in ((1.0, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.99), (1.0, 5, 0.99)):
        tokens, logp = sample(logits.to(on(backend)), uniforms, *setting, backend)
        assert tokens.tolist() == [1, 3, 3]
        assert logp.isfinite().all()


def test_without_truncation_it_is_bit_for_bit_the_engines_sampler() -> None:
    logits, seeds = normal(300, 97), torch.arange(300)
    temperatures = torch.rand(300, generator=torch.Generator().manual_seed(1)) + 0.5
    theirs = engine_sample(logits, seeds, seeds % 7, temperatures)
    ours = sample(logits, uniform(seeds, seeds % 7), temperatures)
    for value, expected in zip(ours, theirs, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_row_depends_on_nothing_but_itself_and_its_settings(backend: str) -> None:
    rows, uniforms = normal(6, 40, seed=4).to(on(backend)), torch.rand(6).to(on(backend))
    temperature = torch.tensor([0.0, 0.5, 1.0, 1.5, 1.0, 1.0], device=on(backend))
    top_k = torch.tensor([0, 5, 0, 7, 40, 41], device=on(backend))
    top_p = torch.tensor([1.0, 0.5, 0.8, 1.0, 0.9, 1.0], device=on(backend))
    tokens, logp = sample(rows, uniforms, temperature, top_k, top_p, backend)
    for i in range(6):
        how = float(temperature[i]), int(top_k[i]), float(top_p[i])
        token, alone = sample(rows[i : i + 1], uniforms[i : i + 1], *how, backend)
        assert token == tokens[i]
        torch.testing.assert_close(alone[0], logp[i])
        whole = processed_log_probs(rows[i : i + 1], *how, backend)
        torch.testing.assert_close(whole[0, token[0]], logp[i])
        assert backend == "torch" or torch.equal(alone[0], logp[i])


def test_wrong_arguments_are_named() -> None:
    logits, uniforms = torch.zeros(2, 5, device=DEVICE), torch.zeros(2, device=DEVICE)
    for name, how in (("temperature", (-1.0, 0, 1.0)), ("top_k", (1.0, -1, 1.0)), ("top_p", (1.0, 0, 1.5))):
        with pytest.raises(ValueError, match=rf"{name}: expected"):
            sample(logits, uniforms, *how)
    with pytest.raises(ValueError, match=r"uniforms: expected shape \(2,\), got \(1,\)"):
        sample(logits, uniforms[:1])
    with pytest.raises(UnsupportedError, match="logits: expected float32, bfloat16 or float16"):
        sample(logits.double(), uniforms, backend="triton")
    with pytest.raises(UnsupportedError, match="logits: expected a tensor without gradient"):
        sample(logits.requires_grad_(), uniforms, backend="triton")
