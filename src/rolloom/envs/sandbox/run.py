"""One confined run from the worker's side: hand over the job, drain its pipes, kill it at the deadline.

`run_function` and `run_program` are built on `run_all`; nothing here knows what a result means.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import confine
from rolloom.envs.sandbox.protocol import CONFINED, ENDED, EXITED, FAILED, LENGTHS
from rolloom.envs.sandbox.zygote import get_zygote

MAX_SOURCE_CHARS = 100_000
MAX_OUTPUT_BYTES = 16 << 10
MIN_MEMORY_MB = 64
FORK_TIMEOUT_S = 30.0
MAX_STARTS = 3
QUICK_MS = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is to do, and what it may use.

    Attributes:
        request: what the harness in the child reads; JSON types.
        timeout_s: wall-clock seconds.
        cpu_s: CPU seconds.
        memory_mb: address space in MiB.
        result_bytes: what is kept of the result pipe; a run that writes more is killed.
        stdin: what the program finds on its standard input.
    """

    request: dict[str, Any]
    timeout_s: float
    cpu_s: int
    memory_mb: int
    result_bytes: int
    stdin: bytes = b""

    def __post_init__(self) -> None:
        if self.memory_mb < MIN_MEMORY_MB or self.cpu_s < 1 or self.timeout_s <= 0:
            raise SandboxError(
                f"limits: expected memory_mb >= {MIN_MEMORY_MB}, cpu_s >= 1 and timeout_s > 0, got "
                f"memory_mb={self.memory_mb}, cpu_s={self.cpu_s}, timeout_s={self.timeout_s}"
            )

    def encode(self) -> tuple[bytes, bytes]:
        """Return the job as the child reads it, standard input and request, and their lengths."""
        limits = {"cpu_s": self.cpu_s, "memory_mb": self.memory_mb}
        # Not JSON: the child, the same Python as this one, would touch twice the memory to read it.
        request = marshal.dumps(self.request | limits)
        return self.stdin + request, LENGTHS.pack(len(self.stdin), len(request))


@dataclass(slots=True)
class Ending:
    """How a run ended and what it left.

    Attributes:
        isolation: the level it had.
        wait_status: as `os.waitpid` gives it; None when it was killed, late or for writing too much.
        cpu_s: CPU seconds it used.
        seconds: wall-clock seconds it took.
        result: what came through the result pipe; longer than `Job.result_bytes` if it wrote too much.
        output: the first part of what came through the output pipe.
    """

    isolation: str
    wait_status: int | None = None
    cpu_s: float = 0.0
    seconds: float = 0.0
    result: bytearray = field(default_factory=bytearray)
    output: bytearray = field(default_factory=bytearray)

    def why(self, job: Job) -> tuple[str, str]:
        """Return a status, `finished`, `timeout`, `crashed` or `overflow`, and what was wrong.

        Raises:
            SandboxError: something outside killed it, which says nothing about the program.
        """
        if len(self.result) > job.result_bytes:
            return "overflow", f"wrote more than {job.result_bytes} bytes"
        if self.wait_status is None:
            return "timeout", f"took longer than its {job.timeout_s:g} s"
        number = os.WTERMSIG(self.wait_status) if os.WIFSIGNALED(self.wait_status) else 0
        if number == signal.SIGXCPU or (number == signal.SIGKILL and self.cpu_s >= job.cpu_s):
            return "timeout", f"used more than its {job.cpu_s} CPU seconds"
        if number == signal.SIGKILL and self.isolation != confine.NONE:
            # A confined program cannot send itself SIGKILL.
            raise SandboxError("a run was killed from outside; is the machine out of memory?")
        return ("crashed", f"died of signal {number}") if number else ("finished", "")


def run_all(jobs: Sequence[Job], isolation: str | None) -> Generator[Ending, None, None]:
    """Run jobs, each in a child of its own, and yield how each ended, in order.

    The next job starts while one is still running. Closing the iterator kills what is under way.

    Raises:
        SandboxError: no isolation, or the machinery failed.
    """
    ahead: _Run | None = None
    try:
        for index, job in enumerate(jobs):
            current, ahead = ahead or _start(job, isolation), None
            try:
                if index + 1 < len(jobs):
                    ahead = _start(jobs[index + 1], isolation)
                yield _collect(current, job, isolation)
            finally:
                current.close()
    finally:
        if ahead is not None:
            ahead.close()


def _start(job: Job, isolation: str | None) -> _Run:
    for _ in range(MAX_STARTS):
        with contextlib.suppress(_NeverStarted):
            return _Run(job, isolation)
    raise SandboxError(f"the sandbox's fork server died {MAX_STARTS} times before it started this run")


