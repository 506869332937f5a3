"""`tools/mcp-v0`: a stockroom behind a real MCP server, looked up and changed over several turns.

The server is `stockroom_server`, one process a worker for all episodes; the episode's state is loaded with
its first call and read back when it ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import rolloom
from rolloom.envs.adapters.mcp import McpEnv
from rolloom.envs.errors import EnvError, ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tools.solver import CountingTools, SolvedEnv, Tools
from rolloom.envs.tools.stockroom import Stockroom
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply

COLOURS = ("red", "blue", "green", "black", "white", "grey", "yellow", "brown", "silver", "purple")
SIZES = ("small", "large", "long", "short", "heavy", "light", "wide", "narrow")
THINGS = (
    *("lamp", "chair", "drill", "rope", "bucket", "ladder", "clock", "kettle", "mirror", "basket", "brush"),
    *("tape", "hinge", "valve", "pump", "cable", "filter", "shelf", "tray", "wrench"),
)
# Of each level: items in stock, jobs (fewest, most), kinds of job, prices asked for at the end.
LEVELS = (
    (8, (0, 0), (), 1),
    (10, (0, 0), (), 2),
    (12, (1, 1), ("move", "quantity"), 1),
    (16, (1, 2), ("move", "quantity", "price"), 1),
    (20, (2, 2), ("move", "quantity", "price", "discount"), 2),
    (24, (2, 3), ("quantity", "price", "discount", "like"), 2),
    (28, (3, 4), ("move", "quantity", "discount", "like"), 2),
    (32, (3, 4), ("quantity", "discount", "like", "empty"), 3),
    (40, (4, 5), ("move", "quantity", "discount", "like", "empty"), 3),
    (48, (5, 7), ("quantity", "discount", "like", "empty"), 4),
)
Job = dict[str, Any]


class McpStockroom(SolvedEnv, McpEnv):
    """Look up and change a stockroom through the tools of an MCP server (official SDK, over stdio).

    The request names items and jobs to do in order, then asks for a sum of prices. The reward is 1.0 when the
    number is right and the stockroom is exactly as the jobs leave it, else 0.0; the components say which.

    | level | what it adds |
    |---|---|
    | 1-2 | the price of one item, the sum of two; 8-10 items |
    | 3-4 | one or two changes first: move, add or take stock, set a price |
    | 5-7 | discounts, prices copied from other items, up to 4 jobs; up to 28 items with similar names |
    | 8-10 | emptying bins into others, up to 7 jobs, sums of 3-4 prices, up to 48 items |
    """

    command = sys.executable
    args = ("-m", "rolloom.envs.tools.stockroom_server")
    # The server imports this same package, installed or not.
    env = {"PYTHONPATH": str(Path(rolloom.__file__).parent.parent)}  # noqa: RUF012  # never changed
    hidden = ("load", "dump")
    session = "process"
    reminder = "The request has to be worked through in order."

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"items", "jobs", "asked"}`."""
        count, (fewest, most), kinds, asked = LEVELS[level - 1]
        names = _names(rng, count, similar=level >= 5)
        skus = [f"SKU-{n}" for n in rng.choice(9_000, size=count, replace=False) + 1_000]
        bins = [f"{'ABCDEFGH'[n // 40]}{n % 40:02d}" for n in rng.integers(0, 320, size=max(3, count // 3))]
        items = {
            sku: {
                "name": name,
                "bin": str(rng.choice(bins)),
                "quantity": int(rng.integers(50, 900)),
                "price": int(rng.integers(1_000, 99_999)),
            }
            for sku, name in zip(skus, names, strict=True)
        }
        number = int(rng.integers(fewest, most + 1))
        jobs = [self._job(rng, str(rng.choice(kinds)), items) for _ in range(number)]
        touched = [job["item"] for job in jobs if job["kind"] in ("price", "discount", "like")]
        others = [str(name) for name in rng.permutation(names)]
        chosen = list(dict.fromkeys([*touched[:1], *others]))[:asked]
        return {"items": items, "jobs": jobs, "asked": chosen}

    @staticmethod
    def _job(rng: np.random.Generator, kind: str, items: dict[str, Any]) -> Job:
        first, second = (items[sku] for sku in rng.choice(sorted(items), size=2, replace=False))
        letters = "ABCDEFGH"
        to = f"{letters[int(rng.integers(8))]}{int(rng.integers(40, 99))}"
        if kind == "empty":
            return {"kind": kind, "bin": first["bin"], "to": to}
        job: Job = {"kind": kind, "item": first["name"]}
        if kind == "move":
            job["to"] = to
        elif kind == "quantity":
            job["by"] = int(rng.integers(2, 49)) * (1 if rng.random() < 0.5 else -1)
        elif kind == "price":
            job["cents"] = int(rng.integers(1_000, 99_999))
        elif kind == "discount":
            job["percent"] = int(rng.integers(1, 51))
        else:
            job["like"] = second["name"]
        return job

    def prompt(self) -> Messages:
        """Return the request."""
        prices = " and the ".join(self.problem["asked"])
        if not self.problem["jobs"]:
            text = f"What is the price of the {prices}"
        else:
            jobs = "\n".join(f"{i}. {_told(job)}." for i, job in enumerate(self.problem["jobs"], 1))
            text = f"In our stockroom, do this in order:\n{jobs}\nThen: what is the price of the {prices}"
        together = " together, in cents" if len(self.problem["asked"]) > 1 else ", in cents"
        return (Message(role="user", content=f"{text}{together}? Answer with the number only."),)

    async def begin(self) -> None:
        """Allow one call a turn, and work out what the stockroom should become."""
        await super().begin()
        wanted = Stockroom(self.problem["items"])
        self.limit_turns(_work(self.problem, wanted))
        self._wanted, self._answer = wanted.items, str(_sum(self.problem, wanted))

    async def setup(self) -> None:
        """Load the episode's items into the server."""
        await self.call("load", items=self.problem["items"])

    async def answer(self, turn: AssistantTurn) -> Reply:
        """Score the number and the state that the server holds."""
        items = self.problem["items"]
        if self.calls:
            try:
                items = json.loads(await self.call("dump"))
            except ToolError as error:
                raise EnvError(f"the stockroom's state is lost: {error}") from error
        answered, state = turn.content == self._answer, items == self._wanted
        right = float(answered and state)
        parts = {"correct": right, "answer_right": float(answered), "state_right": float(state)}
        return Reply(reward=right, done=True, components=parts)

    def solution(self, tools: Tools) -> int:
        """Do the jobs in order and add up the prices."""
        return _follow(self.problem, tools)

    def attacks(self) -> dict[str, str]:
        """Return attempts to reach the hidden tools, and the answer without the jobs."""
        return {
            "load": render_call("load", {"items": {}}),
            "dump": render_call("dump", {}),
            "no such item": render_call("get_item", {"sku": "' OR 1=1 --"}),
        }


def _names(rng: np.random.Generator, count: int, similar: bool) -> list[str]:
    """Return distinct names; similar ones share all but one word."""
    things = [
        str(t) for t in rng.choice(THINGS, size=max(2, count // 6) if similar else count, replace=not similar)
    ]
    names: dict[str, None] = {}
    while len(names) < count:
        thing = things[int(rng.integers(len(things)))]
        names[f"{rng.choice(SIZES)} {rng.choice(COLOURS)} {thing}"] = None
        if len(names) > 3 and rng.random() < 0.05:
            things.append(str(rng.choice(THINGS)))
    return list(names)


def _told(job: Job) -> str:
    kind = job["kind"]
    if kind == "empty":
        return f"Move everything that is in bin {job['bin']} by then to bin {job['to']}"
    item = f"the {job['item']}"
    if kind == "move":
        return f"Move {item} to bin {job['to']}"
    if kind == "quantity":
        verb, preposition = ("Add", "to") if job["by"] > 0 else ("Take", "from")
        return f"{verb} {abs(job['by'])} {preposition} the quantity of {item}"
    if kind == "price":
        return f"Set the price of {item} to {job['cents']} cents"
    if kind == "discount":
        return f"Lower the price of {item} by {job['percent']}%, rounded down to whole cents"
    return f"Give {item} the price that the {job['like']} has by then"


def _follow(problem: dict[str, Any], tools: Tools) -> int:
    """Do a problem's jobs through `tools.call` and return the sum that is asked for."""
    known: dict[str, str] = {}

    def sku(name: str) -> str:
        if name not in known:
            known[name] = tools.call("find_items", f"The SKU of the {name} is needed.", text=name)[0]["sku"]
        return known[name]

    def price(name: str) -> int:
        return tools.call("get_item", f"The price of the {name} is needed.", sku=sku(name))["price"]

    for job in problem["jobs"]:
        why = f"The job is to {_told(job)[0].lower()}{_told(job)[1:]}."
        if job["kind"] == "empty":
            for code in tools.call("list_bin", why, code=job["bin"]):
                tools.call("move_item", why, sku=code, to_bin=job["to"])
        elif job["kind"] == "move":
            tools.call("move_item", why, sku=sku(job["item"]), to_bin=job["to"])
        elif job["kind"] == "quantity":
            tools.call("change_quantity", why, sku=sku(job["item"]), by=job["by"])
        else:
            if job["kind"] == "price":
                cents = job["cents"]
            elif job["kind"] == "discount":
                cents = price(job["item"]) * (100 - job["percent"]) // 100
            else:
                cents = price(job["like"])
            tools.call("set_price", why, sku=sku(job["item"]), cents=cents)
    return sum(price(name) for name in problem["asked"])


def _work(problem: dict[str, Any], room: Stockroom) -> int:
    """Do a problem's jobs on a stockroom; return the number of calls that it took."""
    tools = CountingTools(
        {
            **{"find_items": room.find, "get_item": room.get, "list_bin": room.in_bin},
            **{"move_item": room.move, "change_quantity": room.change_quantity, "set_price": room.set_price},
        }
    )
    _follow(problem, tools)
    return tools.count


def _sum(problem: dict[str, Any], room: Stockroom) -> int:
    prices = {item["name"]: item["price"] for item in room.items.values()}
    return sum(prices[name] for name in problem["asked"])
