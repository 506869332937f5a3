"""Long contexts: sizes, speed, uniform places, answers that only the text gives."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.envs.longcontext.haystack import CHARS_PER_TOKEN, TOKENS, Haystack, filler, numbers

IDS = [f"longcontext/{name}-v0" for name in ("recall", "multi_hop", "aggregation")]


def make(id: str, **kwargs) -> Haystack:
    env = registry.make(id, **kwargs)
    assert isinstance(env, Haystack)
    return env


@pytest.mark.parametrize("id", IDS)
def test_prompts_have_the_size_of_their_level(id):
    env = make(id)
    for level in (1, 2, 4, 6, 8):
        (message,), _ = env.reset(seed=level, options={"level": level})
        assert len(message["content"]) == pytest.approx(TOKENS[level - 1] * CHARS_PER_TOKEN, rel=0.1)
        assert len(json.dumps(env.problem)) < 200


@pytest.mark.parametrize("id", IDS)
def test_a_million_tokens_are_written_in_two_seconds(id):
    env = make(id)
    start = time.process_time()
    (message,), _ = env.reset(seed=1, options={"level": 10})
    assert time.process_time() - start < 2
    assert 3_900_000 < len(message["content"]) < 4_500_000
    assert env.step(env.gold())[1] == 1.0


@pytest.mark.parametrize("id", IDS)
def test_facts_stand_in_the_text_and_nowhere_else(id):
    env = make(id)
    for level in (1, 3, 5):
        (message,), _ = env.reset(seed=level, options={"level": level})
        body = message["content"].removesuffix(env.question)
        for fact, times in Counter(env.facts).items():
            assert body.count(fact) == times
    assert not any(character.isdigit() for sentence in filler()[0] for character in sentence)


def test_places_are_uniform_over_the_depth():
    env, depths = make(IDS[0]), []
    for seed in range(150):
        (message,), _ = env.reset(seed=seed, options={"level": 2})
        text = message["content"]
        depths += [text.index(fact) / len(text) for fact in env.facts]
    tenths = Counter(int(depth * 10) for depth in depths)
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 1.5 * len(depths) / 10 and min(tenths.values()) > 0.5 * len(depths) / 10


def test_recall_answers_by_reading():
    env = make(IDS[0])
    for seed in range(10):
        (message,), _ = env.reset(seed=seed, options={"level": 3})
        table = {}
        for line in message["content"].split("."):
            key, mark, value = line.strip().partition(" has the number ")
            if mark:
                table[key.lower()] = value
        keys = env.question.removeprefix("Which number has ").removesuffix("?").split(", and which has ")
        assert env.answers == [table[key.lower()] for key in keys]


def test_multi_hop_answers_by_following():
    env = make(IDS[1])
    for seed in range(10):
        (message,), _ = env.reset(seed=seed, options={"level": 4})
        notes = {}
        for sentence in message["content"].split("In the drawer ")[1:]:
            drawer, _, note = sentence.split(".")[0].partition(" lies a note")
            notes[drawer] = note.split()[-1]
        starts = env.question.split(". Which")[0].removeprefix("Follow the notes from the drawer ")
        found = []
        for at in starts.split(", and from the drawer "):
            while at in notes:
                at = notes[at]
            found.append(at)
        assert env.answers == found and all(map(str.isdigit, found))


def test_aggregation_answers_by_counting():
    env = make(IDS[2])
    for seed in range(10):
        (message,), _ = env.reset(seed=seed, options={"level": 4})
        names = env.question.split("gate: ")[1].rstrip("?").split(", ")
        assert env.answers == [
            str(message["content"].count(f"Logged at the gate: {name}.")) for name in names
        ]


@pytest.mark.parametrize("id", IDS)
def test_no_attack_is_paid(id):
    env = make(id)
    for seed in range(10):
        env.reset(seed=seed, options={"level": 1 + seed % 6})
        for name, text in env.attacks().items():
            env.reset(seed=seed, options={"level": 1 + seed % 6})
            assert env.step(text)[1] == 0.0, (name, env.answers)


def test_only_all_numbers_in_order_are_paid():
    env = make(IDS[0])

    def paid(text: str) -> float:
        env.reset(seed=2, options={"level": 5})
        return env.step(text)[1]

    env.reset(seed=2, options={"level": 5})
    a, b, c = env.answers
    assert [paid(f"{a}, {b}, {c}"), paid(f"{a},{b} and {c}."), paid(f"\\boxed{{{a}, {b}, {c}}}")] == [1.0] * 3
    for text in (
        f"{b}, {a}, {c}",
        f"{a}, {b}",
        f"{a}, {b}, {c}, {c}",
        f"{a} {b} {c}",
        f"about {a}, {b}, {c}",
    ):
        assert paid(text) == 0.0
    assert (
        numbers("\u0661") == [] and numbers("1" * 5_000) == [] and numbers("") == [] and numbers("-1") == []
    )


def test_the_size_can_be_chosen():
    env = make(IDS[1], tokens=3_000)
    (message,), _ = env.reset(seed=1, options={"level": 2})
    assert len(message["content"]) == pytest.approx(3_000 * CHARS_PER_TOKEN, rel=0.1)
    with pytest.raises(EnvError, match="tokens: expected"):
        make(IDS[1], tokens=10)
