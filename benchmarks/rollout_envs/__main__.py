"""`python -m benchmarks.rollout_envs`."""

from __future__ import annotations

import sys

from benchmarks.harness import main
from benchmarks.rollout_envs import measure

if __name__ == "__main__":
    sys.exit(main("rollout_envs", measure))
