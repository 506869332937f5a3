"""Knowledge: options that are decided by the text, strict letters, data sets of others, dates and tables."""

from __future__ import annotations

import datetime
import json
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from rolloom.envs import registry
from rolloom.envs.errors import EnvError
from rolloom.envs.knowledge.dates import Dates
from rolloom.envs.knowledge.letters import LETTERS, read_letter
from rolloom.envs.knowledge.multiple_choice import SIZES, MultipleChoice
from rolloom.envs.knowledge.questions import Questions, read_lines
from rolloom.envs.knowledge.short import bare
from rolloom.envs.knowledge.table_qa import TableQA
from rolloom.envs.knowledge.topics import TOPICS, written

IDS = [f"knowledge/{name}-v0" for name in ("multiple_choice", "questions", "dates", "table_qa")]


@pytest.mark.parametrize(
    ("content", "index"),
    [
        *(("C", 2), ("c", 2), (" (C) ", 2), ("**C.**", 2), ("C)", 2), ("$C$", 2), ("`C`", 2)),
        *(("so it is\n\\boxed{C}", 2), ("\\boxed{\\text{C}}", 2), ("Answer: C", 2), ("**Answer:** C", 2)),
        *(("Answer: C) the blue one", 2), ("Answer: C\n\\boxed{C}", 2), ("**Answer: C**", 2)),
        *(
            ("Answer: C\nAnswer: D", None),
            ("\\boxed{C} \\boxed{D}", None),
            ("A B C", None),
            ("Answer: CD", None),
        ),
        *(("Answer: C or D", None), ("Answer: C/D", None), ("\\boxed{C,D}", None), ("Cat", None), ("", None)),
        *(
            ("K", None),
            ("Answer: K", None),
            ("Answer:", None),
            ("\\boxed{}", None),
            ("\u017f", None),
            ("\uff23", None),
        ),
        *(("\u0421", None), ("Answer: C" + " " * 5_000, None), ("I think C", None), ("A, B", None)),
    ],
)
def test_one_letter_is_read_or_none(content, index):
    assert read_letter(content, 10) == index


def test_reading_letters_is_linear():
    start = time.thread_time()
    for text in ("\\boxed{" * 100_000, "Answer: " * 100_000, "(" * 1_000_000):
        assert read_letter(text, 10) is None
    assert read_letter("Answer:" * 570, 10) is None
    assert time.thread_time() - start < 5


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("size", SIZES)
def test_a_topic_writes_ten_different_options(topic, size):
    for seed in range(10):
        drawn = TOPICS[topic](np.random.default_rng(seed), size)
        assert len({drawn.right, *drawn.wrong}) == 10
        assert drawn.steps and all(len(step) == 2 for step in drawn.steps)


