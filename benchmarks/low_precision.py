"""What low precision costs the shipped policy: held-out accuracy and tokens an answer.

Every variant meets the same held-out tasks of the quickstart's environments once, with the same sampling
seeds, in the native engine: NVFP4 weights of the default layers and of all, as they are and distilled; and
the fp32 policy with its SSM state cache in fp16 and int8. Differences are of pairs: one task under both.

Run it: `python -m benchmarks.low_precision [--tasks N] [--distill STEPS] [--only NAME ...]`; rows of
variants that are not run again stay in `benchmarks/baselines/low_precision`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import commit

TARGET = Path(__file__).resolve().parent / "baselines" / "low_precision" / "policy.json"
WEIGHTS: dict[str, dict[str, Any]] = {
    "NVFP4 nearest, default layers": {"layers": "default"},
    "NVFP4 stochastic, default layers": {"layers": "default", "rounding": "stochastic"},
    "NVFP4 nearest, all layers": {"layers": "all"},
    "NVFP4 nearest, default layers, distilled": {"layers": "default", "distill": True},
    "NVFP4 nearest, all layers, distilled": {"layers": "all", "distill": True},
}
STATES = {
    f"state {dtype} {rounding}": (dtype, rounding)
    for dtype in ("float16", "int8")
    for rounding in ("nearest", "stochastic")
}
BASE = "fp32"


def evaluate(path: str, tasks: int, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row a held-out task."""
    from rolloom.configs.load import load_run_config
    from rolloom.rollout.cluster import Cluster
    from rolloom.rollout.evaluate import evaluate_heldout
    from rolloom.rollout.launch import imported
    from rolloom.rollout.scheduler import Scheduler

    config = load_run_config("quickstart", ["local=true", f"evaluation.tasks_per_env={tasks}", *words])
    config.imports = imported(config.imports)
    cluster = Cluster(config, path, path, learner=False)
    try:
        scheduler = Scheduler(cluster.workers, cluster.engines, config.rollout, config.seed)
        return evaluate_heldout(scheduler, config, "low-precision", lambda done, total: None)
    finally:
        cluster.stop()


def summarize(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over environments, and paired differences to the base with 95% intervals."""
    from rolloom.rewards.correctness import is_solved

    def by_env(part: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
        out: dict[str, list[tuple[float, float]]] = {}
        for row in part:
            out.setdefault(row["env_id"], []).append((float(is_solved(row["score"] or 0.0)), row["tokens"]))
        return out

    own, theirs = by_env(rows), by_env(base)
    summary: dict[str, Any] = {"tasks": len(rows), "failures": sum(bool(row["failure"]) for row in rows)}
    for place, name in enumerate(("accuracy", "tokens")):
        means, gaps, variance = [], [], 0.0
        for env, pairs in own.items():
            values = [pair[place] for pair in pairs]
            gap = [a[place] - b[place] for a, b in zip(pairs, theirs[env], strict=True)]
            mean = sum(gap) / len(gap)
            variance += sum((g - mean) ** 2 for g in gap) / max(1, len(gap) - 1) / len(gap)
            means.append(sum(values) / len(values))
            gaps.append(mean)
        summary[name] = round(sum(means) / len(means), 4)
        summary[f"{name}_difference"] = round(sum(gaps) / len(gaps), 4)
        summary[f"{name}_interval"] = round(1.96 * math.sqrt(variance) / len(gaps), 4)
    summary["accuracy_by_env"] = {
        env: round(sum(pair[0] for pair in pairs) / len(pairs), 4) for env, pairs in own.items()
    }
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the variants and keep their rows."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=256, help="held-out tasks of each environment")
    parser.add_argument("--distill", type=int, default=96, help="steps of distillation")
    parser.add_argument("--only", nargs="+", choices=[*WEIGHTS, *STATES], help="variants to measure")
    args = parser.parse_args(argv)
    import torch

    from rolloom.rollout import policy_quantize
    from rolloom.rollout.launch import policy_directory

    torch.set_num_threads(1)
    shipped = policy_directory("shipped:tiny")
    held = {row["variant"]: row for row in json.loads(TARGET.read_text())} if TARGET.is_file() else {}
    base = evaluate(shipped, args.tasks, ())

    def keep(name: str, rows: list[dict[str, Any]], **more: Any) -> None:
        held[name] = {"variant": name, **summarize(rows, base), **more, "commit": commit()}
        TARGET.write_text("[\n" + ",\n".join(json.dumps(row) for row in held.values()) + "\n]\n")
        print(json.dumps(held[name]), flush=True)

    keep(BASE, base, bytes=data_bytes(Path(shipped)))
    for name in args.only or [*WEIGHTS, *STATES]:
        if name in STATES:
            dtype, rounding = STATES[name]
            words = (f"rollout.state_dtype={dtype}", f"rollout.state_rounding={rounding}")
            keep(name, evaluate(shipped, args.tasks, words))
            continue
        wanted = dict(WEIGHTS[name])
        steps = args.distill if wanted.pop("distill", False) else 0
        with tempfile.TemporaryDirectory() as place:
            said: list[str] = []
            policy_quantize.main(shipped, Path(place) / "q", steps=steps, say=said.append, **wanted)
            print("\n".join(said), flush=True)
            words = [line for line in said if line.startswith("KL to")]
            rows = evaluate(str(Path(place) / "q"), args.tasks, ())
            keep(name, rows, bytes=data_bytes(Path(place) / "q"), steps=steps, distillation="".join(words))
    return 0


def data_bytes(directory: Path) -> int:
    """Return the bytes of a checkpoint's tensors, without those that only draft."""
    from rolloom.policy.checkpoint import read_tensors

    tensors = read_tensors(directory)
    return sum(tensor.nbytes for name, tensor in tensors.items() if not name.startswith("mtp."))


if __name__ == "__main__":
    sys.exit(main())
