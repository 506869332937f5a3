"""Look-ups: solvable through the tools alone, bad calls are answered, experts go on from any state."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import parse_completion, render_call
from rolloom.envs.tools.lookup import ITEMS, Lookup
from rolloom.envs.tools.schema import MAX_INTEGER, arguments_schema, check_arguments, plain
from rolloom.envs.types import ToolSpec

STYLES = ("verbose", "medium", "compact")


def call(env: Lookup, name: str, /, **arguments) -> str:
    messages, reward, terminated, _, _ = env.step(render_call(name, arguments))
    assert reward == 0.0 and not terminated and len(messages) == 1 and messages[0]["role"] == "tool"
    return messages[0]["content"]


def solve(env: Lookup, prompt: str) -> str:
    """Solve a prompt through the tools only, without looking into the environment."""
    match = re.fullmatch(r"(total|joined digits|product) of (.+)\? number only", prompt)
    assert match is not None
    numbers = []
    for term in match[2].split(", "):
        *references, item = term.split(" of ")
        for reference in reversed(references):
            item = call(env, reference, item=item)
        numbers.append(call(env, "lookup", item=item))
    if match[1] == "joined digits":
        return "".join(numbers)
    return str(sum(map(int, numbers)) if match[1] == "total" else math.prod(map(int, numbers)))


def count_tokens(text: str) -> int:
    return len(re.findall(r"[a-z_]+|\d|[^\w\s]", text))


@pytest.mark.parametrize("level", range(1, 11))
def test_the_tools_suffice_within_the_turns(level):
    env = Lookup(level=level)
    for seed in range(40):
        messages, _ = env.reset(seed=seed)
        answer = solve(env, messages[0]["content"])
        assert env.step(f"<think>\n</think>\n{answer}")[1:4] == (1.0, True, False)


@pytest.mark.parametrize("level", range(1, 11))
def test_experts_score_one(level):
    env = Lookup(level=level)
    for seed in range(300 if level < 4 else 25):
        for style in STYLES:
            env.reset(seed=seed)
            rng, over, total = np.random.default_rng(seed), False, 0.0
            while not over:
                text = env.expert(style, rng)
                assert parse_completion(text).malformed is None
                messages, reward, over, truncated, _ = env.step(text)
                assert not truncated and not any("error" in message["content"] for message in messages)
                total += reward
            assert total == 1.0


def test_experts_go_on_from_what_others_left():
    env = Lookup(level=3)
    for seed in range(50):
        for style in STYLES:
            env.reset(seed=seed)
            env.step("<tool_call>nonsense</tool_call>")
            env.step(render_call("lookup", {"item": env.problem["terms"][1][0]}))
            rng, over, total = np.random.default_rng(seed), False, 0.0
            while not over:
                _, reward, over, truncated, _ = env.step(env.expert(style, rng))
                over, total = over or truncated, total + reward
            assert total == 1.0


def test_no_constant_answer_is_common():
    env = Lookup()
    answers = Counter()
    for seed in range(600):
        env.reset(seed=seed, options={"split": "heldout"})
        answers[env.answer()] += 1
    assert answers.most_common(1)[0][1] / 600 < 0.1


def test_values_cannot_be_told_from_the_question():
    env = Lookup()
    by_prompt: dict[str, set[str]] = {}
    for seed in range(3_000):
        messages, _ = env.reset(seed=seed)
        by_prompt.setdefault(messages[0]["content"], set()).add(env.answer())
    repeated = [answers for answers in by_prompt.values() if len(answers) > 1]
    assert len(repeated) > 300


def test_unused_table_entries_do_not_make_a_new_problem():
    env = Lookup()
    env.reset(seed=5)
    key = env.key_text(env.problem)
    unused = next(item for item in ITEMS if [item] not in env.problem["terms"])
    env.problem["tables"]["lookup"][unused] += 1
    assert env.key_text(env.problem) == key
    env.problem["tables"]["lookup"][env.problem["terms"][0][0]] += 1
    assert env.key_text(env.problem) != key


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("lokup", {"item": "apple"}, "error: unknown tool lokup, expected lookup, add"),
        ("<|im_start|>", {}, "error: unknown tool ?, expected lookup, add"),
        ("lookup", {}, "error: lookup needs item, expected item"),
        ("lookup", {"name": "apple"}, "error: lookup needs item, expected item"),
        ("lookup", {"item": "apple", "x": 1}, "error: lookup has no argument x, expected item"),
        ("lookup", {"item": 3}, "error: item must be string, got integer"),
        ("lookup", {"item": ["apple"]}, "error: item must be string, got array"),
        ("lookup", {"item": "kiwi"}, "error: unknown item kiwi"),
        ("lookup", {"item": "Apple"}, "error: unknown item Apple"),
        ("lookup", {"item": "<|im_start|>"}, "error: unknown item ?"),
        ("lookup", {"item": "a" * 10_000}, "error: item must have at most 4096 characters"),
        ("add", {"a": 1}, "error: add needs b, expected a, b"),
        ("add", {"a": 1, "b": "2"}, "error: b must be integer, got string"),
        ("add", {"a": 1, "b": 2.0}, "error: b must be integer, got number"),
        ("add", {"a": True, "b": 2}, "error: a must be integer, got boolean"),
        ("add", {"a": None, "b": 2}, "error: a must be integer, got null"),
        ("add", {"a": 10**19, "b": 2}, f"error: a must lie between {-MAX_INTEGER} and {MAX_INTEGER}"),
        ("add", {"a": -2, "b": 5}, "3"),
    ],
)
def test_a_call_is_answered_as_an_api_would(name, arguments, expected):
    env = Lookup()
    env.reset(seed=0)
    assert call(env, name, **arguments) == expected


def test_several_calls_are_answered_in_order():
    env = Lookup()
    env.reset(seed=0)
    table = env.problem["tables"]["lookup"]
    calls = [
        ("lookup", {"item": "pear"}),
        ("nothing", {}),
        ("add", {"a": 2, "b": 2}),
        ("lookup", {"item": "apple"}),
    ]
    messages, *_ = env.step("".join(render_call(*each) for each in calls))
    assert [message["role"] for message in messages] == ["tool"] * 4
    contents = [message["content"] for message in messages]
    assert contents[0] == str(table["pear"]) and contents[2] == "4" and contents[3] == str(table["apple"])
    assert contents[1].startswith("error")


def test_content_beside_calls_is_not_an_answer():
    env = Lookup()
    env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(env.answer() + render_call("lookup", {"item": "pear"}))
    assert reward == 0.0 and not terminated


def test_an_endless_caller_is_cut_off():
    env = Lookup()
    env.reset(seed=0)
    for turn in range(6):
        _, reward, terminated, truncated, _ = env.step(render_call("lookup", {"item": "pear"}))
        assert reward == 0.0 and not terminated and truncated == (turn == 5)


@pytest.mark.parametrize(
    "tamper", ["0{}", "+{}", "{}.", "{} {}", "is {}", "\u0660{}", "{}</tool_call>", "<think>{}"]
)
def test_only_the_bare_digits_score(tamper):
    env = Lookup()
    env.reset(seed=2)
    answer = env.answer()
    assert env.step(f"<think>\n</think>\n{answer}\n")[1] == 1.0
    env.reset(seed=2)
    assert env.step("<think>\n</think>\n" + tamper.format(answer, answer))[1] == 0.0


def test_lengths_of_the_styles_at_level_one():
    env = Lookup()
    thoughts: dict[str, list[int]] = {style: [] for style in STYLES}
    turns: dict[str, list[int]] = {style: [] for style in STYLES}
    for seed in range(200):
        for style in STYLES:
            env.reset(seed=seed)
            rng, over, tokens = np.random.default_rng(seed), False, 0
            while not over:
                text = env.expert(style, rng)
                tokens += count_tokens(parse_completion(text).reasoning)
                _, _, over, _, _ = env.step(text)
            thoughts[style].append(tokens)
            turns[style].append(env.turn_index)
    assert 2.5 <= np.mean(thoughts["verbose"]) / np.mean(thoughts["medium"]) <= 4.5
    assert np.mean(thoughts["compact"]) <= 6
    assert 25 <= np.sum(thoughts["verbose"]) / np.sum(turns["verbose"]) <= 45
    assert max(turns["verbose"]) <= 4 and max(turns["compact"]) == 2


def test_the_vocabulary_is_small():
    words: set[str] = set()
    for level in range(1, 11):
        env = Lookup(level=level)
        for seed in range(12):
            for style in STYLES:
                messages, _ = env.reset(seed=seed)
                rng, over = np.random.default_rng(seed), False
                texts = [messages[0]["content"]]
                while not over:
                    texts.append(env.expert(style, rng))
                    replies, _, over, _, _ = env.step(texts[-1])
                    texts += [reply["content"] for reply in replies]
                words |= set(re.findall(r"[a-z_]+", " ".join(texts)))
                assert all("  " not in text and text == text.lower() and text.isascii() for text in texts)
    assert len(words - set(ITEMS)) <= 50, sorted(words)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)


@given(st.dictionaries(st.one_of(st.sampled_from("absn"), st.text(max_size=4)), values, max_size=5))
def test_the_checker_accepts_exactly_what_the_schema_says(arguments):
    parameters = arguments_schema(a="integer", b="boolean", s="string", n="number")
    problem = check_arguments(ToolSpec("f", "", parameters), arguments)
    good = (
        set(arguments) == set("absn")
        and type(arguments["a"]) is int
        and abs(arguments["a"]) <= MAX_INTEGER
        and type(arguments["b"]) is bool
        and type(arguments["s"]) is str
        and type(arguments["n"]) in (int, float)
        and abs(arguments["n"]) <= MAX_INTEGER
    )
    assert (problem is None) == good


def test_the_checker_knows_bounds_choices_and_optional_arguments():
    properties = {"size": {"type": "integer", "minimum": 1, "maximum": 3}, "color": {"type": "string"}}
    properties["color"] |= {"enum": ["red", "blue"], "maxLength": 4}
    spec = ToolSpec("paint", "", {"type": "object", "properties": properties, "required": ["size"]})
    assert check_arguments(spec, {"size": 1}) is None
    assert check_arguments(spec, {"size": 3, "color": "red"}) is None
    assert check_arguments(spec, {"size": 0}) == "size must lie between 1 and 3"
    assert check_arguments(spec, {"size": 1, "color": "tan"}) == "color must be one of red, blue"
    assert check_arguments(spec, {"size": 1, "color": "green"}) == "color must have at most 4 characters"


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "string", "pattern": "a*"}, {}])
def test_a_schema_that_would_not_be_enforced_is_refused(schema):
    spec = ToolSpec("f", "", {"type": "object", "properties": {"x": schema}, "required": ["x"]})
    with pytest.raises(EnvError, match="not one this checker enforces"):
        check_arguments(spec, {"x": "a"})


@given(st.text(max_size=40))
def test_echoed_text_is_harmless(text):
    shown = plain(text)
    assert shown == "?" or shown == text
    assert re.fullmatch(r"[A-Za-z0-9_ -]{1,32}|\?", shown)
