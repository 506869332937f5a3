"""What `rolloom envs new` writes. `@NAME@` and the like stand for what the user chose."""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "@NAME@"
version = "0.1.0"
description = "Environments for rolloom"
requires-python = ">=3.11"
dependencies = ["rolloom"]

[project.optional-dependencies]
dev = ["pytest>=8"]

# Importing this module registers its environments: in every command, and in every worker of a run.
[project.entry-points."rolloom.envs"]
@PACKAGE@ = "@PACKAGE@"

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
pythonpath = ["src"]
"""

README = """\
# @NAME@

Environments for rolloom.

```bash
pip install -e ".[dev]"
pytest
rolloom envs show @ID@
rolloom envs check @ID@
rolloom envs play @ID@
```

To train on it, add its id to a configuration:

```yaml
envs:
  - {id: @ID@, weight: 1}
```
"""

INIT = '''\
"""Environments for rolloom; importing this registers them."""

from @PACKAGE@.@FUNCTION@ import *  # noqa: F403
'''

TEST = '''\
"""The environment proves itself: gold scores 1.0, thoughtless and hostile answers score nothing."""

import @PACKAGE@  # noqa: F401
from rolloom.envs import registry
from rolloom.envs.check import check

ID = "@ID@"


def test_the_card_passes():
    card = check(ID, seconds=5)
    assert card.passed, card.reasons


def test_a_right_and_a_wrong_answer():
    env = registry.make(ID)
    env.reset(seed=0)
    over, score = False, 0.0
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.expert("compact", env.np_random))
        over, score = terminated or truncated, score + reward
    assert score == 1.0
    env.reset(seed=0)
    assert env.step("no idea")[1] == 0.0
'''

MATH = '''\
"""Add numbers."""

from rolloom import environment


@environment("@ID@", kind="math", levels=(1, 5))
def sums(rng, level):
    """Add numbers; every level adds one number and one digit."""
    numbers = [int(n) for n in rng.integers(10**level, 10 ** (level + 1), size=level + 1)]
    question = " + ".join(map(str, numbers))
    return {"prompt": f"{question} = ? Answer with the number only.", "answer": sum(numbers)}
'''

CODE = '''\
"""Write a function that passes hidden tests."""

from rolloom import environment
from rolloom.envs.code.answers import extract_code
from rolloom.envs.sandbox import run_function, same_value


@environment("@ID@", kind="code", levels=(1, 5))
def functions(rng, level):
    """Write a function of one number; every level makes its constants a digit longer."""
    a, b, m = (int(n) for n in rng.integers(10**level, 10 ** (level + 1), size=3))
    inputs = [[int(n)] for n in rng.integers(-1000, 1000, size=8)]
    return {
        "prompt": f"Write a Python function f(x) that returns ({a} times x plus {b}) modulo {m}. Code only.",
        "inputs": inputs,
        "answer": [(a * x + b) % m for (x,) in inputs],
        "gold": f"def f(x):\\n    return ({a} * x + {b}) % {m}",
    }


@functions.reward()
def passes_all_tests(turn, row):
    """Run the program in the sandbox; the expected values stay here."""
    source = extract_code(turn.content)
    if not source.strip():
        return 0.0
    calls = run_function(source, "f", row["inputs"]).calls
    return all(
        call.error is None and same_value(call.value, want)
        for call, want in zip(calls, row["answer"], strict=True)
    )
'''

TOOLS = '''\
"""Answer a question by calling tools."""

from rolloom import environment, render_call, tool


@environment("@ID@", kind="tools", levels=(1, 5), max_turns=8)
class prices:
    """Add the prices of some things, looked up one by one."""

    def reset(self, rng, level):
        things = ["apple", "bread", "chair", "drum", "easel", "fork", "glove", "hat"]
        self.prices = {thing: int(rng.integers(100, 10_000)) for thing in things}
        self.wanted = [str(thing) for thing in rng.choice(things, size=level + 1, replace=False)]
        self.seen = []
        self.key = [self.wanted, [self.prices[thing] for thing in self.wanted]]
        return f"What do {', '.join(self.wanted)} cost together? Answer with the number only."

    @tool
    def price(self, thing: str) -> int:
        """Price of one thing.

        Args:
            thing: its name.
        """
        self.seen.append(thing)
        return self.prices[thing]

    def step(self, turn):
        """Score a turn without tool calls: the answer."""
        return turn.content == str(sum(self.prices[thing] for thing in self.wanted))

    def gold(self):
        """Return a right next turn."""
        for thing in self.wanted:
            if thing not in self.seen:
                return render_call("price", {"thing": thing})
        return str(sum(self.prices[thing] for thing in self.wanted))
'''

AGENT = '''\
"""Bring a small world into a wanted state."""

from rolloom import environment, render_call, tool

PLACES = ["shelf", "drawer", "box", "table", "bag"]


@environment("@ID@", kind="agent", levels=(1, 5), max_turns=12)
class tidying:
    """Put things where they belong; scored by where everything is in the end."""

    def reset(self, rng, level):
        names = ["pen", "cup", "key", "map", "coin", "lamp", "rope", "book"]
        self.where = {name: str(rng.choice(PLACES)) for name in names}
        self.wanted = dict(self.where)
        orders = []
        for name in rng.choice(names, size=level + 1, replace=False):
            there = [place for place in PLACES if place != self.where[name]]
            self.wanted[str(name)] = str(rng.choice(there))
            orders.append(f"the {name} into the {self.wanted[name]}")
        return f"Put {' and '.join(orders)}, and move nothing else. Say done when you are."

    @tool
    def look(self) -> dict:
        """Where everything is."""
        return self.where

    @tool
    def move(self, thing: str, place: str) -> str:
        """Move one thing to a place.

        Args:
            thing: its name.
            place: shelf, drawer, box, table or bag.
        """
        if place not in PLACES:
            raise ValueError("there is no such place")
        self.where[thing], before = place, self.where[thing]
        return f"moved from the {before} to the {place}"

    def step(self, turn):
        """Score a turn without tool calls by the state of the world."""
        return self.where == self.wanted

    def gold(self):
        """Return a right next turn."""
        for name, place in self.wanted.items():
            if self.where[name] != place:
                return render_call("move", {"thing": name, "place": place})
        return "done"
'''

ENVIRONMENTS = {
    "math": ("sums", MATH),
    "code": ("functions", CODE),
    "tools": ("prices", TOOLS),
    "agent": ("tidying", AGENT),
}
"""Kind -> name of the example's function or class, and its module."""
