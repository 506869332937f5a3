"""Runs one submission inside its confined child and writes one frame of plain data. Standard library only.

Nothing here can be trusted once the submission has run: it may patch, forge or skip all of it. That is
harmless, because the child holds no expected value and the parent takes nothing but data from it.
"""

from __future__ import annotations

import atexit
import builtins
import json
import os
import sys
import threading
import types
from typing import Any

MAX_DEPTH = 32
MAX_VALUE_BYTES = 64 << 10
MAX_ERROR_CHARS = 200


class NotPlain(Exception):
    """A returned value is not JSON of exact builtin types."""


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` if it is JSON made of exact builtin types.

    Raises:
        NotPlain: another type (subclasses included), or nesting deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise NotPlain(f"returned a value nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [plain(item, depth + 1) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    raise NotPlain(
        f"returned {kind.__name__}; only int, float, str, bool, None, list and dict with str keys count"
    )


def describe(error: BaseException) -> str:
    """Return a short text for an exception, even for one whose own `__str__` misbehaves."""
    name = type(error).__name__
    try:
        return f"{name}: {error!s}"[:MAX_ERROR_CHARS]
    except BaseException:
        return name[:MAX_ERROR_CHARS]


def call(function: Any, arguments: str) -> list[Any]:
    """Return `["value", value_json]` or `["error", text]` for one call; `arguments` is JSON."""
    try:
        encoded = json.dumps(plain(function(*json.loads(arguments))), allow_nan=False)
    except NotPlain as error:
        return ["error", str(error)[:MAX_ERROR_CHARS]]
    except BaseException as error:
        return ["error", describe(error)]
    if len(encoded) > MAX_VALUE_BYTES:
        return ["error", f"returned more than {MAX_VALUE_BYTES} bytes"]
    return ["value", encoded]


def load(source: str, name: str) -> Any:
    """Execute the source and return the function it defines."""
    namespace: dict[str, Any] = {"__name__": "submission"}
    exec(compile(source, "<submission>", "exec"), namespace)
    return namespace[name]


def run_threads_in_line() -> None:
    """Let `Thread(target=main).start()`, a habit of deeply recursive programs, work where threads cannot."""
    thread = threading.Thread
    thread.start = lambda self: self.run()  # pyright: ignore[reportAttributeAccessIssue]
    thread.join = lambda self, timeout=None: None  # pyright: ignore[reportAttributeAccessIssue]
    thread.is_alive = lambda self: False  # pyright: ignore[reportAttributeAccessIssue]


def run_program(source: str) -> None:
    """Run the submission as `__main__`; never returns. A failure: exit status 1, a last line on stderr."""
    status = 0
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    builtins.exit = builtins.quit = sys.exit
    run_threads_in_line()
    atexit._clear()
    try:
        try:
            exec(compile(source, "<submission>", "exec"), main.__dict__)
        finally:
            # Some programs print their buffered answer at exit.
            atexit._run_exitfuncs()
            sys.stdout.flush()
    except SystemExit as error:
        code = error.code
        status = code & 0xFF if type(code) is int else int(code is not None)
    except BaseException as error:
        status = 1
        os.write(2, f"\n{describe(error)}".encode(errors="replace"))
    finally:
        os._exit(status)


def warm_up() -> None:
    """Do in the fork server what every run does, so that its children find it done."""
    source = "def f(x):\n    y = [x for x in range(3)]\n    return {'a': [x, str(y), None, True, 1.5]}\n"
    for _ in range(20):
        results(source, "f", ["[1]", "[2]", "[]"])
        results("1/0", "f", ["[1]"])
        results("(", "f", ["[1]"])


def run(source: str, name: str, inputs: list[str], result_fd: int) -> None:
    """Run the submission on every input and write the frame; never returns, so no `atexit` runs."""
    frame = memoryview(json.dumps(results(source, name, inputs)).encode() + b"\n")
    while frame:
        frame = frame[os.write(result_fd, frame) :]
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def results(source: str, name: str, inputs: list[str]) -> list[list[Any]]:
    """Return what `call` gives for every input, or the same error for all when the source fails."""
    try:
        function = load(source, name)
    except BaseException as error:
        text = (
            f"{name} is not defined"
            if isinstance(error, KeyError) and error.args == (name,)
            else describe(error)
        )
        return [["error", text]] * len(inputs)
    return [call(function, arguments) for arguments in inputs]
