"""The environment contract: a `gymnasium.Env` that speaks chat messages and is answered in text.

A new environment subclasses `TextEnv` and writes four methods: `generate` a problem, `prompt` it, `respond`
to a turn, and `expert`, which proves that the problem can be solved. Everything else (seeding, splits,
parsing, reward checks, the turn limit) is done here once.
"""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import parse_completion
from rolloom.envs.types import (
    AssistantTurn,
    Message,
    Messages,
    Reply,
    Split,
    Style,
    ToolSpec,
    content_key,
    split_of,
)

MAX_DRAWS = 10_000
ROLES = ("system", "user", "assistant", "tool")


class MessagesSpace(gymnasium.Space[Messages]):
    """Tuples of chat messages: `({"role": ..., "content": ...}, ...)`."""

    def contains(self, x: Any) -> bool:
        """Return True for a tuple of messages with a known role and string content."""
        return isinstance(x, tuple) and all(
            isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in x
        )

    def sample(self, mask: Any = None, probability: Any = None) -> Messages:
        """Return one random user message."""
        return (Message(role="user", content=_random_text(self.np_random)),)


class CompletionSpace(gymnasium.Space[str]):
    """Any string: a policy's whole completion, think tags and tool calls included."""

    def contains(self, x: Any) -> bool:
        """Return True for a string."""
        return isinstance(x, str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return random printable text."""
        return _random_text(self.np_random)


def _random_text(rng: np.random.Generator) -> str:
    return "".join(map(chr, rng.integers(32, 127, size=int(rng.integers(1, 64)))))


class TextEnv(gymnasium.Env[Messages, str]):
    """Base of every environment.

    Class attributes an author sets:
        max_turns: turns after which the episode is truncated.
        levels: inclusive range of difficulty levels.

    Args:
        level: difficulty used when `reset` is given none.
        split: split used when `reset` is given none.
        render_mode: `ansi` makes `render` return the conversation as text.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    max_turns: ClassVar[int] = 1
    levels: ClassVar[tuple[int, int]] = (1, 10)

    def __init__(self, level: int = 1, split: Split = "train", render_mode: str | None = None) -> None:
        self.level, self.split, self.render_mode = level, split, render_mode
        self.observation_space = MessagesSpace()
        self.action_space = CompletionSpace()
        self.problem: dict[str, Any] = {}
        self.turn_index = 0
        self._conversation: list[Message] = []
        self._live = False
        self._return = 0.0

    # -- what an author writes -------------------------------------------------------------------------------

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a random problem of a level as JSON types. Only `rng` may be a source of chance."""
        raise NotImplementedError

    def prompt(self) -> Messages:
        """Return the opening messages for `self.problem`."""
        raise NotImplementedError

    def respond(self, turn: AssistantTurn) -> Reply:
        """Return the answer to one turn. State of the episode may live in attributes set by `begin`."""
        raise NotImplementedError

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return the next completion of an expert that solves `self.problem`, given the episode so far.

        Every style scores 1.0 when followed to the end. The text is `<think>...</think>` followed by the
        content.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Set up the state of a new episode; called by `reset` after `self.problem` is set."""

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the functions the policy may call in this problem."""
        return ()

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the text that identifies a problem: two problems that share it are the same task."""
        return json.dumps(problem, sort_keys=True)

    # -- what Gymnasium calls --------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict]:
        """Start an episode.

        Args:
            seed: the problem's seed; the same (seed, split, level) is the same problem everywhere.
            options: `split`, `level`.

        Returns:
            The opening messages, and info with `tools` (a tuple of `ToolSpec`) and `key` (the content key).

        Raises:
            EnvError: unknown split or level, or no problem of the split could be drawn.
        """
        super().reset(seed=seed)
        options = options or {}
        split, level = options.get("split", self.split), options.get("level", self.level)
        low, high = self.levels
        if split not in ("train", "heldout"):
            raise EnvError(f"options['split']: expected 'train' or 'heldout', got {split!r}")
        if not isinstance(level, int | np.integer) or not low <= level <= high:
            raise EnvError(
                f"options['level']: {type(self).__name__} has levels {low} to {high}, got {level!r}"
            )
        problem_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        key = self._draw(problem_seed, int(level), split)
        self.turn_index, self._return, self._live = 0, 0.0, True
        self.begin()
        messages = self.prompt()
        self._conversation = list(messages)
        return messages, {"tools": self.tools(), "key": key, "level": int(level), "split": split}

    def _draw(self, seed: int, level: int, split: Split) -> str:
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        for _ in range(MAX_DRAWS):
            self.problem = self.generate(rng, level)
            key = content_key(self.key_text(self.problem))
            if split_of(key) == split:
                return key
        raise EnvError(
            f"{type(self).__name__} drew {MAX_DRAWS} problems of level {level}, none in split {split!r}"
        )

    def step(self, action: str) -> tuple[Messages, float, bool, bool, dict[str, Any]]:
        """Answer one completion.

        Args:
            action: the policy's whole completion; a leading `<think>` marks reasoning.

        Returns:
            New messages, the turn's reward, terminated, truncated (turn limit), and info with `components`
            and `malformed`.

        Raises:
            EnvError: no episode is running, or the environment paid a reward outside [0, 1].
        """
        if not self._live:
            raise EnvError("step() was called with no episode running; call reset() first")
        turn = parse_completion(action)
        self._conversation.append(Message(role="assistant", content=action))
        reply = self.respond(turn)
        self.turn_index += 1
        self._return += reply.reward
        if not math.isfinite(reply.reward) or not -1e-9 <= self._return <= 1 + 1e-9:
            raise EnvError(
                f"{type(self).__name__}: an episode's reward must lie in [0, 1], got {self._return}"
            )
        truncated = not reply.done and self.turn_index >= self.max_turns
        self._live = not (reply.done or truncated)
        self._conversation.extend(reply.messages)
        info = {"components": dict(reply.components), "malformed": turn.malformed}
        return reply.messages, float(reply.reward), reply.done, truncated, info

    def render(self) -> str | None:  # type: ignore[override]
        """Return the conversation so far as text in render mode `ansi`, else None."""
        if self.render_mode != "ansi":
            return None
        return "\n".join(f"[{m['role']}] {m['content']}" for m in self._conversation)
