"""Demonstrations for the lookup environment: what to call or answer next, and how to think about it.

An expert sees what a policy sees: the question and the results of earlier calls. It keeps nothing between
turns, so it can also go on from a state that another policy left behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.types import Style, ToolCall

Known = dict[tuple[str | int, ...], str]
QUESTIONS = {"total": "total", "join": "joined digits", "product": "product"}
"""Kinds of question, and how each is asked for."""

Turn = tuple[str, list[ToolCall], str]

CHECK, CHECK_AGAIN, SLIP, USE_ADD, PARALLEL = 0.65, 0.12, 0.1, 0.4, 0.25
"""Chances of checking a statement, checking it again, a slip, calling `add`, and asking for all at once."""


def question(problem: dict[str, Any]) -> str:
    """Return what a problem asks for, e.g. `total of owner of apple, pear`."""
    terms = ", ".join(" of ".join(reversed(term)) for term in problem["terms"])
    return f"{QUESTIONS[problem['kind']]} of {terms}"


def write_turn(problem: dict[str, Any], known: Known, style: Style, rng: np.random.Generator) -> Turn:
    """Return the next turn of an expert.

    Args:
        problem: see `Lookup.generate`; its tables are not read.
        known: results so far, in the order in which they came.
        style: verbose narrates and checks, medium states, compact calls at once and notes only sums.
        rng: decides which checks a verbose turn has.

    Returns:
        The thought, the calls (none in the last turn) and the content (empty unless there are no calls).
    """
    facts, wanted, numbers = _progress(problem["terms"], known)
    if wanted:
        at_once = style == "compact" or (style == "medium" and rng.random() < PARALLEL)
        wanted = wanted if at_once else wanted[:1]
        calls = [ToolCall(tool, {"item": item}) for tool, item in wanted]
        return _thought_before_calls(problem, facts, wanted, style, rng), calls, ""
    sums, result = _sums(problem["kind"], numbers)
    if style == "verbose" and problem["kind"] == "total":
        unasked = [(a, b) for a, b, _ in sums if ("add", a, b) not in known]
        if unasked and rng.random() < USE_ADD:
            a, b = unasked[0]
            return _add_thought(a, b, rng), [ToolCall("add", {"a": a, "b": b})], ""
    return _last_thought(problem["kind"], facts, sums, result, style, rng), [], result


def _progress(terms: list[list[str]], known: Known) -> tuple[list[str], list[tuple[str, str]], list[int]]:
    """Return the facts found (in the order of the results), the calls that come next, and the numbers."""
    found: set[tuple[str, str]] = set()
    wanted: list[tuple[str, str]] = []
    numbers: list[int] = []
    for term in terms:
        item = term[0]
        for tool in (*term[1:], "lookup"):
            if (tool, item) not in known:
                wanted.append((tool, item))
                break
            found.add((tool, item))
            item = known[tool, item]
        else:
            numbers.append(int(item))
    facts = [f"{_phrase(*call)} is {known[call]}" for call in sorted(found, key=list(known).index)]
    return facts, list(dict.fromkeys(wanted)), numbers


def _sums(kind: str, numbers: list[int]) -> tuple[list[tuple[int, int, int]], str]:
    """Return the steps `(so far, next number, result)` to the answer, and the answer's digits."""
    steps, result = [], numbers[0]
    for number in numbers[1:]:
        before = result
        result = {"total": before + number, "product": before * number, "join": int(f"{before}{number}")}[
            kind
        ]
        steps.append((before, number, result))
    return steps, str(result)


def _phrase(tool: str, item: str) -> str:
    return item if tool == "lookup" else f"{tool} of {item}"


def _checks(statement: str, rng: np.random.Generator) -> list[str]:
    """Return zero to two checks of a statement, each drawn on its own."""
    checks = []
    if rng.random() < CHECK:
        checks.append(f"wait, let me check: {statement}. that is right.")
    if rng.random() < CHECK_AGAIN:
        checks.append(f"check again: {statement}. that is right.")
    return checks


def _thought_before_calls(
    problem: dict[str, Any],
    facts: list[str],
    wanted: list[tuple[str, str]],
    style: Style,
    rng: np.random.Generator,
) -> str:
    if style == "compact":
        return ""
    targets = ", ".join(_phrase(*call) for call in wanted)
    if style == "medium":
        return " ".join([f"{fact}." for fact in facts[-1:]] + [f"look up {targets}."])
    parts = []
    if not facts and rng.random() < 0.9:
        parts.append(f"we start with {question(problem)}.")
    for fact in facts[-1:]:
        parts += [f"now {fact}.", *_checks(fact, rng)]
    parts += [f"let me look up {targets}.", *_checks(targets, rng)]
    return " ".join(parts)


def _add_thought(a: int, b: int, rng: np.random.Generator) -> str:
    return " ".join([f"now {a}+{b}.", "let me add.", *_checks(f"add {a} {b}", rng)])


def _last_thought(
    kind: str,
    facts: list[str],
    sums: list[tuple[int, int, int]],
    result: str,
    style: Style,
    rng: np.random.Generator,
) -> str:
    work = [_worked(kind, *step) for step in sums]
    if style == "compact":
        return "" if kind == "join" else "; ".join(work)
    told = [fact for fact in facts if fact.rsplit(" ", 1)[1].isdecimal()]
    if style == "medium":
        return " ".join(f"{part}." for part in (*told, *work))
    parts = []
    for fact in facts[-1:]:
        parts += [f"now {fact}.", *_checks(fact, rng)]
    for (a, b, c), right in zip(sums, work, strict=True):
        if rng.random() < SLIP:
            wrong = _worked(kind, a, b, c + int(rng.integers(1, 3)))
            parts.append(f"now {wrong}. wait, let me check: no, {right}.")
        else:
            parts += [f"now {right}.", *_checks(right, rng)]
    if rng.random() < 0.9:
        parts.append(f"let me check all: {', '.join(told)}. that is right.")
    parts.append(f"so {result}.")
    return " ".join(parts)


def _worked(kind: str, a: int, b: int, result: int) -> str:
    return f"{a} {b} is {result}" if kind == "join" else f"{a}{'*' if kind == 'product' else '+'}{b}={result}"
