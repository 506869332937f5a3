"""`rolloom envs play ID`: a person takes the policy's seat."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.parsing import render_call
from rolloom.envs.types import ToolSpec
from rolloom.rollout.display import safe_text
from rolloom.rollout.env_commands import say

HELP = """\
A line is your answer; what you type is what a policy would have sampled. Also:
  \"\"\"                  starts a longer answer, and ends it
  /call NAME a=1 b=x    calls a tool; values are JSON, or plain text where they are not
  /gold                 plays the expert's next completion
  /hint                 shows it, and plays nothing
  /tools  /help  /quit"""


def main(id: str, level: int | None = None, seed: int = 0, split: str = "train") -> int:
    """Play one episode from standard input.

    Raises:
        UnknownEnvError: nothing has that id.
        EnvError: the environment has no such level, or failed.
    """
    env = registry.make(id)
    try:
        options = {"level": env.levels[0] if level is None else level, "split": split}
        messages, info = env.reset(seed=seed, options=options)
        print(f"{id}, level {info['level']}, seed {seed}, at most {env.max_turns} turns. /help helps.\n")
        _tools(info["tools"])
        for message in messages:
            say(message["role"], safe_text(message["content"]))
        rng, score = np.random.default_rng(seed), 0.0
        for completion in _completions(env, info["tools"], rng):
            messages, reward, terminated, truncated, told = env.step(completion)
            if told["malformed"]:
                print(f"(not understood: {safe_text(told['malformed'])})")
            for message in messages:
                say(message["role"], safe_text(message["content"]))
            score += reward
            if terminated or truncated:
                parts = ", ".join(f"{name} {value:g}" for name, value in told["components"].items())
                ended = "over" if terminated else "out of turns"
                print(f"{ended}: score {score:g}" + (f" ({parts})" if parts else ""))
                return 0
        print(f"left after {env.turn_index} turns with score {score:g}")
    finally:
        env.close()
    return 0


def _completions(env: TextEnv, tools: tuple[ToolSpec, ...], rng: np.random.Generator) -> Iterator[str]:
    """Yield what the person wants to say, turn by turn, until they leave."""
    while True:
        line = _read("> ")
        if line is None or line.strip() == "/quit":
            return
        word, _, rest = line.strip().partition(" ")
        if word == '"""':
            yield "\n".join(iter(lambda: _until('"""'), None))
        elif word == "/help":
            print(HELP)
        elif word == "/tools":
            _tools(tools)
        elif word == "/call":
            call = _call(rest)
            if call:
                yield call
        elif word in ("/gold", "/hint"):
            try:
                completion = env.expert("compact", rng)
            except NotImplementedError:
                print("this environment has no expert")
                continue
            say("expert", completion)
            if word == "/gold":
                yield completion
        else:
            yield line


def _read(mark: str) -> str | None:
    if sys.stdin.isatty():
        try:
            return input(mark)
        except EOFError:
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _until(mark: str) -> str | None:
    line = _read("  ")
    return None if line is None or line.strip() == mark else line


def _call(text: str) -> str | None:
    name, _, rest = text.partition(" ")
    arguments: dict[str, Any] = {}
    for word in _words(rest):
        key, equals, value = word.partition("=")
        if not equals:
            print(f"expected NAME=VALUE after the tool's name, got {word!r}")
            return None
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return render_call(name, arguments)


def _words(text: str) -> list[str]:
    """Split at spaces outside of quotes and brackets."""
    words, current, depth, quoted = [], "", 0, False
    for character in text.strip():
        if character == '"':
            quoted = not quoted
        depth += (character in "[{") - (character in "]}")
        if character == " " and not quoted and depth <= 0:
            words.append(current)
            current = ""
        else:
            current += character
    return [word for word in [*words, current] if word]


def _tools(tools: tuple[ToolSpec, ...]) -> None:
    for tool in tools:
        arguments = ", ".join(tool.parameters.get("properties", {}))
        print(f"tool {tool.name}({arguments}): {tool.description}")
