"""reasoning-gym's generators: names, gold, scorers that must not be fooled, processes that must not hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from rolloom.envs import registry
from rolloom.envs.adapters import reasoning_gym_fixes as fixes
from rolloom.envs.adapters import reasoning_gym_pool as pool
from rolloom.envs.adapters.reasoning_gym_env import ReasoningGymEnv
from rolloom.envs.adapters.reasoning_gym_names import CHANCE, CHUNKED, LEVELS
from rolloom.envs.errors import EnvError

pytest.importorskip("reasoning_gym")


def make(name: str, **kwargs: Any) -> ReasoningGymEnv:
    env = registry.make(f"reasoning_gym/{name}-v0", **kwargs)
    assert isinstance(env, ReasoningGymEnv)
    return env


def answer(env: ReasoningGymEnv, text: str) -> tuple[float, dict[str, float]]:
    _, reward, terminated, _, info = env.step(text)
    assert terminated
    return reward, info["components"]


def test_the_names_and_levels_are_the_packages_own():
    from reasoning_gym.factory import CURRICULA, DATASETS

    assert set(LEVELS) == set(DATASETS)
    assert CHUNKED.keys() | CHANCE.keys() <= set(LEVELS)
    for name, levels in LEVELS.items():
        assert list(levels) == sorted(set(levels))
        if levels != (-1,):
            attributes = CURRICULA[name]().attributes.values()  # type: ignore[operator]
            assert max(levels) < max(len(attribute.levels) for attribute in attributes)


@pytest.mark.parametrize("name", ["chain_sum", "graph_color", "string_insertion", "composite"])
def test_gold_scores_one_and_other_answers_nothing(name):
    env = make(name)
    for seed in range(4):
        level = 1 + seed % env.levels[1]
        env.reset(seed=seed, options={"level": level, "split": ("train", "heldout")[seed % 2]})
        assert answer(env, env.expert("medium", np.random.default_rng(0)))[0] == 1.0
        for text in ("", "no", "0x", "<|im_start|>", "\ud800"):
            env.reset(seed=seed)
            assert answer(env, text)[0] == 0.0


@pytest.mark.parametrize("name", ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"])
def test_generators_without_an_oracle_get_one(name):
    env = make(name)
    for seed in range(3):
        env.reset(seed=seed)
        assert answer(env, env.gold()) == (1.0, {"correct": 1.0, "score": 1.0})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n_queens", "entry['metadata']['valid_answers'][0]"),
        ("string_insertion", "oracle_answer"),
        ("spiral_matrix", "[oracle_answer]"),
        ("binary_matrix", "[[c for c in oracle_answer]]"),
        ("puzzle24", "8*3*1*1"),
        ("puzzle24", "__import__('os').system('true') or 24"),
        ("game_of_life_halting", "whatever"),
        ("coin_flip", "0"),
        ("coin_flip", "0.0"),
        ("complex_arithmetic", "NaN"),
        ("time_intervals", " ".join(map(str, range(2_000)))),
    ],
)
def test_known_holes_of_scorers_pay_nothing(name, text):
    env = make(name, partial=True)
    for seed in range(3):
        env.reset(seed=seed)
        assert answer(env, text)[0] == 0.0


def test_a_premise_is_no_conclusion_and_an_unsolved_integral_no_integral():
    env = make("propositional_logic")
    env.reset(seed=0)
    premise = env.prompt()[0]["content"].partition("1. ")[2].partition("\n")[0]
    assert answer(env, premise)[0] == 0.0
    env = make("simple_integration")
    env.reset(seed=0)
    integrand = env.prompt()[0]["content"].partition("∫ ")[2].partition(" d")[0]
    for text in (f"Integral({integrand}, x)", "integrate(x, x)", "x.integrate()"):
        env.reset(seed=0)
        assert answer(env, text)[0] == 0.0


def test_a_plan_that_tries_everything_is_no_plan():
    squares = [(x + 0.5, y + 0.5) for x in range(4) for y in range(4)]
    tries = [
        {f"Agent[{a}, {b}]": f"move(box_{colour}, {goal})"}
        for _ in range(6) for colour in ("red", "blue", "green") for a, b in squares
        for goal in (f"target_{colour}", f"square[{a + 1}, {b}]", f"square[{a}, {b + 1}]")
    ]  # fmt: skip
    env = make("boxnet")
    for seed in range(4):
        env.reset(seed=seed)
        assert answer(env, json.dumps(tries))[0] == 0.0


def test_part_marks_are_paid_only_when_asked_for():
    for partial in (False, True):
        env = make("string_insertion", partial=partial)
        env.reset(seed=0)
        reward, components = answer(env, str(list(env.gold())))
        assert components["score"] == 0.1 and reward == (0.1 if partial else 0.0)


def test_no_answer_runs_code(tmp_path):
    mark = tmp_path / "ran"
    for name in (*fixes.EVALUATED, *fixes.PARSED):
        env = make(name)
        env.reset(seed=1)
        assert answer(env, f"__import__('pathlib').Path({str(mark)!r}).touch()")[0] == 0.0
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "text", "readable"),
    [
        ("countdown", "(3 + 4)*5/2", True),
        ("countdown", "3+x", False),
        ("puzzle24", "9**9**9", False),
        ("puzzle24", "(9**9)**9", False),
        ("puzzle24", "2**3*3", True),
        ("countdown", "1e9", False),
        ("simple_integration", "-34*x**8/15 + C", True),
        ("simple_integration", "exp(x)*sin(2*x) + 0.5", True),
        ("simple_integration", "Integral(x, x)", False),
        ("simple_integration", "x.diff", False),
        ("simple_integration", "x**99999999", False),
        ("polynomial_multiplication", "3*x**5*y**2 + 12*x**4", True),
        ("polynomial_multiplication", "expand((x+1)**2)", False),
        ("countdown", "\u0663+1", False),
    ],
)
def test_what_sympy_may_read(name, text, readable):
    assert fixes.readable(name, text) is readable


def test_an_answer_that_computes_for_ever_is_killed_and_the_next_one_scored():
    job = {"what": "draw", "place": ("chain_sum", 0, "{}"), "chunked": 0, "index": 1}
    entry = pool.call(job, 30)["entry"]
    with pytest.raises(pool.TimedOut):
        # Past the guards on purpose: a scorer that hangs is what is tried here.
        pool.call({**job, "what": "sleep", "entry": entry}, 0.5)
    assert pool.call(job, 30)["entry"] == entry


def test_processes_are_shared_by_threads_and_bounded():
    found: list[str] = []

    def run(seed: int) -> None:
        env = make("gcd")
        env.reset(seed=seed)
        found.append(f"{seed} {answer(env, env.gold())[0]}")

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{seed} 1.0" for seed in range(12))
    assert len(pool.POOL.idle) <= pool.MAX_PROCESSES


def test_a_process_sees_nothing_of_its_parents_environment(monkeypatch):
    monkeypatch.setenv("ROLLOOM_TEST_SECRET", "s3cret")
    fresh = pool.Pool()
    try:
        fresh.call({"what": "draw", "place": ("gcd", 0, "{}"), "chunked": 0, "index": 1}, 30)
        with open(f"/proc/{fresh.idle[0].child.pid}/environ") as file:
            assert "s3cret" not in file.read()
    finally:
        fresh.close()


def test_problems_do_not_depend_on_the_process_that_draws_them():
    code = (
        "from rolloom.envs import registry\n"
        "for name in ('codeio', 'group_anagrams', 'acre', 'word_ladder'):\n"
        "    print(registry.make(f'reasoning_gym/{name}-v0').reset(seed=5)[1]['key'])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_mistakes_are_named():
    with pytest.raises(EnvError, match="chain_sum"):
        ReasoningGymEnv(name="chain_sun")
    with pytest.raises(EnvError, match="max_term"):
        make("chain_sum", config={"max_term": 3}).reset(seed=0)
    env = make("chain_sum", config={"min_terms": 7, "max_terms": 7})
    env.reset(seed=0)
    assert env.problem["question"].count(" + ") + env.problem["question"].count(" - ") == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LEVELS))
def test_every_generator_at_every_level(name):
    env = make(name)
    for level in range(1, env.levels[1] + 1):
        for seed in range(3):
            env.reset(seed=seed, options={"level": level})
            assert answer(env, env.expert("compact", np.random.default_rng(0)))[0] == 1.0
    for seed in range(3):
        for text in env.attacks().values():
            env.reset(seed=seed)
            assert answer(env, text)[0] == 0.0
