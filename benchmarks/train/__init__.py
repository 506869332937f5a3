"""Training tokens a second: the learner's whole step against the same step around transformers' model.

Same checkpoint, batch, loss (GRPO over the sampled tokens), gradient clipping and AdamW, in fp32. The peer
gets what ours does for speed where it can use it: no padding mask, which right padding does not need, and
output logits for the sampled tokens only. First losses and gradients are compared; where they disagree there
are no figures. Rates count real tokens, not padding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import Bench, ParityError, Rates, fewer_pairs, seconds_of, torch_threads
from benchmarks.policies import PEER_CHUNKS, checkpoint, load_transformers
from benchmarks.train.memory import peak_bytes
from rolloom.configs.schema import TrainerConfig
from rolloom.kernels.dispatch import deterministic
from rolloom.policy.batch import TrainSequence, make_microbatches
from rolloom.policy.checkpoint import load_policy
from rolloom.policy.loss import grpo_token_loss
from rolloom.rollout.learner import Learner

TOLERANCE = 1e-4
CASES = {"tiny": ((32, 256), (64, 128)), "small": ((8, 256),)}
# Clipping stays in the step but never bites, so that the gradients left behind can be compared. The small
# rate keeps all steps of a run alike.
# The peer has no multi-token prediction to train.
CONFIG = TrainerConfig(learning_rate=1e-6, warmup_steps=0, max_grad_norm=1e9, threads=0, mtp_loss_weight=0.0)


def measure(bench: Bench) -> None:
    """Measure every case."""
    for model in ("tiny",) if bench.quick else CASES:
        with checkpoint(model) as (label, path):
            for count, length in ((4, 32),) if bench.quick else CASES[model]:
                for threads in (1,) if bench.quick or model == "small" else (1, 2):
                    with torch_threads(threads):
                        _measure_case(bench, label, path, count, length, threads)
                case = f"{label}, {count} sequences of up to {length} tokens"
                _measure_memory(bench, case, path, count, length)
            if not bench.quick:
                _measure_modes(bench, label, path, *CASES[model][0])


def _measure_case(bench: Bench, label: str, path: Path, count: int, length: int, threads: int) -> None:
    batch = make_batch(path, count, length)
    tokens = sum(len(sequence.ids) for sequence in batch)
    learner = Learner(str(path), CONFIG, 1.0, "cpu", "float32", str(path))

    def ours(index: int) -> Rates:
        return {"trained tokens/s": tokens / seconds_of(lambda: learner.train(batch, index + 2))}

    for chunk, said in PEER_CHUNKS.items():
        learner = Learner(str(path), CONFIG, 1.0, "cpu", "float32", str(path))
        hf, version = load_transformers(path, chunk)
        peer_step = PeerStep(hf)
        check_parity(learner.train(batch, 1)["loss"], learner.model, peer_step(batch), hf)

        def peer(_: int, peer_step: PeerStep = peer_step) -> Rates:
            return {"trained tokens/s": tokens / seconds_of(lambda: peer_step(batch))}

        case = f"{label}, {count} sequences of up to {length} tokens, peer's chunk {said}"
        bench.compare(case, ours, peer, f"{version} forward, backward, AdamW", threads)


def _measure_memory(bench: Bench, case: str, path: Path, count: int, length: int) -> None:
    unit = "MiB at the peak, less is better"

    def ours(_: int) -> Rates:
        return {unit: peak_bytes("ours", path, count, length) / 2**20}

    def peer(_: int) -> Rates:
        return {unit: peak_bytes("peer", path, count, length) / 2**20}

    with fewer_pairs(bench):
        bench.compare(f"{case}, a fresh process each", ours, peer, "transformers, forward, backward, AdamW")


def _measure_modes(bench: Bench, label: str, path: Path, count: int, length: int) -> None:
    """Measure what deterministic mode costs."""
    batch = make_batch(path, count, length)
    tokens = sum(len(sequence.ids) for sequence in batch)
    learner = Learner(str(path), CONFIG, 1.0, "cpu", "float32", str(path))

    def step(index: int) -> Rates:
        return {"trained tokens/s": tokens / seconds_of(lambda: learner.train(batch, index + 2))}

    def pinned(index: int) -> Rates:
        with deterministic():
            return step(index)

    case = f"{label}, {count} sequences of up to {length} tokens, deterministic mode"
    with torch_threads(1), fewer_pairs(bench):
        bench.compare(case, pinned, step, "our fast mode")


class PeerStep:
    """One training step around transformers' model, as short as it can be written.

    Args:
        hf: transformers' causal language model.
    """

    def __init__(self, hf: Any) -> None:
        self.hf = hf.train()
        for name, parameter in hf.named_parameters():
            parameter.requires_grad_(".gate." not in name)
        self.parameters = [p for p in hf.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=CONFIG.learning_rate, betas=(CONFIG.beta1, CONFIG.beta2),
            weight_decay=CONFIG.weight_decay,
        )  # fmt: skip

    def __call__(self, batch: list[TrainSequence]) -> float:
        """Take a step on a batch and return its loss."""
        total = sum(int(sequence.mask.sum()) for sequence in batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = 0.0
        for micro in make_microbatches(batch, CONFIG.microbatch_tokens):
            padded = self.hf.model(micro.packing.to_padded(micro.ids), use_cache=False).last_hidden_state
            hidden = micro.packing.to_packed(padded)[micro.at]
            logits = self.hf.lm_head(hidden).float()
            logp = F.log_softmax(logits, -1).gather(1, micro.targets[:, None]).squeeze(1)
            loss = grpo_token_loss(
                logp, micro.logprobs, micro.advantages, CONFIG.clip_low, CONFIG.clip_high
            ).loss
            (loss / total).backward()
            loss_sum += loss.item() / total
        torch.nn.utils.clip_grad_norm_(self.parameters, CONFIG.max_grad_norm)
        self.optimizer.step()
        return loss_sum


@torch.no_grad()
def make_batch(path: Path, count: int, length: int) -> list[TrainSequence]:
    """Return sequences of 3/4 to all of `length` tokens, a quarter of each prompt, log-probs on-policy."""
    model = load_policy(path).eval()
    rng = np.random.default_rng(0)
    batch = []
    for index in range(count):
        size = length if index == 0 else int(rng.integers(3 * length // 4, length + 1))
        ids = rng.integers(model.config.vocab_size, size=size).astype(np.int32)
        mask = np.arange(size) >= size // 4
        logp = torch.log_softmax(model.lm_head(model(torch.from_numpy(ids).long()[None])), -1)[0]
        chosen = np.zeros(size, np.float32)
        chosen[1:] = logp[:-1].gather(1, torch.from_numpy(ids[1:]).long()[:, None]).squeeze(1).numpy()
        advantage = 1.0 if index % 2 else -0.5
        batch.append(TrainSequence(ids, mask, np.where(mask, chosen, 0), advantage, None, 0))
    return batch


def check_parity(our_loss: float, ours: torch.nn.Module, peer_loss: float, peer: torch.nn.Module) -> float:
    """Return the largest relative difference of any parameter's gradient.

    A difference is relative to the peer's norm of that gradient, or to a thousandth of the global norm where
    that is larger: below it, rounding is all there is.

    Raises:
        ParityError: it, or the losses' difference, is above `TOLERANCE`, or the parameters do not match.
    """
    if not abs(our_loss - peer_loss) <= TOLERANCE * max(1e-3, abs(peer_loss)):
        raise ParityError(f"losses differ: ours {our_loss:.8f}, peer {peer_loss:.8f}")
    mine = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    theirs = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    if not mine or mine.keys() != theirs.keys():
        raise ParityError(f"gradients of different parameters: {sorted(mine.keys() ^ theirs.keys())}")
    floor = 1e-3 * float(torch.stack([grad.norm() for grad in theirs.values()]).norm())
    worst, where = max(
        (float((mine[name] - grad).norm()) / max(float(grad.norm()), floor), name)
        for name, grad in theirs.items()
    )
    if not worst <= TOLERANCE:
        raise ParityError(f"gradients differ by {worst:.2e} at {where}, expected <= {TOLERANCE}")
    return worst
