"""Write a program that reads standard input and prints the answer. See `StdioProgram`."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.code import cheats, expert, pipeline
from rolloom.envs.code import inputs as drawing
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.families import FAMILIES, Family
from rolloom.envs.code.families.core import LAYOUTS, PRINTING, source_of, write_input, write_output
from rolloom.envs.code.judging import (
    NOTHING,
    TESTS_DEADLINE_S,
    Scoring,
    check_scoring,
    in_time,
    pay,
    within_budget,
)
from rolloom.envs.code.outputs import same_output
from rolloom.envs.sandbox import Case, run_program
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style, content_key

HIDDEN, TOLERANCE = 8, 1e-6
MIN_DISTINCT, MAX_COMMON = 4, 0.4
CPU_S, TIMEOUT_S, MEMORY_MB = 2, 10.0, 512
SIZES = (5, 6, 8, 9, 10, 11, 12, 14, 16, 20)
FAMILY_LEVELS = {
    1: (1, 2),
    2: (2, 3),
    3: (2, 4),
    4: (3, 5),
    5: (4, 6),
    6: (5, 6),
    7: (5, 7),
    8: (6, 8),
    9: (6, 8),
    10: (7, 8),
}
CHAIN_SHARE = {1: 0.8, 2: 0.5, 3: 0.35, 4: 0.2}
"""Share of problems that chain steps on one list or string instead of a family's task, by level."""

CHAIN_READS = {"Ints": "ints", "str": "text", "int": "int"}
CHAIN_PRINTS = {"int": "value", "str": "value", "Ints": "ints", "Words": "lines"}


@cache
def _families(level: int) -> tuple[Family, ...]:
    low, high = FAMILY_LEVELS[level]
    return tuple(f for f in FAMILIES.values() if low <= f.level <= high)


