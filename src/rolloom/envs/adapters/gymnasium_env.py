"""Any registered Gymnasium environment whose actions can be written down, as a rolloom environment.

Problems are seeds of the inner environment, drawn by rolloom's own rule of seeds and splits. The reward of an
episode comes of the inner rewards by one declared `Rule`, because theirs have no common range.
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from rolloom.envs.adapters import grammar
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply

RULES = ("success", "return", "per_turn")


@dataclass(frozen=True, slots=True)
class Rule:
    """How inner rewards become a reward in [0, 1].

    Attributes:
        kind: `success` pays 1.0 when the inner episode terminates with a last reward of at least `high`;
            `return` pays where the inner return lies between `low` and `high`, at the end; `per_turn` pays
            every turn where its reward lies between `low` and `high`, divided by the turn limit.
        low: inner number worth 0.
        high: inner number worth 1.
    """

    kind: Literal["success", "return", "per_turn"] = "success"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in RULES:
            raise EnvError(f"rule: expected one of {', '.join(RULES)}, got {self.kind!r}")
        if not math.isfinite(self.low + self.high) or (self.kind != "success" and self.low >= self.high):
            raise EnvError(f"rule: expected finite low < high, got {self.low} and {self.high}")

    def share(self, value: float) -> float:
        """Return where a number lies between `low` and `high`, clipped to [0, 1]."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def pay(self, rewards: Sequence[float], terminated: bool, over: bool, turns: int) -> float:
        """Return the reward of the last turn.

        Args:
            rewards: inner rewards of the episode so far, one a step.
            terminated: the inner episode came to its end, not to its time limit.
            over: no turn follows.
            turns: most turns of an episode.
        """
        if self.kind == "success":
            return float(terminated and rewards[-1] >= self.high)
        if self.kind == "return":
            return self.share(sum(rewards)) if over else 0.0
        return self.share(rewards[-1]) / turns


