"""Adds a multi-token prediction block to a policy: trained on the policy's own rollouts, all else frozen.

What it does: draws the experts' demonstrations of training tasks, lets the policy sample a completion of its
own for every turn, trains the block by `mtp_training.boost`, and writes a checkpoint with the same weights
and the block. A policy that has a block already goes on from it. What it leaves out: anything that changes
what the policy itself says.

Run it: `python -m rolloom.rollout.boosting --out DIR [--policy DIR] [--steps N]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rolloom.policy.batch import TrainSequence
from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.policy.model import HybridLM
from rolloom.policy.mtp_training import boost
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.demonstrations import demonstrations, to_sequence
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.types import Completion, Request, derive_seed
from rolloom.rollout.warmstart import ENVS, SHIPPED

SLOTS, NEW_TOKENS = 64, 256


def with_block(model: HybridLM, seed: int = 0) -> HybridLM:
    """Return a policy of the same weights that has a block, fresh if the model has none."""
    if model.mtp is not None:
        return model
    grown = HybridLM(replace(model.config, num_nextn_predict_layers=1), seed)
    left = grown.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys and all(name.startswith("mtp.") for name in left.missing_keys)
    return grown


def contexts(sequences: Sequence[TrainSequence]) -> list[list[int]]:
    """Return the tokens before every completion of the sequences, each context once."""
    found: dict[tuple[int, ...], None] = {}
    for sequence in sequences:
        begins = np.flatnonzero(sequence.mask & ~np.roll(sequence.mask, 1))
        for begin in begins.tolist():
            found[tuple(sequence.ids[:begin].tolist())] = None
    return [list(each) for each in found]


def rollouts(
    model: HybridLM, prompts: Sequence[list[int]], stop_ids: Sequence[int], seed: int,
    new_tokens: int = NEW_TOKENS,
) -> list[TrainSequence]:  # fmt: skip
    """Return what the policy says after each prompt at temperature 1, prompts included."""
    longest = max(map(len, prompts)) + new_tokens
    engine = NativeEngine(model, stop_ids, SLOTS, longest)
    engine.submit(
        Request(str(index), ids, derive_seed("boosting", seed, index), new_tokens)
        for index, ids in enumerate(prompts)
    )
    done: list[Completion] = []
    while engine.busy:
        done += engine.step()
    made = []
    for completion in sorted(done, key=lambda each: int(each.id)):
        before = prompts[int(completion.id)]
        ids = np.asarray([*before, *completion.ids], np.int32)
        mask = np.arange(len(ids)) >= len(before)
        made.append(TrainSequence(ids, mask, np.zeros(len(ids), np.float32), 1.0, None, policy_version=0))
    return made


def main(
    out: Path, policy: Path | None = None, steps: int = 300, depths: int = 4, seed: int = 0, count: int = 400,
    batch_tokens: int = 4096, threads: int = 1,
) -> int:  # fmt: skip
    """Train a block for a policy (default: the shipped one) and write the checkpoint to a directory."""
    source = policy or SHIPPED
    torch.set_num_threads(threads)
    started = time.monotonic()
    model, tokenizer = with_block(load_policy(source), seed), ChatTokenizer.load(source)
    demos = [to_sequence(tokenizer, demo) for demo in demonstrations(ENVS, (1,), count, seed + 1)]
    data = rollouts(model, contexts(demos), tokenizer.stop_ids, seed)
    sampled = sum(int(sequence.mask.sum()) for sequence in data)
    print(f"{len(data)} rollouts, {sampled:,} sampled tokens; {time.monotonic() - started:.0f} s", flush=True)

    last: list[float] = []

    def report(step: int, loss: float, accepted: list[float]) -> None:
        last[:] = accepted
        if step % 20 == 0 or step + 1 == steps:
            shown = " ".join(f"{share:.3f}" for share in accepted)
            print(f"step {step + 1}/{steps}  loss {loss:.4f}  expected acceptance by depth {shown}  "
                  f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip

    losses = boost(model, data, steps, depths, batch_tokens, seed, report)
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if source.resolve() != out.resolve() and file.is_file():
            shutil.copy2(file, out / file.name)
    save_policy(model, out)
    _note(out, sum(p.numel() for p in model.parameters()), {
        "made_by": "rolloom.rollout.boosting", "seed": seed, "steps": steps, "depths": depths,
        "batch_tokens": batch_tokens, "rollouts": len(data), "sampled_tokens": sampled,
        "final_loss": round(losses[-1], 4), "expected_acceptance": [round(share, 4) for share in last],
        "parameters": sum(p.numel() for p in model.mtp.parameters()) if model.mtp else 0,
        "torch": torch.__version__, "seconds": round(time.monotonic() - started),
    })  # fmt: skip
    print(f"wrote {out} in {time.monotonic() - started:.0f} s")
    return 0


def _note(out: Path, total: int, recipe: dict[str, object]) -> None:
    """Add the recipe to a checkpoint's manifest; renew its number of parameters and its hashes."""
    file = out / "manifest.json"
    manifest = json.loads(file.read_text()) if file.is_file() else {}
    manifest["mtp"] = recipe
    manifest["parameters"] = total
    manifest["sha256"] = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(out.iterdir())
        if each.name != file.name
    }
    file.write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m rolloom.rollout.boosting", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", type=Path)
    for name, value in (("steps", 300), ("depths", 4), ("seed", 0), ("count", 400), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    sys.exit(main(**vars(parser.parse_args())))
