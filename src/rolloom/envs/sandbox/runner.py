"""`run_function`: runs a policy's function in a confined child and brings back plain data to compare.

The expected values stay here, in the parent; the child returns JSON of exact builtin types and the
caller compares with `same_value`. How the child exits means nothing.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox.run import MAX_SOURCE_CHARS, Ending, Job, run_all
from rolloom.envs.sandbox.zygote import get_zygote

MAX_FRAME_BYTES = 8 << 20

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
    request = {"source": source, "function": function, "inputs": [json.dumps(given) for given in inputs]}
    job = Job(request, timeout_s, cpu_s, memory_mb, MAX_FRAME_BYTES)
    if len(source) > MAX_SOURCE_CHARS:
        error = f"source is longer than {MAX_SOURCE_CHARS} characters"
        return Outcome((Call(error=error),) * len(inputs), "refused", get_zygote(isolation).isolation)
    (ending,) = run_all([job], isolation)
    return _outcome(ending, job, len(inputs))


def _outcome(ending: Ending, job: Job, count: int) -> Outcome:
    calls = None
    status, error = ending.why(job)
    if status == "finished" and not ending.result:
        status, error = "crashed", "ended without returning a result"
    elif status == "finished":
        calls = read_frame(bytes(ending.result), count)
        if calls is None:
            status, error = "malformed", "the program wrote something else than its results"
    elif status == "overflow":
        status = "malformed"
    return Outcome(
        calls or (Call(error=error),) * count,
        status,  # pyright: ignore[reportArgumentType]
        ending.isolation,
        ending.output.decode(errors="replace"),
        ending.seconds,
    )


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
