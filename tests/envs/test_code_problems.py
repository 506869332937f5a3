"""Rows in LiveCodeBench's form: every own problem's solution passes; packed, broken and hostile rows."""

import base64
import json
import pickle
import zlib

import pytest

from rolloom.envs.code import rows
from rolloom.envs.code.problems import OWN, CodeProblems
from rolloom.envs.errors import EnvError
from rolloom.envs.registry import make

OWN_ROWS = rows.read_own(OWN)


def cases(*pairs, kind="stdin"):
    return json.dumps([{"input": given, "output": right, "testtype": kind} for given, right in pairs])


def packed(text, as_pickle=False):
    raw = pickle.dumps(text) if as_pickle else text.encode()
    return base64.b64encode(zlib.compress(raw)).decode()


ADD = {
    "question_content": "Print the sum of the two numbers in the input.",
    "public_test_cases": cases(("1 2\n", "3\n")),
    "private_test_cases": cases(("3 4\n", "7\n"), ("10 -4\n", "6\n"), ("0 0\n", "0\n")),
}
SUM = {
    "question": "Return the sum of a list and a number.",
    "starter_code": "class Solution:\n    def total(self, xs, k):\n        ",
    "public_test_cases": cases(("[1, 2]\n3", "6"), kind="functional"),
    "private_test_cases": cases(("[]\n4", "4"), ("[5]\n-1", "4"), ("[7, 7]\n7", "21"), kind="functional"),
    "metadata": json.dumps({"func_name": "total"}),
}
RIGHT_ADD = "print(sum(map(int, input().split())))"
RIGHT_SUM = "class Solution:\n    def total(self, xs: List[int], k: int) -> int:\n        return sum(xs) + k"


def env_with(row, **kwargs):
    env = CodeProblems(data=[row], heldout=[row], **kwargs)
    env.reset(seed=0)
    return env


def pay(row, answer, **kwargs):
    return env_with(row, **kwargs).step(answer)[1]


def test_there_are_enough_own_problems_of_both_kinds():
    kinds = [json.loads(row["public_test_cases"])[0]["testtype"] for row in OWN_ROWS]
    assert len(OWN_ROWS) >= 40 and min(kinds.count("stdin"), kinds.count("functional")) >= 20
    assert len({row["question_content"] for row in OWN_ROWS}) == len(OWN_ROWS)
    assert {row["difficulty"] for row in OWN_ROWS} == {"easy", "medium", "hard"}


@pytest.mark.parametrize("row", OWN_ROWS, ids=[row["question_title"] for row in OWN_ROWS])
def test_the_solution_of_every_own_problem_passes(row):
    env = env_with(row)
    assert env.row is not None and len(env.row.tests) >= 12 and env.row.blind <= 0.45
    assert not [test for test in env.row.public if test in env.row.tests[: env.row.hidden]]
    assert env.step(env.gold())[1] == 1.0


def test_own_problems_are_split_and_drawn_by_seed():
    env = make("code/problems-v0")
    keys = {
        split: {env.reset(seed=seed, options={"split": split})[1]["key"] for seed in range(150)}
        for split in ("train", "heldout")
    }
    assert not keys["train"] & keys["heldout"] and len(keys["heldout"]) >= 5 and len(keys["train"]) >= 25


@pytest.mark.parametrize(
    "row, answer, reward",
    [
        (ADD, RIGHT_ADD, 1.0),
        (ADD, "print(3)", 0.0),
        (ADD, "a, b = map(int, input().split())\nprint(a + abs(b))", 0.0),
        (ADD, "print(7)\nprint(6)\nprint(0)", 0.0),
        (SUM, RIGHT_SUM, 1.0),
        (SUM, "def total(xs, k):\n    return sum(xs) + k", 1.0),
        (SUM, "def total(xs, k):\n    return float(sum(xs) + k)", 1.0),
        (SUM, "from __future__ import annotations\ndef total(xs, k):\n    return sum(xs) + k", 1.0),
        (SUM, "class Solution:\n    def total(self, xs, k):\n        return True", 0.0),
        (SUM, "def total(xs, k):\n    return str(sum(xs) + k)", 0.0),
        (SUM, "__rolloom_entry = lambda *a: 4", 0.0),
        (SUM, "", 0.0),
    ],
)
def test_answers_are_judged_by_the_hidden_tests(row, answer, reward):
    assert pay(row, answer) == reward


