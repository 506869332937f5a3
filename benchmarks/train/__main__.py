"""`python -m benchmarks.train [--json PATH] [--quick]`."""

from __future__ import annotations

import sys

from benchmarks.harness import main
from benchmarks.train import measure

if __name__ == "__main__":
    sys.exit(main("train", measure))