class GymnasiumEnv(TextEnv):
    """A Gymnasium environment, played turn by turn in text.

    The opening message shows the first observation and says how an action is written; each answer is one
    action, and the next message shows what came of it. A text that is no action costs a turn and changes
    nothing.

    Actions: `Discrete` by name or number; `Text` as it is; `MultiDiscrete`, `MultiBinary`, small `Box`, and
    `Tuple` and `Dict` of these as JSON. Observations: the `ansi` render where the environment has one (what
    it colours stands in brackets), else the observation itself as text or JSON.

    Register one of your own with `register("lake/slippery-v0",
    "rolloom.envs.adapters.gymnasium_env:GymnasiumEnv", kind="game", env_id="FrozenLake-v1", actions=["left",
    "down", "right", "up"])`.

    Args:
        env_id: registered Gymnasium id, or `module:id`.
        env_kwargs: keyword arguments of `gymnasium.make`.
        actions: names of a `Discrete` action space's actions, in order; numbers without.
        rule: how inner rewards become a reward in [0, 1], as the keyword arguments of `Rule`:
            `{"kind": "return", "low": -100, "high": 0}`.
        instruction: one sentence or two about the task, put before the first observation.
        gold: `module:function` that is given this adapter and returns the next action, to prove that it can
            be solved; without one, a deterministic table `env.unwrapped.P` is searched if there is one.
        max_turns: most turns; the inner time limit (or 100) by default.
        kwargs: arguments of `TextEnv`.
    """

    levels = (1, 1)

    def __init__(
        self,
        env_id: str = "",
        env_kwargs: dict[str, Any] | None = None,
        actions: Sequence[str] = (),
        rule: dict[str, Any] | None = None,
        instruction: str = "",
        gold: str = "",
        max_turns: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not env_id:
            raise EnvError("env_id: expected the id of a Gymnasium environment, e.g. env_id='FrozenLake-v1'")
        self.rule = Rule(**rule or {})
        self.instruction, self._gold = instruction, gold
        self.inner, self._ansi = _make(env_id, env_kwargs or {})
        space = self.inner.action_space
        grammar.check_space(space)
        self.actions = tuple(actions)
        if actions and (not isinstance(space, gymnasium.spaces.Discrete) or len(actions) != space.n):
            raise EnvError(f"actions: {len(actions)} names do not fit {space}")
        if max_turns is None:
            limit = self.inner.spec.max_episode_steps if self.inner.spec else None
            max_turns = limit or 100
        self.rewards: list[float] = []
        self.opening = ""
        super().__init__(max_turns=max_turns, **kwargs)

    # -- one inner episode -----------------------------------------------------------------------------------

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"seed"}`, the seed of the inner environment."""
        return {"seed": int(rng.integers(2**31))}

    def begin(self) -> None:
        """Reset the inner environment to the problem's seed."""
        self.rewards = []
        self.observation, _ = self.inner.reset(seed=self.problem["seed"])
        self.opening = self.scene()

    def scene(self) -> str:
        """Return what the policy is shown of the present state."""
        if self._ansi:
            screen = self.inner.render()
            if isinstance(screen, str):
                return grammar.show_ansi(screen)
        return grammar.describe_observation(self.observation)

    def prompt(self) -> Messages:
        """Return the instruction, the first observation and the grammar of actions."""
        how = f"Answer with {grammar.describe_action(self.inner.action_space, self.labels())}."
        parts = (self.instruction, self.opening, how)
        return (Message(role="user", content="\n".join(part for part in parts if part)),)

    def labels(self) -> Sequence[str]:
        """Return the words for the actions in this problem; none for numbers."""
        return self.actions

    def respond(self, turn: AssistantTurn) -> Reply:
        """Take one action, or say why the text is none."""
        try:
            if turn.malformed is not None or turn.tool_calls:
                raise grammar.NotAnAction(turn.malformed or "a tool call, but there are no tools")
            action = grammar.parse_action(self.inner.action_space, turn.content, self.labels())
        except grammar.NotAnAction as error:
            how = grammar.describe_action(self.inner.action_space, self.labels())
            text = f"That is no action ({str(error)[:80]}). Answer with {how}."
            return Reply((Message(role="user", content=text),), components={"invalid": 1.0})
        return self.act(action)

    def act(self, action: Any) -> Reply:
        """Take an action in the inner environment."""
        self.observation, reward, terminated, truncated, _ = self.inner.step(action)
        self.rewards.append(float(reward))
        done = bool(terminated or truncated)
        over = done or self.turn_index + 1 >= self.max_turns
        paid = self.rule.pay(self.rewards, bool(terminated), over, self.max_turns)
        components = {"inner_return": sum(self.rewards), "steps": float(len(self.rewards))} if over else {}
        if done:
            return Reply(reward=paid, done=True, components=components | {"correct": float(paid >= 1)})
        return Reply((Message(role="user", content=self.scene()),), paid, components=components)

    # -- solving it ------------------------------------------------------------------------------------------

    def gold(self) -> str:
        """Return the next action of the declared gold, or of a shortest way through the table."""
        if self._gold:
            action = _load(self._gold)(self)
        else:
            way = self.way()
            if not way:
                raise NotImplementedError
            action = way[0]
        return grammar.render_action(self.inner.action_space, action, self.labels())

    def way(self) -> list[int]:
        """Return the actions of a shortest way to success in a deterministic table; none if there is none."""
        table = getattr(self.inner.unwrapped, "P", None)
        if not isinstance(table, dict):
            raise NotImplementedError
        return shortest_way(table, int(self.inner.unwrapped.s), self.rule.high)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the inner environment."""
        self.inner.close()


def shortest_way(table: dict[int, dict[int, list[Any]]], state: int, success: float) -> list[int]:
    """Return the fewest actions that lead through a deterministic table to a terminal reward.

    Args:
        table: Gymnasium's `P[state][action] = [(probability, next state, reward, terminated)]`.
        state: where to start.
        success: least reward that the last step has to bring.
    """
    came: dict[int, tuple[int, int]] = {}
    queue = deque([state])
    while queue:
        here = queue.popleft()
        for action, outcomes in table[here].items():
            if len({(after, reward) for _, after, reward, _ in outcomes}) != 1:
                raise EnvError("a table of chance has no way that is sure; make it deterministic")
            _, after, reward, over = outcomes[0]
            if over and reward >= success:
                way = [action]
                while here != state:
                    here, action = came[here]
                    way.append(action)
                return way[::-1]
            if not over and after != state and after not in came:
                came[int(after)] = (here, action)
                queue.append(int(after))
    return []


def _make(env_id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Env[Any, Any], bool]:
    """Return the inner environment, and whether it renders as text."""
    try:
        if "render_mode" not in kwargs and "ansi" in _render_modes(env_id):
            kwargs = {**kwargs, "render_mode": "ansi"}
        inner = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    except gymnasium.error.Error as error:
        raise EnvError(f"env_id: {env_id!r} cannot be made: {error}") from error
    except TypeError as error:
        raise EnvError(f"env_kwargs: {env_id!r} does not take them: {error}") from error
    return inner, inner.render_mode == "ansi"


def _render_modes(env_id: str) -> Sequence[str]:
    module, found, _ = env_id.partition(":")
    if found:
        importlib.import_module(module)
    spec = gymnasium.spec(env_id.rpartition(":")[2])
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    return getattr(creator, "metadata", {}).get("render_modes", ())


def _load(name: str) -> Callable[[GymnasiumEnv], Any]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
