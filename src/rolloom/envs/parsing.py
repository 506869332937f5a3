"""Reads a completion: reasoning in think tags, then content with Hermes-style `<tool_call>` JSON blocks.

Linear scanners over capped input; no regular expression sees untrusted text.
"""

from __future__ import annotations

import json
from typing import Any

from rolloom.envs.types import AssistantTurn, ToolCall

MAX_CHARS = 200_000
MAX_TOOL_CALLS = 32
MAX_CALL_DEPTH = 64
"""Brackets that a call's JSON may nest: what walks through arguments recurses."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"


def parse_completion(text: str) -> AssistantTurn:
    """Split a completion into reasoning, content and tool calls.

    A text that opens with `<think>` and never closes it has no content. Text without any think tag is
    content.

    Args:
        text: decoded completion, at most `MAX_CHARS` characters are read.

    Returns:
        The parsed turn; `malformed` says what was wrong, if anything was.
    """
    text = text[:MAX_CHARS]
    body, reasoning = text, ""
    if text.lstrip().startswith(THINK_OPEN):
        inner = text.lstrip()[len(THINK_OPEN) :]
        close = inner.find(THINK_CLOSE)
        if close < 0:
            return AssistantTurn(text, inner.strip(), "", (), "reasoning was not closed by </think>")
        reasoning, body = inner[:close].strip(), inner[close + len(THINK_CLOSE) :]
    if THINK_OPEN in body or THINK_CLOSE in body:
        return AssistantTurn(text, reasoning, "", (), "stray think tag after the reasoning")
    return _parse_body(text, reasoning, body)


def _parse_body(text: str, reasoning: str, body: str) -> AssistantTurn:
    calls: list[ToolCall] = []
    content: list[str] = []
    position = 0
    while True:
        start = body.find(CALL_OPEN, position)
        if start < 0:
            content.append(body[position:])
            break
        content.append(body[position:start])
        end = body.find(CALL_CLOSE, start)
        if end < 0:
            return AssistantTurn(text, reasoning, "", (), "tool call was not closed by </tool_call>")
        if len(calls) == MAX_TOOL_CALLS:
            return AssistantTurn(
                text, reasoning, "", (), f"more than {MAX_TOOL_CALLS} tool calls in one turn"
            )
        call = _parse_call(body[start + len(CALL_OPEN) : end])
        if isinstance(call, str):
            return AssistantTurn(text, reasoning, "", (), call)
        calls.append(call)
        position = end + len(CALL_CLOSE)
    return AssistantTurn(text, reasoning, "".join(content).strip(), tuple(calls))


def _parse_call(raw: str) -> ToolCall | str:
    if nesting(raw, MAX_CALL_DEPTH) > MAX_CALL_DEPTH:
        return f"tool call is nested deeper than {MAX_CALL_DEPTH}"
    try:
        value = json.loads(raw, object_pairs_hook=unique_keys, parse_constant=refuse_constant)
        if "\\u" in raw or not raw.isascii():
            # No file, database or server takes a lone surrogate; here it is the policy's mistake.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return f"tool call is not JSON: {str(error)[:80]}"
    if not isinstance(value, dict) or set(value) != {"name", "arguments"}:
        return 'tool call must be {"name": ..., "arguments": {...}}'
    name, arguments = value["name"], value["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return 'tool call needs a string "name" and an object "arguments"'
    return ToolCall(name, arguments)


def nesting(text: str, enough: int) -> int:
    """Return how deep brackets nest in JSON, outside of strings; at most `enough + 1`."""
    deepest = depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > enough:
                break
        elif character in "]}":
            depth -= 1
    return deepest


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; `object_pairs_hook` of a strict reader."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key in object")
    return value


def refuse_constant(name: str) -> Any:
    """Refuse NaN and the infinities; `parse_constant` of a strict reader."""
    raise ValueError(f"{name} is not JSON")


def render_call(name: str, arguments: dict[str, Any]) -> str:
    """Return the text of a tool call in the form `parse_completion` reads, whatever its strings contain."""
    # An argument may contain a closing tag; in JSON "<" stands in strings only, where it can be escaped.
    call = json.dumps({"name": name, "arguments": arguments}).replace("<", "\\u003c")
    return f"{CALL_OPEN}{call}{CALL_CLOSE}"
