"""Gymnasium spaces as text: how an action has to be written, what a written one means, what was observed.

Scalars are written plainly (`left`, `3`), everything composite as JSON. Text from a policy is capped before
it is read, and nothing but JSON and decimal digits is ever parsed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rolloom.envs.errors import EnvError
from rolloom.envs.text import safe_text

MAX_ACTION_CHARS = 4_000
MAX_NUMBERS = 64
MAX_SHOWN = 256


class NotAnAction(ValueError):
    """The text is no action of the space."""


def check_space(space: spaces.Space[Any], place: str = "action space") -> None:
    """Refuse a space that has no written form.

    Raises:
        EnvError: a kind of space that is not supported, or a box too large to be written by hand.
    """
    if isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            check_space(part, f"{place}[{index}]")
    elif isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            check_space(part, f"{place}[{key!r}]")
    elif isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        if int(np.prod(space.shape)) > MAX_NUMBERS:
            raise EnvError(f"{place}: expected at most {MAX_NUMBERS} numbers, got shape {space.shape}")
    elif not isinstance(space, spaces.Discrete | spaces.Text):
        raise EnvError(
            f"{place}: {type(space).__name__} has no written form; expected Discrete, MultiDiscrete, "
            "MultiBinary, Text, a small Box, or a Tuple or Dict of these"
        )


def describe_action(space: spaces.Space[Any], names: Sequence[str] = ()) -> str:
    """Return how to write an action, as the end of `Answer with ...`.

    Args:
        space: a checked space.
        names: words for the actions of a `Discrete` space, in order.
    """
    if isinstance(space, spaces.Discrete):
        if names:
            return f"one action: {', '.join(names)}"
        return f"one number from {space.start} to {space.start + space.n - 1}"
    if isinstance(space, spaces.Text):
        return f"text of {space.min_length} to {space.max_length} characters"
    return f"JSON: {_shape_of(space)}"


def _shape_of(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"integer {space.start} to {space.start + space.n - 1}"
    if isinstance(space, spaces.Text):
        return "string"
    if isinstance(space, spaces.Dict):
        return "{" + ", ".join(f'"{key}": {_shape_of(part)}' for key, part in space.spaces.items()) + "}"
    if isinstance(space, spaces.Tuple):
        return "[" + ", ".join(map(_shape_of, space.spaces)) + "]"
    low, high, whole = _bounds(space)
    kind = "integer" if whole else "number"
    parts = [
        f"{kind} {_number(a, whole)} to {_number(b, whole)}"
        for a, b in zip(low.ravel(), high.ravel(), strict=True)
    ]
    shape = f" in shape {list(space.shape or ())}" if len(space.shape or ()) > 1 else ""
    if len(set(parts)) == 1 and len(parts) > 3:
        return f"a list of {len(parts)} times {parts[0]}{shape}"
    return f"[{', '.join(parts)}]{shape}"


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1, True
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape, int), np.ones(space.shape, int), True
    return space.low, space.high, bool(np.issubdtype(space.dtype, np.integer))


def _number(value: Any, whole: bool) -> str:
    return str(int(value)) if whole else f"{float(value):.4g}"


def parse_action(space: spaces.Space[Any], text: str, names: Sequence[str] = ()) -> Any:
    """Return the action that a text means.

    Raises:
        NotAnAction: none of this space; the message repeats nothing of the text.
    """
    if len(text) > MAX_ACTION_CHARS:
        raise NotAnAction(f"longer than {MAX_ACTION_CHARS} characters")
    if isinstance(space, spaces.Text):
        return _word(space, text)
    text = text.strip()
    if isinstance(space, spaces.Discrete):
        if names:
            word = text.lower()
            if word not in names:
                raise NotAnAction("not one of the actions")
            return int(space.start) + list(names).index(word)
        return _whole(space, _integer(text))
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError):
        raise NotAnAction("not JSON") from None
    return _action(space, value)


def _refuse(_: str) -> Any:
    raise NotAnAction("not a finite number")


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise NotAnAction("not a number")
    return int(text)


def _whole(space: spaces.Discrete, value: Any) -> int:
    if type(value) is not int or not space.start <= value < space.start + space.n:
        raise NotAnAction("not one of the actions")
    return value


def _word(space: spaces.Text, value: Any) -> str:
    if not isinstance(value, str) or value not in space:
        raise NotAnAction("not a text of the length and characters that are allowed")
    return value


def _action(space: spaces.Space[Any], value: Any) -> Any:
    if isinstance(space, spaces.Discrete):
        return _whole(space, value)
    if isinstance(space, spaces.Text):
        return _word(space, value)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, list) or len(value) != len(space.spaces):
            raise NotAnAction(f"expected a list of {len(space.spaces)}")
        return tuple(_action(part, item) for part, item in zip(space.spaces, value, strict=True))
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            raise NotAnAction(f"expected an object with {', '.join(map(str, space.spaces))}")
        return {key: _action(part, value[key]) for key, part in space.spaces.items()}
    low, high, whole = _bounds(space)
    numbers: list[Any] = []
    _flatten(value, low.shape, whole, numbers)
    action = np.array(numbers, dtype=space.dtype).reshape(low.shape)
    if not bool(np.all((action >= low) & (action <= high))):
        raise NotAnAction("a number is out of bounds")
    return action


def _flatten(value: Any, shape: tuple[int, ...], whole: bool, into: list[Any]) -> None:
    if not shape:
        if type(value) is not int and (whole or type(value) is not float or not math.isfinite(value)):
            raise NotAnAction("expected numbers")
        into.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise NotAnAction(f"expected a list of {shape[0]}")
    for item in value:
        _flatten(item, shape[1:], whole, into)


def render_action(space: spaces.Space[Any], action: Any, names: Sequence[str] = ()) -> str:
    """Return the text that `parse_action` reads as an action."""
    if isinstance(space, spaces.Discrete) and names:
        return names[int(action) - int(space.start)]
    plain = _plain(action)
    return plain if isinstance(plain, str) else json.dumps(plain)


def describe_observation(observation: Any) -> str:
    """Return an observation as text: words and numbers plainly, everything composite as JSON."""
    plain = _plain(observation)
    return safe_text(plain if isinstance(plain, str) else json.dumps(plain))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.size > MAX_SHOWN:
            raise EnvError(f"an observation of shape {value.shape} is too large to be written out")
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | bool) or value is None:
        return value
    raise EnvError(f"an observation of type {type(value).__name__} has no written form")


def show_ansi(screen: str) -> str:
    """Return an `ansi` render without escape sequences; what was coloured stands in brackets."""
    parts = screen.split("\x1b[")
    shown = [parts[0]]
    open_ = False
    for part in parts[1:]:
        code, found, rest = part.partition("m")
        if not found:
            continue
        if open_ and code in ("0", ""):
            shown.append("]")
            open_ = False
        elif not open_ and code not in ("0", ""):
            shown.append("[")
            open_ = True
        shown.append(rest)
    return safe_text("".join(shown).strip("\n"))
