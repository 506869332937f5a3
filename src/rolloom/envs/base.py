"""The environment contract: a `gymnasium.Env` that speaks chat messages and is answered in text.

`TextEnv` is the base of every environment: `generate` a problem, `prompt` it, `respond` to a turn, and `gold`
(or `expert`), which proves that the problem can be solved. Everything else (seeding, splits, parsing, reward
checks, the turn limit) is done here once. `rolloom.envs.authoring` makes environments of a function or of a
plain class in fewer lines; `rolloom.envs.tool.ToolEnv` adds function tools.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Awaitable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from rolloom.envs.aio import drive, settled
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
Answer = Reply | float | str | tuple[str, float]
"""What may answer a turn; see `as_reply`."""


class MessagesSpace(gymnasium.Space[Messages]):
    """Tuples of chat messages: `({"role": ..., "content": ...}, ...)`."""

    def contains(self, x: Any) -> bool:
        """Return True for a tuple of messages with a known role and string content."""
        return isinstance(x, tuple) and all(
            isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in x
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def sample(self, mask: Any = None, probability: Any = None) -> Messages:
        """Return one random user message."""
        return (Message(role="user", content=_random_text(self.np_random)),)


class CompletionSpace(gymnasium.Space[str]):
    """Any string: a policy's whole completion, think tags and tool calls included."""

    def contains(self, x: Any) -> bool:
        """Return True for a string."""
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return random printable text."""
        return _random_text(self.np_random)


def _random_text(rng: np.random.Generator) -> str:
    return "".join(map(chr, rng.integers(32, 127, size=int(rng.integers(1, 64)))))


def as_reply(answer: Any) -> Reply:
    """Return the `Reply` that a short form stands for.

    A number ends the episode with that reward; a string is the next user message; a pair of both is the next
    user message and the reward of this turn.

    Raises:
        EnvError: none of these.
    """
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, bool | int | float | np.floating | np.bool_):
        return Reply(reward=float(answer), done=True, components={"correct": float(answer)})
    if isinstance(answer, str):
        return Reply((Message(role="user", content=answer),))
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
        return Reply((Message(role="user", content=answer[0]),), reward=float(answer[1]))
    raise EnvError(
        "expected a Reply, a number (the final reward), a string (the next user message) or (string, number),"
        f" got {type(answer).__name__}"
    )


class TextEnv(gymnasium.Env[Messages, str]):
    """Base of every environment.

    Class attributes an author sets:
        max_turns: turns after which the episode is truncated.
        levels: inclusive range of difficulty levels.
        system: system prompt put before the opening messages; "" for none.
        step_deadline_s: seconds one step may take; None leaves it to `rollout.step_deadline_s`.
        episode_deadline_s: seconds an episode may take; None leaves it to `rollout.episode_deadline_s`.
        asynchronous: steps wait (`respond` is a coroutine function): they share an event loop instead of
            taking a thread each. Found out by itself where a method is declared `async`.

    Args:
        level: difficulty used when `reset` is given none; the lowest by default.
        split: split used when `reset` is given none.
        render_mode: `ansi` makes `render` return the conversation as text.
        system_prompt: replaces the class's `system`.
        max_turns: replaces the class's `max_turns`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    max_turns: int = 1
    levels: tuple[int, int] = (1, 10)
    system: str = ""
    step_deadline_s: float | None = None
    episode_deadline_s: float | None = None
    asynchronous: bool = False

    def __init__(
        self,
        level: int | None = None,
        split: Split = "train",
        render_mode: str | None = None,
        system_prompt: str | None = None,
        max_turns: int | None = None,
    ) -> None:
        self.level = self.levels[0] if level is None else level
        self.split, self.render_mode = split, render_mode
        if system_prompt is not None:
            self.system = system_prompt
        if max_turns is not None:
            self.max_turns = max_turns
        self.observation_space = MessagesSpace()
        self.action_space = CompletionSpace()
        self.problem: dict[str, Any] = {}
        self.turn_index = 0
        self._conversation: list[Message] = []
        self._live = False
        self._return = 0.0
        self._generator: np.random.Generator | None = None
        waiting = (self.generate, self.begin, self.respond)
        self.asynchronous = self.asynchronous or any(map(inspect.iscoroutinefunction, waiting))

    # -- what an author writes -------------------------------------------------------------------------------

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a random problem of a level as JSON types. Only `rng` may be a source of chance."""
        raise NotImplementedError

    def prompt(self) -> Messages:
        """Return the opening messages for `self.problem`."""
        raise NotImplementedError

    def respond(self, turn: AssistantTurn) -> Answer | Awaitable[Answer]:
        """Return the answer to one turn. State of the episode may live in attributes set by `begin`."""
        raise NotImplementedError

    def gold(self) -> str:
        """Return the content of the next turn of a right solution, given the episode so far.

        Tool calls are written with `rolloom.envs.parsing.render_call`. An author writes this or `expert`.
        """
        raise NotImplementedError

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return the reasoning that leads to `gold`, in a style; none by default."""
        return ""

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return the next completion of an expert that solves `self.problem`, given the episode so far.

        Every style scores 1.0 when followed to the end. The text is `<think>...</think>` followed by the
        content.
        """
        return f"<think>\n{self.thought(style, rng)}</think>\n{self.gold()}"

    def begin(self) -> Any:
        """Set up the state of a new episode; called by `reset` after `self.problem` is set."""

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return the functions the policy may call in this problem."""
        return ()

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the text that identifies a problem: two problems that share it are the same task."""
        return json.dumps(problem, sort_keys=True)

    def chance(self, level: int) -> float:
        """Return the mean reward of the best answer that ignores the problem, where that cannot be ~0."""
        return 0.0

    def attacks(self) -> dict[str, str]:
        """Return completions that try to be paid without solving `self.problem`; none may earn more than 0.

        `rolloom envs check` plays them beside its own; environments add what only they can be attacked by.
        """
        return {}

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
        return drive(self.areset(seed=seed, options=options), self.asynchronous)

    async def areset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict]:
        """Start an episode; see `reset`."""
        if seed is not None:
            self._seed_lazily(seed)
        options = options or {}
        split, level = options.get("split", self.split), options.get("level", self.level)
        low, high = self.levels
        if split not in ("train", "heldout"):
            raise EnvError(f"options['split']: expected 'train' or 'heldout', got {split!r}")
        if not isinstance(level, int | np.integer) or not low <= level <= high:
            raise EnvError(f"level: {type(self).__name__} has levels {low} to {high}, got {level!r}")
        problem_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        key = await self._draw(problem_seed, int(level), split)
        self.turn_index, self._return, self._live = 0, 0.0, True
        await settled(self.begin())
        messages = tuple(self.prompt())
        if self.system:
            messages = (Message(role="system", content=self.system), *messages)
        self._conversation = list(messages)
        return messages, {"tools": self.tools(), "key": key, "level": int(level), "split": split}

    @property
    def _np_random(self) -> np.random.Generator | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        # Gymnasium's generator, made when it is first asked for: making it costs as much as a small problem.
        if self._generator is None and self._np_random_seed is not None and self._np_random_seed >= 0:
            self._generator, _ = seeding.np_random(self._np_random_seed)
        return self._generator

    @_np_random.setter
    def _np_random(self, generator: np.random.Generator | None) -> None:
        self._generator = generator

    def _seed_lazily(self, seed: int) -> None:
        if not isinstance(seed, int) or seed < 0:
            seeding.np_random(seed)  # raises what Gymnasium raises, or takes what it takes
        self._generator, self._np_random_seed = None, int(seed)

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        parts = [seed, level, int(split == "heldout")]
        # The same stream either way; an array is taken as it is, a list is converted first.
        rng = np.random.default_rng(np.array(parts, np.uint32) if seed < 1 << 32 else parts)
        for _ in range(MAX_DRAWS):
            drawn: Any = self.generate(rng, level)
            self.problem = drawn if isinstance(drawn, dict) else await settled(drawn)
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
        return drive(self.astep(action), self.asynchronous)

    async def astep(self, action: str) -> tuple[Messages, float, bool, bool, dict[str, Any]]:
        """Answer one completion; see `step`."""
        if not self._live:
            raise EnvError("step() was called with no episode running; call reset() first")
        turn = parse_completion(action)
        self._conversation.append(Message(role="assistant", content=action))
        answer = self.respond(turn)
        reply = answer if isinstance(answer, Reply) else as_reply(await settled(answer))
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
