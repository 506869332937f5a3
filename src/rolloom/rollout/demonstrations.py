"""Demonstrations by the environments' experts, over-reasoning most of the time, as token sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rolloom.envs import registry
from rolloom.envs.types import Messages, Style, ToolSpec
from rolloom.policy.batch import TrainSequence
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.types import derive_seed

STYLES: Mapping[Style, float] = {"verbose": 0.70, "medium": 0.20, "compact": 0.10}
"""How often each style is shown: mostly the over-reasoning of real models, and a minority of shorter
traces."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One expert episode as text.

    Attributes:
        env_id: environment.
        style: style of every turn.
        prompt: opening messages.
        tools: tools on offer.
        turns: pairs of the expert's completion and what the environment answered.
    """

    env_id: str
    style: Style
    prompt: Messages
    tools: tuple[ToolSpec, ...]
    turns: tuple[tuple[str, Messages], ...]


def demonstrate(env_id: str, level: int, seed: int, style: Style, **kwargs: object) -> Demonstration:
    """Run the expert of an environment over one task of the train split."""
    env = registry.make(env_id, **kwargs)
    rng = np.random.default_rng([derive_seed("demonstration", env_id, seed), seed])
    prompt, info = env.reset(seed=seed, options={"split": "train", "level": level})
    turns: list[tuple[str, Messages]] = []
    done = False
    while not done:
        text = env.expert(style, rng)
        if env.max_turns == 1:
            turns.append((text, ()))
            break
        reply, _, terminated, truncated, _ = env.step(text)
        done = terminated or truncated
        turns.append((text, reply))
    env.close()
    return Demonstration(env_id, style, prompt, info["tools"], tuple(turns))


def demonstrations(
    env_ids: Sequence[str], levels: Sequence[int], count: int, seed: int
) -> Iterator[Demonstration]:
    """Yield `count` demonstrations of every environment, styles by `STYLES`, levels drawn evenly."""
    styles, weights = list(STYLES), list(STYLES.values())
    for env_id in env_ids:
        rng = np.random.default_rng([seed, derive_seed(env_id) % 2**32])
        for index in range(count):
            style = styles[int(rng.choice(len(styles), p=weights))]
            level = int(rng.choice(levels))
            yield demonstrate(env_id, level, derive_seed(seed, env_id, index) % 2**31, style)


def to_text(tokenizer: ChatTokenizer, demo: Demonstration) -> str:
    """Return the whole conversation as the policy would see it."""
    parts = [tokenizer.render(demo.prompt, demo.tools)]
    for text, reply in demo.turns:
        parts.append(text.removeprefix("<think>\n"))
        parts += [message["content"] for message in reply]
    return "".join(parts)


def to_sequence(tokenizer: ChatTokenizer, demo: Demonstration) -> TrainSequence:
    """Return the tokens of a demonstration; the mask covers the expert's completions."""
    ids = list(tokenizer.prompt_ids(demo.prompt, demo.tools))
    mask = [False] * len(ids)
    for index, (text, reply) in enumerate(demo.turns):
        completion = tokenizer.completion_ids(text)
        ids += completion
        mask += [True] * len(completion)
        if reply and index + 1 < len(demo.turns):
            added = tokenizer.continuation_ids(reply)
            ids += added
            mask += [False] * len(added)
    length = len(ids)
    return TrainSequence(
        np.asarray(ids, np.int32), np.asarray(mask), np.zeros(length, np.float32), 1.0, None, policy_version=0
    )
