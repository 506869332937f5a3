"""`python -m benchmarks.kernels [--json PATH] [--quick]`."""

from __future__ import annotations

import sys

from benchmarks.harness import main
from benchmarks.kernels import measure

if __name__ == "__main__":
    sys.exit(main("kernels", measure))
