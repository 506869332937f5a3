"""Makes the shipped policy: tokenizer and weights from synthetic demonstrations, reproducible from one seed.

What it does: draws expert episodes of the four built-in environments, trains a byte-level BPE tokenizer on
them, trains the `tiny` hybrid on the experts' tokens, and writes a checkpoint directory with a manifest
(seed, configuration, data recipe, hashes). What it leaves out: any reinforcement learning, and any text from
outside this repository.

Run it: `make warmstart`, or `rolloom warmstart --out DIR --steps N`.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import torch

import rolloom
from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.batch import TrainSequence, make_microbatches
from rolloom.policy.checkpoint import save_policy
from rolloom.policy.config import preset
from rolloom.policy.model import HybridLM
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.policy.supervised import ADAMW_LR, MUON_LR, muon_and_adamw, rate_factor, shuffled
from rolloom.rollout.demonstrations import STYLES, demonstrations, to_sequence, to_text

ENVS = ("math/affine_chain-v0", "code/int_function-v0", "tools/lookup-v0", "agent/workplace-v0")
SHIPPED = Path(rolloom.__file__).parent / "policy" / "shipped" / "tiny"
VOCABULARY = 1024
BATCH_TOKENS = 4096
MICROBATCH_TOKENS = 4096
WARMUP, FLOOR = 50, 0.03


def make_optimizers(model: HybridLM) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices and AdamW for the rest."""
    apart = ("embeddings", "lm_head", ".gate.")
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and not any(word in name for word in apart)]
    return muon_and_adamw(matrices, [p for _, p in named], weight_decay=0.01)


def train(
    model: HybridLM, data: list[TrainSequence], steps: int, seed: int, report: bool = True
) -> list[float]:
    """Maximise the likelihood of the demonstrated tokens; return the loss of every step, in nats a token."""
    batches = shuffled(data, BATCH_TOKENS, seed)
    optimizers = make_optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    losses: list[float] = []
    started, seen = time.monotonic(), 0
    for step in range(steps):
        batch = next(batches)
        seen += sum(len(sequence.ids) for sequence in batch)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate_factor(step, steps, WARMUP, FLOOR)
        total = sum(int(sequence.mask.sum()) for sequence in batch)
        loss_sum = 0.0
        for micro in make_microbatches(batch, MICROBATCH_TOKENS):
            hidden = model(micro.ids, micro.packing).index_select(0, micro.at)
            logp, _ = linear_logprob(hidden, model.lm_head.weight, micro.targets)
            loss = -logp.sum() / total
            loss.backward()
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss_sum)
        if report and (step % 50 == 0 or step + 1 == steps):
            rate = seen / (time.monotonic() - started)
            print(f"step {step + 1}/{steps}  loss {loss_sum:.4f}  {rate:,.0f} tokens/s", flush=True)
    return losses


def main(
    out: Path | None = None, steps: int = 1600, seed: int = 0, count: int = 6000, threads: int = 1
) -> int:
    """Make a warm-started policy and write it to a directory (default: the package's shipped one)."""
    target = out or SHIPPED
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    started = time.monotonic()
    demos = list(demonstrations(ENVS, (1,), count, seed))
    blank = train_tokenizer([], 300)
    tokenizer = train_tokenizer((to_text(blank, demo) for demo in demos), VOCABULARY)
    data = [to_sequence(tokenizer, demo) for demo in demos]
    lengths = [len(sequence.ids) for sequence in data]
    print(f"{len(data)} demonstrations, {sum(lengths):,} tokens, {tokenizer.vocab_size} in the vocabulary, "
          f"longest {max(lengths)}; {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    eos, pad = tokenizer.stop_ids[0], 0
    config = preset(
        "tiny", vocab_size=tokenizer.vocab_size, eos_token_id=eos, bos_token_id=eos, pad_token_id=pad
    )
    model = HybridLM(config, seed=seed)
    losses = train(model, data, steps, seed)
    target.mkdir(parents=True, exist_ok=True)
    save_policy(model, target)
    tokenizer.save(target)
    recipe = {
        "made_by": "rolloom warmstart", "seed": seed, "steps": steps, "batch_tokens": BATCH_TOKENS,
        "peak_learning_rates": {"muon": MUON_LR, "adamw": ADAMW_LR}, "final_loss": round(losses[-1], 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": {
            "environments": list(ENVS), "level": 1, "split": "train", "each": count, "styles": dict(STYLES),
        },
        "torch": torch.__version__, "seconds": round(time.monotonic() - started),
        "sha256": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(target.iterdir()) if file.name != "manifest.json"
        },
    }  # fmt: skip
    (target / "manifest.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(f"wrote {target} in {time.monotonic() - started:.0f} s")
    return 0
