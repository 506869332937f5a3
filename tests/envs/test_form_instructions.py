"""Verifiable instructions: each constraint seen from both sides, combinations, hostile text."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest

from rolloom.envs.errors import EnvError
from rolloom.envs.form.constraints import CONSTRAINTS, conflict, describe, keywords_hold
from rolloom.envs.form.instructions import Instructions, request, verdicts
from rolloom.envs.form.reading import Reading

S = "Young kettle plays warmly. Tiny cactus arrives now."
EXAMPLES: dict[str, tuple[dict, list[str], list[str]]] = {
    # name: params, texts that keep to it, texts that do not
    "words_at_least": ({"n": 4}, ["a b c d", "a, b - c; d e"], ["a b c", "a b c - - !", ""]),
    "words_at_most": ({"n": 3}, ["a b c", "a - b - c"], ["a b c d", "", "..."]),
    "words_exactly": ({"n": 3}, ["a b c.", "* a b 3"], ["a b", "a b c d"]),
    "sentences": ({"n": 2}, [S, "A? B!", "A b. C d. e", '"A." (B.)'], ["A.", "A. B. C.", "", "..."]),
    "sentence_length": ({"n": 3}, ["a b c. d e f.", "a."], ["a b c d. e", "a", "a b c. d e f g.", ""]),
    "paragraphs": ({"n": 2}, ["a\n\nb", "a\nb\n \n\nc"], ["a\nb", "a\n\nb\n\nc", ""]),
    "separator": (
        {"n": 2, "mark": "***"},
        ["a\n***\nb", "a\n *** \nb"],
        ["a *** b", "a\n***", "a\n***\nb\n***\nc"],
    ),
    "two_responses": ({}, ["a\n******\nb"], ["a\n******\na", "a\n******\n", "a\n***\nb", "a"]),
    "forbidden_words": ({"words": ["the", "a"]}, ["one bath"], ["The end", "(a)", "so, a.", ""]),
    "word_frequency": (
        {"word": "red", "n": 2},
        ["Red, red!", "red reds red"],
        ["red", "red red red", "reds redder"],
    ),
    "few_repeats": ({"n": 2}, ["a a b b"], ["a A a", ""]),
    "letter_at_least": ({"letter": "b", "n": 3}, ["Bb b", "bubble"], ["bb", ""]),
    "no_letter": ({"letter": "b"}, ["acd"], ["aBc", "b", ""]),
    "lowercase": ({}, ["all low 7"], ["All", "aÉ", ""]),
    "uppercase": ({}, ["ALL 7"], ["ALl", ""]),
    "capital_words": ({"n": 2}, ["OK so NO I", "(WOW) YES."], ["OK", "OK NO AH", "ok no"]),
    "no_commas": ({}, ["a; b"], ["a, b", ""]),
    "start": ({"phrase": "To begin with"}, ["To begin with a"], ["to begin with a", "So To begin with"]),
    "end": ({"phrase": "The end."}, ["a. The end.", "The end.\n"], ["The end. a", "The end"]),
    "nth_word": ({"n": 2, "word": "red"}, ["A red b", "- A - RED"], ["red a", "a b red", "a"]),
    "bullets": ({"n": 2}, ["a\n- b\n- c", "* a\n - b"], ["- a", "-a\n-b", "- a\n- b\n- c"]),
    "sorted_list": (
        {"n": 2},
        ["x\n1) a\n2) b"],
        ["1) b\n2) a", "1) a\n3) b", "1) a", "1) a\n2) a", "1) \n2) b"],
    ),
    "highlights": ({"n": 2}, ["*a* b *c d*"], ["*a*", "* a * b *", "*a\nb* c*", "**"]),
    "placeholders": ({"n": 2}, ["[a] x [b c]"], ["[a]", "[] []", "[a [b", "]a[ ]b["]),
    "postscript": ({}, ["a\nP.S. b"], ["P.S. b", "a\nP.S.", "a P.S. b", "a\nP.S. b\nc"]),
    "title": ({}, ["<<T>>\na"], ["<<T>> a", "a\n<<T>>", "<<T>>", "<<>>\na"]),
    "json_object": (
        {},
        ['{"title": "a", "text": "b"}'],
        [
            "{}",
            '{"title": "a"}',
            '{"title": 1, "text": "b"}',
            "x",
            "[" * 9_000,
            '{"title": "a", "text": "b"} c',
        ],
    ),
    "quotes": ({}, ['"a b"'], ['"a', "a", '""', "'a'"]),
    "script_line": (
        {"script": "Greek"},
        ["a\n\u03c4\u03ad\u03bb\u03bf\u03c2."],
        [
            "a\nend",
            "\u03c4\u03ad\u03bb\u03bf\u03c2\na",
            "a\n\u03c4\u03ad",
            "a\n\u03c4\u03ad\u03bb\u03bf\u03c2 a",
        ],
    ),
    "alliteration": ({"letter": "b", "n": 3}, ["a big Bad bear"], ["big bad a bear", "big bad", ""]),
    "palindrome": ({"n": 5}, ["a Level b", "(radar)"], ["noon", "levels", "aaaaa", "12321", ""]),
    "repeat_request": ({"request": "Write a."}, ["Write a. So"], ["Write a.", "So Write a.", "write a. b"]),
    "numbers": ({"n": 2}, ["7 and 12.", "(7) 8"], ["7", "7 8 9", "a7 b8", "\u0667 \u0668"]),
    "no_digits": ({}, ["seven"], ["7", "a7", "\u0667", ""]),
    "questions": ({"n": 2}, ["a? b?"], ["a?", "???", ""]),
    "sections": (
        {"n": 2, "word": "PART"},
        ["PART 1\na\nPART 2\nb"],
        ["PART 1", "PART 2\nPART 1", "PART 1\nPART 2\nPART 3"],
    ),
    "line_length": ({"n": 5}, ["abcde\nfgh"], ["abcdef", "a\nabcdef", ""]),
    "acrostic": ({"word": "ab"}, ["Ant runs. Bee flies."], ["Bee. Ant.", "Ant. Bee. Cat.", "Ant.", ""]),
}


def test_there_are_enough_kinds_and_all_are_exemplified():
    assert len(CONSTRAINTS) >= 25 and set(EXAMPLES) == set(CONSTRAINTS)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_is_seen_from_both_sides(name):
    params, kept, broken = EXAMPLES[name]
    check = CONSTRAINTS[name].check
    assert [text for text in kept if not check(Reading(text), params)] == []
    assert [text for text in broken if check(Reading(text), params)] == []


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_draft_fulfils_it_at_every_level(name):
    env = Instructions(constraints=[name])
    said = set()
    for level in range(1, 11):
        for seed in range(4):
            env.reset(seed=seed, options={"level": level})
            ((found, params, wording),) = env.problem["rules"]
            assert found == name and describe(name, params, wording) in env.prompt()[0]["content"]
            assert "{" not in describe(name, params, wording).replace('{"title"', "")
            said.add(wording % len(CONSTRAINTS[name].wordings))
            assert env.step(env.gold())[1] == 1.0
    assert len(said) == len(CONSTRAINTS[name].wordings) >= 2


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_hostile_text_is_read_in_linear_time(name):
    params = EXAMPLES[name][0]
    texts = [
        "*" * 10**6,
        "[" * 10**6,
        "a. " * 10**5,
        "1) " * 10**5,
        "\n" * 10**6,
        "aA" * 10**5,
        '{"a":' * 10**5,
    ]
    texts += [
        "- \n" * 10**5,
        "\ud800" * 100,
        "? " * 10**5,
        "* a *" * 10**5,
        "radar " * 10**5,
        "***\n" * 10**5,
    ]
    start = time.process_time()
    for text in texts:
        CONSTRAINTS[name].check(Reading(text), params)
        verdicts({"keywords": ["a"], "rules": [[name, params, 0]]}, text)
    assert time.process_time() - start < 15


def test_conflicts_are_a_relation_of_claims():
    assert (
        conflict("lowercase", "uppercase")
        and conflict("start", "title")
        and conflict("no_letter", "letter_at_least")
    )
    assert conflict("json_object", "paragraphs") and not conflict("no_commas", "bullets")
    for a, b in itertools.combinations(CONSTRAINTS, 2):
        assert conflict(a, b) == conflict(b, a)


def test_pairs_that_do_not_conflict_can_be_fulfilled_together():
    rng = np.random.default_rng(0)
    pairs = [pair for pair in itertools.combinations(CONSTRAINTS, 2) if not conflict(*pair)]
    assert len(pairs) > 400
    for index in rng.permutation(len(pairs))[:400]:
        env = Instructions(constraints=pairs[index], count=2)
        env.reset(seed=int(index), options={"level": 3})
        assert {name for name, *_ in env.problem["rules"]} == set(pairs[index])


def test_keywords_stand_in_order_in_sentences_of_their_own():
    words = ["kettle", "cactus"]
    for text, right in (
        (S, True),
        (S.replace("Tiny", "Tiny-tall"), True),
        ("Young KETTLE plays warmly. Then. Tiny cactus arrives now.", True),
        ("Tiny cactus arrives now. Young kettle plays warmly.", False),
        ("Young kettle plays warmly and tiny cactus arrives now.", False),
        (S + " " + S, False),
        ("Kettle. Cactus.", False),
        ("Young kettles play warmly. Tiny cactus arrives now.", False),
        ("", False),
    ):
        assert keywords_hold(Reading(text), words) is right, text


@pytest.mark.parametrize("level", [1, 5, 10])
def test_one_broken_rule_is_one_too_many(level):
    env = Instructions()
    for seed in range(10):
        env.reset(seed=seed, options={"level": level})
        gold = env.gold()
        word = env.problem["keywords"][0]
        _, reward, *_, info = env.step(
            gold.replace(word, "x").replace(word.upper(), "X").replace(word.capitalize(), "X")
        )
        assert reward == 0.0 and 0 <= info["components"]["share"] < 1


def test_no_attack_is_paid():
    env = Instructions()
    for seed in range(60):
        for name in env.attacks() if env.problem else ("",):
            env.reset(seed=seed, options={"level": 1 + seed % 4})
            if name:
                assert env.step(env.attacks()[name])[1] == 0.0, (name, request(env.problem))


def test_an_overlong_answer_is_none():
    env = Instructions(constraints=["no_digits"])
    env.reset(seed=0)
    assert env.step(env.gold() + " word" * 5_000)[1] == 0.0


def test_problems_are_small_and_varied():
    env, rules = Instructions(), set()
    for seed in range(150):
        env.reset(seed=seed, options={"level": 6})
        rules |= {name for name, *_ in env.problem["rules"]}
        assert len(json.dumps(env.problem)) < 12_000 and len(env.problem["rules"]) == 4
    assert len(rules) >= 34


def test_unknown_and_impossible_constraints_are_told():
    with pytest.raises(EnvError, match="Did you mean 'no_commas'"):
        Instructions(constraints=["no_comma"])
    with pytest.raises(EnvError, match="could be fulfilled together"):
        Instructions(constraints=["lowercase", "uppercase"], count=2).reset(seed=0)
