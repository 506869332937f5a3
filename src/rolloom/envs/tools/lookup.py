"""Answer a question about a hidden table by JSON-schema function calls, over several turns.

`total of apple, pear? number only` -> lookup apple -> 3 -> lookup pear -> 4 -> `7`. The first turn without a
tool call is the answer and ends the episode. Levels add references to follow (`owner of twin of apple`), more
terms, larger numbers, tools that do not help, and from level 8 a product that no tool computes. No constant
answer is right more than about once in twenty times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.parsing import render_call
from rolloom.envs.tools.lookup_expert import Known, question, write_turn
from rolloom.envs.tools.schema import arguments_schema, check_arguments, plain
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, ToolCall, ToolSpec

ITEMS = (
    *("apple", "pear", "plum", "lemon", "melon", "grape", "bread", "milk", "egg", "rice", "corn", "bean"),
    *("cup", "fork", "lamp", "book", "desk", "door", "shoe", "hat", "coat", "bell", "ring", "key"),
)
REFERENCES = ("owner", "twin", "rival", "parent", "partner")
DISTRACTORS = ("weight", "age")


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level draws from.

    Attributes:
        terms: fewest and most terms of the question.
        depth: fewest and most references followed before a term's number is looked up.
        low: smallest number in the table of a `total` or `product`.
        high: largest such number.
        distractors: tools on offer that no question needs.
        kinds: kinds of question.
    """

    terms: tuple[int, int]
    depth: tuple[int, int]
    low: int
    high: int
    distractors: int = 0
    kinds: tuple[str, ...] = ("total", "join")


LEVELS = (
    Difficulty((2, 2), (0, 0), 0, 9),
    Difficulty((2, 3), (0, 0), 0, 19),
    Difficulty((2, 2), (0, 1), 0, 49),
    Difficulty((2, 3), (0, 2), 0, 99, 1),
    Difficulty((3, 3), (1, 2), 0, 999, 1),
    Difficulty((3, 4), (1, 3), 0, 9_999, 2),
    Difficulty((4, 5), (2, 4), 0, 99_999, 2),
    Difficulty((3, 3), (2, 5), 1_000, 9_999, 2, ("product",)),
    Difficulty((3, 4), (4, 6), 10_000, 99_999, 2, ("product",)),
    Difficulty((4, 5), (6, 8), 100_000, 999_999, 2, ("product",)),
)


class Lookup(TextEnv):
    """Multi-turn tool use; reward 1.0 when the final content is exactly the answer's digits, else 0.0.

    | level | what it adds |
    |---|---|
    | 1-2 | the total, or the joined digits, of two or three looked-up numbers |
    | 3-4 | references to follow first (`owner of twin of apple`); a tool that does not help |
    | 5-7 | up to 5 terms, up to 4 references each, numbers of up to 5 digits |
    | 8-10 | products, which no tool computes, of 3-5 numbers behind up to 8 references |

    Attributes:
        known: results of this episode's successful calls, `(tool, arguments...) -> text`.
    """

    max_turns = 6

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._turns_given = kwargs.get("max_turns") is not None

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"kind", "terms", "tables"}`; every table is a tool of its name.

        A term is `[item, reference, ..., reference]`, the references in the order in which they are followed.
        """
        drawn = LEVELS[level - 1]
        kind = str(rng.choice(drawn.kinds))
        count = int(rng.integers(drawn.terms[0], drawn.terms[1] + 1))
        items = [str(item) for item in rng.choice(ITEMS, size=count, replace=False)]
        depths = rng.integers(drawn.depth[0], drawn.depth[1] + 1, size=count)
        terms = [
            [item, *map(str, rng.choice(REFERENCES, size=depth))]
            for item, depth in zip(items, depths, strict=True)
        ]
        low, high = (10, 99) if kind == "join" else (drawn.low, drawn.high)
        tables: dict[str, dict[str, str | int]] = {}
        for name in ("lookup", *DISTRACTORS[: drawn.distractors]):
            tables[name] = {item: int(rng.integers(low, high + 1)) for item in ITEMS}
        for name in sorted({reference for term in terms for reference in term[1:]}):
            tables[name] = dict(zip(ITEMS, map(str, rng.permutation(ITEMS)), strict=True))
        return {"kind": kind, "terms": terms, "tables": tables}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the question and the table entries that answer it; other entries make no new problem."""
        chains = [follow(problem["tables"], term) for term in problem["terms"]]
        return str((problem["kind"], problem["terms"], chains))

    def begin(self) -> None:
        """Forget the last episode; allow one call a turn, additions included, and two spare turns."""
        self.known: Known = {}
        terms = self.problem["terms"]
        turns = sum(map(len, terms)) + len(terms) + 2
        if not self._turns_given:
            self.max_turns = turns  # pyright: ignore[reportAttributeAccessIssue]  # the limit depends on the problem

    def prompt(self) -> Messages:
        """Return the question as one short user message."""
        return (Message(role="user", content=f"{question(self.problem)}? number only"),)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return `lookup`, the references and distractors of this problem, and `add`."""
        item = arguments_schema(item="string")
        specs = [
            ToolSpec(name, f"{name} of an item", item) for name in self.problem["tables"] if name != "lookup"
        ]
        number = ToolSpec("lookup", "number of an item", item)
        return (number, *specs, ToolSpec("add", "sum of a and b", arguments_schema(a="integer", b="integer")))

    def answer(self) -> str:
        """Return the right answer: two-digit numbers side by side for `join`, else their sum or product."""
        tables = self.problem["tables"]
        numbers = [int(follow(tables, term)[-1]) for term in self.problem["terms"]]
        if self.problem["kind"] == "join":
            return "".join(map(str, numbers))
        return str(sum(numbers) if self.problem["kind"] == "total" else math.prod(numbers))

    def respond(self, turn: AssistantTurn) -> Reply:
        """Answer the calls in order, or score the content if there are none; a bad turn is told why."""
        if turn.malformed is not None:
            return Reply((Message(role="tool", content=f"error: {turn.malformed}"),))
        if turn.tool_calls:
            return Reply(tuple(Message(role="tool", content=self._run(call)) for call in turn.tool_calls))
        right = float(turn.content == self.answer())
        return Reply(reward=right, done=True, components={"correct": right})

    def _run(self, call: ToolCall) -> str:
        specs = {spec.name: spec for spec in self.tools()}
        if call.name not in specs:
            return f"error: unknown tool {plain(call.name)}, expected {', '.join(specs)}"
        problem = check_arguments(specs[call.name], call.arguments)
        if problem is not None:
            return f"error: {problem}"
        if call.name == "add":
            a, b = call.arguments["a"], call.arguments["b"]
            return self.known.setdefault(("add", a, b), str(a + b))
        item = call.arguments["item"]
        if item not in self.problem["tables"][call.name]:
            return f"error: unknown item {plain(item)}"
        return self.known.setdefault((call.name, item), str(self.problem["tables"][call.name][item]))

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return the next turn of a solution, told from the results that the episode has brought so far."""
        thought, calls, content = write_turn(self.problem, self.known, style, rng)
        after = "\n".join(render_call(call.name, call.arguments) for call in calls)
        return f"<think>\n{thought}</think>\n{after or content}"


def follow(tables: dict[str, dict[str, str | int]], term: list[str]) -> list[str | int]:
    """Return what each call of a term brings: the items referred to, then the last one's number."""
    found: list[str | int] = [term[0]]
    for tool in (*term[1:], "lookup"):
        found.append(tables[tool][str(found[-1])])
    return found[1:]
