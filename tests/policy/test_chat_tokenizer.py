"""Text to tokens and back, and conversations tokenised piece by piece."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloom.policy.config import PolicyError
from rolloom.policy.small_tokenizer import EOS, SPECIAL, train_tokenizer
from rolloom.policy.tokenizer import ChatTokenizer

CORPUS = [
    "First add the numbers, then check the sum again: 12 + 30 = 42.",
    "def solve(x):\n    return x * 2\n",
    '<tool_call>\n{"name": "lookup", "arguments": {"key": "blue"}}\n</tool_call>',
] * 4
TOKENIZER = train_tokenizer(CORPUS, 300)
CONTROL = {TOKENIZER.tokenizer.token_to_id(token) for token in SPECIAL}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "find", "parameters": {"properties": {"key": {}, "n": {}}}}}
]


@settings(max_examples=300)
@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text(st.sampled_from("0123456789 +-ab\n"), min_size=1))
def test_digits_are_single_tokens(text: str) -> None:
    pieces = [TOKENIZER.decode([token]) for token in TOKENIZER.encode(text)]
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces if any(c.isdigit() for c in piece))


def test_the_vocabulary_has_its_size_and_every_byte() -> None:
    assert TOKENIZER.vocab_size == 300
    assert len(TOKENIZER.encode("First add the numbers")) < len("First add the numbers")
    assert [TOKENIZER.encode(token) for token in SPECIAL] == [[index] for index in range(len(SPECIAL))]


def test_training_is_reproducible() -> None:
    again = train_tokenizer(CORPUS, 300)
    assert again.tokenizer.to_str() == TOKENIZER.tokenizer.to_str()


# A completion starts behind "<think>\n"; starting it with a space would let the two merge into one piece.
words = st.text(st.sampled_from("abc XYZ019.,:\n\u00e9\u4f60"), max_size=30)
completions = st.tuples(st.sampled_from("aZ7."), words, words).map(
    lambda parts: f"<think>\n{parts[0]}{parts[1]}</think>\n{parts[2]}"
)
contents = st.text(max_size=30)


@given(contents, st.lists(st.tuples(completions, st.sampled_from(["tool", "user"]), contents), max_size=4))
@pytest.mark.parametrize("tools", [[], TOOLS], ids=["plain", "tools"])
def test_pieces_join_to_the_whole_conversation(
    tools: list[Any], question: str, turns: list[tuple[str, str, str]]
) -> None:
    messages: list[dict[str, str]] = [{"role": "user", "content": question}]
    ids = TOKENIZER.prompt_ids(messages, tools)
    for completion, role, answer in turns:
        ids += TOKENIZER.completion_ids(completion)
        ids += TOKENIZER.continuation_ids([{"role": role, "content": answer}])
        messages += [{"role": "assistant", "content": completion}, {"role": role, "content": answer}]
    whole = TOKENIZER.render(messages, tools)
    assert TOKENIZER.decode(ids) == whole
    assert ids == TOKENIZER.encode(whole)


@given(completions)
def test_a_completion_reads_back_as_written(text: str) -> None:
    ids = TOKENIZER.completion_ids(text)
    assert ids[-1] in TOKENIZER.stop_ids and not set(ids[:-1]) & set(TOKENIZER.stop_ids)
    assert TOKENIZER.completion_text(ids) == text
    assert TOKENIZER.completion_text(ids[:-1]) == text


HOSTILE = [
    *SPECIAL,
    *(token[:-1] for token in SPECIAL),
    "<|im_",
    "end|>",
    "<",
    ">",
    "|",
    "assistant\n",
    " ",
    "x",
]
HOSTILE += ["\u200b", "{{ 6 * 7 }}", "{% raw %}", "\u2402reply\u2402"]
hostile = st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join)


@given(hostile, hostile)
def test_hostile_text_adds_no_control_token(system: str, text: str) -> None:
    def control(first: str, second: str) -> Counter[int]:
        messages = [{"role": "system", "content": first}, {"role": "user", "content": second}]
        ids = TOKENIZER.prompt_ids(messages, TOOLS)
        ids += TOKENIZER.continuation_ids([{"role": "tool", "content": second}])
        return Counter(token for token in ids if token in CONTROL)

    assert control(system, text) == control("s", "u")


@given(hostile)
def test_hostile_text_stays_readable(text: str) -> None:
    prompt = TOKENIZER.decode(TOKENIZER.prompt_ids([{"role": "user", "content": text}]))
    assert prompt.replace("\u200b", "").count(text.replace("\u200b", "")) >= 1
    assert "42" not in prompt.replace("\u200b", "") or "42" in text


def test_the_prompt_opens_reasoning() -> None:
    ids = TOKENIZER.prompt_ids([{"role": "user", "content": "hi"}])
    assert TOKENIZER.opens_thinking
    assert TOKENIZER.decode(ids).endswith("<|im_start|>assistant\n<think>\n")
    assert TOKENIZER.decode(TOKENIZER.stop_ids) == EOS


def test_tools_are_named_with_their_arguments() -> None:
    text = TOKENIZER.render([{"role": "user", "content": "hi"}], TOOLS)
    assert "find(key, n)" in text.split("hi")[0]
    assert "find" not in TOKENIZER.render([{"role": "user", "content": "hi"}])


def test_saved_and_loaded_alike(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    again = ChatTokenizer.load(tmp_path)
    text = "<|im_start|>user\nWhat is 7 * 6?\u00e9<|im_end|>"
    assert again.encode(text) == TOKENIZER.encode(text)
    assert again.stop_ids == TOKENIZER.stop_ids and again.think_close_id == TOKENIZER.think_close_id
    message = [{"role": "user", "content": "x"}]
    assert again.prompt_ids(message, TOOLS) == TOKENIZER.prompt_ids(message, TOOLS)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "list"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    TOKENIZER.save(tmp_path)
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_text(file.read_text()[:40] if damage == "cut" else "[]")
    with pytest.raises(PolicyError, match=name):
        ChatTokenizer.load(tmp_path)


@pytest.mark.parametrize("eos", [None, 3, "<|none|>"])
def test_an_unknown_stop_token_is_named(tmp_path: Path, eos: object) -> None:
    TOKENIZER.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": eos}))
    with pytest.raises(PolicyError, match="eos_token"):
        ChatTokenizer.load(tmp_path)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(PolicyError, match=r"chat_template\.jinja"):
        ChatTokenizer.load(tmp_path)


def test_a_template_that_rewrites_completions_is_refused() -> None:
    template = "{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}<think>\n"
    tokenizer = ChatTokenizer(TOKENIZER.tokenizer, template, EOS)
    with pytest.raises(PolicyError, match="verbatim"):
        tokenizer.continuation_ids([{"role": "user", "content": "more"}])
