"""`python -m benchmarks.kernels [--json PATH] [--quick]`; `--gpu`, `--dry-run`: see `gpu`."""

from __future__ import annotations

import sys

from benchmarks.harness import main

if __name__ == "__main__":
    if {"--gpu", "--dry-run"} & set(sys.argv):
        from benchmarks.kernels import gpu

        sys.exit(gpu.main([word for word in sys.argv[1:] if word != "--gpu"]))
    from benchmarks.kernels import measure

    sys.exit(main("kernels", measure))
