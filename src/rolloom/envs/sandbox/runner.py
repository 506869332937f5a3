"""`run_function`: runs a policy's function in a confined child and brings back plain data to compare.

The expected values stay here, in the parent; the child returns JSON of exact builtin types and the
caller compares with `same_value`. How the child exits means nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, Literal

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import confine
from rolloom.envs.sandbox.protocol import CONFINED, ENDED, EXITED, FAILED
from rolloom.envs.sandbox.zygote import get_zygote

MAX_SOURCE_CHARS = 100_000
MAX_FRAME_BYTES = 8 << 20
MAX_OUTPUT_BYTES = 16 << 10
MIN_MEMORY_MB = 64
FORK_TIMEOUT_S = 30.0
MAX_STARTS = 3

Status = Literal["finished", "timeout", "crashed", "malformed", "refused"]


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of the function gave.

    Attributes:
        value: the returned value, JSON of exact builtin types; None when there is an error.
        error: why there is no value, or None.
    """

    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a submission.

    Attributes:
        calls: one entry per input, in order, also when the run failed as a whole.
        status: `finished` (a well-formed frame came back; says nothing about right or wrong), `timeout`,
            `crashed` (ended without a frame), `malformed` (the frame was not one), `refused` (source too
            long to try).
        isolation: the level the run had.
        output: the first part of what it printed.
        seconds: wall-clock time of the run.
    """

    calls: tuple[Call, ...]
    status: Status
    isolation: str
    output: str = ""
    seconds: float = 0.0


def same_value(actual: Any, expected: Any) -> bool:
    """Return True when two JSON values are equal with exactly equal types (`True` is not 1, 1.0 is not 1)."""
    if type(actual) is not type(expected):
        return False
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same_value, actual, expected))
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(same_value(actual[k], expected[k]) for k in expected)
    return actual == expected


def run_function(
    source: str,
    function: str,
    inputs: list[list[Any]],
    *,
    timeout_s: float = 5.0,
    cpu_s: int = 1,
    memory_mb: int = 256,
    isolation: str | None = None,
) -> Outcome:
    """Run `function` of `source` on every input, in one confined child.

    Args:
        source: Python source, untrusted.
        function: name of the function it should define.
        inputs: positional arguments of each call, JSON values; at least one.
        timeout_s: wall-clock seconds for all calls together.
        cpu_s: CPU seconds for all calls together; independent of how busy the machine is.
        memory_mb: address space of the child in MiB.
        isolation: `auto`, a level of `confine.LEVELS`, or None for `ROLLOOM_SANDBOX_ISOLATION` or `auto`.

    Returns:
        The outcome; a program that fails is an outcome, never an exception.

    Raises:
        SandboxError: empty inputs or impossible limits; no isolation; or the machinery failed, which is
        no verdict.
    """
    if not inputs:
        raise SandboxError(
            "inputs: expected at least one input, got none; a program without tests has no verdict"
        )
    if memory_mb < MIN_MEMORY_MB or cpu_s < 1 or timeout_s <= 0:
        raise SandboxError(
            f"limits: expected memory_mb >= {MIN_MEMORY_MB}, cpu_s >= 1 and timeout_s > 0, "
            f"got memory_mb={memory_mb}, cpu_s={cpu_s}, timeout_s={timeout_s}"
        )
    job = {
        "source": source,
        "function": function,
        "inputs": [json.dumps(arguments) for arguments in inputs],
        "cpu_s": cpu_s,
        "memory_mb": memory_mb,
    }
    if len(source) > MAX_SOURCE_CHARS:
        error = f"source is longer than {MAX_SOURCE_CHARS} characters"
        return Outcome((Call(error=error),) * len(inputs), "refused", get_zygote(isolation).isolation)
    for _ in range(MAX_STARTS):
        try:
            run = _Run(json.dumps(job).encode(), isolation)
        except _NeverStarted:
            continue
        try:
            run.collect(timeout_s)
        except _NeverStarted:
            continue
        finally:
            run.close()
        return run.outcome(len(inputs), cpu_s)
    raise SandboxError(f"the sandbox's fork server died {MAX_STARTS} times before it started this run")


class _NeverStarted(Exception):
    """The fork server died before the program could begin, so that starting it again is safe."""


class _Run:
    """One run as the parent sees it: two pipes to drain and a run socket."""

    def __init__(self, job: bytes, isolation: str | None) -> None:
        self.result, self.output = bytearray(), bytearray()
        self.confined = False
        self.ended: tuple[int, float] | None = None
        self.started = time.monotonic()
        self.seconds = 0.0
        self._result_fd, result_writer = os.pipe()
        self._output_fd, output_writer = os.pipe()
        self._socket, run_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        job_fd = os.memfd_create("job")
        try:
            with os.fdopen(os.dup(job_fd), "wb") as file:
                file.write(job)
            for descriptor in (self._result_fd, self._output_fd):
                os.set_blocking(descriptor, False)
            handed = [job_fd, result_writer, output_writer, run_socket.fileno()]
            self.zygote = get_zygote(isolation)
            self._submit(handed)
        except BaseException:
            self.close()
            raise
        finally:
            run_socket.close()
            for descriptor in (job_fd, result_writer, output_writer):
                os.close(descriptor)

    def _submit(self, descriptors: list[int]) -> None:
        try:
            self.zygote.submit(descriptors)
        except OSError as error:
            self.zygote.wait_ended()
            raise _NeverStarted from error

    def collect(self, timeout_s: float) -> None:
        """Drain the run until the fork server reports its end, killing it at the deadline.

        Raises:
            SandboxError: the fork server died, or could not fork or confine.
        """
        poll = select.poll()
        for descriptor in (self._result_fd, self._output_fd, self._socket.fileno()):
            poll.register(descriptor, select.POLLIN)
        deadline = self.started + FORK_TIMEOUT_S
        while self.ended is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._give_up(timeout_s)
                return
            for descriptor, _ in poll.poll(left * 1000 + 1):
                if descriptor == self._socket.fileno():
                    if self._read_socket():
                        deadline = time.monotonic() + timeout_s
                elif not self._drain(descriptor):
                    poll.unregister(descriptor)
        self._drain(self._result_fd)
        self._drain(self._output_fd)
        self.seconds = time.monotonic() - self.started

    def _give_up(self, timeout_s: float) -> None:
        if not self.confined:
            raise SandboxError(
                f"the sandbox did not start a run within {FORK_TIMEOUT_S} s; is the machine overloaded?"
            )
        self.seconds = timeout_s

    def _read_socket(self) -> bool:
        """Read one message; return True when it says that the run has just begun."""
        try:
            message = self._socket.recv(1024)
        except ConnectionError:
            message = b""
        if message == CONFINED:
            self.confined = True
            return True
        if len(message) == ENDED.size and message[:1] == EXITED:
            _, status, cpu = ENDED.unpack(message)
            if not self.confined:
                raise SandboxError(f"a run ended before it was confined (wait status {status})")
            self.ended = (status, cpu)
            return False
        if message[:1] == FAILED:
            raise SandboxError(f"a run could not be confined: {message[1:].decode(errors='replace')}")
        if not self.confined:
            self.zygote.wait_ended()
            raise _NeverStarted
        raise SandboxError("the sandbox's fork server was killed during a run")

    def _drain(self, descriptor: int) -> bool:
        """Read what is there, keep it up to the cap; return False at end of file."""
        kept, cap = (
            (self.result, MAX_FRAME_BYTES + 1)
            if descriptor == self._result_fd
            else (self.output, MAX_OUTPUT_BYTES)
        )
        while True:
            try:
                chunk = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return True
            kept += chunk[: cap - len(kept)]
            if len(chunk) < 1 << 16:
                return bool(chunk)

    def outcome(self, count: int, cpu_s: int) -> Outcome:
        """Return the outcome of a collected run.

        Raises:
            SandboxError: something outside killed it, which says nothing about the program.
        """
        calls = None
        status: Status = "finished"
        if self.ended is None:
            status, error = "timeout", f"took longer than its {self.seconds:g} s"
        else:
            status, error = self._verdict(*self.ended, cpu_s)
            if status == "finished":
                calls = read_frame(bytes(self.result), count)
                if calls is None:
                    status, error = "malformed", "the program wrote something else than its results"
        calls = calls or (Call(error=error),) * count
        return Outcome(
            calls, status, self.zygote.isolation, self.output.decode(errors="replace"), self.seconds
        )

    def _verdict(self, wait_status: int, cpu_used: float, cpu_s: int) -> tuple[Status, str]:
        number = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0
        if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_used >= cpu_s):
            return "timeout", f"used more than its {cpu_s} CPU seconds"
        if number == signal.SIGKILL and self.zygote.isolation != confine.NONE:
            # A confined program cannot send itself SIGKILL.
            raise SandboxError("a run was killed from outside; is the machine out of memory?")
        if number:
            return "crashed", f"died of signal {number}"
        if not self.result:
            return "crashed", "ended without returning a result"
        return "finished", ""

    def close(self) -> None:
        """Close everything; a run that still goes on is killed by that."""
        self._socket.close()
        for descriptor in (self._result_fd, self._output_fd):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def read_frame(frame: bytes, count: int) -> tuple[Call, ...] | None:
    """Return a frame's calls, or None unless it is exactly one well-formed frame of `count` results."""
    if len(frame) > MAX_FRAME_BYTES or not frame.endswith(b"\n"):
        return None
    try:
        results = json.loads(frame.decode())
        if type(results) is not list or len(results) != count:
            return None
        return tuple(_read_call(*result) for result in results)
    except (ValueError, TypeError, RecursionError):
        return None


def _read_call(kind: Any, text: Any) -> Call:
    if type(text) is not str or kind not in ("value", "error"):
        raise ValueError("not a result")
    if kind == "error":
        return Call(error=text[:200])
    return Call(value=json.loads(text, parse_constant=_finite, parse_float=_finite))


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not JSON")
    return value
