"""`run_program`: runs a whole program once a test, standard input in, standard output out.

Each test runs in a confined child of its own, so that no test can see or spoil another. Expected outputs
stay with the caller, who compares; what a child returns is text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox.run import MAX_SOURCE_CHARS, Ending, Job, run_all
from rolloom.envs.sandbox.zygote import get_zygote

MAX_STDOUT_BYTES = 1 << 20
MAX_STDIN_BYTES = 32 << 20
MAX_ERROR_CHARS = 200

CaseStatus = Literal["finished", "timeout", "crashed", "overflow", "refused", "skipped"]


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a program.

    Attributes:
        stdout: what it printed; empty unless it finished. Invalid UTF-8 is replaced.
        status: `finished` (ended by itself with exit status 0; says nothing about right or wrong), `timeout`,
            `crashed` (an exception, a signal, another exit status), `overflow` (printed more than
            allowed), `refused` (source too long to try), `skipped` (`go_on` ended the run before).
        error: why it did not finish, at most 200 characters; None if it did.
        seconds: wall-clock time.
    """

    stdout: str = ""
    status: CaseStatus = "finished"
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """A program's tests.

    Attributes:
        cases: one entry per stdin text, in order.
        isolation: the level the runs had.
    """

    cases: tuple[Case, ...]
    isolation: str


def run_program(
    source: str,
    stdin_texts: Sequence[str],
    *,
    timeout_s: float = 5.0,
    cpu_s: int = 2,
    memory_mb: int = 256,
    max_stdout_bytes: int = MAX_STDOUT_BYTES,
    go_on: Callable[[int, Case], bool] | None = None,
    isolation: str | None = None,
) -> ProgramOutcome:
    """Run a Python program once for each standard input, each time in a fresh confined child.

    The program runs as `__main__`; `sys.exit(0)`, `os._exit(0)` and falling off the end are the same.

        outcome = run_program(source, [test["stdin"] for test in tests])
        right = [case.status == "finished" and case.stdout.split() == test["stdout"].split()
                 for case, test in zip(outcome.cases, tests)]

    Args:
        source: Python source, untrusted.
        stdin_texts: standard input of each test; at least one.
        timeout_s: wall-clock seconds of each test.
        cpu_s: CPU seconds of each test; independent of how busy the machine is.
        memory_mb: address space of each child in MiB.
        max_stdout_bytes: a test that prints more is killed.
        go_on: told each test's index and case as it ends, returns False to skip the rest: an all-pass reward
            stops at the first wrong answer.
        isolation: `auto`, a level of `confine.LEVELS`, or None for `ROLLOOM_SANDBOX_ISOLATION` or `auto`.

    Returns:
        The outcome; a program that fails is an outcome, never an exception.

    Raises:
        SandboxError: no tests, input longer than `MAX_STDIN_BYTES`, impossible limits; no isolation; or the
        machinery failed, which is no verdict.
    """
    if not stdin_texts:
        raise SandboxError(
            "stdin_texts: expected at least one, got none; a program without tests has no verdict"
        )
    request = {"source": source, "function": None}
    inputs = [text.encode(errors="surrogateescape") for text in stdin_texts]
    if max(map(len, inputs)) > MAX_STDIN_BYTES:
        raise SandboxError(
            f"stdin_texts: expected at most {MAX_STDIN_BYTES} bytes each, got {max(map(len, inputs))}"
        )
    jobs = [Job(request, timeout_s, cpu_s, memory_mb, max_stdout_bytes, stdin) for stdin in inputs]
    level = get_zygote(isolation).isolation
    if len(source) > MAX_SOURCE_CHARS:
        error = f"source is longer than {MAX_SOURCE_CHARS} characters"
        return ProgramOutcome((Case(status="refused", error=error),) * len(jobs), level)
    cases: list[Case] = []
    endings = run_all(jobs, isolation)
    try:
        for job, ending in zip(jobs, endings, strict=True):
            cases.append(_case(ending, job))
            level = ending.isolation
            if go_on is not None and not go_on(len(cases) - 1, cases[-1]):
                break
    finally:
        endings.close()
    cases += [Case(status="skipped", error="skipped")] * (len(jobs) - len(cases))
    return ProgramOutcome(tuple(cases), level)


def _case(ending: Ending, job: Job) -> Case:
    status, error = ending.why(job)
    if status == "finished" and ending.wait_status:
        said = ending.output.decode(errors="replace").rstrip().rpartition("\n")[2]
        status, error = "crashed", said or f"exit status {ending.wait_status >> 8}"
    if status != "finished":
        return Case("", status, error[:MAX_ERROR_CHARS], ending.seconds)  # pyright: ignore[reportArgumentType]
    return Case(ending.result.decode(errors="replace"), seconds=ending.seconds)
