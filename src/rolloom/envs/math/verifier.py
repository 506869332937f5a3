"""The worker's handle on math-verify: confined processes that compare expressions, killed at a deadline.

sympy can spend any time and memory on a hostile expression, so it never runs in this process. A fork server
(`verifier_server.py`), started on first use, imports math-verify once; workers are forked from it in
milliseconds, lose every right (`sandbox/confine.py`), answer one comparison at a time and are replaced when
they die, when they run out of time, and after `RECYCLE` answers. Safe to use from any number of threads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import socket
import threading
import time
from collections import OrderedDict
from pathlib import Path

from rolloom.envs.errors import EnvError, SandboxError
from rolloom.envs.sandbox import confine
from rolloom.envs.sandbox.zygote import Zygote, resolve_levels

SERVER = Path(__file__).with_name("verifier_server.py")
PACKAGES = ("math_verify", "latex2sympy2_extended", "antlr4", "sympy", "mpmath")
SIZE = max(1, min(4, os.cpu_count() or 1))
CPU_S = 1.0
"""CPU seconds that one comparison may use, however busy the machine is; honest ones take up to 0.2."""
WALL_S = 30.0
"""Seconds after which a comparison that did not even get its CPU time is an error of the machine's."""
QUEUE_S = 120.0
RECYCLE, RECYCLE_CPU_S = 1_000, 60.0
WORKER_CPU_S, MEMORY_MB = 120, 1_024
START_TIMEOUT_S = 60.0
MAX_ATTEMPTS = 3
CACHE = 4_096


class _Killed(Exception):
    """A worker or its server was killed from outside: the comparison can be done again."""


def _start_server() -> Zygote:
    """Start a fork server with math-verify.

    Raises:
        SandboxError: it did not start, or no isolation holds on this machine.
    """
    try:
        folders = _package_folders()
    except OSError as error:
        raise SandboxError(f"the verifier did not start: {error}") from error
    settings = (str(WORKER_CPU_S), str(MEMORY_MB), str(Path(confine.__file__).parent), *folders)
    return Zygote(resolve_levels(None), SERVER, settings, "the verifier", START_TIMEOUT_S)


def _package_folders() -> list[str]:
    folders: list[str] = []
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise OSError(f"package {name} is not installed; install rolloom with its dependencies")
        folder = str(Path(found.origin).resolve().parent.parent)
        if folder not in folders:
            folders.append(folder)
    return folders


class _Worker:
    """One confined process and the socket to it.

    Raises:
        _Killed: the server is gone, or the process died before it was ready.
        SandboxError: it could not be confined.
    """

    def __init__(self, server: Zygote) -> None:
        self.server, self.answers, self.cpu_s = server, 0, 0.0
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            server.submit([theirs.fileno()], b"w")
        except OSError as error:
            self.close()
            raise _Killed from error
        finally:
            theirs.close()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        if not self._poll.poll(START_TIMEOUT_S * 1000):
            self.close()
            raise SandboxError(f"the verifier forked no worker within {START_TIMEOUT_S:g} s")
        message = self._receive()
        if "ready" not in message:
            self.close()
            if "failed" in message:
                raise SandboxError(f"a verifier worker could not be confined: {message['failed']}")
            raise _Killed
        self.pid = int(str(message["ready"]))

    def _receive(self) -> dict[str, object]:
        try:
            data = self._socket.recv(4096)
        except ConnectionError:
            data = b""
        return json.loads(data) if data else {}

    def ask(self, expected: str, answer: str) -> bool:
        """Return whether two expressions are equal; False when the input uses up its time or memory.

        Raises:
            _Killed: something outside killed it.
            EnvError: the expected expression cannot be read, or the machine is too busy to tell.
        """
        before = time.monotonic()
        cpu_before = _cpu_seconds(self.pid)
        try:
            self._socket.send(json.dumps({"expected": expected, "answer": answer}).encode())
        except OSError as error:
            raise _Killed from error
        while not self._poll.poll(100.0 if time.monotonic() - before < CPU_S else 250.0):
            waited, used = time.monotonic() - before, _cpu_seconds(self.pid) - cpu_before
            if used >= CPU_S:
                self.answers = RECYCLE
                return False
            if waited >= WALL_S:
                self.answers = RECYCLE
                raise EnvError(
                    f"a comparison got {used:.1f} s of CPU in {waited:.0f} s; the machine is overloaded"
                )
        message = self._receive()
        if "equal" not in message:
            self.answers = RECYCLE
            return self._died(message.get("ended"))
        self.answers += 1
        self.cpu_s = float(str(message["cpu_s"]))
        if message["equal"] is None:
            raise EnvError(f"the expected answer {expected[:80]!r} cannot be read by math-verify")
        return message["equal"] is True

    def _died(self, status: object) -> bool:
        if not isinstance(status, int) or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise _Killed
        return False

    @property
    def worn(self) -> bool:
        """True when it has to be replaced."""
        return self.answers >= RECYCLE or self.cpu_s >= RECYCLE_CPU_S or not self.server.alive

    def close(self) -> None:
        """Close the socket, which makes the server kill the process."""
        self._socket.close()


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds a process has used; its wall-clock time where /proc cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return time.monotonic()


