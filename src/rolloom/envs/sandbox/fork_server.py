"""The fork server ("zygote"): a clean single-threaded Python that forks a confined child for each run.

Started by `zygote.py` as a program with an empty environment; holds no tests, no expected values, no
secrets. Each request is two lengths with four descriptors: the job (read by the child only), the
result pipe, the output pipe, and a run socket. The child's first byte on the result pipe says that it is
confined; on the run socket the server says how it ended, and the parent's closing it (or dying) kills the
run. The server ends when its control socket and all runs have.

Usage: fork_server.py CONTROL_FD PARENT_PID LEVEL[,LEVEL...]
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import marshal
import os
import select
import signal
import socket
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.sandbox import confine, harness, namespaces, protocol

# What submissions commonly import; preloaded, so that a run pays nothing for it and needs no file.
PRELOADED = (
    "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "numbers",
    "operator", "queue", "random", "re", "statistics", "string", "struct", "textwrap", "threading", "time",
    "typing",
)  # fmt: skip
GC_THRESHOLD = 50_000
"""A short program never fills it, and is spared a look at what it did not make."""
RESULT_FD = 3


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
    confine, harness = load_sibling("confine"), load_sibling("harness")
    protocol, namespaces = load_sibling("protocol"), load_sibling("namespaces")


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
            confine.probe(confinement, namespaces.unshare)
        except BaseException as error:
            os.write(writer, str(error).encode()[:500])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    status = os.waitpid(pid, 0)[1]
    problem = os.read(reader, 500).decode(errors="replace")
    os.close(reader)
    return problem or (f"the probe died (wait status {status})" if status else "")


def read_job(job: int, stdin: int, length: int) -> Any:
    """Return the request that follows a job's standard input, and cut it off."""
    request = marshal.loads(os.pread(job, length, stdin))
    os.ftruncate(job, stdin)
    return request


class Server:
    """The loop: accepts requests, kills runs whose parent has gone, reports how each run ended."""

    def __init__(self, control: socket.socket, confinement: confine.Confinement) -> None:
        self.control, self.confinement = control, confinement
        self.accepting = True
        self.pid = os.getpid()
        # A confined child starts no process, so only one that is not needs its group killed with it.
        self.groups = confinement.level == confine.NONE
        self.socket_of: dict[int, socket.socket] = {}
        self.ended_of: dict[int, tuple[int, socket.socket]] = {}
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.fork = ctypes.PyDLL(None).fork

    def serve(self) -> None:
        """Serve until the parent has gone and no run is left."""
        control = self.control.fileno()
        while self.accepting or self.ended_of:
            for descriptor, _ in self.poll.poll():
                if descriptor == control:
                    self.accept()
                elif descriptor in self.ended_of:
                    self.reap(descriptor)
                elif descriptor in self.socket_of:
                    self.kill(descriptor)

    def accept(self) -> None:
        """Take one request, fork its child; at end of file stop accepting."""
        message, descriptors, _, _ = socket.recv_fds(self.control, protocol.LENGTHS.size, 4)
        if not message:
            self.accepting = False
            self.poll.unregister(self.control)
            return
        job, result, output, run = descriptors
        stdin, length = protocol.LENGTHS.unpack(message)
        # Not os.fork: its hooks for threads and random numbers cost a child half a millisecond, and there is
        # no other thread here whose locks they would have to mend.
        pid = self.fork()
        if pid == 0:
            self.become_run(job, stdin, length, result, output)
        if pid < 0:
            with contextlib.suppress(OSError):
                os.write(result, protocol.FAILED + b"the system has no room for another process")
            os.close(run)
        else:
            ended = os.pidfd_open(pid)
            run_socket = socket.socket(fileno=run)
            self.ended_of[ended] = pid, run_socket
            self.socket_of[run] = run_socket
            self.poll.register(ended, select.POLLIN)
            self.poll.register(run, select.POLLIN)
        for descriptor in (job, result, output):
            os.close(descriptor)

    def become_run(self, job: int, stdin: int, length: int, result: int, output: int) -> None:
        """In the child: give up everything, then run the submission. Never returns."""
        try:
            if self.groups:
                os.setsid()
            confine.die_with_parent(self.pid, signal.SIGKILL)
            request = read_job(job, stdin, length)
            program = request["function"] is None
            # What was received never has a number below 3, so nothing is overwritten before it is copied.
            os.dup2(job, 0)
            os.dup2(result if program else output, 1)
            os.dup2(output, 2)
            os.dup2(result, RESULT_FD)
            os.closerange(RESULT_FD + 1, 1 << 16)
            self.confinement.enter(request["cpu_s"], request["memory_mb"])
            os.write(RESULT_FD, protocol.CONFINED)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(RESULT_FD, protocol.FAILED + str(error).encode(errors="replace")[:500])
            with contextlib.suppress(OSError):
                os.write(result, protocol.FAILED + str(error).encode(errors="replace")[:500])
            os._exit(1)
        try:
            if program:
                harness.run_program(request["source"])
            harness.run(request["source"], request["function"], request["inputs"], RESULT_FD)
        finally:
            os._exit(1)

    def kill(self, run: int) -> None:
        """Kill a run whose parent closed the run socket; `reap` does the rest."""
        run_socket = self.socket_of.pop(run)
        self.poll.unregister(run)
        pid = next(pid for pid, its_socket in self.ended_of.values() if its_socket is run_socket)
        os.kill(pid, signal.SIGKILL)

    def reap(self, ended: int) -> None:
        """Collect an ended child and tell its parent."""
        pid, run_socket = self.ended_of.pop(ended)
        self.poll.unregister(ended)
        os.close(ended)
        if self.groups:
            # The child is still a zombie, so its group id cannot have been reused yet.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        if self.socket_of.pop(run_socket.fileno(), None) is not None:
            self.poll.unregister(run_socket)
        with contextlib.suppress(OSError):
            run_socket.send(protocol.ENDED.pack(protocol.EXITED, status, usage.ru_utime + usage.ru_stime))
        run_socket.close()


def main() -> None:
    """Become the fork server."""
    # A worker may have closed its stderr; a child puts its own descriptors on the first three.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
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
    confinement, wrong = find_level(sys.argv[3].split(","))
    level = confinement.level if confinement else None
    if confinement:
        harness.warm_up()
        confinement.prepare(namespaces.unshare)
        # A change of rights may forget the death signal.
        confine.die_with_parent(int(sys.argv[2]), signal.SIGTERM)
        # A process of the same user cannot read the memory of one that is not dumpable.
        confine.prctl(confine.PR_SET_DUMPABLE, 0, "non-dumpable")
    control.sendall(json.dumps({"isolation": level, "wrong": wrong}).encode() + b"\n")
    if confinement:
        gc.set_threshold(GC_THRESHOLD)
        gc.collect()
        gc.freeze()
        Server(control, confinement).serve()


if __name__ == "__main__":
    main()
