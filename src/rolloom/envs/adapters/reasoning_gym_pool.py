"""Processes that draw and score reasoning-gym's problems: few, shared, killed when they hang."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from rolloom.envs.errors import EnvError

MAX_PROCESSES = 2
START_S = 60.0
"""Importing the package can take long on a busy machine."""


class TimedOut(Exception):
    """A job outlived its seconds; its process was killed."""


class _Process:
    def __init__(self) -> None:
        keep = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment |= {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(path for path in map(os.path.abspath, sys.path)),
            "PYTHONWARNINGS": "ignore",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.child = subprocess.Popen(
            [sys.executable, "-m", "rolloom.envs.adapters.reasoning_gym_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self.fresh = True

    def call(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.child.stdin is not None
        body = pickle.dumps({**job, "seconds": seconds})
        deadline = time.monotonic() + seconds + (START_S if self.fresh else 1.0)
        try:
            self.child.stdin.write(struct.pack("!I", len(body)) + body)
            self.child.stdin.flush()
            size = struct.unpack("!I", self._read(4, deadline))[0]
            reply = json.loads(self._read(size, deadline))
        except (OSError, EOFError) as error:
            # Its own timer, or the limit of memory, ended it.
            status = self.child.wait(5)
            raise TimedOut(f"the process ended with status {status}") from error
        self.fresh = False
        return reply

    def _read(self, count: int, deadline: float) -> bytes:
        assert self.child.stdout is not None
        number, data = self.child.stdout.fileno(), b""
        while len(data) < count:
            ready, _, _ = select.select([number], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimedOut("no answer in time")
            piece = os.read(number, count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def kill(self) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(5)


class Pool:
    """At most `MAX_PROCESSES` processes, started when needed; a job waits for one that is free."""

    def __init__(self) -> None:
        self.idle: list[_Process] = []
        self.free = threading.Semaphore(MAX_PROCESSES)
        self.lock = threading.Lock()

    def call(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Do a job and return its reply.

        Args:
            job: see `reasoning_gym_child.work`.
            seconds: after which its process is killed.

        Raises:
            TimedOut: it took too long, or too much memory.
            EnvError: the generator or the scorer raised.
        """
        with self.free:
            with self.lock:
                process = self.idle.pop() if self.idle else None
            process = process or _Process()
            try:
                reply = process.call(job, seconds)
            except BaseException:
                process.kill()
                raise
            with self.lock:
                self.idle.append(process)
        if "error" in reply:
            raise EnvError(f"reasoning-gym's {job['place'][0]} failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """End all idle processes."""
        with self.lock:
            idle, self.idle = self.idle, []
        for process in idle:
            process.kill()


POOL = Pool()
atexit.register(lambda: POOL.close())


def _forget() -> None:
    global POOL
    POOL = Pool()


os.register_at_fork(after_in_child=_forget)


def call(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Do a job in this process's pool; see `Pool.call`."""
    return POOL.call(job, seconds)
