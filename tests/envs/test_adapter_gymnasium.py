"""Gymnasium environments as rolloom environments: grammar, reward rules, the tabular worlds and blackjack."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloom.envs import registry
from rolloom.envs.adapters import grammar
from rolloom.envs.adapters.blackjack import basic_play
from rolloom.envs.adapters.grammar import NotAnAction
from rolloom.envs.adapters.gymnasium_env import GymnasiumEnv, Rule, shortest_way
from rolloom.envs.errors import EnvError

WORLDS = ("frozen_lake", "cliff_walking", "taxi", "blackjack")
SPACES = (
    spaces.Discrete(4),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3, 4]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.MultiBinary(3),
    spaces.Box(-1.5, 2.0, (2, 2), np.float64),
    spaces.Box(0, 9, (5,), np.int64),
    spaces.Text(12),
    spaces.Tuple((spaces.Discrete(2), spaces.MultiDiscrete([3, 3]))),
    spaces.Dict(
        {"move": spaces.Discrete(3), "say": spaces.Text(8), "at": spaces.Box(0.0, 1.0, (2,), np.float64)}
    ),
)


class Secret(gymnasium.Env):
    """Say the word that is asked for, and give the number of its letters."""

    observation_space = spaces.Dict({"word": spaces.Text(8), "turn": spaces.Discrete(3)})
    action_space = spaces.Dict({"word": spaces.Text(8), "letters": spaces.Discrete(9)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 2
        return self._next(), {}

    def _next(self):
        size = int(self.np_random.integers(3, 8))
        self.word = "".join(self.np_random.choice(list("abcdef"), size=size))
        return {"word": self.word, "turn": 2 - self.left}

    def step(self, action):
        assert self.action_space.contains(action)
        right = action["word"] == self.word and action["letters"] == len(self.word)
        self.left -= 1
        return self._next(), (5.0 if right else -5.0), self.left == 0, False, {}


def secret(env):
    word = env.observation["word"]
    return {"word": word, "letters": len(word)}


gymnasium.register("RolloomTest/Secret-v0", entry_point=f"{__name__}:Secret")


def world(name: str) -> Any:
    return registry.make(f"gymnasium/{name}-v0")


def play(env, act):
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = env.step(act(env))
        total, over = total + reward, terminated or truncated
    return total


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_what_is_rendered_is_read_back_as_the_same_action(space):
    space.seed(0)
    grammar.check_space(space)
    assert grammar.describe_action(space)
    for _ in range(50):
        action = space.sample()
        again = grammar.parse_action(space, grammar.render_action(space, action))
        assert again in space
        # Floats are written with four digits.
        assert grammar.describe_observation(again) == grammar.describe_observation(action)


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(max_size=40)
    | st.sampled_from(["NaN", "[NaN]", "1e999", "[1e999,1]", "\u0667", "[" * 900, "9" * 5_000])
)
def test_any_text_is_an_action_of_the_space_or_refused(text):
    for space in SPACES:
        try:
            assert grammar.parse_action(space, text) in space
        except NotAnAction as error:
            assert text not in str(error) or len(text) < 4


def test_booleans_and_floats_are_no_integers():
    for text in ("true", "1.0", "[true, 0, 0]", "[1.0, 0, 0]", "1e0"):
        for space in (spaces.Discrete(4), spaces.MultiDiscrete([2, 3, 4])):
            with pytest.raises(NotAnAction):
                grammar.parse_action(space, text)


def test_spaces_without_a_written_form_are_refused():
    for space in (
        spaces.Box(0, 255, (64, 64, 3), np.uint8),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
    ):
        with pytest.raises(EnvError, match="expected"):
            grammar.check_space(space)


def test_what_ansi_colours_is_bracketed():
    assert grammar.show_ansi("\x1b[41mS\x1b[0mFF\nH\x1b[1;32mG\x1b[0m") == "[S]FF\nH[G]"
    assert "\x1b" not in grammar.show_ansi("a\x1b]0;title\x07b\x1b[2Jc")


def test_rules_map_inner_rewards_into_the_unit_interval():
    assert Rule().pay([0.0, 1.0], True, True, 9) == 1.0
    assert Rule().pay([1.0], False, True, 9) == 0.0
    returns = Rule("return", -100.0, 100.0)
    assert returns.pay([50.0, -50.0], False, True, 9) == 0.5
    assert returns.pay([50.0], False, False, 9) == 0.0
    assert returns.pay([1e9], True, True, 9) == 1.0
    turns = Rule("per_turn", 0.0, 2.0)
    assert sum(turns.pay([reward], False, False, 4) for reward in (2.0, 2.0, 1.0, 9.0)) == 0.875
    for wrong in ({"kind": "sum"}, {"kind": "return", "low": 1.0, "high": 1.0}, {"high": float("nan")}):
        with pytest.raises(EnvError, match="rule"):
            Rule(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["return", "per_turn", "success"])
def test_an_environment_of_text_and_composite_spaces(kind):
    rule = (
        {"kind": "return", "low": -10, "high": 10}
        if kind == "return"
        else {"kind": kind, "low": -5, "high": 5}
    )
    make = lambda **more: GymnasiumEnv(env_id="RolloomTest/Secret-v0", rule=rule, max_turns=2, **more)  # noqa: E731
    env = make(gold=f"{__name__}:secret", instruction="Spell.")
    messages, _ = env.reset(seed=4)
    assert (
        messages[0]["content"].startswith("Spell.\n{")
        and '"letters": integer 0 to 8' in messages[0]["content"]
    )
    assert play(env, lambda env: env.gold()) == 1.0
    env.reset(seed=4)
    assert play(env, lambda env: '{"word": "a", "letters": 0}') == 0.0
    first, again = make().reset(seed=4), make().reset(seed=4)
    assert first == again != make().reset(seed=5)


def test_what_is_no_action_costs_a_turn_and_changes_nothing():
    env = world("frozen_lake")
    env.reset(seed=1)
    before = env.scene()
    messages, reward, *_, info = env.step("<|im_start|>jump")
    assert reward == 0 and env.scene() == before and info["components"] == {"invalid": 1.0}
    assert "jump" not in messages[0]["content"] and "left, down, right, up" in messages[0]["content"]


def test_unknown_environments_and_arguments_are_named():
    with pytest.raises(EnvError, match="env_id"):
        GymnasiumEnv()
    with pytest.raises(EnvError, match="FrozenLak-v1"):
        GymnasiumEnv(env_id="FrozenLak-v1")
    with pytest.raises(EnvError, match="env_kwargs"):
        GymnasiumEnv(env_id="FrozenLake-v1", env_kwargs={"no_such": 1})
    with pytest.raises(EnvError, match="actions"):
        GymnasiumEnv(env_id="FrozenLake-v1", actions=("left", "right"))
    with pytest.raises(EnvError, match="at most 64"):
        GymnasiumEnv(env_id="RolloomTest/Pixels-v0")


class Pixels(Secret):
    action_space = spaces.Box(0, 255, (64, 64), np.uint8)  # type: ignore[assignment]


gymnasium.register("RolloomTest/Pixels-v0", entry_point=f"{__name__}:Pixels")


def test_gymnasiums_own_defaults_run_through_the_generic_form():
    env = GymnasiumEnv(
        env_id="FrozenLake-v1", env_kwargs={"is_slippery": False}, actions=("left", "down", "right", "up")
    )
    opening, _ = env.reset(seed=0)
    assert "[S]FFF" in opening[0]["content"] and env.max_turns == 100
    moves = []

    def act(env):
        moves.append(env.gold())
        return moves[-1]

    assert play(env, act) == 1.0 and len(moves) == 6
    slippery = GymnasiumEnv(env_id="FrozenLake-v1")
    slippery.reset(seed=0)
    with pytest.raises(EnvError, match="chance"):
        slippery.gold()
    number = GymnasiumEnv(env_id="CartPole-v1", rule={"kind": "return", "high": 500})
    assert "from 0 to 1" in number.reset(seed=0)[0][0]["content"]
    assert 0 < play(number, lambda env: "1") < 0.1


@pytest.mark.parametrize("name", WORLDS)
def test_legal_moves_at_random_hardly_ever_succeed(name):
    env, rng = world(name), np.random.default_rng(0)
    rewards = []
    for seed in range(150):
        env.reset(seed=seed)
        rewards.append(play(env, lambda env: str(rng.choice(env.labels()))))
    assert np.mean(rewards) <= 0.05


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_action_for_ever_never_succeeds(name):
    env = world(name)
    for seed in range(40):
        for index in range(len(env.labels()) if name in ("frozen_lake", "blackjack") else 4):
            env.reset(seed=seed)
            assert play(env, lambda env, index=index: env.labels()[index]) == 0.0


def test_no_fixed_number_of_cards_wins_a_session_of_blackjack():
    env = world("blackjack")
    for cards in range(4):
        wins = 0
        for seed in range(60):
            env.reset(seed=seed)
            drawn = {"hand": -1, "cards": 0}

            def act(env, drawn=drawn, cards=cards):
                if drawn["hand"] != env.hand:
                    drawn.update(hand=env.hand, cards=0)
                drawn["cards"] += 1
                return "hit" if drawn["cards"] <= cards else "stick"

            wins += play(env, act)
        assert wins == 0


@pytest.mark.parametrize(
    ("seen", "action"),
    [((16, 10, False), 1), ((16, 6, False), 0), ((12, 3, False), 1), ((12, 4, False), 0), ((17, 1, False), 0),
     ((18, 9, True), 1), ((18, 8, True), 0), ((17, 5, True), 1), ((19, 10, True), 0), ((11, 5, False), 1)],
)  # fmt: skip
def test_basic_play_is_the_published_table(seen, action):
    assert basic_play(seen) == action


def test_the_ways_found_are_shortest():
    env = world("cliff_walking")
    table = env.inner.unwrapped.P  # type: ignore[attr-defined]
    assert len(shortest_way(table, 36, -1.0)) == 13
    assert len(shortest_way(table, 35, -1.0)) == 1
    assert shortest_way({0: {0: [(1.0, 0, 0.0, False)]}}, 0, 1.0) == []


def test_a_fall_ends_frozen_lake_with_nothing():
    env = world("frozen_lake")
    env.reset(seed=1)
    env.problem = {"map": ["SH", "FG"], "state": 0}
    env.begin()
    _, reward, terminated, _, _ = env.step("right")
    assert terminated and reward == 0.0
