"""Token ids of what environments say, each conversation rendered and tokenised once for all its siblings."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rolloom.envs.types import Message
from rolloom.policy.tokenizer import ChatTokenizer

ENTRIES = 4096
CHARACTERS = 32_000_000
LONG_CHARS = 50_000
"""Openings above this many characters take so long to tokenise that it is done on a thread of its own."""


class PromptCache:
    """Remembers the last conversations it tokenised.

    The lists it returns are shared: whoever keeps one copies it before changing it.

    Args:
        tokenizer: the policy's.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.tokenizer = tokenizer
        self._kept: OrderedDict[Any, tuple[list[int], int]] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()
        self._one_long = threading.Lock()

    def opening(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[int]:
        """Return the ids of an opening; see `ChatTokenizer.prompt_ids`."""
        key = ("opening", _key(messages), json.dumps(tools, sort_keys=True) if tools else "")
        ids = self._find(key)
        if ids is not None:
            return ids
        if length(messages) <= LONG_CHARS:
            return self._keep(key, self.tokenizer.prompt_ids(messages, tools), messages)
        with self._one_long:
            # A sibling may have been faster.
            ids = self._find(key)
            return ids or self._keep(key, self.tokenizer.prompt_ids(messages, tools), messages)

    def continuation(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that follow a completion; see `ChatTokenizer.continuation_ids`."""
        key = ("continuation", _key(messages))
        ids = self._find(key)
        return (
            ids if ids is not None else self._keep(key, self.tokenizer.continuation_ids(messages), messages)
        )

    def _find(self, key: Any) -> list[int] | None:
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            self._kept.move_to_end(key)
            return entry[0]

    def _keep(self, key: Any, ids: list[int], messages: Sequence[Message]) -> list[int]:
        characters = length(messages)
        with self._lock:
            before = self._kept.pop(key, None)
            self._characters += characters - (before[1] if before else 0)
            self._kept[key] = (ids, characters)
            while len(self._kept) > ENTRIES or (self._characters > CHARACTERS and len(self._kept) > 1):
                _, (_, dropped) = self._kept.popitem(last=False)
                self._characters -= dropped
        return ids


def length(messages: Sequence[Message]) -> int:
    """Return the characters of all contents."""
    return sum(len(message["content"]) for message in messages)


def _key(messages: Sequence[Message]) -> tuple[tuple[str, str, str], ...]:
    return tuple((m["role"], m["content"], m.get("name", "")) for m in messages)
