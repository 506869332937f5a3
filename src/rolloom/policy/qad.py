"""Quantisation-aware distillation: weights learn to be rounded to NVFP4, from the policy they were.

Each forward pass rounds the chosen matrices as `quantize` would (`kernels/nvfp4.fake_quantize`, one tensor
scale a matrix), gradients pass straight through the rounding (arXiv 1308.3432), and the loss is the forward
divergence KL(teacher || student) of the next-token distributions at the tokens a policy sampled, as in
NVIDIA's report on quantisation-aware distillation (arXiv 2601.20088). No reward enters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.func import functional_call

from rolloom.kernels.linear.op import linear
from rolloom.kernels.nvfp4.op import fake_quantize
from rolloom.policy.batch import Microbatch, TrainSequence, make_microbatches
from rolloom.policy.checkpoint import to_released
from rolloom.policy.config import PolicyError
from rolloom.policy.model import HybridLM
from rolloom.policy.quantize import check_widths

LEARNING_RATE = 2e-4


@dataclass(frozen=True, slots=True)
class Distillation:
    """How to distil.

    Attributes:
        learning_rate: peak of AdamW; 2 steps of warm-up, then linear decay to a tenth.
        max_grad_norm: gradients are scaled down to this global norm.
        microbatch_tokens: most tokens in one forward pass.
    """

    learning_rate: float = LEARNING_RATE
    max_grad_norm: float = 1.0
    microbatch_tokens: int = 4096


class FakeQuantized:
    """Runs a model with chosen matrices rounded to NVFP4 in each forward pass.

    Args:
        model: its parameters stay as they are, and receive the gradients.
        matrices: names in the released layout, without `.weight`.
    """

    def __init__(self, model: HybridLM, matrices: Sequence[str]) -> None:
        check_widths(to_released(model.state_dict()), list(matrices))
        self.model = model
        self._whole: list[str] = []
        self._experts: dict[str, set[int]] = {}
        for name in matrices:
            own = name.replace("backbone.", "model.", 1)
            base, found, rest = own.partition(".experts.")
            if found:
                index, leaf = rest.split(".")
                self._experts.setdefault(f"{base}.experts.{leaf}", set()).add(int(index))
            else:
                self._whole.append(f"{own}.weight")

    def rounded(self) -> dict[str, torch.Tensor]:
        """Return the parameters that are rounded, rounded; differentiable."""
        held = dict(self.model.named_parameters())
        out = {name: fake_quantize(held[name]) for name in self._whole}
        for name, indices in self._experts.items():
            out[name] = torch.stack(
                [fake_quantize(each) if i in indices else each for i, each in enumerate(held[name])]
            )
        return out

    def logits(self, micro: Microbatch, rounded: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the logits that predict the sampled tokens, fp32 `[N, V]`."""
        hidden = functional_call(self.model, dict(rounded), (micro.ids, micro.packing))
        head = rounded.get("lm_head.weight", self.model.lm_head.weight)
        return linear(hidden.index_select(0, micro.at), head).float()


def forward_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher || student) of each row's distribution, in nats, `[N]`.

    Args:
        teacher: logits `[N, V]`.
        student: logits `[N, V]`.
    """
    wanted = F.log_softmax(teacher, -1)
    return (wanted.exp() * (wanted - F.log_softmax(student, -1))).sum(-1)


@torch.no_grad()
def divergence(teacher: HybridLM, student: FakeQuantized, data: Sequence[TrainSequence]) -> float:
    """Return the mean forward KL at the sampled tokens of some sequences, in nats a token."""
    total, tokens = 0.0, 0
    plain, rounded = FakeQuantized(teacher, ()), student.rounded()
    for micro in make_microbatches(data, 4096):
        total += float(forward_kl(plain.logits(micro, {}), student.logits(micro, rounded)).sum())
        tokens += len(micro.at)
    return total / max(1, tokens)


def distill(
    teacher: HybridLM, student: HybridLM, matrices: Sequence[str],
    batches: Callable[[int], Sequence[TrainSequence]], steps: int, settings: Distillation = Distillation(),
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:  # fmt: skip
    """Train a student, in place, so that it loses little when its matrices are quantised.

    Routers and their biases stay as they are.

    Args:
        teacher: the policy as it was.
        student: starts as a copy of it.
        matrices: those that will be quantised, names in the released layout.
        batches: gives the sequences of a step, from 0; what the policy sampled in them is learnt.
        steps: of the optimizer.
        settings: of the optimizer.
        report: receives each step and its loss.

    Returns:
        The loss of each step, in nats a sampled token.

    Raises:
        PolicyError: no steps, or a matrix that cannot be quantised.
    """
    if steps < 1:
        raise PolicyError(f"steps: expected at least 1, got {steps}")
    taught, plain = FakeQuantized(student, matrices), FakeQuantized(teacher, ())
    trained = [p for name, p in student.named_parameters() if ".gate." not in name]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step in range(steps):
        warm, left = min(1.0, (step + 1) / 3), 1 - 0.9 * step / steps
        optimizer.param_groups[0]["lr"] = settings.learning_rate * warm * left
        micros = make_microbatches(batches(step), settings.microbatch_tokens)
        tokens, loss_sum = sum(len(micro.at) for micro in micros), 0.0
        for micro in micros:
            with torch.no_grad():
                wanted = plain.logits(micro, {})
            loss = forward_kl(wanted, taught.logits(micro, taught.rounded())).sum() / max(1, tokens)
            loss.backward()
            loss_sum += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss_sum)
        report(step, loss_sum)
    return losses
