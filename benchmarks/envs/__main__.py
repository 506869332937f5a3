"""`python -m benchmarks.envs [--json PATH] [--quick]`."""

from __future__ import annotations

import sys

from benchmarks.envs import measure
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main("envs", measure))