def test_tuples_count_as_lists_and_floats_may_be_off_where_the_row_says_so():
    row = {
        **SUM,
        "public_test_cases": cases(("[3]\n2", "[1.5, 2]"), kind="functional"),
        "private_test_cases": cases(("[5]\n3", "[1.6666667, 3]"), ("[9]\n2", "[4.5, 2]"), kind="functional"),
    }
    answer = "def total(xs, k):\n    return xs[0] / k, k"
    exact = {**row, "metadata": json.dumps({"func_name": "total"})}
    loose = {**row, "metadata": json.dumps({"func_name": "total", "tolerance": 1e-6})}
    assert (pay(exact, answer), pay(loose, answer)) == (0.0, 1.0)


@pytest.mark.parametrize("row, answer", [(ADD, "print(3)"), (SUM, "def total(xs, k): return 6")])
def test_per_test_pays_nothing_for_the_public_answer(row, answer):
    assert pay(row, answer, scoring="per_test") == 0.0


@pytest.mark.parametrize("as_pickle", (False, True))
@pytest.mark.parametrize("row, answer", [(ADD, RIGHT_ADD), (SUM, RIGHT_SUM)])
def test_packed_tests_are_read(row, answer, as_pickle):
    assert pay({**row, "private_test_cases": packed(row["private_test_cases"], as_pickle)}, answer) == 1.0
    long = packed("[" + " " * 100_000 + row["private_test_cases"][1:], as_pickle)
    assert pay({**row, "private_test_cases": long}, answer) == 1.0


def test_a_decompression_bomb_is_stopped_at_its_limit():
    bomb = base64.b64encode(zlib.compress(b"[" + b" " * 50_000_000 + b"]")).decode()
    with pytest.raises(EnvError, match="more than 1000000 bytes"):
        rows.unpack(bomb, "private_test_cases", limit=1_000_000)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("thing", [Evil(), ["a", "b"], {"a": 1}, 7, ("x", Evil())])
def test_a_pickle_of_anything_but_text_is_never_loaded(thing):
    text = base64.b64encode(zlib.compress(pickle.dumps(thing))).decode()
    with pytest.raises(EnvError, match="not loaded"):
        rows.unpack(text, "private_test_cases")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"question_content": ""}, "question"),
        ({"private_test_cases": "[]"}, "private_test_cases: expected at least one test"),
        ({"private_test_cases": "[1"}, "not JSON"),
        ({"private_test_cases": "!!!"}, "base64"),
        ({"private_test_cases": '[{"input": 1, "output": "2"}]'}, "texts input and output"),
        ({"private_test_cases": cases(("1", "2"), kind="other")}, "testtype"),
        ({"private_test_cases": cases(("1", "2"), kind="functional")}, "one testtype"),
        ({"metadata": "[]"}, "metadata"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(change, words):
    with pytest.raises(EnvError, match=words):
        env_with({**ADD, **change})


@pytest.mark.parametrize("name", ["", "a b", "f(); import os", "x.y"])
def test_a_function_name_must_be_one(name):
    with pytest.raises(EnvError, match="func_name"):
        env_with({**SUM, "metadata": json.dumps({"func_name": name})})


def test_rows_come_from_a_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({**ADD, "question_content": f"{ADD['question_content']} ({i})"}) + "\n"
            for i in range(12)
        )
    )
    env = CodeProblems(data=str(path))
    env.reset(seed=0, options={"split": "train"})
    assert env.step(RIGHT_ADD)[1] == 1.0
    with pytest.raises(NotImplementedError):
        env.gold()