def closure(facts: str) -> set[tuple[str, str]]:
    """Return every pair that follows from `Every a is a b.` sentences, by saturation."""
    pairs = {(f.split()[1], f.split()[4]) for f in facts.rstrip(".").split(". ")}
    while True:
        more = {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs
        if not more:
            return pairs
        pairs |= more


def test_only_the_right_statement_about_kinds_follows():
    for seed in range(30):
        drawn = TOPICS["kinds"](np.random.default_rng(seed), 3 + seed % 8)
        known = closure(drawn.facts)
        stated = {
            text: (text.split()[1], text.split()[4].rstrip(".")) for text in (drawn.right, *drawn.wrong)
        }
        assert [text for text, pair in stated.items() if pair in known] == [drawn.right]


def lamps_of(sentence: str) -> list[str]:
    words = sentence.split()
    return [word for word, after in pairwise(words) if after.startswith("lamp")]


def test_only_the_right_lamp_is_lit():
    for seed in range(30):
        drawn = TOPICS["lamps"](np.random.default_rng(seed), 3 + seed % 20)
        given, *rules = drawn.facts.split(". ")
        lit = set(lamps_of(given))
        assert len(lit) == 2 and len(rules) >= 3
        for _ in rules:
            lit |= {lamps_of(rule)[-1] for rule in rules if set(lamps_of(rule)[:-1]) <= lit}
        assert drawn.right in lit and not lit & set(drawn.wrong)


@pytest.mark.parametrize("topic", ["units", "draws", "calendar"])
def test_the_rank_of_the_right_option_is_no_hint(topic):
    ranks: Counter[int] = Counter()
    for seed in range(600):
        drawn = TOPICS[topic](np.random.default_rng(seed), 6)
        values = [
            datetime.datetime.strptime(o, "%d %B %Y").toordinal() if topic == "calendar" else int(o)
            for o in (drawn.right, *drawn.wrong)
        ]
        ranks[sorted(values).index(values[0])] += 1
    assert max(ranks.values()) < 120


def test_places_are_uniform():
    env, places = MultipleChoice(), Counter()
    for seed in range(1_000):
        env.reset(seed=seed)
        places[env.problem["answer"]] += 1
    assert set(places) == set(range(10)) and max(places.values()) < 150


def test_topics_can_be_chosen():
    env = MultipleChoice(topics=["units"])
    assert {env.reset(seed=seed)[0] and env.problem["topic"] for seed in range(20)} == {"units"}
    with pytest.raises(EnvError, match="Did you mean 'units'"):
        MultipleChoice(topics=["unit"])


@pytest.mark.parametrize("id", IDS)
def test_no_attack_is_paid(id):
    env = registry.make(id)
    for seed in range(20):
        env.reset(seed=seed, options={"level": 1 + seed % 10})
        for name, text in env.attacks().items():
            env.reset(seed=seed, options={"level": 1 + seed % 10})
            assert env.step(text)[1] == 0.0, (name, env.problem)


def test_packaged_questions_are_sound():
    rows = Questions().rows
    seen = [rows[index] for index in range(len(rows))]
    assert len(seen) >= 120 and len({row["question"] for row in seen}) == len(seen)
    for row in seen:
        assert len(set(row["choices"])) == 10 and 0 <= row["answer"] < 10


def test_splits_share_no_question():
    env = Questions()
    asked: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for split, found in asked.items():
        for seed in range(200):
            env.reset(seed=seed, options={"split": split, "level": 3})
            found |= {question["question"] for question in env.problem["questions"]}
    assert not asked["train"] & asked["heldout"] and min(map(len, asked.values())) > 10


def test_every_question_has_to_be_right():
    env = Questions()
    env.reset(seed=1)
    lines = env.gold().splitlines()
    assert env.step(lines[0])[1] == 0.0
    env.reset(seed=1)
    _, reward, *_, info = env.step("\n".join(lines[:-1]) + "\n2: " + ("A" if lines[1] != "2: A" else "B"))
    assert reward == 0.0 and info["components"]["share"] == 0.5
    env.reset(seed=1)
    assert env.step("Here they are.\n" + "\n".join(line.replace(":", ".") for line in lines))[1] == 1.0


def test_lines_are_read_strictly():
    assert read_lines("1: A\n2: B", [4, 4]) == [0, 1]
    assert read_lines("1: A\n1: B\n2. (c)", [4, 4]) == [None, 2]
    assert read_lines("1: E\n\u0661: A\n3: A\n" + "9" * 3_000 + ": A", [4, 4]) == [None, None]
    assert read_lines("1: A\n" * 5_000, [4]) == [None]


@pytest.mark.parametrize("answer", ["b", 1, "B"])
def test_rows_of_others_are_taken(tmp_path, answer):
    rows = [{"q": f"Question {i}?", "options": ["a", "b", "c", "d"], "right": answer} for i in range(60)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    columns = {"question": "q", "choices": "options", "answer": "right", "per_prompt": 1}
    for data in (file, rows):
        env = Questions(data=data, **columns)
        assert env.chance(1) == 0.25
        messages, _ = env.reset(seed=3)
        letter = LETTERS[env.problem["questions"][0]["options"].index("b")]
        assert "Answer with one letter" in messages[0]["content"] and env.gold() == letter
        assert env.step(f"\\boxed{{{letter}}}")[1] == 1.0


def test_bad_rows_are_named():
    good = {"question": "?", "choices": ["a", "b"], "answer": 0}
    for change, said in (
        ({"answer": 7}, "none of its 2 options"),
        ({"choices": ["a", "a"]}, "different options"),
        ({"choices": ["a"]}, "2 to 26"),
        ({"answer": None}, "no column 'answer'"),
    ):
        with pytest.raises(EnvError, match=said):
            Questions(data=[good | change])
    with pytest.raises(EnvError, match="too few rows"):
        Questions(data=[good]).reset(seed=0)


def test_a_date_is_right_in_one_form_only():
    env = Dates()
    env.reset(seed=4)
    day = datetime.date.fromisoformat(env.gold())
    for form, paid in (
        (str(day), 1.0),
        (f"\\boxed{{{day}}}", 1.0),
        (f"**{day}**", 1.0),
        (written(day), 0.0),
        (f"{day} or so", 0.0),
        (f"{day:%Y-%m-%d}0", 0.0),
    ):
        env.reset(seed=4)
        assert env.step(form)[1] == paid, form


def test_dates_by_worked_example():
    env, seen = Dates(level=5), 0
    for seed in range(200):
        text = env.reset(seed=seed)[0][0]["content"]
        if text.startswith("How many days"):
            words = text.replace("?", "").split()
            days = datetime.date.fromisoformat(words[8]) - datetime.date.fromisoformat(words[6])
            assert env.gold() == str(days.days)
            seen += 1
    assert seen > 20


def test_table_totals_by_an_independent_sum():
    env, seen = TableQA(level=1), 0
    for seed in range(40):
        text = env.reset(seed=seed)[0][0]["content"]
        rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:] if line.startswith("|")]
        key = text.split("total amount of all ")[1].split("?")[0]
        if key.startswith("orders of"):
            total = sum(int(row[3]) for row in rows if row[0] == key.split()[-1])
        else:
            total = sum(int(row[3]) for row in rows if row[2] == key.split()[0])
        assert env.gold() == str(total)
        seen += 1
    assert seen == 40


def test_bare_answers():
    assert [bare(text) for text in ("7", " 7. ", "**7**", "\\boxed{7}", "Answer: 7", "`7`")] == ["7"] * 6
    assert bare("7 8") == "7 8" and bare("7" * 5_000) == ""
