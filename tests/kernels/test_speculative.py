"""Speculative verification: the target's distribution whatever the draft, greedy exactly, lengths."""

from __future__ import annotations

import math

import pytest
import torch

from rolloom.kernels.dispatch import UnsupportedError
from rolloom.kernels.sampling.op import processed_log_probs, sample
from rolloom.kernels.speculative.op import verify

BACKENDS = ["reference", "torch", "triton"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORDS, DRAFTED, SAMPLES = 5, 3, 200_000


def on(backend: str) -> str:
    return DEVICE if backend == "triton" else "cpu"


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chains(apart: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of the next word after each word, `[V, V]`: the target's, the draft's."""
    target = torch.randn(WORDS, WORDS, generator=generator(seed))
    draft = target + apart * torch.randn(WORDS, WORDS, generator=generator(seed + 1))
    return target.log_softmax(-1), draft.log_softmax(-1)


def drafted_by(draft: torch.Tensor, rows: int, seed: int) -> torch.Tensor:
    """Return words drawn one after the other from the draft, after word 0, `[B, K]`."""
    words = [torch.zeros(rows, dtype=torch.int64)]
    for step in range(DRAFTED):
        uniforms = torch.rand(rows, generator=generator(100 * seed + step), dtype=torch.float64)
        words.append(sample(draft[words[-1]], uniforms)[0])
    return torch.stack(words, 1)


def run(backend: str, drafts, target, uniforms, draft, lengths=None) -> tuple[torch.Tensor, ...]:
    """Verify on the backend's device; results on the CPU."""
    given = [
        None if value is None else value.to(on(backend))
        for value in (drafts, target, uniforms, draft, lengths)
    ]
    return tuple(value.cpu() for value in verify(*given, backend=backend))  # type: ignore[arg-type]


def speculate(backend: str, apart: float, rows: int, seed: int = 0, certain: bool = False):
    target, draft = chains(apart)
    words = drafted_by(draft, rows, seed)
    uniforms = torch.rand(rows, DRAFTED + 1, generator=generator(seed + 50), dtype=torch.float64)
    drafts = None if certain else draft[words[:, :-1]]
    return run(backend, words[:, 1:], target[words], uniforms, drafts)


def fits(counts: torch.Tensor, truth: torch.Tensor) -> float:
    """Return by how many standard deviations a chi-square statistic exceeds its mean."""
    expected = truth * counts.sum()
    statistic = float(((counts - expected).square() / expected)[truth > 0].sum())
    freedom = int((truth > 0).sum()) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0])
def test_pairs_of_words_have_the_targets_distribution(apart: float) -> None:
    target, _ = chains(apart)
    tokens, logp, kept = speculate("torch", apart, SAMPLES)
    first, second = tokens[:, 0], tokens[:, 1]
    plain = sample(target[first], torch.rand(SAMPLES, generator=generator(9), dtype=torch.float64))[0]
    second = torch.where(kept >= 1, second, plain)
    truth = (target[0][:, None] + target).exp().flatten().double()
    counts = torch.bincount(first * WORDS + second, minlength=WORDS**2)
    assert fits(counts, truth) < 4
    third = tokens[kept >= 2]
    for before in range(WORDS):
        counts = torch.bincount(third[third[:, 1] == before][:, 2], minlength=WORDS)
        assert fits(counts, target[before].exp().double()) < 4
    wrong = (target[0][:, None] * 1.05).softmax(0).log() + target
    assert (
        fits(torch.bincount(first * WORDS + second, minlength=WORDS**2), wrong.exp().flatten().double()) > 8
    )
    torch.testing.assert_close(logp[:, 0], target[0, first])


def test_certain_drafts_leave_the_targets_distribution_too() -> None:
    target, _ = chains(0.5)
    tokens, _, kept = speculate("torch", 0.5, SAMPLES, certain=True)
    assert fits(torch.bincount(tokens[:, 0], minlength=WORDS), target[0].exp().double()) < 4
    second = tokens[kept >= 1]
    for before in range(WORDS):
        counts = torch.bincount(second[second[:, 0] == before][:, 1], minlength=WORDS)
        assert fits(counts, target[before].exp().double()) < 4


def test_the_draws_own_frequencies_would_not_pass() -> None:
    target, draft = chains(0.5)
    words = drafted_by(draft, SAMPLES, 0)[:, 1]
    assert fits(torch.bincount(words, minlength=WORDS), target[0].exp().double()) > 50