def _collect(run: _Run, job: Job, isolation: str | None) -> Ending:
    for attempt in range(1, MAX_STARTS + 1):
        try:
            run.collect()
            return run.ending
        except _NeverStarted:
            if attempt == MAX_STARTS:
                break
        finally:
            run.close()
        run = _start(job, isolation)
    raise SandboxError(f"the sandbox's fork server died {MAX_STARTS} times before it started this run")


class _NeverStarted(Exception):
    """The fork server died before the program could begin, so that starting it again is safe."""


class _Run:
    """One run as the parent sees it: two pipes to drain and a run socket."""

    def __init__(self, job: Job, isolation: str | None) -> None:
        self.job = job
        self.confined = self.over = False
        self.started = time.monotonic()
        self._result_fd, result_writer = os.pipe()
        self._output_fd, output_writer = os.pipe()
        self._socket, run_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        job_fd = os.memfd_create("job")
        try:
            data, lengths = job.encode()
            _write_all(job_fd, data)
            for descriptor in (self._result_fd, self._output_fd):
                os.set_blocking(descriptor, False)
            self.zygote = get_zygote(isolation)
            self.ending = Ending(self.zygote.isolation)
            self._submit(lengths, [job_fd, result_writer, output_writer, run_socket.fileno()])
        except BaseException:
            self.close()
            raise
        finally:
            run_socket.close()
            for descriptor in (job_fd, result_writer, output_writer):
                os.close(descriptor)

    def _submit(self, lengths: bytes, descriptors: list[int]) -> None:
        try:
            self.zygote.submit(descriptors, lengths)
        except OSError as error:
            self.zygote.wait_ended()
            raise _NeverStarted from error

    def collect(self) -> None:
        """Drain the run until the fork server reports its end, killing it at the deadline.

        Raises:
            SandboxError: the fork server died, or could not fork or confine.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        # Most runs end at once: until then nothing but the end is worth waking up for.
        if not poll.poll(QUICK_MS) or not self._read_socket():
            poll.register(self._result_fd, select.POLLIN)
            poll.register(self._output_fd, select.POLLIN)
            self._wait(poll)
        self._drain(self._result_fd)
        self._drain(self._output_fd)
        self._check_start()
        self.ending.seconds = time.monotonic() - self.started

    def _wait(self, poll: select.poll) -> None:
        deadline = time.monotonic() + FORK_TIMEOUT_S
        while not self.over:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for descriptor, _ in poll.poll(left * 1000 + 1):
                if descriptor == self._socket.fileno():
                    self._read_socket()
                elif not self._drain(descriptor):
                    poll.unregister(descriptor)
            if not self.confined and self.ending.result:
                self._check_start()
                deadline = time.monotonic() + self.job.timeout_s
            if len(self.ending.result) > self.job.result_bytes:
                return

    def _read_socket(self) -> bool:
        """Read the server's message; return True when it says that the run is over."""
        try:
            message = self._socket.recv(1024)
        except ConnectionError:
            message = b""
        if len(message) == ENDED.size and message[:1] == EXITED:
            _, self.ending.wait_status, self.ending.cpu_s = ENDED.unpack(message)
            self.over = True
            return True
        self._drain(self._result_fd)
        self.zygote.wait_ended()
        if not self.confined and not self.ending.result:
            raise _NeverStarted
        raise SandboxError("the sandbox's fork server was killed during a run")

    def _check_start(self) -> None:
        """Take the first byte of the result pipe, which trusted code wrote, off it.

        Raises:
            SandboxError: the run was never confined.
        """
        if self.confined:
            return
        result = self.ending.result
        if result[:1] == FAILED:
            raise SandboxError(f"a run could not be confined: {result[1:].decode(errors='replace')[:500]}")
        if result[:1] != CONFINED:
            if self.over:
                raise SandboxError(f"a run ended before it was confined ({self.ending.wait_status})")
            raise SandboxError(
                f"the sandbox did not start a run within {FORK_TIMEOUT_S} s; is the machine overloaded?"
            )
        del result[:1]
        self.confined = True

    def _drain(self, descriptor: int) -> bool:
        """Read what is there, keep it up to the cap; return False at end of file."""
        kept, cap = (
            (self.ending.result, self.job.result_bytes + 2)
            if descriptor == self._result_fd
            else (self.ending.output, MAX_OUTPUT_BYTES)
        )
        while True:
            try:
                chunk = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return True
            kept += chunk[: cap - len(kept)]
            if len(chunk) < 1 << 16:
                return bool(chunk)

    def close(self) -> None:
        """Close everything; a run that still goes on is killed by that."""
        self._socket.close()
        for name in ("_result_fd", "_output_fd"):
            if (descriptor := getattr(self, name)) >= 0:
                setattr(self, name, -1)
                os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write from the start, leaving the offset there: the child's standard input starts at it."""
    done, view = 0, memoryview(data)
    while done < len(data):
        done += os.pwrite(descriptor, view[done:], done)
