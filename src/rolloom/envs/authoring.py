"""Environments in a dozen lines: of a function, of a data set, or of a plain class.

    @environment("words/backwards-v0", kind="words", levels=(1, 5))
    def backwards(rng, level):
        word = "".join(rng.choice(list("abcdefgh"), size=level + 4))
        return {"prompt": f"Spell {word} backwards.", "answer": word[::-1]}

    @environment("facts/capitals-v0", data="capitals.jsonl", prompt="What is the capital of {country}?")
    def right(turn, row):
        return turn.content == row["answer"]

    @environment("shop/price-v0", kind="tools")
    class Price:
        def reset(self, rng, level):
            self.prices = {"apple": int(rng.integers(1, 99))}
            return "What does an apple cost? Number only."
        @tool
        def lookup(self, item: str) -> int:
            '''Price of an item.'''
            return self.prices[item]
        def step(self, turn):
            return turn.content == str(self.prices["apple"])

The decorator registers the environment, so importing the module is all a worker needs: only the name travels.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs import registry
from rolloom.envs.aio import settled
from rolloom.envs.base import Answer, TextEnv
from rolloom.envs.data import DatasetRows
from rolloom.envs.errors import EnvError, EnvRegistrationError, did_you_mean
from rolloom.envs.tool import Tool, ToolEnv, tools_of
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Split, Style, content_key, split_of

Row = dict[str, Any]
RewardFunction = Callable[[AssistantTurn, Row], Any]


class Recipe:
    """What the decorator leaves in the module: call it for a new environment.

    Args:
        id: registry id.
        make: builds one; given the recipe and the keyword arguments of the environment.
        defaults: class attributes of `TextEnv` to set on each environment (`max_turns`, `levels`, ...).
    """

    def __init__(
        self, id: str, make: Callable[[Recipe, dict[str, Any]], TextEnv], defaults: dict[str, Any]
    ) -> None:
        self.id, self._make, self.defaults = id, make, defaults
        self.rewards: dict[str, tuple[RewardFunction, float]] = {}

    def __call__(self, **kwargs: Any) -> TextEnv:
        """Return a new environment."""
        return self._make(self, kwargs)

    def reward(self, weight: float = 1.0, name: str = "") -> Callable[[RewardFunction], RewardFunction]:
        """Add a part of the reward: `function(turn, row)` in [0, 1], sync or async.

        The reward is the mean of the parts by weight; each is reported under its name. A part of weight 0 is
        only reported.
        """

        def add(function: RewardFunction) -> RewardFunction:
            if weight < 0:
                raise EnvRegistrationError(f"{self.id}: expected a weight of at least 0, got {weight}")
            self.rewards[name or function.__name__] = (function, weight)
            return function

        return add


def exact(turn: AssistantTurn, row: Row) -> float:
    """Return 1.0 when the content, stripped, is the row's answer in text, else 0.0; the default reward."""
    return float(
        turn.malformed is None and not turn.tool_calls and turn.content == str(row["answer"]).strip()
    )


def environment(
    id: str,
    *,
    data: str | Sequence[Row] = "",
    heldout: str | Sequence[Row] = "",
    prompt: str = "{prompt}",
    answer: str = "answer",
    kind: str = "",
    description: str = "",
    **defaults: Any,
) -> Callable[[Any], Recipe]:
    """Register what is decorated as an environment.

    What it makes an environment of:

    - a function `(rng, level) -> row`: a generator of problems. A row is JSON: `prompt` (text or messages),
      `answer`, and whatever the reward wants. The reward compares exactly unless `.reward` adds others.
    - with `data`, a function `(turn, row) -> reward` over the rows of a file or a list.
    - a class with `reset(rng, level)` and `step(turn)`; a fresh object is made for every episode, so its
      attributes are the episode's state. Methods marked with `@tool` can be called by the policy; `step`
      sees the turns that call none. `gold()`, if there, returns the content of a right next turn.

    Args:
        id: `namespace/name-vN`.
        data: JSONL or Parquet file, a data set name that the `datasets` package can load, or rows.
        heldout: the same for held-out tasks; without it, one row in five is held out by its hash.
        prompt: format string over a row's columns, for `data`.
        answer: column of the right answer, for `data`; also the gold answer.
        kind: word used to group environments; the namespace by default.
        description: one line; the first line of the docstring by default.
        defaults: attributes of the environment: `max_turns`, `levels`, `system`, `step_deadline_s`,
            `episode_deadline_s`.

    Raises:
        EnvRegistrationError: malformed id, unknown keyword, or a name no worker could import.
    """
    allowed = ("max_turns", "levels", "system", "step_deadline_s", "episode_deadline_s", "asynchronous")
    for name in defaults:
        if name not in allowed:
            raise EnvRegistrationError(
                f"{id}: no such setting {name!r}; expected one of {', '.join(allowed)}."
                f"{did_you_mean(name, allowed)}"
            )

    def decorate(target: Any) -> Recipe:
        if inspect.isclass(target):
            recipe = Recipe(id, lambda recipe, kwargs: ObjectEnv(recipe, target, **kwargs), defaults)
        elif data:
            folder = Path(inspect.getfile(target)).parent
            recipe = Recipe(
                id,
                lambda recipe, kwargs: RowsEnv(
                    recipe, **{"data": data, "heldout": heldout, "folder": folder, **kwargs}
                ),
                defaults | {"prompt_format": prompt, "answer_column": answer},
            )
            recipe.rewards[target.__name__] = (target, 1.0)
        else:
            recipe = Recipe(id, lambda recipe, kwargs: GeneratorEnv(recipe, target, **kwargs), defaults)
        module, file = _module_of(target)
        told = description or (inspect.getdoc(target) or "").partition("\n")[0]
        registry.register_spec(
            registry.EnvSpec(
                id, f"{module}:{target.__qualname__}", kind or id.partition("/")[0], told, file=file
            )
        )
        return recipe

    return decorate


