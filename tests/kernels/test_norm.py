"""RMS norms against their formulas in double precision."""

from __future__ import annotations

import pytest
import torch

from rolloom.kernels.norm.op import gated_group_rms_norm, rms_norm

EPS = 1e-5


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


def plain_gated(x: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int) -> torch.Tensor:
    gated = x * gate / (1 + (-gate).exp())
    parts = gated.chunk(groups, -1)
    return torch.cat([plain(p, w) for p, w in zip(parts, weight.chunk(groups), strict=True)], -1)


@pytest.mark.parametrize("shape", [(24,), (1, 24), (3, 5, 24), (0, 24)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_rms_norm_equals_its_formula(shape: tuple[int, ...], scale: float) -> None:
    x, weight = normal(*shape) * scale, normal(24, seed=1)
    torch.testing.assert_close(
        rms_norm(x.float(), weight.float(), EPS), plain(x, weight).float(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("lead", [(1,), (3, 5)])
def test_gated_norm_equals_its_formula_with_gradients(groups: int, lead: tuple[int, ...]) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        draws = normal(*lead, 24), normal(*lead, 24, seed=2), normal(24, seed=3)
        x, gate, weight = (t.to(dtype).requires_grad_() for t in draws)
        ours = dtype == torch.float32
        out = (
            gated_group_rms_norm(x, gate, weight, groups, EPS)
            if ours
            else plain_gated(x, gate, weight, groups)
        )
        (out * normal(*lead, 24, seed=4).to(dtype)).sum().backward()
        results.append(
            [out.detach().float(), *[t.grad.float() for t in (x, gate, weight) if t.grad is not None]]
        )
    assert len(results[0]) == 4
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_groups_are_normalised_apart() -> None:
    x, gate, weight = normal(2, 24).float(), normal(2, 24, seed=1).float(), torch.ones(24)
    before = gated_group_rms_norm(x, gate, weight, 3, EPS)
    x[:, :8] *= 100
    after = gated_group_rms_norm(x, gate, weight, 3, EPS)
    assert torch.equal(before[:, 8:], after[:, 8:])
    torch.testing.assert_close(after[:, :8].pow(2).mean(-1), torch.ones(2), atol=1e-3, rtol=0)


def test_poisoned_rows_do_not_spread() -> None:
    x, gate, weight = normal(4, 24).float(), normal(4, 24, seed=1).float(), torch.ones(24)
    clean = gated_group_rms_norm(x, gate, weight, 2, EPS), rms_norm(x, weight, EPS)
    x[3] = float("nan")
    dirty = gated_group_rms_norm(x, gate, weight, 2, EPS), rms_norm(x, weight, EPS)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a[:3], b[:3]) and b[3].isnan().all()


def test_bf16_in_bf16_out_computed_in_fp32() -> None:
    x, weight = normal(4, 512).bfloat16() * 300, normal(512, seed=1).bfloat16()
    out = rms_norm(x, weight, EPS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), plain(x.double(), weight.double()).float(), atol=1e-3, rtol=2**-8)
