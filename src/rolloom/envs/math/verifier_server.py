"""The verifier's fork server: imports math-verify once and forks a confined process for each worker.

Started by `verifier.py` as a program with an empty environment. Each request is one byte that carries a
message socket. The forked process reads `{"expected", "answer"}` there and writes `{"equal", "cpu_s"}`; the
server writes `{"ended": wait status}` when that process has ended, and kills it when the other side closes
the socket.

Usage: verifier_server.py CONTROL_FD PARENT_PID LEVEL[,LEVEL...] CPU_S MEMORY_MB SANDBOX_FOLDER FOLDER...
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import logging
import os
import pkgutil
import select
import signal
import socket
import sys
import time
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.sandbox import confine

SOCKET_FD = 3
MAX_MESSAGE_BYTES = 1 << 16
PRELOADED = (
    "assumptions", "calculus", "combinatorics", "concrete", "discrete", "functions", "integrals", "logic",
    "matrices", "ntheory", "polys", "series", "sets", "simplify", "solvers", "tensor",
)  # fmt: skip
"""Parts of sympy that import one another in the middle of a computation: a worker can open no file."""

WARM_UP = (
    ("x^{2}+1", "1+x\\cdot x"), ("\\sqrt{8}", "2\\sqrt{2}"), ("(x+1)(x-1)", "x^{2}-1"),
    ("\\sin(x)^{2}+\\cos(x)^{2}", "1"), ("y=2x+1", "2x-y+1=0"), ("\\ln(4)", "2\\ln(2)"), ("1<x", "x>1"),
    ("\\frac{\\sqrt{3}}{2}", "\\frac{5}{10}\\sqrt{3}"), ("e^{2x}", "\\frac{1}{e^{-2x}}"), ("\\pi", "3"),
    ("\\sqrt[3]{x}", "x^{\\frac{1}{3}}"), ("|x|", "\\sqrt{x^{2}}"), ("\\pm 3", "3"), ("2i", "\\sqrt{-4}"),
    ("\\log_{2}(x)", "\\frac{\\ln(x)}{\\ln(2)}"), ("5!", "120"), ("\\arctan(x)", "x"), ("x^{2}=4", "x=2"),
)  # fmt: skip


def load(path: str) -> ModuleType:
    """Return the module in a file, without importing the package it belongs to."""
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def preload() -> None:
    """Import all that a comparison may come to need, so that verdicts do not depend on what can be read."""
    for part in PRELOADED:
        package = importlib.import_module(f"sympy.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"sympy.{part}."):
            if not any(part in module.name for part in (".tests", ".benchmarks", "_doc")):
                with warnings.catch_warnings(), contextlib.suppress(ImportError):
                    warnings.simplefilter("ignore")
                    importlib.import_module(module.name)


class Comparer:
    """math-verify without its timers, which need signals; whoever asks has a deadline instead."""

    def __init__(self) -> None:
        math_verify: Any = importlib.import_module("math_verify")
        extended: Any = importlib.import_module("latex2sympy2_extended.latex2sympy2")
        normalization = extended.NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        )
        self._config = [
            math_verify.LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)
        ]
        self._symbol: type = importlib.import_module("sympy").Symbol
        self._parse, self._verify = math_verify.parse, math_verify.verify

    def equal(self, expected: str, answer: str) -> bool | None:
        """Return whether two expressions are equal; None when the expected one cannot be read."""
        gold, told = self._read(expected), self._read(answer)
        if not gold:
            return None
        if not told:
            return False
        if self._symbol in (type(gold[0]), type(told[0])):
            # math-verify compares the name of a lone symbol only: `x` would not be `2x - x`.
            with contextlib.suppress(TypeError):
                gold, told = [gold[0] + 1], [told[0] + 1]
        return self._verify(gold, told, timeout_seconds=None) is True

    def _read(self, text: str) -> list[Any]:
        return self._parse(f"${text}$", self._config, fallback_mode="no_fallback", parsing_timeout=None)


def find_confinement(confine: Any, unshare: Any, levels: list[str]) -> tuple[Any, list[str]]:
    """Return the first level that a forked probe proves to hold, and what was wrong with those before it."""
    wrong: list[str] = []
    for level in levels:
        try:
            confinement = confine.Confinement(level)
        except (confine.Unsupported, OSError) as error:
            wrong.append(f"{level}: {error}")
            continue
        pid = os.fork()
        if pid == 0:
            try:
                confine.probe(confinement, unshare)
            except BaseException:
                os._exit(1)
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return confinement, wrong
        wrong.append(f"{level}: a probe could do what it must not")
    return None, wrong


class Server:
    """Accepts requests for workers, kills those whose asker has gone, reports how each ended."""

    def __init__(
        self, control: socket.socket, comparer: Comparer, confinement: confine.Confinement, tools: Any
    ) -> None:
        self.control, self.comparer, self.confinement, self.confine = control, comparer, confinement, tools
        self.limits = (int(sys.argv[4]), int(sys.argv[5]))
        self.workers: dict[int, socket.socket] = {}
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
        """Serve until the asker has gone; its workers end with this process."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 512)
                elif descriptor == self.control.fileno():
                    if not self.accept():
                        return
                elif descriptor in self.pid_of:
                    self.kill(descriptor)
            self.reap()

    def accept(self) -> bool:
        """Take one request and fork its worker; return False at end of file."""
        message, descriptors, _, _ = socket.recv_fds(self.control, 1, 1)
        if not message:
            return False
        end = socket.socket(fileno=descriptors[0])
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError):
                end.send(json.dumps({"failed": f"fork: {error}"}).encode())
            end.close()
            return True
        if pid == 0:
            self.become_worker(server, end)
        self.workers[pid] = end
        self.pid_of[end.fileno()] = pid
        # No events asked for: the kernel still says when the other side has closed.
        self.poll.register(end, 0)
        return True

    def become_worker(self, server: int, end: socket.socket) -> None:
        """In the child: give up every right, then answer until the socket closes. Never returns."""
        descriptor = end.detach()
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            self.confine.die_with_parent(server, signal.SIGKILL)
            if descriptor != SOCKET_FD:
                os.dup2(descriptor, SOCKET_FD)
            descriptor = SOCKET_FD
            os.closerange(SOCKET_FD + 1, 1 << 16)
            self.confinement.enter(*self.limits)
            os.write(descriptor, json.dumps({"ready": os.getpid()}).encode())
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(descriptor, json.dumps({"failed": str(error)[:300]}).encode())
            os._exit(1)
        try:
            while request := os.read(descriptor, MAX_MESSAGE_BYTES):
                os.write(descriptor, self.answer(json.loads(request)))
        finally:
            os._exit(0)

    def answer(self, request: dict[str, str]) -> bytes:
        """Return the reply to one request; running out of memory or stack ends the process."""
        verdict = self.comparer.equal(request["expected"], request["answer"])
        return json.dumps({"equal": verdict, "cpu_s": time.process_time()}).encode()

    def kill(self, descriptor: int) -> None:
        """Kill a worker whose asker closed the socket; `reap` does the rest."""
        pid = self.pid_of.pop(descriptor)
        self.poll.unregister(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def reap(self) -> None:
        """Collect ended workers and tell their askers."""
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            end = self.workers.pop(pid, None)
            if end is None:
                continue
            if self.pid_of.pop(end.fileno(), None) is not None:
                self.poll.unregister(end)
            with contextlib.suppress(OSError):
                end.send(json.dumps({"ended": status}).encode(), socket.MSG_DONTWAIT)
            end.close()


def main() -> None:
    """Become the fork server."""
    control = socket.socket(fileno=int(sys.argv[1]))
    parent, levels = int(sys.argv[2]), sys.argv[3].split(",")
    confine: Any = load(os.path.join(sys.argv[6], "confine.py"))
    namespaces: Any = load(os.path.join(sys.argv[6], "namespaces.py"))
    # A worker may ignore or block signals, and what it does so is inherited.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    confine.die_with_parent(parent, signal.SIGKILL)
    os.chdir("/")
    logging.disable(logging.CRITICAL)
    confinement, wrong = find_confinement(confine, namespaces.unshare, levels)
    level = confinement.level if confinement else None
    if confinement:
        sys.path += sys.argv[7:]
        preload()
        comparer = Comparer()
        for expected, answer in WARM_UP:
            comparer.equal(expected, answer)
        confinement.prepare(namespaces.unshare)
        # A change of rights may forget the death signal.
        confine.die_with_parent(parent, signal.SIGKILL)
        # A process of the same user cannot read the memory of one that is not dumpable.
        confine.prctl(confine.PR_SET_DUMPABLE, 0, "non-dumpable")
    control.sendall(json.dumps({"isolation": level, "wrong": wrong}).encode() + b"\n")
    if confinement:
        gc.collect()
        gc.freeze()
        Server(control, comparer, confinement, confine).serve()


if __name__ == "__main__":
    main()
