"""`python -m benchmarks.rollout_envs.peers`: makes `.venv-peers`, in which verifiers 0.1.14 runs beside ours.

verifiers 0.1.14 and the verifiers that an adapter of rolloom is tested on exclude each other, so the peer has
a virtual environment of its own. The versions it was measured with are in `peers.txt`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import ParityError
from benchmarks.machine import ROOT

VENV = ROOT / ".venv-peers"
PINS = Path(__file__).parent / "peers.txt"
SCRIPT = Path(__file__).parent / "verifiers_peer.py"
NAME = "verifiers 0.1.14"


def python() -> Path | None:
    """Return the peers' interpreter, or None before it is made."""
    path = VENV / "bin" / "python"
    return path if path.is_file() else None


def make() -> int:
    """Make the virtual environment; return pip's exit status."""
    if python() is None:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(PINS)]
    return subprocess.run(command, check=False).returncode


class Peer:
    """verifiers in a child process that is kept for all runs, so that no start is timed."""

    def __init__(self, interpreter: Path) -> None:
        self._child = subprocess.Popen(
            [str(interpreter), str(SCRIPT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, **order: Any) -> float:
        """Run episodes and return the seconds they took.

        Raises:
            ParityError: it ended, or not every answer was paid.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise ParityError(f"{NAME} ended with status {self._child.wait()}")
        answer = json.loads(line)
        if abs(answer["reward"] - 1.0) > 1e-6:
            raise ParityError(f"{NAME}: expected a mean reward of 1, got {answer['reward']}")
        return answer["seconds"]

    def close(self) -> None:
        """End the child."""
        self._child.terminate()
        self._child.wait()


if __name__ == "__main__":
    sys.exit(make())