class StdioProgram(TextEnv):
    """Write a Python program that reads standard input and prints the answer; hidden tests decide.

    Problems come from 28 families (parsing, simulation, counting, greedy choices, dynamic programming,
    graphs), each with parameters, and from chains of the steps of `code/synthesis-v0`. The program runs once
    a hidden test, in a confined child of its own; its output is compared here, token by token (whitespace
    does not count; numbers printed with 6 digits may be off by 0.000001). The reward is 1.0 when all hidden
    tests pass, else 0.0; the first failed test ends the run, `tests_passed` is the share until then.

    | level | adds |
    |---|---|
    | 1, 2 | chains of two steps on a list or a string; sums over parsed lines |
    | 3, 4 | robots, stack machines, cellular automata, brackets, greedy selection |
    | 5, 6 | several cases in one input; queues, knapsack, edit distance, expression parsing |
    | 7, 8 | shortest paths, spanning trees, topological order, mazes |
    | 9, 10 | the same on larger inputs, one example |

    Args:
        scoring: `all_pass`, or `per_test`: the share of hidden tests passed beyond the best constant's; it
            runs every test.
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        kwargs: see `TextEnv`.

    Attributes:
        public: (input, output) of each example in the prompt; none is a hidden test.
        hidden: (input, output) of each hidden test.
    """

    step_deadline_s = TESTS_DEADLINE_S

    def __init__(self, scoring: Scoring = "all_pass", isolation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_scoring(scoring)
        self.scoring, self.isolation = scoring, isolation
        self.public: list[tuple[str, str]] = []
        self.hidden: list[tuple[str, str]] = []

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return a problem whose hidden tests no constant and no echo passes."""
        while True:
            problem = (
                _draw_chain(rng, level) if rng.random() < CHAIN_SHARE.get(level, 0.0) else _draw(rng, level)
            )
            tests = draw_tests(problem)
            texts = Counter(right for _, right in tests)
            echoes = sum(given.split()[-len(right.split()) :] == right.split() for given, right in tests)
            if (
                len(texts) >= MIN_DISTINCT
                and texts.most_common(1)[0][1] <= MAX_COMMON * len(tests)
                and echoes <= MAX_COMMON * len(tests)
                and all(right.strip() and len(right) < 4_000 for _, right in tests)
            ):
                return problem

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the task without examples, which follow from it."""
        return task_text(problem)

    def begin(self) -> None:
        """Work out the tests."""
        tests = draw_tests(self.problem)
        self.public, self.hidden = tests[: self.problem["examples"]], tests[self.problem["examples"] :]

    def prompt(self) -> Messages:
        """Return the task with examples as one user message."""
        shown = "".join(f"Example input:\n{given}Example output:\n{right}" for given, right in self.public)
        text = f"Write a Python program. {task_text(self.problem)}\n{shown}"
        return (
            Message(role="user", content=text + "It is tested on other inputs. Answer with the code only."),
        )

    def blind(self) -> float:
        """Return the share of hidden tests that the best constant output passes."""
        return Counter(right for _, right in self.hidden).most_common(1)[0][1] / len(self.hidden)

    def respond(self, turn: AssistantTurn) -> Reply:
        """Run the program on every hidden test.

        Raises:
            SandboxError: the sandbox failed, which says nothing about the program.
        """
        source = extract_code(turn.content)
        if not source.strip() or turn.tool_calls:
            return Reply(done=True, components=dict(NOTHING))
        tolerance = TOLERANCE if self.problem["prints"] == "float" else None

        def passes(index: int, case: Case) -> bool:
            return case.status == "finished" and same_output(case.stdout, self.hidden[index][1], tolerance)

        outcome = run_program(
            source, [given for given, _ in self.hidden],
            timeout_s=TIMEOUT_S, cpu_s=CPU_S, memory_mb=MEMORY_MB,
            isolation=self.isolation, go_on=within_budget(passes if self.scoring == "all_pass" else in_time),
        )  # fmt: skip
        verdicts = [passes(index, case) for index, case in enumerate(outcome.cases)]
        components = {
            "tests_passed": sum(verdicts) / len(verdicts),
            "all_passed": float(all(verdicts)),
            "ran": float(any(case.status == "finished" for case in outcome.cases)),
            "isolated": float(outcome.isolation != "none"),
        }
        return Reply(reward=pay(verdicts, self.scoring, self.blind()), done=True, components=components)

    def gold(self) -> str:
        """Return a right program."""
        return f"```python\n{program(self.problem)}\n```"

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return how the program is put together."""
        reading = [
            (LAYOUTS[kind][0].format(name), _read(kind, name))
            for name, kind in _layouts(self.problem).items()
        ]
        printing = PRINTING[self.problem["prints"]].format("answer")
        steps = [(f"read {what}", code.replace("\n", "; ")) for what, code in reading]
        steps += [
            ("work out the answer", _solve_call(self.problem)),
            ("print it", printing.replace("\n", " ")),
        ]
        run = [(f"the program prints for {given.split()}", right.strip()) for given, right in self.public[:1]]
        return expert.think("the input", steps, run, style, rng)

    def attacks(self) -> dict[str, str]:
        """Return programs that cheat; see `cheats`."""
        return cheats.program_cheats(self.public)


def _shape(level: int) -> dict[str, Any]:
    examples = 2 if level <= 5 else 1
    return {"size": SIZES[level - 1], "examples": examples, "cases": 1 if level < 5 else 3}


def _draw(rng: np.random.Generator, level: int) -> dict[str, Any]:
    options = _families(level)
    family = options[int(rng.integers(len(options)))]
    given = {name: values[int(rng.integers(len(values)))] for name, values in family.choices.items()}
    return {
        "family": family.name,
        "given": given,
        "prints": family.prints,
        **_shape(level),
    }


def _draw_chain(rng: np.random.Generator, level: int) -> dict[str, Any]:
    while True:
        chain = pipeline.draw_steps(
            rng, 2 if level < 3 else 3, max(1, level), starts=("Ints", "Ints", "str", "int")
        )
        prints = CHAIN_PRINTS.get(pipeline.gives(chain["steps"][-1]))
        if prints:
            return {"family": "chain", "chain": chain, "prints": prints, **_shape(level)}


def _layouts(problem: dict[str, Any]) -> dict[str, str]:
    """Return the layout of each argument, in the order of the input."""
    if problem["family"] == "chain":
        return {"x": CHAIN_READS[problem["chain"]["input"]]}
    return FAMILIES[problem["family"]].reads


def task_text(problem: dict[str, Any]) -> str:
    """Return the task without examples: what reads the same is the same task."""
    if problem["family"] == "chain":
        steps = "\n".join(
            f"{i}. {pipeline.words(step)}" for i, step in enumerate(problem["chain"]["steps"], 1)
        )
        how = {"ints": ", its items on one line", "lines": ", its items on a line each"}.get(
            problem["prints"], ""
        )
        words = f"Carry out these steps on x, each on the result of the one before:\n{steps}\n"
        words += f"Print the result{how}."
    else:
        words = FAMILIES[problem["family"]].words.format(**problem["given"])
    layout = "; then ".join(LAYOUTS[kind][0].format(name) for name, kind in _layouts(problem).items())
    if problem["cases"] > 1:
        layout = f"one line with the number of cases; then for each case: {layout}"
        words = f"For each case in turn: {words}"
    return f"It reads from standard input: {layout}.\n{words}"


def draw_tests(problem: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (input, output) of the public examples, then of the hidden tests; a task always has the same."""
    rng = np.random.default_rng(int(content_key(task_text(problem))[:16], 16))
    found: dict[str, str] = {}
    wanted = problem["examples"] + HIDDEN
    for attempt in range(4 * wanted):
        size = 4 if len(found) < problem["examples"] else max(2, problem["size"] - attempt % 4)
        cases = [_case(rng, problem, size) for _ in range(problem["cases"])]
        head = f"{problem['cases']}\n" if problem["cases"] > 1 else ""
        found.setdefault(head + "".join(given for given, _ in cases), "".join(right for _, right in cases))
        if len(found) == wanted:
            break
    return list(found.items())


def _case(rng: np.random.Generator, problem: dict[str, Any], size: int) -> tuple[str, str]:
    if problem["family"] == "chain":
        chain = problem["chain"]
        arguments = [drawing.draw(chain["input"], rng, size + 2)]
        answer = pipeline.evaluate(chain["steps"], arguments[0])
    else:
        family = FAMILIES[problem["family"]]
        arguments = family.draw(rng, size, problem["given"])
        answer = family.function(*arguments, **problem["given"])
    layouts = _layouts(problem).values()
    given = "".join(write_input(kind, value) for kind, value in zip(layouts, arguments, strict=True))
    return given, write_output(problem["prints"], answer)


def _read(kind: str, name: str) -> str:
    return LAYOUTS[kind][1].format(name)


def _solve_call(problem: dict[str, Any]) -> str:
    if problem["family"] == "chain":
        return "f(x)"
    family = FAMILIES[problem["family"]]
    arguments = [*family.reads, *(repr(problem["given"][name]) for name in family.choices)]
    return f"{family.name}({', '.join(arguments)})"


def program(problem: dict[str, Any]) -> str:
    """Return a right program."""
    solve = (
        pipeline.program(problem["chain"]) if problem["family"] == "chain" else source_of(problem["family"])
    )
    lines = [line for name, kind in _layouts(problem).items() for line in _read(kind, name).split("\n")]
    lines += [f"answer = {_solve_call(problem)}", *PRINTING[problem["prints"]].format("answer").split("\n")]
    if problem["cases"] > 1:
        lines = ["for case in range(int(input())):", *(f"    {line}" for line in lines)]
    return solve + "\n\n\n" + "\n".join(lines)
