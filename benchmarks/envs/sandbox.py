"""Runs a second of the sandbox, one caller and several at once, against one unconfined process a run.

Both sides run the same program on the same inputs with the same number of callers, and both sides' values are
checked. Latencies are of single runs under that load; in their rows less is better.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np

from benchmarks.harness import Bench, ParityError, Rates
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.int_function import FUNCTION, IntFunction
from rolloom.envs.parsing import parse_completion
from rolloom.envs.sandbox import Workspace, run_function, run_program, same_value

MODULES = (
    "bisect, collections, copy, datetime, decimal, fractions, functools, heapq, itertools, json, math, "
    "operator, random, re, statistics, string"
)
"""Sixteen modules that submissions import."""
CALLERS = (1, 2, 4)
RUN_S, QUICK_S = 1.0, 0.05
PEER = "subprocess.run([python, -I, -c]), not confined"


def load(seconds: float, callers: int, run: Callable[[], object]) -> Rates:
    """Call from several threads for `seconds`; return runs a second and the latencies of single runs."""
    taken: list[list[float]] = [[] for _ in range(callers)]
    failed: list[BaseException] = []
    started = time.perf_counter()

    def call(mine: list[float]) -> None:
        try:
            while (before := time.perf_counter()) - started < seconds or not mine:
                run()
                mine.append(time.perf_counter() - before)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if failed:
        raise failed[0]
    latencies = np.array([value for mine in taken for value in mine]) * 1000
    p50, p99 = (float(np.percentile(latencies, q)) for q in (50, 99))
    return {
        "runs/s": len(latencies) / elapsed,
        "ms, median (less is better)": p50,
        "ms, 99th percentile (less is better)": p99,
    }


def measure_sandbox(bench: Bench) -> None:
    """Measure functions, programs and commands."""
    seconds = QUICK_S if bench.quick else RUN_S
    _measure_functions(bench, seconds)
    _measure_programs(bench, seconds)
    _measure_commands(bench, seconds)


def _measure_functions(bench: Bench, seconds: float) -> None:
    env = IntFunction()
    env.reset(seed=0)
    source = extract_code(parse_completion(env.expert("compact", np.random.default_rng(0))).content)
    inputs, expected = env.inputs, env.expected
    level = run_function(source, FUNCTION, inputs).isolation
    calls = f"[{FUNCTION}(*given) for given in json.loads({json.dumps(inputs)!r})]"

    def check(values: list[object]) -> None:
        if not same_value(values, expected):
            raise ParityError(f"sandbox: expected {expected}, got {values}")

    for what, head in (("", ""), (", 16 stdlib modules imported", f"import {MODULES}\n")):
        program = f"{head}{source}\nimport json\nprint(json.dumps({calls}))"

        def confined(submitted: str = head + source) -> None:
            check([call.value for call in run_function(submitted, FUNCTION, inputs).calls])

        def plain(program: str = program) -> None:
            child = subprocess.run(
                [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True
            )
            check(json.loads(child.stdout))

        for callers in CALLERS if head else CALLERS[:1]:
            bench.compare(
                f"sandbox {level}, {len(inputs)} hidden tests{what}, {callers} at once",
                lambda _, callers=callers, confined=confined: load(seconds, callers, confined),
                lambda _, callers=callers, plain=plain: load(seconds, callers, plain),
                PEER,
                threads=callers,
            )


def _measure_programs(bench: Bench, seconds: float) -> None:
    source, given, right = "n = int(input())\nprint(sum(map(int, input().split())) * n)", "3\n1 2 3\n", "18\n"

    def confined() -> None:
        outcome = run_program(source, [given] * 8)
        if [case.stdout for case in outcome.cases] != [right] * 8:
            raise ParityError(f"sandbox: expected {right!r}, got {outcome}")

    def plain() -> None:
        for _ in range(8):
            child = subprocess.run(
                [sys.executable, "-I", "-c", source], input=given, capture_output=True, text=True, check=True
            )
            if child.stdout != right:
                raise ParityError(f"subprocess: expected {right!r}, got {child.stdout!r}")

    bench.compare(
        "sandbox, program with standard input, 8 tests a run, a process each",
        lambda _: load(seconds, 1, confined), lambda _: load(seconds, 1, plain), PEER,
    )  # fmt: skip


def _measure_commands(bench: Bench, seconds: float) -> None:
    command, files, right = "sort notes.txt | head -n 1", {"notes.txt": "b\na\n"}, "a\n"

    def check(output: str) -> None:
        if output != right:
            raise ParityError(f"workspace: expected {right!r}, got {output!r}")

    def confined() -> None:
        with Workspace(files) as workspace:
            check(workspace.run(command).output)

    def plain() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                with open(f"{folder}/{name}", "w") as file:
                    file.write(content)
            done = subprocess.run(["/bin/sh", "-c", command], cwd=folder, capture_output=True, text=True)
            check(done.stdout)

    with Workspace(files) as workspace:
        level = workspace.isolation
        bench.compare(
            f"workspace {level}, a command in an open one",
            lambda _: load(seconds, 1, lambda: check(workspace.run(command).output)),
            lambda _: load(seconds, 1, plain),
            "subprocess.run([sh, -c]) in a temporary directory, not confined",
        )
    bench.compare(
        f"workspace {level}, opened, one command, closed",
        lambda _: load(seconds, 1, confined),
        lambda _: load(seconds, 1, plain),
        "subprocess.run([sh, -c]) in a temporary directory, not confined",
    )