def _module_of(target: Any) -> tuple[str, str]:
    """Return the module name that a worker can import a decorated object by, and the file it is in."""
    if "<locals>" in target.__qualname__:
        raise EnvRegistrationError(
            f"{target.__qualname__}: an environment has to stand at the top of its module, to be found"
        )
    name = target.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    path = str(Path(file).resolve()) if file else ""
    # A worker runs no `__main__` of ours: it loads the script under the name of its file.
    return (Path(path).stem if name == "__main__" and path else name), path


class _RecipeEnv(TextEnv):
    """What the three forms share: settings of the recipe, and rewards made of parts."""

    def __init__(self, recipe: Recipe, **kwargs: Any) -> None:
        for name, value in recipe.defaults.items():
            setattr(self, name, value)
        self.recipe = recipe
        self.asynchronous = self.asynchronous or any(
            inspect.iscoroutinefunction(function) for function, _ in recipe.rewards.values()
        )
        super().__init__(**kwargs)

    def prompt(self) -> Messages:
        """Return the row's prompt as messages."""
        return as_messages(self.recipe.id, self.problem.get("prompt"))

    def key_text(self, problem: Row) -> str:
        """Return the prompt: two rows that ask the same are the same task."""
        return json.dumps(problem["prompt"], sort_keys=True)

    def gold(self) -> str:
        """Return the row's `gold`, or its answer."""
        answer = self.problem.get("gold", self.problem.get("answer"))
        if answer is None:
            raise NotImplementedError
        return answer if isinstance(answer, str) else str(answer)

    def respond(self, turn: AssistantTurn) -> Answer | Awaitable[Answer]:
        """End the episode with the weighted mean of the parts of the reward."""
        return self._judge(turn) if self.asynchronous else _finish(self._parts(turn))

    async def _judge(self, turn: AssistantTurn) -> Reply:
        return _finish([(name, await settled(value), weight) for name, value, weight in self._parts(turn)])

    def _parts(self, turn: AssistantTurn) -> list[tuple[str, Any, float]]:
        rewards = self.recipe.rewards or {"exact": (exact, 1.0)}
        return [(name, function(turn, self.problem), weight) for name, (function, weight) in rewards.items()]


def _finish(parts: Sequence[tuple[str, Any, float]]) -> Reply:
    for name, value, _ in parts:
        if not isinstance(value, bool | int | float | np.number | np.bool_) or not 0 <= float(value) <= 1:
            raise EnvError(f"reward {name}: expected a number in [0, 1], got {value!r:.80}")
    total = sum(weight for *_, weight in parts)
    if total <= 0:
        raise EnvError("the reward's parts all have weight 0; expected at least one above")
    reward = sum(float(value) * weight for _, value, weight in parts) / total
    return Reply(reward=reward, done=True, components={name: float(value) for name, value, _ in parts})


class GeneratorEnv(_RecipeEnv):
    """An environment of a function `(rng, level) -> row`."""

    def __init__(self, recipe: Recipe, function: Callable[..., Any], **kwargs: Any) -> None:
        self.function = function
        self.asynchronous = inspect.iscoroutinefunction(function)
        super().__init__(recipe, **kwargs)

    def generate(self, rng: np.random.Generator, level: int) -> Any:
        """Return the function's next row."""
        row = self.function(rng, level)
        if not inspect.isawaitable(row) and (not isinstance(row, dict) or "prompt" not in row):
            raise EnvError(f"{self.recipe.id}: expected a dict with a 'prompt', got {row!r:.120}")
        return row


