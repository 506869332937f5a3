"""rolloom environments made by Gymnasium: ids, its checker, vectors."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rolloom.envs import registry
from rolloom.envs.adapters import gymnasium_ids
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError

IDS = ("math/affine_chain-v0", "tools/lookup-v0", "agent/workplace-v0", "gymnasium/frozen_lake-v0")


def test_every_environment_has_a_gymnasium_id():
    gymnasium_ids.register_all()
    known = {spec.id for spec in registry.all_specs()}
    assert {gymnasium_ids.gymnasium_id(id) for id in known} <= set(gymnasium.registry)
    assert gymnasium_ids.gymnasium_id("math/affine_chain-v0") == "rolloom/math.affine_chain-v0"
    assert gymnasium_ids.register_all() == gymnasium_ids.register_all()


def test_one_line_in_a_fresh_process_is_enough():
    line = (
        "import gymnasium; env = gymnasium.make("
        "'rolloom.envs.adapters.gymnasium_ids:rolloom/math.affine_chain-v0', level=2);"
        "print(env.reset(seed=1)[0])"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert "mod 7" in done.stdout


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_checker_passes(id):
    env = gymnasium.make(gymnasium_ids.gymnasium_id(id), render_mode="ansi")
    assert isinstance(env.unwrapped, TextEnv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped)
    messages, info = env.reset(seed=3, options={"split": "heldout"})
    assert info["split"] == "heldout" and env.observation_space.contains(messages)
    assert (messages, info) == registry.make(id).reset(seed=3, options={"split": "heldout"})
    env.close()


def test_arguments_and_mistakes_pass_through():
    env = gymnasium.make("rolloom/math.affine_chain-v0", level=3, split="heldout")
    assert env.reset(seed=0)[1]["level"] == 3
    with pytest.raises(EnvError, match="level"):
        env.reset(seed=0, options={"level": 99})
    with pytest.raises(gymnasium.error.Error, match="affine_chain"):
        gymnasium.make("rolloom/math.affine_chan-v0")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vectors_of_environments(mode):
    # Strings have no place in shared memory.
    extra: dict[str, Any] = {"vector_kwargs": {"shared_memory": False}} if mode == "async" else {}
    vector = gymnasium.make_vec("rolloom/math.affine_chain-v0", num_envs=3, vectorization_mode=mode, **extra)
    messages, _ = vector.reset(seed=1)
    singles = [registry.make("math/affine_chain-v0") for _ in range(3)]
    assert messages == tuple(env.reset(seed=1 + index)[0] for index, env in enumerate(singles))
    answers = [env.expert("compact", np.random.default_rng(0)) for env in singles]
    _, rewards, terminated, _, _ = vector.step((answers[0], "no", answers[2]))
    assert list(rewards) == [1.0, 0.0, 1.0] and terminated.all()
    vector.close()
