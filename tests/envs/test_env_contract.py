"""What every built-in environment promises: its card passes, and a few things a card does not look at.

The environments of reasoning-gym are another project's: one test each, marked slow, and three in the default
suite (tests/envs/test_adapter_reasoning_gym.py).
"""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.check import check
from rolloom.envs.errors import EnvError
from rolloom.envs.types import content_key, split_of

BUILT_IN = [spec for spec in registry.all_specs() if spec.entry_point.startswith("rolloom.envs.")]
IDS = [spec.id for spec in BUILT_IN if not spec.id.startswith("reasoning_gym/")]
FOREIGN = [spec.id for spec in BUILT_IN if spec.id.startswith("reasoning_gym/")]
STYLES = ("verbose", "medium", "compact")
LEVELS_S = 8.0
"""Seconds after which no further level is tried; a million tokens of prompt take a while."""


@pytest.fixture
def env(id: str):
    made = registry.make(id)
    yield made
    made.close()


def play(env: TextEnv, act) -> float:
    """Play the running episode with `act(env)` to its end and return its reward."""
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(act(env))
        total, over = total + reward, terminated or truncated
    return total


def test_there_are_thirty_of_our_own_over_every_kind():
    assert len(IDS) >= 30
    assert {"math", "code", "tools", "agent", "knowledge", "form"} <= {spec.kind for spec in BUILT_IN}
    assert all(spec.description and not spec.missing() for spec in BUILT_IN)


@pytest.mark.parametrize("id", IDS)
def test_the_card_passes(id):
    card = check(id, seconds=6)
    assert card.passed, card.reasons
    assert card.seconds < 60


@pytest.mark.slow
@pytest.mark.parametrize("id", FOREIGN)
def test_the_card_of_a_foreign_environment_passes(id):
    card = check(id, seconds=6)
    assert card.passed, card.reasons


@pytest.mark.parametrize("id", IDS)
def test_every_style_of_the_expert_scores_one_at_every_level(id, env):
    low, high = env.levels
    stop = time.monotonic() + LEVELS_S
    for level in range(low, high + 1):
        for seed, style in enumerate(STYLES):
            rng, texts = np.random.default_rng(seed), []
            env.reset(seed=seed, options={"level": level, "split": ("train", "heldout")[seed % 2]})

            def act(env, style=style, rng=rng, texts=texts):
                texts.append(env.expert(style, rng))
                return texts[-1]

            assert play(env, act) == pytest.approx(1.0), (level, seed, style, texts)
            assert all(text.startswith("<think>\n") and "</think>\n" in text for text in texts)
            assert len(texts) <= env.max_turns
        if time.monotonic() > stop and level >= low + 2:
            return


@pytest.mark.parametrize("id", IDS)
def test_problems_are_json_and_keys_their_own(id, env):
    for seed in range(6):
        for split in ("train", "heldout"):
            _, info = env.reset(seed=seed, options={"split": split})
            assert json.loads(json.dumps(env.problem)) == env.problem
            assert json.loads(json.dumps([tool.to_openai() for tool in info["tools"]])) is not None
            assert split_of(info["key"]) == split or hasattr(env, "rows")
            assert info["key"] == content_key(env.key_text(env.problem))


@pytest.mark.parametrize("id", IDS)
def test_a_finished_episode_takes_no_more_turns(id, env):
    with pytest.raises(EnvError, match="reset"):
        env.step("7")
    env.reset(seed=0)
    play(env, lambda env: "")
    with pytest.raises(EnvError, match="reset"):
        env.step("7")


@pytest.mark.parametrize("id", IDS)
def test_bad_options_are_named(id, env):
    low, high = env.levels
    for options in (
        {"split": "test"},
        {"level": low - 1},
        {"level": high + 1},
        {"level": "1"},
        {"level": 1.5},
    ):
        ((key, value),) = options.items()
        with pytest.raises(EnvError, match=key) as caught:
            env.reset(seed=0, options=options)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("id", IDS)
def test_a_system_prompt_and_a_turn_limit_are_the_users_to_set(id):
    env = registry.make(id, system_prompt="Be brief.", max_turns=1, render_mode="ansi")
    messages, _ = env.reset(seed=0)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert sum(message["role"] == "system" for message in messages) == 1
    action = env.expert("compact", np.random.default_rng(0))
    env.step(action)
    shown = env.render()
    assert shown is not None and "Be brief." in shown and action in shown
    env.close()
