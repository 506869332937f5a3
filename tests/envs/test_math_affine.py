"""Affine chains: the prompt determines the answer, scoring is exact, traces are true and drawn by parts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rolloom.envs.math.affine_chain import MODULI, STEPS, AffineChain

STYLES = ("verbose", "medium", "compact")
EQUATION = re.compile(r"(\d+)\*(\d+)\+(\d+)=(\d+)=(\d+)")


def solve(prompt: str) -> int:
    """Solve a prompt by reading it, without the environment."""
    head, *maps = re.findall(r"mod (\d+): x=(\d+);|x=(\d+)x\+(\d+);", prompt)
    m, x = int(head[0]), int(head[1])
    for _, _, a, b in maps:
        x = (int(a) * x + int(b)) % m
    return x


def split_text(text: str) -> tuple[str, str]:
    thought, _, content = text.removeprefix("<think>\n").partition("</think>\n")
    return thought, content


def count_tokens(text: str) -> int:
    return len(re.findall(r"[a-z]+|\d|[^\w\s]", text))


@pytest.mark.parametrize("level", range(1, 11))
def test_experts_end_with_what_the_prompt_asks_for(level):
    env = AffineChain(level=level)
    for seed in range(300 if level < 6 else 30):
        messages, info = env.reset(seed=seed)
        answer = str(solve(messages[-1]["content"]))
        assert len(messages) == 1 and info["tools"] == ()
        for style in STYLES:
            env.reset(seed=seed)
            text = env.expert(style, np.random.default_rng(seed))
            assert split_text(text)[1] == answer
            assert env.step(text)[1:4] == (1.0, True, False)


def test_levels_only_get_harder():
    assert list(MODULI) == sorted(set(MODULI)) and list(STEPS) == sorted(set(STEPS))
    assert all(all(m % d for d in range(2, int(m**0.5) + 1)) for m in MODULI)


@pytest.mark.parametrize("level", [1, 5, 10])
def test_steps_worked_in_the_traces_are_true_except_the_corrected(level):
    env = AffineChain(level=level)
    slips = steps = 0
    for seed in range(200 if level == 1 else 10):
        env.reset(seed=seed)
        states = env.states()
        for style in ("verbose", "medium"):
            thought, _ = split_text(env.expert(style, np.random.default_rng(seed)))
            results = []
            for found in EQUATION.finditer(thought):
                a, x, b, total, rest = map(int, found.groups())
                true = a * x + b == total and total % env.problem["m"] == rest
                corrected = thought[found.end() :].startswith(". wait, let me check: no, ")
                assert true != corrected
                slips += corrected
                if true and (not results or results[-1] != (a, x, b, rest)):
                    results.append((a, x, b, rest))
            expected = [
                (a, x, b, y) for (a, b), x, y in zip(env.problem["steps"], states, states[1:], strict=False)
            ]
            deduplicated = [step for i, step in enumerate(expected) if i == 0 or step != expected[i - 1]]
            assert results == deduplicated
            steps += len(expected) * (style == "verbose")
    assert 0.05 < slips / steps < 0.16


def test_compact_names_only_the_states():
    env = AffineChain()
    env.reset(seed=4)
    thought, _ = split_text(env.expert("compact", np.random.default_rng(0)))
    assert list(map(int, thought.split())) == env.states()[1:]


def test_checks_are_drawn_independently_for_each_step():
    env = AffineChain()
    seed = next(s for s in range(100) if len(env.reset(seed=s) and env.problem["steps"]) == 2)
    env.reset(seed=seed)
    patterns: dict[tuple[int, ...], int] = {}
    for draw in range(400):
        thought, _ = split_text(env.expert("verbose", np.random.default_rng(draw)))
        pieces = re.split(r"(?:^|(?<= ))now ", thought.partition("let me check all")[0])[1:]
        pattern = tuple(piece.count("that is right") for piece in pieces)
        patterns[pattern] = patterns.get(pattern, 0) + 1
    assert {(i, j) for i in range(3) for j in range(3)} <= patterns.keys()
    first = np.array([k[0] > 0 for k, n in patterns.items() for _ in range(n)])
    second = np.array([k[1] > 0 for k, n in patterns.items() for _ in range(n)])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_lengths_of_the_styles_at_level_one():
    env = AffineChain()
    lengths: dict[str, list[int]] = {style: [] for style in STYLES}
    prompts = []
    for seed in range(300):
        messages, _ = env.reset(seed=seed)
        prompts.append(count_tokens(messages[0]["content"]))
        for style in STYLES:
            text = env.expert(style, np.random.default_rng(seed))
            lengths[style].append(count_tokens(split_text(text)[0]))
    assert min(prompts) >= 20 and max(prompts) <= 45
    assert 90 <= np.mean(lengths["verbose"]) <= 130
    assert 2.5 <= np.mean(lengths["verbose"]) / np.mean(lengths["medium"]) <= 4.5
    assert np.mean(lengths["compact"]) <= 5
    assert max(lengths["verbose"]) < 192


def test_the_vocabulary_is_small():
    words: set[str] = set()
    for level in (1, 10):
        env = AffineChain(level=level)
        for seed in range(20):
            messages, _ = env.reset(seed=seed)
            texts = [messages[0]["content"]] + [env.expert(s, np.random.default_rng(seed)) for s in STYLES]
            words |= set(re.findall(r"\w+?(?=\W|$)|[^\w\s]|  +", re.sub(r"\d", " 0 ", " ".join(texts))))
            assert all("  " not in text and text == text.lower() and text.isascii() for text in texts)
    assert len(words) <= 45, sorted(words)


@pytest.mark.parametrize(
    "tamper", ["0{}", "+{}", "-{}", "{}.", "{}.0", "{} {}", "x={}", "\\boxed{{{}}}", "{}<|im_end|>"]
)
def test_only_the_bare_canonical_digits_score(tamper):
    env = AffineChain()
    env.reset(seed=11)
    answer = env.states()[-1]
    assert env.step(f"<think>\nhm</think>\n  {answer}\n")[1] == 1.0
    env.reset(seed=11)
    assert env.step("<think>\nhm</think>\n" + tamper.format(answer, answer))[1] == 0.0


def test_other_digits_thoughts_and_calls_do_not_score():
    env = AffineChain(level=4)
    for seed in range(20):
        env.reset(seed=seed)
        answer = str(env.states()[-1])
        arabic = answer.translate({ord("0") + i: 0x660 + i for i in range(10)})
        wide = answer.translate({ord("0") + i: 0xFF10 + i for i in range(10)})
        call = '<tool_call>{"name": "answer", "arguments": {}}</tool_call>'
        for text in (arabic, wide, f"<think>\n{answer}</think>\n", f"<think>\n{answer}", answer + call):
            env.reset(seed=seed)
            assert env.step(text)[1] == 0.0


def test_no_constant_answer_beats_chance_at_level_one():
    env = AffineChain()
    counts = np.zeros(5)
    for seed in range(1_000):
        env.reset(seed=seed, options={"split": "heldout"})
        counts[env.states()[-1]] += 1
    assert counts.max() / counts.sum() < 0.2 + 4 * (0.2 * 0.8 / 1_000) ** 0.5
