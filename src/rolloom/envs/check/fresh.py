"""Draws problems in a new process, as a worker would, for the determinism check. Reads a job on stdin."""

from __future__ import annotations

import json
import sys

from rolloom.envs import registry
from rolloom.envs.check.probes import digest
from rolloom.envs.spec import EnvSpec


def main() -> None:
    """Print the digests of the job's seeds as JSON."""
    job = json.load(sys.stdin)
    spec = EnvSpec(**{**job["spec"], "requires": tuple(job["spec"]["requires"])})
    registry.register_spec(spec)
    env = registry.make(spec.id, **job["kwargs"])
    try:
        found = digest(env, job["seeds"])
    finally:
        env.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
