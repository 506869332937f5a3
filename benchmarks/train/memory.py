"""Peak memory of training steps, one side in a process of its own.

`python -m benchmarks.train.memory SIDE PATH SEQUENCES LENGTH [CHUNK]`

Prints the peak less what the process held when everything was imported and the batch was made.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT

STEPS = 3


def peak_bytes(side: str, path: Path, count: int, length: int, chunk: int | None = None) -> int:
    """Return the peak of `STEPS` steps of one side, `ours` or `peer`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train.memory", side, str(path), str(count), str(length)]
    words = [*command, *([str(chunk)] if chunk else [])]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def main(side: str, path: str, count: str, length: str, chunk: str = "") -> None:
    """Run the steps and print the growth."""
    import torch

    from benchmarks.policies import load_transformers
    from benchmarks.train import CONFIG, PeerStep, make_batch
    from rolloom.rollout.learner import Learner

    torch.set_num_threads(1)
    batch = make_batch(Path(path), int(count), int(length))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    if side == "ours":
        learner = Learner(path, CONFIG, 1.0, "cpu", "float32", path)
        for step in range(STEPS):
            learner.train(batch, step + 1)
    else:
        hf, _ = load_transformers(Path(path), int(chunk) if chunk else None)
        peer = PeerStep(hf)
        for _ in range(STEPS):
            peer(batch)
    # Not `ru_maxrss`: a child starts with its parent's.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(int(peak.split()[1]) * 1024 - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
