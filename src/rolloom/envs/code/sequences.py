"""Specifications of functions of a list or a string, levels 5 and 6: stages in a row, then a result.

A specification is `{"family": "sequences", "params": ["v"], "text": is it a string, "stages": [[kind, ...]],
"result": kind}`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code import arithmetic

VOWELS = "aeiou"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHARED_STAGES = ("reverse", "rotate", "every", "drop")
LIST_STAGES = ("keep", "map", "unique", "sort", "differences", *SHARED_STAGES)
TEXT_STAGES = ("vowels", "double", "swap", "unique", *SHARED_STAGES)
LIST_RESULTS = ("sum", "largest", "count", "list")
TEXT_RESULTS = ("count", "text")
ITEM = ("x",)

STAGE_PHRASES = {
    "reverse": "reverse it", "rotate": "move the first {} to the end", "every": "keep the first of every {}",
    "drop": "drop the last {}", "unique": "drop repeats", "sort": "sort it", "vowels": "drop all vowels",
    "double": "double every letter", "swap": "swap upper and lower case",
    "differences": "replace it by the differences of neighbours, later minus earlier",
}  # fmt: skip
STAGE_CODE = {
    "reverse": "v=v[::-1]", "rotate": "v=v[{0}:]+v[:{0}]", "every": "v=v[::{}]", "drop": "v=v[:-{}]",
    "sort": "v=sorted(v)", "vowels": "v=''.join(c for c in v if c.lower() not in 'aeiou')",
    "double": "v=''.join(c+c for c in v)", "swap": "v=v.swapcase()",
    "differences": "v=[b-a for a,b in zip(v,v[1:])]",
}  # fmt: skip
RESULT_PHRASES = {
    "sum": "return the sum", "largest": "return the largest, 0 if it is empty", "count": "return the length",
    "list": "return the list", "text": "return the string",
}  # fmt: skip
RESULT_CODE = {"sum": "sum(v)", "largest": "max(v, default=0)", "count": "len(v)", "list": "v", "text": "v"}


def generate(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Draw a specification of level 5 (lists) or 6 (strings)."""
    text = level == 6
    kinds, results = (TEXT_STAGES, TEXT_RESULTS) if text else (LIST_STAGES, LIST_RESULTS)
    stages: list[list[Any]] = []
    while len(stages) < int(rng.integers(3, 5)) + int(text):
        kind = kinds[int(rng.integers(len(kinds)))]
        if stages and stages[-1][0] == kind:
            continue
        if kind == "keep":
            stages.append([kind, arithmetic.draw_condition(rng, ITEM, 9)])
        elif kind == "map":
            stages.append([kind, arithmetic.draw_operations(rng, 2, arithmetic.ALL_KINDS, 9)])
        elif kind in ("rotate", "every", "drop"):
            stages.append([kind, int(rng.integers(1, 4)) if kind != "every" else int(rng.integers(2, 4))])
        else:
            stages.append([kind])
    result = results[int(rng.integers(len(results)))]
    return {"family": "sequences", "params": ["v"], "text": text, "stages": stages, "result": result}


def describe(spec: dict[str, Any]) -> str:
    """Return the specification in words."""
    kind = "a string" if spec["text"] else "a list of integers"
    words = [_stage_phrase(stage) for stage in spec["stages"]]
    return f"v is {kind}. " + ", then ".join([*words, RESULT_PHRASES[spec["result"]]])


def _stage_phrase(stage: list[Any]) -> str:
    if stage[0] == "keep":
        return f"keep each x where {arithmetic.condition_phrase(stage[1])}"
    if stage[0] == "map":
        return f"replace each x ({' and '.join(map(arithmetic.phrase, stage[1]))})"
    return STAGE_PHRASES[stage[0]].format(*stage[1:])


def _stage_code(stage: list[Any], text: bool) -> str:
    if stage[0] == "keep":
        return f"v=[x for x in v if {arithmetic.condition_code(stage[1])}]"
    if stage[0] == "map":
        return f"v=[{arithmetic.expression(stage[1], 'x')} for x in v]"
    if stage[0] == "unique":
        return "v=''.join(dict.fromkeys(v))" if text else "v=list(dict.fromkeys(v))"
    return STAGE_CODE[stage[0]].format(*stage[1:])


def evaluate(spec: dict[str, Any], arguments: list[Any]) -> Any:
    """Return what the specified function returns."""
    items = list(arguments[0])
    for stage in spec["stages"]:
        items = _run_stage(stage, items)
    if spec["result"] == "sum":
        return sum(items)
    if spec["result"] == "largest":
        return max(items) if items else 0
    if spec["result"] == "count":
        return len(items)
    return "".join(items) if spec["text"] else items


def _run_stage(stage: list[Any], items: list[Any]) -> list[Any]:
    kind = stage[0]
    if kind == "keep":
        return [x for x in items if arithmetic.holds(stage[1], {"x": x})]
    if kind == "map":
        return [_map_item(stage[1], x) for x in items]
    if kind == "rotate":
        return items[stage[1] :] + items[: stage[1]]
    if kind == "every":
        return items[:: stage[1]]
    if kind == "drop":
        return items[: -stage[1]]
    if kind == "unique":
        return [x for i, x in enumerate(items) if x not in items[:i]]
    if kind == "differences":
        return [items[i + 1] - items[i] for i in range(len(items) - 1)]
    if kind == "sort":
        return sorted(items)
    if kind == "vowels":
        return [c for c in items if c.lower() not in VOWELS]
    if kind == "double":
        return [c for c in items for _ in range(2)]
    return [c.swapcase() for c in items] if kind == "swap" else items[::-1]


def _map_item(operations: list[arithmetic.Operation], number: int) -> int:
    for operation in operations:
        number = arithmetic.apply(operation, number, {})
    return number


def body(spec: dict[str, Any]) -> list[str]:
    """Return the lines of a right function's body."""
    lines = [_stage_code(stage, spec["text"]) for stage in spec["stages"]]
    return [*lines, f"return {RESULT_CODE[spec['result']]}"]


def steps(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Return `(what is asked, how it is written)` for each stage and the result."""
    asked = [*map(_stage_phrase, spec["stages"]), RESULT_PHRASES[spec["result"]]]
    return list(zip(asked, body(spec), strict=True))


def inputs(spec: dict[str, Any], rng: np.random.Generator) -> list[list[Any]]:
    """Draw test inputs; the first ones are edge cases."""
    sizes = (0, 1, 2, 3, *(int(rng.integers(4, 14)) for _ in range(10)))
    if not spec["text"]:
        return [[[int(number) for number in rng.integers(-20, 21, size=size)]] for size in sizes]
    letters = LETTERS + LETTERS.upper() + VOWELS
    return [["".join(letters[int(i)] for i in rng.integers(len(letters), size=size))] for size in sizes]