class RowsEnv(_RecipeEnv):
    """An environment of the rows of a data set."""

    levels = (1, 1)

    def __init__(
        self,
        recipe: Recipe,
        data: str | Sequence[Row],
        heldout: str | Sequence[Row],
        folder: Path,
        **kwargs: Any,
    ) -> None:
        self.rows: Mapping[Split, DatasetRows] = {"train": DatasetRows.load(data, folder)}
        if heldout:
            self.rows = {**self.rows, "heldout": DatasetRows.load(heldout, folder)}
        super().__init__(recipe, **kwargs)

    def _problem(self, row: Row) -> Row:
        settings = self.recipe.defaults
        try:
            text = (
                row["messages"]
                if settings["prompt_format"] == "{messages}"
                else settings["prompt_format"].format(**row)
            )
        except (KeyError, IndexError) as error:
            raise EnvError(
                f"{self.recipe.id}: prompt {settings['prompt_format']!r} names column {error}; "
                f"the data has {', '.join(row)}"
            ) from None
        return {**row, "prompt": text, "answer": row.get(settings["answer_column"])}

    async def _draw(self, seed: int, level: int, split: Split) -> str:
        rows = self.rows.get(split)
        rng = np.random.default_rng([seed, level, int(split == "heldout")])
        if "heldout" in self.rows and rows is not None:
            self.problem = self._problem(rows[int(rng.integers(len(rows)))])
            return content_key(self.key_text(self.problem))
        rows = self.rows["train"]
        for index in rng.permutation(len(rows)):
            self.problem = self._problem(rows[int(index)])
            key = content_key(self.key_text(self.problem))
            if split_of(key) == split:
                return key
        raise EnvError(f"{self.recipe.id}: none of {len(rows)} rows is in split {split!r}")


class ObjectEnv(ToolEnv, _RecipeEnv):
    """An environment of a plain class, one object an episode.

    Attributes:
        state: the episode's object.
    """

    def __init__(self, recipe: Recipe, cls: type, **kwargs: Any) -> None:
        self.cls = cls
        for name, value in recipe.defaults.items():
            setattr(self, name, value)
        for method in ("reset", "step"):
            if not callable(getattr(cls, method, None)):
                raise EnvRegistrationError(f"{recipe.id}: {cls.__name__} needs a method {method}")
        own = inspect.signature(TextEnv.__init__).parameters
        self.arguments = {name: kwargs.pop(name) for name in list(kwargs) if name not in own}
        waits = [value for value in vars(cls).values() if inspect.iscoroutinefunction(value)]
        self.asynchronous = bool(waits) or recipe.defaults.get("asynchronous", False)
        self.state: Any = None
        super().__init__(recipe=recipe, **kwargs)

    def generate(self, rng: np.random.Generator, level: int) -> Any:
        """Make a fresh object and return `{"prompt", "key"}` of it."""
        self.state = self.cls(**self.arguments)
        opening = self.state.reset(rng, level)
        return self._opened_later(opening) if inspect.isawaitable(opening) else self._opened(opening)

    async def _opened_later(self, opening: Awaitable[Any]) -> Row:
        return self._opened(await opening)

    def _opened(self, opening: Any) -> Row:
        messages = [dict(message) for message in as_messages(self.recipe.id, opening)]
        return {"prompt": messages, "key": getattr(self.state, "key", None)}

    def key_text(self, problem: Row) -> str:
        """Return the object's `key` if it has one, else its prompt."""
        return json.dumps(problem["key"] or problem["prompt"], sort_keys=True, default=str)

    def toolbox(self) -> Mapping[str, Tool]:
        """Return the object's marked methods."""
        return tools_of(self.state)

    def answer(self, turn: AssistantTurn) -> Answer | Awaitable[Answer]:
        """Hand the turn to the object."""
        return self.state.step(turn)

    def gold(self) -> str:
        """Return what the object's own `gold` returns."""
        if not hasattr(self.state, "gold"):
            raise NotImplementedError
        return self.state.gold()

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return what the object's own `thought` returns, if it has one."""
        return self.state.thought(style, rng) if hasattr(self.state, "thought") else ""

    def chance(self, level: int) -> float:
        """Return what the object's class says of it."""
        return self.cls.chance(level) if hasattr(self.cls, "chance") else 0.0


def as_messages(owner: str, opening: Any) -> Messages:
    """Return an opening, text or chat messages, as messages.

    Raises:
        EnvError: neither.
    """
    if isinstance(opening, str):
        return (Message(role="user", content=opening),)
    if isinstance(opening, list | tuple) and opening and all(isinstance(m, Mapping) for m in opening):
        return tuple(Message(**message) for message in opening)
    raise EnvError(f"{owner}: expected a prompt (text or a list of messages), got {opening!r:.120}")
