"""`python -m benchmarks.rollout [--json PATH] [--quick]`."""

from __future__ import annotations

import sys

from benchmarks.harness import main
from benchmarks.rollout import measure

if __name__ == "__main__":
    sys.exit(main("rollout", measure))
