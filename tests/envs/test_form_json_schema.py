"""Structured output: schemas that mean something, values that must be right, JSON that bites."""

from __future__ import annotations

import json
import time

import jsonschema
import numpy as np
import pytest

from rolloom.envs.form.fields import FREE, STATED
from rolloom.envs.form.json_schema import JsonSchema, agreement, allowed
from rolloom.envs.form.strict_json import read_json, unfenced


@pytest.mark.parametrize("maker", [maker for _, maker in (*STATED, *FREE)])
def test_a_field_fits_its_own_schema(maker):
    for seed in range(50):
        drawn = maker(np.random.default_rng(seed), "Ada")
        jsonschema.Draft202012Validator.check_schema(drawn.schema)
        assert allowed(drawn.schema, drawn.value), (drawn.schema, drawn.value)
        assert bool(drawn.sentence) != bool(drawn.free)
        for wrong in (None, [], {}, "", 1e6, "zzz") if drawn.name != "sponsor" else (1, []):
            if wrong != drawn.value and not (drawn.name in ("city", "balance") and wrong in ("zzz", 1e6)):
                assert not allowed(drawn.schema, wrong), (drawn.schema, wrong)


@pytest.mark.parametrize("level", range(1, 11))
def test_schemas_are_valid_and_gold_fits(level):
    env = JsonSchema(level=level)
    for seed in range(8):
        env.reset(seed=seed)
        jsonschema.Draft202012Validator.check_schema(env.problem["schema"])
        assert allowed(env.problem["schema"], env.problem["gold"])
        assert len(json.dumps(env.problem)) < 30_000


def answered(env: JsonSchema, seed: int, level: int, text: str) -> tuple[float, dict[str, float]]:
    env.reset(seed=seed, options={"level": level})
    _, reward, *_, info = env.step(text)
    return reward, info["components"]


@pytest.mark.parametrize("level", [1, 5, 8])
def test_every_stated_value_matters(level):
    env = JsonSchema()
    for seed in range(5):
        env.reset(seed=seed, options={"level": level})
        gold, free = env.problem["gold"], set(env.problem["free"])
        record = gold["members"][0] if "members" in gold else gold
        prefix = "/members/0" if "members" in gold else ""
        for name, value in list(record.items()):
            record[name] = (
                not value if isinstance(value, bool) else (value + 1 if isinstance(value, int) else "Zed")
            )
            reward, parts = answered(env, seed, level, json.dumps(gold))
            assert reward == 0.0, (name, value)
            if f"{prefix}/{name}" not in free:
                assert parts["values"] < 1
            record[name] = value
            missing = {key: item for key, item in record.items() if key != name}
            whole = {**gold, "members": [missing, *gold["members"][1:]]} if prefix else missing
            reward, parts = answered(env, seed, level, json.dumps(whole))
            assert (reward, parts["valid"]) == (0.0, 0.0)


def test_free_fields_take_whatever_the_schema_allows():
    env, seen = JsonSchema(), 0
    for seed in range(40):
        env.reset(seed=seed, options={"level": 2})
        gold, schema = dict(env.problem["gold"]), env.problem["schema"]["properties"]
        if "score" in gold:
            gold["score"] += schema["score"]["multipleOf"]
            fits = gold["score"] <= schema["score"]["maximum"]
            assert answered(env, seed, 2, json.dumps(gold))[0] == float(fits)
            gold["score"] -= 1
            assert answered(env, seed, 2, json.dumps(gold))[0] == 0.0
            seen += 1
    assert seen > 5


def test_forms_of_an_answer():
    env = JsonSchema()
    env.reset(seed=1)
    gold = env.gold()
    for text, paid in (
        (gold, 1.0),
        (json.dumps(json.loads(gold), indent=2), 1.0),
        (f"```json\n{gold}\n```", 1.0),
        (f"```\n{gold}\n```", 1.0),
        (f"```python\n{gold}\n```", 0.0),
        (f"```json\n{gold}", 0.0),
        (f"{gold} ", 1.0),
        (f"{gold}.", 0.0),
        (gold.replace('"', "'"), 0.0),
    ):
        assert answered(env, 1, 1, text)[0] == paid, text


def test_no_attack_is_paid():
    env = JsonSchema()
    for level in range(1, 11):
        env.reset(seed=level, options={"level": level})
        for name, text in env.attacks().items():
            assert answered(env, level, level, text)[0] == 0.0, name


BITING = {
    "nan": '{"a": NaN}',
    "infinity": "-Infinity",
    "overflow": '{"a": 1e999}',
    "duplicate": '{"a": 1, "a": 1}',
    "nested duplicate": '{"b": {"a": 1, "a": 1}}',
    "deep list": "[" * 9_999 + "]" * 9_999,
    "deep object": '{"a":' * 3_000 + "1" + "}" * 3_000,
    "65 deep": "[" * 65 + "]" * 65,
    "huge integer": "9" * 19_000,
    "large integer": "1" + "0" * 16,
    "long fraction": "0." + "1" * 10_000,
    "surrogate": '"\\ud800"',
    "too long": '"' + "a" * 20_000 + '"',
    "nothing": "",
    "comment": "{} // x",
    "trailing comma": "[1,]",
    "control": '"\x00"',
}


@pytest.mark.parametrize("name", BITING)
def test_json_that_bites_is_a_value_error(name):
    start = time.thread_time()
    with pytest.raises(ValueError):
        read_json(BITING[name])
    assert time.thread_time() - start < 2


def test_json_that_is_read():
    assert read_json('{"a": [1, 2.5, true, null, "\\u00e9]["]}') == {"a": [1, 2.5, True, None, "é]["]}
    assert read_json("[" * 64 + "]" * 64) is not None
    assert (
        unfenced("```json\n1\n```") == "1\n" and unfenced("```") == "```" and unfenced("``````") == "``````"
    )


def test_agreement_counts_leaves_by_type():
    gold = {"a": 1, "b": [True, "x"], "c": {"d": None}, "e": 5}
    free = frozenset({"/e"})
    assert agreement(gold, gold, free) == (4, 4)
    assert agreement(gold, {**gold, "e": "any"}, free) == (4, 4)
    assert agreement(gold, {**gold, "a": 1.0}, free) == (4, 4)
    assert agreement(gold, {**gold, "a": True}, free) == (3, 4)
    assert agreement(gold, {**gold, "b": [1, "x"]}, free) == (3, 4)
    assert agreement(gold, {**gold, "b": ["x"]}, free) == (2, 4)
    assert agreement(gold, {**gold, "f": 1}, free) == (0, 4)
    assert agreement(gold, [], free) == (0, 4)
