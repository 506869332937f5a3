"""The fork server ("zygote"): a clean single-threaded Python that forks a confined child for each run.

Started by `zygote.py` as a program with an empty environment; holds no tests, no expected values, no
secrets. Each request is one byte that carries four descriptors: the job (read by the child only), the
result pipe, the output pipe, and a run socket. On the run socket the child says that it is confined, the
server says how it ended, and the parent's closing it (or dying) kills the run. The server ends when its
control socket and all runs have.

Usage: fork_server.py CONTROL_FD PARENT_PID LEVEL[,LEVEL...]
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.sandbox import confine, harness, protocol

# What submissions commonly import; preloaded, so that a run pays nothing for it and needs no file.
PRELOADED = (
    "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "numbers",
    "operator", "queue", "random", "re", "statistics", "string", "struct", "textwrap", "threading", "time",
    "typing",
)  # fmt: skip
RESULT_FD, RUN_FD, RULESET_FD = 3, 4, 5


def load_sibling(name: str) -> ModuleType:
    """Return the module beside this file, without importing the package (this interpreter cannot see it)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    confine, harness, protocol = load_sibling("confine"), load_sibling("harness"), load_sibling("protocol")


def find_level(levels: list[str]) -> tuple[confine.Confinement | None, list[str]]:
    """Return the first level that a forked probe proves to hold, and what was wrong with those before it."""
    wrong: list[str] = []
    for level in levels:
        try:
            confinement = confine.Confinement(level)
            problem = probe_in_child(confinement)
        except (confine.Unsupported, OSError) as error:
            wrong.append(f"{level}: {error}")
            continue
        if not problem:
            return confinement, wrong
        wrong.append(f"{level}: {problem}")
    return None, wrong


def probe_in_child(confinement: confine.Confinement) -> str:
    """Return what a confined child can do though it must not, or "" when the confinement holds."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine.probe(confinement)
        except BaseException as error:
            os.write(writer, str(error).encode()[:500])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    status = os.waitpid(pid, 0)[1]
    problem = os.read(reader, 500).decode(errors="replace")
    os.close(reader)
    return problem or (f"the probe died (wait status {status})" if status else "")


def read_job(job: int) -> Any:
    """Return the request at a job's end and cut it off, which leaves the standard input."""
    size, tail = os.fstat(job).st_size, struct.calcsize(protocol.JOB_TAIL)
    (length,) = struct.unpack(protocol.JOB_TAIL, os.pread(job, tail, size - tail))
    request = json.loads(os.pread(job, length, size - tail - length))
    os.ftruncate(job, size - tail - length)
    return request


class Server:
    """The loop: accepts requests, kills runs whose parent has gone, reports how each run ended."""

    def __init__(self, control: socket.socket, confinement: confine.Confinement) -> None:
        self.control, self.confinement = control, confinement
        self.accepting = True
        self.runs: dict[int, socket.socket] = {}
        self.pid_of: dict[int, int] = {}
        self.wake, wake_writer = os.pipe()
        for descriptor in (self.wake, wake_writer):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self.poll = select.poll()
        self.poll.register(self.wake, select.POLLIN)
        self.poll.register(self.control, select.POLLIN)

    def serve(self) -> None:
        """Serve until the parent has gone and no run is left."""
        while self.accepting or self.runs:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 512)
                elif descriptor == self.control.fileno():
                    self.accept()
                elif descriptor in self.pid_of:
                    self.kill(descriptor)
            self.reap()

    def accept(self) -> None:
        """Take one request, fork its child; at end of file stop accepting."""
        message, descriptors, _, _ = socket.recv_fds(self.control, 1, 4)
        if not message:
            self.accepting = False
            self.poll.unregister(self.control)
            return
        job, result, output, run = descriptors
        run_socket = socket.socket(fileno=run)
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError):
                run_socket.send(protocol.FAILED + f"fork: {error}".encode())
            run_socket.close()
        else:
            if pid == 0:
                self.become_run(server, job, result, output, run_socket)
            self.runs[pid] = run_socket
            self.pid_of[run] = pid
            self.poll.register(run, select.POLLIN)
        for descriptor in (job, result, output):
            os.close(descriptor)

    def become_run(self, server: int, job: int, result: int, output: int, run_socket: socket.socket) -> None:
        """In the child: give up everything, then run the submission. Never returns."""
        run = run_socket.detach()
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            confine.die_with_parent(server, signal.SIGKILL)
            request = read_job(job)
            program = request["function"] is None
            kept = [job, result if program else output, output, result, run]
            if self.confinement.ruleset >= 0:
                kept.append(self.confinement.ruleset)
                self.confinement.ruleset = RULESET_FD
            spares = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in kept]
            run = spares[RUN_FD]
            for target, spare in enumerate(spares):
                os.dup2(spare, target)
            run = RUN_FD
            os.closerange(len(kept), 1 << 16)
            self.confinement.enter(request["cpu_s"], request["memory_mb"])
            os.write(RUN_FD, protocol.CONFINED)
            os.close(RUN_FD)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(run, protocol.FAILED + str(error).encode(errors="replace")[:500])
            os._exit(1)
        try:
            if program:
                harness.run_program(request["source"])
            harness.run(request["source"], request["function"], request["inputs"], RESULT_FD)
        finally:
            os._exit(1)

    def kill(self, run: int) -> None:
        """Kill a run whose parent closed the run socket; `reap` does the rest."""
        pid = self.pid_of.pop(run)
        self.poll.unregister(run)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def reap(self) -> None:
        """Collect ended children, their process groups included, and tell their parents."""
        while self.runs:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            # The child is still a zombie, so its group id cannot have been reused yet.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            run_socket = self.runs.pop(ended.si_pid, None)
            if run_socket is None:
                continue
            if self.pid_of.pop(run_socket.fileno(), None) is not None:
                self.poll.unregister(run_socket)
            with contextlib.suppress(OSError):
                run_socket.send(protocol.ENDED.pack(protocol.EXITED, status, usage.ru_utime + usage.ru_stime))
            run_socket.close()


def main() -> None:
    """Become the fork server."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # A worker may ignore or block signals, and what it does so is inherited.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    confine.die_with_parent(int(sys.argv[2]), signal.SIGTERM)
    os.chdir("/")
    for name in PRELOADED:
        importlib.import_module(name)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    # A process of the same user cannot read the memory of one that is not dumpable.
    confine.prctl(confine.PR_SET_DUMPABLE, 0, "non-dumpable")
    confinement, wrong = find_level(sys.argv[3].split(","))
    level = confinement.level if confinement else None
    control.sendall(json.dumps({"isolation": level, "wrong": wrong}).encode() + b"\n")
    if confinement:
        gc.collect()
        gc.freeze()
        Server(control, confinement).serve()


if __name__ == "__main__":
    main()
