"""The parser of completions: round trips, hostile input, linear time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.parsing import MAX_CHARS, MAX_TOOL_CALLS, parse_completion, render_call

TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>"]
tricky = st.one_of(st.text(max_size=20), st.sampled_from([*TAGS, '"', "\\", "\u0000", "{}"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | tricky,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(tricky, children, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(tricky, json_values, max_size=4)
tagless = st.text(max_size=40).filter(lambda text: "<" not in text)


@given(st.lists(st.tuples(tricky, arguments), max_size=4), tagless, tagless)
def test_rendered_calls_come_back_exactly(calls, reasoning, content):
    rendered = "\n".join(render_call(name, args) for name, args in calls)
    turn = parse_completion(f"<think>\n{reasoning}</think>\n{content}{rendered}")
    assert turn.malformed is None
    assert [(call.name, call.arguments) for call in turn.tool_calls] == calls
    assert turn.reasoning == reasoning.strip()
    assert turn.content == content.strip()


@given(
    st.lists(
        st.one_of(st.sampled_from([*TAGS, '{"name": "f", "arguments": {}}', "7", "\ud800"]), tricky),
        max_size=12,
    )
)
def test_any_text_parses_and_a_malformed_turn_offers_nothing(pieces):
    text = "".join(pieces)
    turn = parse_completion(text)
    assert turn.text == text
    if turn.malformed is not None:
        assert turn.content == "" and turn.tool_calls == ()
    for tag in TAGS[:4]:
        assert tag not in turn.content or tag == "</tool_call>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nabc", "not closed by </think>"),
        ("<think>a</think>b</think>7", "stray think tag"),
        ("<think>a</think><think>b</think>7", "stray think tag"),
        ("7</think>", "stray think tag"),
        ("<tool_call>{}", "not closed by </tool_call>"),
        ("<tool_call>{}</tool_call>", "must be"),
        ("<tool_call>[1]</tool_call>", "must be"),
        ('<tool_call>{"name": 1, "arguments": {}}</tool_call>', 'string "name"'),
        ('<tool_call>{"name": "f", "arguments": []}</tool_call>', 'object "arguments"'),
        ('<tool_call>{"name": "f", "arguments": {}, "id": 1}</tool_call>', "must be"),
        ('<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>', "duplicate key"),
        ('<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', "NaN is not JSON"),
        ('<tool_call>{"name": "f", "arguments": {"a": -Infinity}}</tool_call>', "not JSON"),
        ('<tool_call>{"name": "f", "arguments": {"a": 0' + "9" * 10_000 + "}}</tool_call>", "not JSON"),
        ('<tool_call>{"name": "f", "arguments": {"a": ' + "9" * 10_000 + "}}</tool_call>", "not JSON"),
        ("<tool_call>" + "[" * 90_000 + "</tool_call>", "nested deeper"),
        ('<tool_call>{"name": "f", "arguments": ' + '{"a":' * 30_000 + "</tool_call>", "nested deeper"),
        (render_call("f", {}) * (MAX_TOOL_CALLS + 1), "more than"),
    ],
)
def test_malformed_text_is_named_and_bounded(text, expected):
    turn = parse_completion(text)
    assert turn.malformed is not None and expected in turn.malformed
    assert len(turn.malformed) < 200
    assert turn.tool_calls == () and turn.content == ""


@pytest.mark.parametrize(
    "unit",
    [
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        "<tool_call></tool_call>",
        "<",
        " ",
        "{",
        '"',
        "\\",
    ],
)
@pytest.mark.parametrize("prefix", ["", "<think>", "<think></think>", "<tool_call>"])
def test_repetition_costs_linear_time(prefix, unit):
    text = prefix + unit * 20_000
    start = time.thread_time()
    parse_completion(text)
    assert time.thread_time() - start < 5


def test_only_the_first_characters_are_read():
    turn = parse_completion("<think>" + "a" * MAX_CHARS + "</think>7")
    assert turn.content == "" and turn.malformed is not None
    assert len(turn.text) == MAX_CHARS


def test_the_call_json_is_plain_for_plain_arguments():
    rendered = render_call("add", {"a": 1, "b": 2})
    assert rendered == '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    inner = render_call("f", {"text": "a<b"}).removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(inner)["arguments"] == {"text": "a<b"}