def test_accepted_lengths_are_geometric_in_the_overlap_of_the_distributions() -> None:
    target, draft = (
        torch.randn(WORDS, generator=generator(seed)).log_softmax(-1).expand(WORDS, WORDS) for seed in (1, 2)
    )
    words = drafted_by(draft, SAMPLES, 3)
    uniforms = torch.rand(SAMPLES, DRAFTED + 1, generator=generator(4), dtype=torch.float64)
    _, _, kept = verify(words[:, 1:], target[words], uniforms, draft[words[:, :-1]])
    overlap = float(torch.minimum(target[0].exp(), draft[0].exp()).sum())
    truth = [overlap**k * (1 - overlap) for k in range(DRAFTED)] + [overlap**DRAFTED]
    assert 0.3 < overlap < 0.9
    assert fits(torch.bincount(kept), torch.tensor(truth, dtype=torch.float64)) < 4


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("certain", [False, True])
def test_backends_decide_alike(backend: str, certain: bool) -> None:
    ours, theirs = (speculate(name, 0.7, 150, 5, certain) for name in (backend, "torch"))
    assert set(theirs[2].tolist()) == set(range(DRAFTED + 1))
    for value, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("certain", [False, True])
def test_a_greedy_target_gives_exactly_greedy_decoding(backend: str, certain: bool) -> None:
    logits, draft = chains(1.0, seed=20)
    target = processed_log_probs(logits, temperature=0.0)
    best = logits.argmax(-1)
    words = drafted_by(draft, 60, 8)
    uniforms = torch.rand(60, DRAFTED + 1, generator=generator(3))
    uniforms[:5], uniforms[5:10] = 0.0, 1 - 2**-24
    drafts = None if certain else draft[words[:, :-1]]
    tokens, logp, kept = run(backend, words[:, 1:], target[words], uniforms, drafts)
    for row in range(60):
        expected, word = [], 0
        for step in range(DRAFTED + 1):
            word = int(best[word])
            expected.append(word)
            if step == DRAFTED or words[row, 1 + step] != word:
                break
        assert tokens[row].tolist() == expected + [-1] * (DRAFTED + 1 - len(expected))
        assert kept[row] == len(expected) - 1
    assert (logp == 0).all() and len(set(kept.tolist())) > 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_distribution_keeps_everything_and_a_disjoint_one_nothing(backend: str) -> None:
    tokens, _, kept = speculate(backend, 0.0, 30)
    assert (kept == DRAFTED).all() and (tokens >= 0).all()
    target = torch.tensor([0.0, 0.0, 0.5, 0.5]).log().expand(6, 2, 4)
    draft = torch.tensor([0.5, 0.5, 0.0, 0.0]).log().expand(6, 1, 4)
    drafts = torch.tensor([0, 1] * 3)[:, None]
    uniforms = torch.tensor([[0.0, u] for u in (0.0, 0.2, 0.49, 0.5, 0.9, 1 - 2**-24)])
    tokens, logp, kept = run(backend, drafts, target, uniforms, draft)
    assert kept.tolist() == [0] * 6
    assert tokens.tolist() == [[2, -1], [2, -1], [2, -1], [3, -1], [3, -1], [3, -1]]
    torch.testing.assert_close(logp[:, 0].exp(), torch.full((6,), 0.5))
    assert (logp[:, 1] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_without_drafts_are_sampled_plainly_and_what_lies_beyond_is_ignored(backend: str) -> None:
    target, draft = chains(0.5)
    words = drafted_by(draft, 20, 1)
    lengths = torch.arange(20) % (DRAFTED + 1)
    uniforms = torch.rand(20, DRAFTED + 1, generator=generator(2))
    rows, drafts = target[words], draft[words[:, :-1]]
    for row, length in enumerate(lengths.tolist()):
        rows[row, length + 1 :], drafts[row, length:] = float("nan"), float("nan")
    tokens, logp, kept = run(backend, words[:, 1:], rows, uniforms, drafts, lengths)
    assert (kept <= lengths).all() and logp.isfinite().all() and set(kept.tolist()) == set(range(DRAFTED + 1))
    assert torch.equal((tokens >= 0).sum(1), kept + 1)
    empty = lengths == 0
    expected = sample(rows[empty, 0], uniforms[empty, DRAFTED], backend="reference")
    assert torch.equal(tokens[empty, 0], expected[0])
    torch.testing.assert_close(logp[empty, 0], expected[1])


def test_wrong_arguments_are_named() -> None:
    target, draft = (value.to(DEVICE) for value in chains(0.5))
    words = drafted_by(draft.cpu(), 4, 1).to(DEVICE)
    uniforms = torch.rand(4, DRAFTED + 1, device=DEVICE)
    with pytest.raises(ValueError, match=r"uniforms: expected shape \(4, 4\), got \(4, 3\)"):
        verify(words[:, 1:], target[words], uniforms[:, 1:])
    with pytest.raises(ValueError, match="draft_logp: expected shape"):
        verify(words[:, 1:], target[words], uniforms, target[words])
    with pytest.raises(UnsupportedError, match="target_logp: expected float32, bfloat16 or float16"):
        verify(words[:, 1:], target[words].double(), uniforms, backend="triton")
