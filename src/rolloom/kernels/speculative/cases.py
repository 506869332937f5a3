"""Cases of verification."""

from __future__ import annotations

import torch

from rolloom.kernels.registry import Case, Cost, Draw, Inputs, Operation
from rolloom.kernels.speculative.op import verify
from rolloom.kernels.speculative.reference import verify_reference


def case(name: str, rows: int, drafted: int, vocabulary: int, certain: bool = False, ragged: bool = False,
         apart: float = 0.5, strided: bool = False) -> Case:  # fmt: skip
    """Return a case; `apart` is how far the draft's logits are from the target's."""

    def make(seed: int, dtype: torch.dtype, device: torch.device) -> Inputs:
        draw = Draw(seed, dtype, device)
        target = draw.normal(rows, drafted + 1, vocabulary, scale=2.0, dtype=torch.float32)
        draft = target[:, :drafted] + draw.normal(rows, drafted, vocabulary, scale=apart, dtype=torch.float32)
        target, draft = target.log_softmax(-1).to(dtype), draft.log_softmax(-1).to(dtype)
        return {
            "drafts": draft.argmax(-1),
            "target_logp": draw.strided(target) if strided else target,
            "uniforms": draw.uniform(rows, drafted + 1, dtype=torch.float32),
            "draft_logp": None if certain else draft,
            "lengths": draw.integers(rows, high=drafted + 1) if ragged else None,
        }

    return Case(name, make)


def cost(inputs: Inputs) -> Cost:
    """Read one row of the target and one of the draft for each row, and a few words."""
    target = inputs["target_logp"]
    rows, drafted, vocabulary = target.shape
    size = rows * vocabulary * target.element_size()
    return Cost(
        size * (1 if inputs["draft_logp"] is None else 2) + 30 * rows * drafted, 6 * rows * vocabulary
    )


OPERATIONS = (
    Operation(
        "verify", verify, verify_reference, ("torch", "triton"),
        cases=(
            case("one word", 1, 1, 40), case("no row", 0, 3, 40), case("nothing drafted", 5, 0, 33),
            case("certain", 12, 4, 63, certain=True), case("ragged", 12, 5, 63, ragged=True),
            case("certain and ragged", 12, 5, 63, certain=True, ragged=True),
            case("far apart", 12, 3, 97, apart=3.0), case("strided", 4, 3, 33, strided=True),
            case("two tiles", 3, 2, 5000),
        ),
        shapes=(case("256 x 5 x 131072", 256, 5, 131072),), cost=cost,
    ),
)  # fmt: skip
