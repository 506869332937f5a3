"""Structured output: extract the facts of a text into JSON that a generated schema allows."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.form.fields import FREE, STATED, Field, closed
from rolloom.envs.form.strict_json import read_json
from rolloom.envs.knowledge.words import NAMES, pick, tell
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

COUNTS = ((2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (6, 2), (8, 2), (9, 3), (11, 4))
"""Stated and free fields of a record at each level."""

RECORDS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 4)
"""Records of each level; from two on they are a list."""


class JsonSchema(TextEnv):
    """Write the facts of a text as JSON by a schema (Draft 2020-12).

    The reward is 1.0 when the answer is one JSON value, bare or in one code fence, that the schema allows
    and whose values are those of the text. Fields that the text does not mention are free: the schema alone
    decides. Components: `parsed`, `valid`, and `values` (share of the stated values that are right).

    | level | adds |
    |---|---|
    | 1 | strings, integers, dates, enumerations, booleans; one free number |
    | 2 | numbers, patterns |
    | 3 | lists, nullable fields, free text |
    | 4 | nested objects |
    | 5 | lists of objects, free choices with `contains` |
    | 7 | several records (`$defs`, `$ref`), tuples |
    | 8 | alternatives (`oneOf`) |
    | 10 | four records of fifteen fields |
    """

    answer_in_prompt = True  # extraction: the values are in the text by design

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"schema", "text", "gold", "free": [path, ...], "steps"}`."""
        stated_count, free_count = COUNTS[level - 1]
        # The same fields in every record, in another order of sentences each.
        stated = pick(rng, [make for low, make in STATED if level >= low], stated_count)
        free = pick(rng, [make for low, make in FREE if level >= low], free_count)
        names = pick(rng, NAMES, RECORDS[level - 1])
        one_schema = int(rng.integers(2**31))
        records, texts, steps, places = [], [], [], []
        schema: dict[str, Any] = {}
        for index, who in enumerate(names):
            own = np.random.default_rng(int(rng.integers(2**31)))
            shared = np.random.default_rng(one_schema)
            drawn = [make(own, who) for make in stated] + [_free(make, shared, who) for make in free]
            schema = _schema(drawn)
            records.append({"name": who} | {field.name: field.value for field in drawn})
            said = [field.sentence for field in drawn if field.sentence]
            texts.append(" ".join([f"{who} is a member.", *pick(own, said, len(said))]))
            prefix = f"/members/{index}" if len(names) > 1 else ""
            places += [f"{prefix}/{field.name}" for field in drawn if field.free]
            for field in drawn:
                value = json.dumps(field.value, ensure_ascii=False)
                why = field.sentence or "The text does not say; the schema allows this."
                steps.append([f"{field.name} {value}", f"{why} So {field.name} is {value}."])
        gold: Any = records[0]
        if len(names) > 1:
            listed = {
                **{"type": "array", "items": {"$ref": "#/$defs/member"}},
                **{"minItems": 1, "description": "in the order of the text"},
            }
            count = {"type": "integer", "description": "number of members"}
            schema = closed({"members": listed, "count": count}) | {"$defs": {"member": schema}}
            gold = {"members": records, "count": len(names)}
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        text = "\n".join(texts)
        return {"schema": schema, "text": text, "gold": gold, "free": places, "steps": steps}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return schema and text."""
        return json.dumps([problem["schema"], problem["text"]])

    def prompt(self) -> Messages:
        """Return schema and text as one user message."""
        schema = json.dumps(self.problem["schema"], ensure_ascii=False)
        content = (
            "Write what the text says as one JSON value that this schema allows. Where it says nothing, "
            f"anything allowed will do.\n\nSchema:\n{schema}\n\nText:\n{self.problem['text']}"
        )
        return (Message(role="user", content=content),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: 1.0 for JSON that is valid and right."""
        parts = {"correct": 0.0, "parsed": 0.0, "valid": 0.0, "values": 0.0}
        if turn.malformed is None and not turn.tool_calls:
            try:
                value = read_json(turn.content)
            except ValueError:
                return Reply(done=True, components=parts)
            right, total = agreement(self.problem["gold"], value, frozenset(self.problem["free"]))
            valid = allowed(self.problem["schema"], value)
            parts = {"correct": float(valid and right == total), "parsed": 1.0, "valid": float(valid)}
            parts["values"] = right / total
        return Reply(reward=parts["correct"], done=True, components=parts)

    def gold(self) -> str:
        """Return the JSON."""
        return json.dumps(self.problem["gold"], ensure_ascii=False)

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return each field's value and where it is from."""
        return tell(self.problem["steps"], style, rng)

    def attacks(self) -> dict[str, str]:
        """Return JSON that is empty, doubled, wrapped or typed wrongly."""
        gold = self.gold()
        return {
            "empty object": "{}",
            "the schema": json.dumps(self.problem["schema"]),
            "twice": gold + "\n" + gold,
            "in a list": f"[{gold}]",
            "as a string": json.dumps(gold),
            "duplicate key": gold[:-1] + ', "name": "x"}',
            "extra key": gold[:-1] + ', "extra": 1}',
            "with words": "Here it is: " + gold,
            "python": str(self.problem["gold"]),
            "two fences": f"```json\n{gold}\n```\n```json\n{{}}\n```",
        }


def _free(make: Any, rng: np.random.Generator, who: str) -> Field:
    """Return a free field; records share one schema, so nothing in it may name a person."""
    return make(rng, "member")


def _schema(fields: list[Field]) -> dict[str, Any]:
    return closed(
        {"name": {"type": "string", "minLength": 1}} | {field.name: field.schema for field in fields}
    )


def allowed(schema: dict[str, Any], value: Any) -> bool:
    """Return True when a schema of ours (Draft 2020-12, formats checked) allows a value."""
    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return checker.is_valid(value)


def agreement(gold: Any, value: Any, free: frozenset[str], path: str = "") -> tuple[int, int]:
    """Return how many leaves of `gold` a value has right, and how many there are; free places do not count.

    A list of another length, and an object with other keys, has nothing right. `true` is not 1; 2.0 is 2.
    """
    if path in free:
        return 0, 0
    if isinstance(gold, dict):
        fits = isinstance(value, dict) and value.keys() == gold.keys()
        pairs = [(item, value[name] if fits else None, f"{path}/{name}") for name, item in gold.items()]
    elif isinstance(gold, list):
        fits = isinstance(value, list) and len(value) == len(gold)
        pairs = [(item, value[at] if fits else None, f"{path}/{at}") for at, item in enumerate(gold)]
    else:
        same_kind = isinstance(gold, bool) == isinstance(value, bool)
        return int(same_kind and gold == value), 1
    counts = [agreement(item, other, free, place) for item, other, place in pairs]
    total = sum(count for _, count in counts)
    return (sum(right for right, _ in counts) if fits else 0), total
