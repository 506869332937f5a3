"""Reads the JSON of an answer: strictly, bounded, and never with an exception other than `ValueError`."""

from __future__ import annotations

import json
import math
from typing import Any

from rolloom.envs.parsing import nesting, refuse_constant, unique_keys

MAX_ANSWER_CHARS = 20_000
MAX_DEPTH = 64
MAX_NUMBER = 10**15
FENCE = "```"


def read_json(content: str) -> Any:
    """Return the one JSON value of an answer, bare or in a code fence that is all there is.

    Raises:
        ValueError: anything else: other text around it, duplicate keys, NaN, numbers beyond 10^15, lone
            surrogates, nesting beyond `MAX_DEPTH`, more than `MAX_ANSWER_CHARS` characters.
    """
    if len(content) > MAX_ANSWER_CHARS:
        raise ValueError(f"longer than {MAX_ANSWER_CHARS} characters")
    text = unfenced(content.strip())
    if nesting(text, MAX_DEPTH) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    value = json.loads(
        text, object_pairs_hook=unique_keys, parse_constant=refuse_constant,
        parse_int=_integer, parse_float=_number,
    )  # fmt: skip
    json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is a ValueError too
    return value


def unfenced(text: str) -> str:
    """Return what stands in a code fence that encloses the whole text, or the text."""
    if not text.startswith(FENCE) or not text.endswith(FENCE) or len(text) < 2 * len(FENCE):
        return text
    first, _, rest = text.partition("\n")
    return rest[: -len(FENCE)] if first[len(FENCE) :].strip().lower() in ("", "json") else text


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_NUMBER:
        raise ValueError("number out of range")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits[:400])
    if not math.isfinite(number) or abs(number) > MAX_NUMBER or len(digits) > 400:
        raise ValueError("number out of range")
    return number
