"""Answer a question by searching a corpus: facts of a made-up world, one to three documents apart."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from rolloom.envs.errors import EnvError, ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import tool
from rolloom.envs.tools.bm25 import Index
from rolloom.envs.tools.search_world import chain, documents, make_world, question, read
from rolloom.envs.tools.solver import CountingTools, SolvedEnv, Tools
from rolloom.envs.types import AssistantTurn, Message, Messages

MAX_HITS = 10
# Of each level: entities, share of namesakes, chains, hops of each (fewest, most), facts split over two
# documents, titles that tell namesakes apart.
LEVELS = (
    (52, 0.0, 1, (1, 1), False, True),
    (56, 0.15, 1, (1, 1), False, True),
    (60, 0.15, 1, (2, 2), False, True),
    (60, 0.25, 1, (2, 2), False, False),
    (70, 0.3, 1, (2, 3), False, False),
    (80, 0.35, 1, (3, 3), False, False),
    (80, 0.35, 1, (3, 3), True, False),
    (90, 0.4, 2, (2, 2), True, False),
    (100, 0.45, 2, (3, 3), True, False),
    (110, 0.5, 3, (3, 3), True, False),
)


class Search(SolvedEnv):
    """Multi-hop questions over a generated corpus, with `search` (BM25) and `open`; reward 1.0 or 0.0.

    Every problem has its own world of people, companies, towns, rivers, mountains and books, in 50 to 200
    short documents. The answer is a number, or the sum of several, and the reward is 1.0 when the final
    content is exactly that.

    | level | what it adds |
    |---|---|
    | 1-2 | one document has the answer; namesakes |
    | 3-4 | two hops; from level 4 titles do not tell namesakes apart |
    | 5-6 | up to three hops, more namesakes |
    | 7 | the facts of a thing stand in two documents |
    | 8-10 | the sum of two or three chains of two or three hops; half of the names are shared |
    """

    max_turns = 40
    reminder = "The facts have to be found one after another."
    spare_turns = 6

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"documents", "chains", "answer"}`; a chain is `{"start", "facts"}`."""
        count, namesakes, number, hops, split, clear = LEVELS[level - 1]
        world = make_world(rng, count, namesakes)
        corpus = documents(rng, world, split, clear)
        chains, answers = [], []
        while len(chains) < number:
            drawn = chain(rng, world, int(rng.integers(hops[0], hops[1] + 1)))
            if drawn is not None:
                chains.append({"start": drawn[0].said, "facts": drawn[1]})
                answers.append(int(drawn[2]))
        return {"documents": corpus, "chains": chains, "answer": str(sum(answers))}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the question and the answer; other documents make no new problem."""
        return f"{_asked(problem)} {problem['answer']}"

    def prompt(self) -> Messages:
        """Return the question."""
        text = f"Search the documents. What is {_asked(self.problem)}? Answer with the number only."
        return (Message(role="user", content=text),)

    def begin(self) -> None:
        """Index the corpus; allow what a careful reader needs."""
        self._index = Index([f"{title} {title} {text}" for title, text in self.problem["documents"]])
        tools = CountingTools({"search": self.search, "open": self.open})
        if _follow(self.problem, tools) != self.problem["answer"]:
            raise EnvError("the search does not lead to the answer of this problem")
        self.limit_turns(tools.count)

    def answer(self, turn: AssistantTurn) -> float:
        """Return 1.0 for exactly the answer."""
        return float(turn.content == self.problem["answer"])

    @tool
    def search(
        self,
        query: Annotated[str, Field(max_length=300)],
        k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 5,
    ) -> list:
        """Find documents by words; returns ids and titles, best first.

        Args:
            query: words.
            k: most results.
        """
        places = self._index.search(query, k)
        return [{"id": f"d{place}", "title": self.problem["documents"][place][0]} for place in places]

    @tool
    def open(self, doc_id: Annotated[str, Field(max_length=20)]) -> str:
        """Return the text of a document."""
        digits, count = doc_id[1:], len(self.problem["documents"])
        if doc_id[:1] != "d" or not (digits.isascii() and digits.isdigit()):
            raise ToolError("a document's id looks like d12; search gives ids")
        if int(digits) >= count:
            raise ToolError(f"there are the documents d0 to d{count - 1}")
        return self.problem["documents"][int(digits)][1]

    def solution(self, tools: Tools) -> str:
        """Follow each chain: search for what is named, read its documents until the fact is found."""
        answer = _follow(self.problem, tools)
        assert answer is not None
        return answer

    def attacks(self) -> dict[str, str]:
        """Return searches and ids that no index expects."""
        return {
            "search for nothing": render_call("search", {"query": "", "k": 10}),
            "all words": render_call("search", {"query": "a " * 149, "k": 10}),
            "id of a path": render_call("open", {"doc_id": "../../etc/passwd"}),
            "id out of range": render_call("open", {"doc_id": "d99999999"}),
            "the question": _asked(self.problem),
        }


def _asked(problem: dict[str, Any]) -> str:
    parts = [question(one["start"], one["facts"]) for one in problem["chains"]]
    return parts[0] if len(parts) == 1 else f"the sum of {', '.join(parts[:-1])} and {parts[-1]}"


def _follow(problem: dict[str, Any], tools: Tools) -> str | None:
    """Return the answer as read from the documents, or None where the search does not lead to it."""
    total, opened = 0, dict[str, str]()
    for one in problem["chains"]:
        here = one["start"]
        for fact in one["facts"]:
            value = _look_up(tools, opened, here, fact)
            if value is None:
                return None
            here = value
        total += int(here)
    return str(total)


def _look_up(tools: Tools, opened: dict[str, str], said: str, fact: str) -> str | None:
    why = f"What is wanted is {question(said, [fact])}."
    hits = tools.call("search", why, query=said.removeprefix("the "), k=MAX_HITS)
    for hit in hits:
        name, _, qualifier = hit["title"].removesuffix(")").partition(" (")
        if not said.endswith(f" {name}") or (qualifier and said != f"the {qualifier} {name}"):
            continue
        if hit["id"] not in opened:
            opened[hit["id"]] = tools.call("open", why, doc_id=hit["id"])
        text = opened[hit["id"]]
        if text.startswith(f"T{said[1:]} "):
            value = read(text, fact)
            if value is not None:
                return value
    return None
