"""The search corpus: BM25 by worked example, one answer in the documents, namesakes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.parsing import render_call
from rolloom.envs.tools.bm25 import Index, terms
from rolloom.envs.tools.search import LEVELS, Search
from rolloom.envs.tools.search_world import MARKS, make_world


def call(env: Search, name: str, **arguments) -> str:
    messages, reward, over, *_ = env.step(render_call(name, arguments))
    assert reward == 0.0 and not over
    return messages[0]["content"]


def test_bm25_by_hand():
    index = Index(["red apple", "red red pear", "green pear tree tree"])
    assert index.search("pear", 5) == [1, 2]
    assert index.search("tree red", 1) == [2]
    assert index.search("apple", 5) == [0] and index.search("plum", 5) == []
    # One term, in one of three documents of mean length 3, once in a document of length 2.
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    weight = 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / 3))
    assert index._weights["apple"] == [(0, pytest.approx(idf * weight))]


@given(st.lists(st.text(max_size=30), max_size=8), st.text(max_size=60), st.integers(1, 5))
def test_search_finds_only_what_shares_a_term(texts, query, k):
    found = Index(texts).search(query, k)
    assert len(found) <= k and len(set(found)) == len(found)
    assert all(set(terms(texts[place])) & set(terms(query)) for place in found)


def read_all(env: Search) -> str:
    """Answer the question from the documents, without the environment's own solution."""
    text = {title + body: body for title, body in env.problem["documents"]}
    total = 0
    for one in env.problem["chains"]:
        here = one["start"]
        for fact in one["facts"]:
            values = [
                sentence.partition(MARKS[fact])[2].rstrip(".")
                for body in text.values()
                if body.startswith(f"The {here[4:]} ")
                for sentence in body.replace(". ", ".\n").splitlines()
                if MARKS[fact] in sentence
            ]
            assert len(set(values)) == 1, (here, fact)
            here = values[0]
        total += int(here)
    return str(total)


@pytest.mark.parametrize("level", range(1, 11))
def test_the_documents_hold_one_answer(level):
    env = Search(level=level)
    for seed in range(15):
        messages, _ = env.reset(seed=seed)
        assert len(env.problem["documents"]) >= 50
        for one in env.problem["chains"]:
            assert one["start"] in messages[-1]["content"]
            assert LEVELS[level - 1][3][0] <= len(one["facts"]) <= LEVELS[level - 1][3][1]
        assert env.step(read_all(env))[1] == 1.0


def test_namesakes_share_a_name_and_differ_otherwise():
    world = make_world(np.random.default_rng(0), 100, 0.5)
    names = [(entity.kind, entity.name) for entity in world]
    assert len(set(names)) < 0.8 * len(names)
    assert len({(entity.kind, entity.said) for entity in world}) == len(world)


def test_search_and_open_answer_in_short():
    env = Search(level=4)
    env.reset(seed=0)
    hits = json.loads(call(env, "search", query=env.problem["chains"][0]["start"], k=3))
    assert len(hits) == 3 and set(hits[0]) == {"id", "title"}
    assert call(env, "open", doc_id=hits[0]["id"]) == env.problem["documents"][int(hits[0]["id"][1:])][1]
    assert call(env, "open", doc_id="d9999").startswith("error: there are the documents d0 to d")
    assert call(env, "open", doc_id="d\u0661").startswith("error")
    assert call(env, "search", query="x", k=11).startswith("error: k")
    assert json.loads(call(env, "search", query="zzz")) == []


@pytest.mark.parametrize("level", (1, 10))
def test_attacks_earn_nothing(level):
    env = Search(level=level)
    env.reset(seed=1)
    for name, attack in env.attacks().items():
        env.reset(seed=1)
        assert env.step(attack)[1] == 0.0, name
