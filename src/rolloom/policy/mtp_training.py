"""Losses of the multi-token prediction block, and training it alone on a frozen policy (boosting).

Joint training adds `mtp_loss_weight` times the block's cross entropy, averaged over depths, to the main loss.
During RL the trunk, the embedding and the output head are detached (Nemotron 3 Super report; Megatron's
`mtp_detach_heads`): only the block learns, and the policy's own gradient is what it is without it.

Boosting (Nemotron 3 Ultra report) freezes everything but the block and pulls what each depth predicts to the
policy's own distribution there: forward KL at a temperature of 2.

Shapes: L packed tokens, N sampled tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.batch import Microbatch, TrainSequence, make_microbatches
from rolloom.policy.config import PolicyError
from rolloom.policy.model import HybridLM
from rolloom.policy.supervised import muon_and_adamw, rate_factor, shuffled

DEPTHS = 2
"""Tokens predicted ahead in joint training, as Nemotron 3 Super and Ultra do."""
MICROBATCH_TOKENS = 1024
"""A chain's attention pads to the longest sequence of a microbatch: small ones hold sequences of like lengths
(measured: half the time of one of 4096 tokens)."""


def mtp_parameters(model: HybridLM) -> list[torch.nn.Parameter]:
    """Return the block's parameters; none without a block."""
    return [] if model.mtp is None else list(model.mtp.parameters())


def sources(micro: Microbatch, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Say where depth `depth` predicts sampled tokens.

    Returns:
        Positions in the packed tokens, and which of the N sampled tokens they predict: those whose prediction
        does not begin before their sequence.
    """
    bounds = micro.packing.cu_seqlens(micro.at.device).long()
    at = micro.at - depth
    kept = (at >= bounds[:-1][micro.rows]).nonzero().squeeze(1)
    return at[kept], kept


def predictions(
    model: HybridLM, micro: Microbatch, hidden: torch.Tensor, depths: int, detach: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the block's outputs at depths 1 to `depths`, `[L, D]` each, and the output head's weight.

    Args:
        model: with a block.
        micro: the tokens.
        hidden: the trunk's final hidden states `[L, D]`.
        depths: at least 1.
        detach: keep gradients from everything but the block.

    Raises:
        PolicyError: the policy has no block.
    """
    if model.mtp is None:
        raise PolicyError("num_nextn_predict_layers: expected 1 to train multi-token prediction, got 0")
    weight, embedding = model.lm_head.weight, model.model.embeddings.weight
    if detach:
        hidden, weight, embedding = hidden.detach(), weight.detach(), embedding.detach()
    made = model.mtp.unroll(lambda ids: F.embedding(ids, embedding), micro.ids, hidden, micro.packing, depths)
    return made, weight


def mtp_loss(
    model: HybridLM, micro: Microbatch, hidden: torch.Tensor, depths: int = DEPTHS,
    temperature: float = 1.0, detach: bool = True,
) -> torch.Tensor:  # fmt: skip
    """Return the cross entropy of the sampled tokens, summed over them and averaged over depths, in nats.

    Depth k predicts token t + k + 1 from the hidden state of t. A token counts if the prediction begins in
    its own sequence.

    Args:
        model: with a block.
        micro: packed sequences and their sampled tokens.
        hidden: the trunk's final hidden states `[L, D]`.
        depths: at least 1.
        temperature: of the rollouts.
        detach: as in RL; False trains trunk, embedding and head along.
    """
    made, weight = predictions(model, micro, hidden, depths, detach)
    total = hidden.new_zeros((), dtype=torch.float32)
    for depth, output in enumerate(made, 1):
        at, which = sources(micro, depth)
        logp, _ = linear_logprob(output.index_select(0, at), weight, micro.targets[which], temperature)
        total = total - logp.sum()
    return total / depths


def boost_loss(
    model: HybridLM, micro: Microbatch, hidden: torch.Tensor, depths: int, temperature: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward KL from the policy's distribution of each sampled token to the block's, everything else frozen.

    Returns:
        KL times temperature^2 (Hinton et al., arXiv 1503.02531), summed over tokens and averaged over depths;
        and the expected acceptance of each depth, `[depths]`: the mean over its tokens of
        sum_v min(p(v), q(v)) at temperature 1 (Leviathan et al., arXiv 2211.17192).
    """
    with torch.no_grad():
        teacher = F.linear(hidden.index_select(0, micro.at), model.lm_head.weight).float()
        soft, sharp = (teacher / temperature).log_softmax(-1), teacher.softmax(-1)
    made, weight = predictions(model, micro, hidden, depths, detach=True)
    total = hidden.new_zeros((), dtype=torch.float32)
    accepted = []
    for depth, output in enumerate(made, 1):
        at, which = sources(micro, depth)
        logits = F.linear(output.index_select(0, at), weight).float()
        student = (logits / temperature).log_softmax(-1)
        total = total + F.kl_div(student, soft[which], reduction="sum", log_target=True)
        with torch.no_grad():
            accepted.append(torch.minimum(logits.softmax(-1), sharp[which]).sum(-1).mean())
    return total * temperature**2 / depths, torch.stack(accepted)


def boost(
    model: HybridLM, data: Sequence[TrainSequence], steps: int, depths: int = 4, batch_tokens: int = 4096,
    seed: int = 0, report: Callable[[int, float, list[float]], None] | None = None,
) -> list[float]:  # fmt: skip
    """Train the block on a frozen policy.

    Args:
        model: with a block; nothing but the block changes.
        data: sequences whose masked tokens the policy sampled, or might have.
        steps: optimizer steps: Muon for matrices and AdamW for the rest, linear warm-up over the first
            twentieth, cosine decay.
        depths: tokens predicted ahead.
        batch_tokens: at least this many tokens a step.
        seed: of the order of the data.
        report: called with the step, its loss in nats a token, and the expected acceptance of each depth.

    Returns:
        Loss of every step, in nats a token.

    Raises:
        PolicyError: the policy has no block.
    """
    if model.mtp is None:
        raise PolicyError("num_nextn_predict_layers: expected 1 to train multi-token prediction, got 0")
    parameters = mtp_parameters(model)
    matrices = [p for name, p in model.mtp.named_parameters() if p.ndim == 2 and ".gate." not in name]
    optimizers = muon_and_adamw(matrices, parameters, weight_decay=0.0)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    batches = shuffled(data, batch_tokens, seed)
    losses: list[float] = []
    for step in range(steps):
        batch = next(batches)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate_factor(step, steps, max(1, steps // 20))
        count = sum(int(sequence.mask.sum()) for sequence in batch)
        loss_sum, accepted = 0.0, torch.zeros(depths)
        micros = make_microbatches(batch, MICROBATCH_TOKENS, model.lm_head.weight.device)
        for micro in micros:
            with torch.no_grad():
                hidden = model(micro.ids, micro.packing)
            loss, rate = boost_loss(model, micro, hidden, depths)
            grads = torch.autograd.grad(loss / count, parameters, allow_unused=True)
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    parameter.grad = grad if parameter.grad is None else parameter.grad + grad
            loss_sum += loss.item() / count
            accepted += rate.cpu() / len(micros)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss_sum)
        if report is not None:
            report(step, loss_sum, accepted.tolist())
    return losses