class Verifier:
    """A pool of at most `size` worker processes, started as they are needed.

    Args:
        size: processes that may compare at the same time.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self._server: Zygote | None = None
        self._idle: list[_Worker] = []
        self._busy = 0
        self._free = threading.Condition()
        self._starting = threading.Lock()
        self._verdicts: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def equal(self, expected: str, answer: str) -> bool:
        """Return whether two expressions in normal form are equal by math-verify.

        Args:
            expected: trusted; without decimal points.
            answer: untrusted; an expression that takes too long, or too much memory, is not equal.

        Raises:
            EnvError: the expected expression cannot be read, or the machine is too busy to tell.
            SandboxError: the verifier cannot be started, or is killed again and again.
        """
        key = (expected, answer)
        with self._free:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
                return self._verdicts[key]
        verdict = self._compare(expected, answer)
        with self._free:
            self._verdicts[key] = verdict
            if len(self._verdicts) > CACHE:
                self._verdicts.popitem(last=False)
        return verdict

    def _compare(self, expected: str, answer: str) -> bool:
        self._enter()
        worker: _Worker | None = None
        try:
            for _ in range(MAX_ATTEMPTS):
                try:
                    worker = self._take()
                    return worker.ask(expected, answer)
                except _Killed:
                    if worker:
                        worker.close()
                    worker = None
            raise SandboxError(f"the verifier was killed {MAX_ATTEMPTS} times during one comparison")
        except BaseException:
            if worker:
                worker.close()
                worker = None
            raise
        finally:
            self._leave(worker)

    def _enter(self) -> None:
        with self._free:
            if not self._free.wait_for(lambda: self._busy < self.size, timeout=QUEUE_S):
                raise EnvError(f"no verifier process was free within {QUEUE_S:g} s; too many slow answers")
            self._busy += 1

    def _leave(self, worker: _Worker | None) -> None:
        if worker and worker.worn:
            worker.close()
            worker = None
        with self._free:
            self._busy -= 1
            if worker:
                self._idle.append(worker)
            self._free.notify()

    def _take(self) -> _Worker:
        with self._free:
            while self._idle:
                worker = self._idle.pop()
                if not worker.worn:
                    return worker
                worker.close()
        with self._starting:
            if self._server is None or not self._server.alive:
                if self._server:
                    self._server.close()
                self._server = _start_server()
            server = self._server
        try:
            return _Worker(server)
        except _Killed:
            server.wait_ended(1.0)
            raise

    def pids(self) -> list[int]:
        """Return the process ids of the fork server and of the idle workers."""
        with self._free:
            return ([self._server.pid] if self._server else []) + [worker.pid for worker in self._idle]

    def close(self) -> None:
        """End all processes; the next comparison starts them again."""
        with self._free:
            for worker in self._idle:
                worker.close()
            self._idle.clear()
            if self._server:
                self._server.close()
                self._server = None


_shared = Verifier()


def shared() -> Verifier:
    """Return this process's verifier."""
    return _shared


def _forget() -> None:
    """Drop a forked worker's copies of the sockets, and locks that a thread of its parent may hold."""
    global _shared
    old, _shared = _shared, Verifier()
    for worker in old._idle:
        worker.close()
    if old._server:
        old._server.close()


os.register_at_fork(after_in_child=_forget)
