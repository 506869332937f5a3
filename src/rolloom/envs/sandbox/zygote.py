"""The worker's handle on its fork server: one per process and level, restarted when it dies, thread-safe."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from rolloom.envs.errors import SandboxError, did_you_mean
from rolloom.envs.sandbox import confine

OPT_OUT_VARIABLE = "ROLLOOM_SANDBOX_ISOLATION"
AUTO = "auto"
START_TIMEOUT_S = 30.0
FORK_SERVER = Path(__file__).with_name("fork_server.py")
OPT_OUT_HINT = (
    f"to run policy code without containment, set isolation='none' or {OPT_OUT_VARIABLE}=none; "
    "every outcome then records isolation 'none'"
)


class Zygote:
    """One running fork server.

    Args:
        levels: to try, best first.
        program: what to run: the fork server of code, the keeper server of workspaces, or the verifier's.
        settings: further arguments of it.
        name: what errors call it.
        start_timeout_s: seconds until it has to be ready.

    Attributes:
        isolation: the level its runs get.
        pid: its process id.

    Raises:
        SandboxError: it did not start, or no level asked for holds on this machine.
    """

    def __init__(
        self,
        levels: tuple[str, ...],
        program: Path = FORK_SERVER,
        settings: tuple[str, ...] = (),
        name: str = "the sandbox's fork server",
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        if sys.platform != "linux":
            raise SandboxError(
                f"{name} needs Linux, this is {sys.platform}; run rolloom in a Linux container"
            )
        self._program, self._settings, self.name = program, settings, name
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ended = threading.Event()
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()
        # PDEATHSIG fires when the *thread* that started a process ends: this thread outlives all callers.
        keeper = threading.Thread(
            target=self._keep, args=(theirs, levels, started, ready), name="sandbox-keeper", daemon=True
        )
        keeper.start()
        ready.wait()
        if isinstance(started[0], OSError):
            self._control.close()
            raise SandboxError(f"{name} did not start: {started[0]}") from started[0]
        self.pid = started[0].pid
        self.isolation = self._greeting(levels, start_timeout_s)

    def _keep(
        self,
        theirs: socket.socket,
        levels: tuple[str, ...],
        started: list[subprocess.Popen[bytes] | OSError],
        ready: threading.Event,
    ) -> None:
        # An empty environment instead of -I, which ignores the hash seed: set order must not vary.
        command = [
            sys.executable,
            "-s",
            "-S",
            "-P",
            "-B",
            "-X",
            "utf8",
            str(self._program),
            str(theirs.fileno()),
        ]
        try:
            process = subprocess.Popen(
                [*command, str(os.getpid()), ",".join(levels), *self._settings],
                env={"PYTHONHASHSEED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        finally:
            theirs.close()
        started.append(process)
        ready.set()
        process.wait()
        self._ended.set()

    def _greeting(self, levels: tuple[str, ...], timeout_s: float) -> str:
        self._control.settimeout(timeout_s)
        line = b""
        try:
            while not line.endswith(b"\n"):
                chunk = self._control.recv(4096)
                if not chunk:
                    raise SandboxError(f"{self.name} (pid {self.pid}) died while starting")
                line += chunk
        except OSError as error:
            self.close()
            raise SandboxError(f"{self.name} gave no greeting: {error}") from error
        self._control.settimeout(None)
        greeting = json.loads(line)
        if greeting["isolation"] is None:
            self.close()
            raise SandboxError(
                f"no isolation of {', '.join(levels)} works here: {'; '.join(greeting['wrong'])}. "
                f"Use a kernel with seccomp and Landlock (Linux 5.13+, default in Docker); {OPT_OUT_HINT}"
            )
        return greeting["isolation"]

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return not self._ended.is_set()

    def wait_ended(self, timeout_s: float = 5.0) -> None:
        """Wait for a server that refused a request to be gone."""
        self._ended.wait(timeout=timeout_s)

    def submit(self, descriptors: list[int], message: bytes = b"r") -> None:
        """Hand over one request: for a run its job, result pipe, output pipe, run socket, and its lengths.

        Raises:
            OSError: the server is gone; the run has not begun.
        """
        socket.send_fds(self._control, [message], descriptors)

    def close(self) -> None:
        """Let the server end once its runs have."""
        self._control.close()


_zygotes: dict[tuple[str, ...], Zygote] = {}
_lock = threading.Lock()


def _forget() -> None:
    """Drop a forked worker's copies of the sockets, which would keep the servers from ending."""
    global _lock
    _lock = threading.Lock()
    for zygote in _zygotes.values():
        zygote.close()
    _zygotes.clear()


os.register_at_fork(after_in_child=_forget)


def resolve_levels(
    isolation: str | None, best: tuple[str, ...] = (confine.NAMESPACES, confine.FULL, confine.NO_FILES)
) -> tuple[str, ...]:
    """Return the levels to try, best first.

    Args:
        isolation: a level, `auto` (the best that works, never `none`), or None for the environment variable
            `ROLLOOM_SANDBOX_ISOLATION` or `auto`.
        best: what `auto` stands for.

    Raises:
        SandboxError: not a level.
    """
    wanted = isolation or os.environ.get(OPT_OUT_VARIABLE) or AUTO
    if wanted == AUTO:
        return best
    known = (AUTO, *best, confine.NONE)
    if wanted not in known:
        raise SandboxError(
            f"isolation: expected one of {known}, got {wanted!r}.{did_you_mean(wanted, known)}"
        )
    return (wanted,)


def get_zygote(isolation: str | None) -> Zygote:
    """Return this process's running fork server for a level, starting one where there is none.

    Raises:
        SandboxError: the level is unknown or does not hold here.
    """
    return get_server(resolve_levels(isolation), FORK_SERVER)


def get_server(levels: tuple[str, ...], program: Path, settings: tuple[str, ...] = ()) -> Zygote:
    """Return this process's running server of a program and levels, starting one where there is none.

    Raises:
        SandboxError: no level holds here.
    """
    key = (program.name, *levels)
    with _lock:
        zygote = _zygotes.get(key)
        if zygote is None or not zygote.alive:
            zygote = _zygotes[key] = Zygote(levels, program, settings)
        return zygote


def running_servers() -> list[Zygote]:
    """Return this process's running servers."""
    with _lock:
        return [zygote for zygote in _zygotes.values() if zygote.alive]
