"""Reads rows in LiveCodeBench's form: tests as JSON, plain or packed, of programs or of functions."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rolloom.envs.errors import EnvError

COLUMNS = ("question_title", "question_content", "question", "starter_code", "public_test_cases",
           "private_test_cases", "metadata", "solution", "question_id", "difficulty")  # fmt: skip
MAX_PACKED, MAX_UNPACKED = 64 << 20, 256 << 20
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Test:
    """One test: `given` is standard input or a JSON argument a line, `right` the output or a JSON result."""

    given: str
    right: str

    def arguments(self) -> list[Any]:
        """Return a function's arguments."""
        return [_json(line, "a test's input") for line in self.given.split("\n") if line.strip()]

    def result(self) -> Any:
        """Return a function's expected result."""
        return _json(self.right, "a test's output")


@dataclass(frozen=True, slots=True)
class Row:
    """A problem ready to be judged.

    Attributes:
        question: the problem in words.
        starter: code to complete, "" without any.
        function: name of the function that is called; "" for programs on standard input.
        public: tests the prompt may show.
        tests: tests that are run, the hidden ones first.
        hidden: how many of them are hidden.
        blind: share of the hidden tests that the best constant passes.
        tolerance: by how much floats may be off, None for not at all.
    """

    question: str
    starter: str
    function: str
    public: list[Test]
    tests: list[Test]
    hidden: int
    blind: float
    tolerance: float | None


@cache
def read_own(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file of our own, without the seconds that `datasets` takes to import."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def as_json(value: Any) -> str:
    """Return a column that is no text as JSON.

    Raises:
        EnvError: it is not JSON.
    """
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise EnvError(f"a column is neither text nor JSON: {error}") from None


def question(row: dict[str, Any]) -> str:
    """Return the problem in words.

    Raises:
        EnvError: the row has none.
    """
    for name in ("question_content", "question"):
        if row.get(name):
            return str(row[name]).strip()
    raise EnvError(f"row: expected a column question_content or question, got {', '.join(row) or 'nothing'}")


def read(row: dict[str, Any], max_tests: int) -> Row:
    """Return a row ready to be judged.

    Raises:
        EnvError: a column is missing or cannot be read; the message says which.
    """
    public = _tests(row.get("public_test_cases") or "[]", "public_test_cases")
    private = _tests(row.get("private_test_cases") or "[]", "private_test_cases")
    if not private:
        raise EnvError("private_test_cases: expected at least one test, got none; public ones can be copied")
    metadata = _json(row.get("metadata") or "{}", "metadata")
    if not isinstance(metadata, dict):
        raise EnvError(f"metadata: expected a JSON object, got {str(metadata)[:SHOWN]!r}")
    kinds = {kind for kind, _ in [*public, *private]}
    if len(kinds) != 1:
        raise EnvError(f"test cases: expected one testtype in a row, got {sorted(kinds)}")
    functional = kinds == {"functional"}
    name = str(metadata.get("func_name") or "")
    if functional and not name.isidentifier():
        raise EnvError(f"metadata: functional tests need func_name, an identifier, got {name[:SHOWN]!r}")
    shown = [test for _, test in public]
    hidden = [test for _, test in private if test not in shown] or [test for _, test in private]
    tests = hidden[:max_tests] + shown
    if functional:
        for test in tests:
            _ = test.arguments(), test.result()
    hidden = hidden[:max_tests]
    common = Counter(" ".join(test.right.split()) for test in hidden).most_common(1)[0][1]
    tolerance = metadata.get("tolerance")
    return Row(
        question(row),
        str(row.get("starter_code") or ""),
        name if functional else "",
        shown,
        tests,
        len(hidden),
        common / len(hidden) if len(hidden) > 1 else 0.0,
        float(tolerance) if isinstance(tolerance, int | float) else None,
    )


def _tests(text: str, column: str) -> list[tuple[str, Test]]:
    if not text.lstrip().startswith("["):
        text = unpack(text, column)
    cases = _json(text, column)
    found = []
    for case in cases if isinstance(cases, list) else [cases]:
        if not isinstance(case, dict) or not all(isinstance(case.get(k), str) for k in ("input", "output")):
            raise EnvError(
                f"{column}: expected objects with texts input and output, got {str(case)[:SHOWN]!r}"
            )
        kind = case.get("testtype", "stdin")
        if kind not in ("stdin", "functional"):
            raise EnvError(f"{column}: testtype must be stdin or functional, got {str(kind)[:SHOWN]!r}")
        found.append((kind, Test(case["input"], case["output"])))
    return found


def unpack(text: str, column: str, limit: int = MAX_UNPACKED) -> str:
    """Return the JSON text in base64 of zlib, itself plain or a pickled string; nothing is unpickled.

    Raises:
        EnvError: it is something else, or larger than `limit` bytes unpacked.
    """
    if len(text) > MAX_PACKED:
        raise EnvError(f"{column}: packed tests have {len(text)} bytes, more than {MAX_PACKED}")
    try:
        machine = zlib.decompressobj()
        raw = machine.decompress(base64.b64decode(text, validate=True), limit)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise EnvError(f"{column}: neither JSON nor base64 of zlib: {error}") from None
    if machine.unconsumed_tail or not machine.eof:
        raise EnvError(f"{column}: unpacks to more than {limit} bytes, or is cut off")
    try:
        return _pickled_text(raw) if raw[:1] == b"\x80" else raw.decode()
    except UnicodeDecodeError as error:
        raise EnvError(f"{column}: unpacked tests are not UTF-8: {error}") from None


def _pickled_text(raw: bytes) -> str:
    """Return the string that a pickle holds, read by hand; a pickle of anything else is refused."""
    at = 2
    if raw[at : at + 1] == b"\x95":  # FRAME, 8 bytes of length
        at += 9
    sizes = {b"\x8c": 1, b"X": 4, b"\x8d": 8}  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
    width = sizes.get(raw[at : at + 1])
    if width is None:
        raise EnvError("private_test_cases: a pickle of something other than a text is not loaded")
    start = at + 1 + width
    end = start + int.from_bytes(raw[at + 1 : start], "little")
    # MEMOIZE or BINPUT may stand before STOP; large strings end their frame early.
    rest = raw[end:]
    if end > len(raw) or rest[-1:] != b"." or len(rest) > 12:
        raise EnvError("private_test_cases: a pickle of something other than a text is not loaded")
    return raw[start:end].decode()


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EnvError(f"{what}: not JSON: {str(error)[:SHOWN]}: {text[:SHOWN]!r}") from None
