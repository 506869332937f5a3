"""Input items, tools and output items of OpenAI's Responses API, as far as NeMo Gym uses them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import render_call
from rolloom.envs.text import whole
from rolloom.envs.types import AssistantTurn, Message, Messages, ToolSpec

ROLES = {"developer": "system"}
SKIPPED = ("reasoning", "item_reference")


def read_messages(params: Mapping[str, Any]) -> Messages:
    """Return the `instructions` and `input` of a request as messages.

    Calls of an earlier turn are written as the policy would have; reasoning is left out.

    Raises:
        EnvError: the input is missing, or has parts that are no text.
    """
    given = params.get("input")
    items: Sequence[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else given or ()
    messages: list[Message] = []
    if params.get("instructions"):
        messages.append(Message(role="system", content=str(params["instructions"])))
    for item in items:
        message = _message(item)
        if message is None:
            continue
        last = messages[-1] if messages else None
        if last is not None and last["role"] == message["role"] == "assistant":
            last["content"] = "\n".join((last["content"], message["content"]))
        else:
            messages.append(message)
    if not messages:
        raise EnvError("responses_create_params.input: expected text or a list of messages, got none")
    return tuple(messages)


def _message(item: Any) -> Message | None:
    if not isinstance(item, Mapping):
        raise EnvError(f"responses_create_params.input: expected objects, got {type(item).__name__}")
    kind = item.get("type", "message")
    if kind in SKIPPED:
        return None
    if kind == "function_call":
        call = render_call(item["name"], json.loads(item["arguments"] or "{}"))
        return Message(role="assistant", content=call)
    if kind == "function_call_output":
        return Message(role="tool", content=_text(item.get("output", "")))
    if kind != "message" or "role" not in item:
        raise EnvError(f"responses_create_params.input: an item of type {kind!r} has no form in text")
    role = ROLES.get(item["role"], item["role"])
    if role not in ("system", "user", "assistant", "tool"):
        raise EnvError(f"responses_create_params.input: unknown role {role!r}")
    return Message(role=role, content=_text(item.get("content", "")))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = []
        for part in content:
            if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise EnvError(f"responses_create_params.input: a part of type {kind!r} is no text")
            parts.append(part["text"])
        return "\n".join(parts)
    raise EnvError(f"responses_create_params.input: expected text, got {type(content).__name__}")


def read_tools(params: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    """Return the function tools of a request; tools of other kinds cannot be called from here.

    Raises:
        EnvError: a tool without a name.
    """
    specs = []
    for tool in params.get("tools") or ():
        if tool.get("type", "function") != "function":
            continue
        inner = tool.get("function", tool)  # the form of chat completions, which some rows have
        if not inner.get("name"):
            raise EnvError("responses_create_params.tools: a function without a name")
        parameters = inner.get("parameters") or {"type": "object", "properties": {}}
        specs.append(ToolSpec(inner["name"], inner.get("description") or "", parameters))
    return tuple(specs)


def output_items(turn: AssistantTurn, number: int) -> list[dict[str, Any]]:
    """Return one completion as output items: its reasoning, its text and its calls.

    Args:
        turn: parsed completion; of one that cannot be parsed, the whole text counts as its content.
        number: of the turn, which makes ids unique within an episode.
    """
    items: list[dict[str, Any]] = []
    if turn.reasoning:
        summary = [{"type": "summary_text", "text": whole(turn.reasoning)}]
        items.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary})
    content = turn.content if turn.malformed is None else turn.text
    if content or not turn.tool_calls:
        part = {"type": "output_text", "text": whole(content), "annotations": []}
        items.append(
            {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for index, call in enumerate(turn.tool_calls):
        name = f"call_{number}_{index}"
        items.append(
            {
                "id": f"fc_{number}_{index}",
                "type": "function_call",
                "call_id": name,
                "name": whole(call.name),
                "arguments": json.dumps(call.arguments),
                "status": "completed",
            }
        )
    return items


def call_output(call_id: str, text: str) -> dict[str, Any]:
    """Return what a call brought as an item."""
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def response(output: Iterable[dict[str, Any]], tools: Sequence[Any]) -> dict[str, Any]:
    """Return a whole response object, as verifiers expect it.

    Args:
        output: items of all turns, in order.
        tools: as the request had them.
    """
    return {
        "id": "resp_rolloom",
        "created_at": 0.0,
        "model": "policy",
        "object": "response",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": list(tools),
    }
