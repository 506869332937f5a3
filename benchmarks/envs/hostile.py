"""Plays the hostile corpus against the environments themselves and says what held.

An attempt holds when the policy is paid nothing (or the failure is typed), the messages it gets back are
clean, it ends in time, the same worker then scores a right answer 1.0, and no process and no file is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.envs.hostile_answers import Answer, answers
from benchmarks.envs.hostile_code import COMMANDS, MARK, PROGRAMS
from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError, SandboxError
from rolloom.envs.parsing import render_call
from rolloom.envs.sandbox.zygote import running_servers

FUNCTIONS = ("code/int_function-v0", "code/synthesis-v0", "code/repair-v0")
STDIO = "code/stdio-v0"
SHELL = "agent/shell-v0"
ANSWERED = (
    "math/affine_chain-v0", "math/arithmetic-v0", "math/linear_equations-v0", "math/sets-v0",
    "tools/lookup-v0", "tools/calculator-v0", "agent/workplace-v0", "form/json_schema-v0",
)  # fmt: skip
SEED = 20
SECONDS = 60.0
"""Longest an attempt may take: a command has ten seconds, a program eight tests of up to ten."""
DIRT = ("<|", "<tool_call>", "\x1b", "\x07", "\x9b", "\x00", "\u202e", "\u2066")
"""What no message to the policy may contain: chat tokens, terminal sequences, NUL, turned writing."""
PLACES = ("/tmp", "/dev/shm", "/var/tmp", ".")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One completion against one environment.

    Attributes:
        number: item of the corpus.
        title: what it tries.
        env_id: the environment.
        write: returns the completion, given the environment in its running episode.
    """

    number: int
    title: str
    env_id: str
    write: Callable[[TextEnv], str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an attempt.

    Attributes:
        attempt: which.
        outcome: reward or type of failure, and how long it took.
        wrong: what did not hold; empty when all did.
        seconds: wall-clock seconds of the hostile episode.
    """

    attempt: Attempt
    outcome: str
    wrong: tuple[str, ...]
    seconds: float


def attempts() -> Iterator[Attempt]:
    """Yield the whole corpus: every item against every environment it is meant for."""
    for program in PROGRAMS:
        for env_id in FUNCTIONS:
            source = f"```python\n{program.as_function('f')}\n```"
            yield Attempt(program.number, program.title, env_id, lambda _, source=source: source)
        source = f"```python\n{program.as_program()}\n```"
        yield Attempt(program.number, program.title, STDIO, lambda _, source=source: source)
    for number, command in COMMANDS.items():
        call = render_call("run", {"command": command})
        yield Attempt(number, f"shell: {command[:40]}", SHELL, lambda _, call=call: call)
    for answer in answers():
        for env_id in ANSWERED:
            yield Attempt(answer.number, answer.title, env_id, _write_answer(answer))
            if not answer.uses_gold and env_id.split("/")[0] in ("tools", "agent"):
                yield Attempt(answer.number, f"in a call: {answer.title}", env_id, _write_call(answer))


def _write_answer(answer: Answer) -> Callable[[TextEnv], str]:
    def write(env: TextEnv) -> str:
        gold = env.expert("compact", np.random.default_rng(0))
        return answer.completion(gold.rpartition("</think>\n")[2])

    return write


def _write_call(answer: Answer) -> Callable[[TextEnv], str]:
    def write(env: TextEnv) -> str:
        tool = env.tools()[0]
        given = dict.fromkeys(tool.parameters.get("properties", {"x": {}}), answer.text[:100000])
        return render_call(tool.name, given)

    return write


def play(attempt: Attempt) -> Verdict:
    """Play one attempt and look at everything that has to hold afterwards."""
    wrong: list[str] = []
    env = registry.make(attempt.env_id)
    started = time.monotonic()
    try:
        reward, messages = _episode(env, attempt.write)
        outcome = f"reward {reward:g}"
        if reward != 0.0:
            wrong.append(f"was paid {reward:g}")
        wrong += _dirt(messages)
    except (EnvError, SandboxError) as error:
        outcome = type(error).__name__
    except Exception as error:
        outcome = f"raised {type(error).__name__}"
        wrong.append(outcome)
    finally:
        env.close()
    seconds = time.monotonic() - started
    if seconds > SECONDS:
        wrong.append(f"took {seconds:.0f} s")
    wrong += leftovers()
    wrong += _next_episode(attempt.env_id)
    return Verdict(attempt, outcome, tuple(wrong), seconds)


def _episode(env: TextEnv, write: Callable[[TextEnv], str]) -> tuple[float, list[str]]:
    env.reset(seed=SEED)
    text = write(env)
    total, said, over, first = 0.0, [], False, True
    while not over:
        # The attack is the first turn; what follows ends the episode.
        messages, reward, terminated, truncated, _ = env.step(text if first else "<think>\n</think>\ndone")
        total, over, first = total + float(reward), terminated or truncated, False
        said += [message["content"] for message in messages]
    return total, said


def _dirt(messages: list[str]) -> list[str]:
    text = "\n".join(messages)
    found = [f"message with {mark!r}" for mark in DIRT if mark in text]
    if len(text) > 100_000:
        found.append(f"{len(text)} characters of messages")
    return found


def _next_episode(env_id: str) -> list[str]:
    env = registry.make(env_id)
    try:
        rng, total, over = np.random.default_rng(0), 0.0, False
        env.reset(seed=SEED + 1)
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.expert("compact", rng))
            total, over = total + float(reward), terminated or truncated
    except Exception as error:
        return [f"the next right answer raised {type(error).__name__}: {error}"]
    finally:
        env.close()
    return [] if abs(total - 1.0) < 1e-9 else [f"the next right answer scored {total:g}"]


def leftovers(wait_s: float = 3.0) -> list[str]:
    """Return what hostile runs left: children of the sandbox's servers, files with the corpus's mark."""
    deadline = time.monotonic() + wait_s
    while (found := _processes() + _files()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _processes() -> list[str]:
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    servers = {server.pid for server in running_servers()}
    return [f"process {pid}" for pid, parent in parents.items() if parent in servers]


def _files() -> list[str]:
    return [str(path) for place in PLACES for path in Path(place).glob(f"*{MARK}*")]


def table(verdicts: list[Verdict]) -> str:
    """Return the verdicts as a Markdown table, one line an item and environment."""
    lines = ["| item | attack | environment | outcome | s | held |", "|---|---|---|---|---:|---|"]
    for verdict in verdicts:
        attempt = verdict.attempt
        held = "yes" if not verdict.wrong else "NO: " + "; ".join(verdict.wrong)
        cells = (
            attempt.number,
            attempt.title,
            attempt.env_id,
            verdict.outcome,
            f"{verdict.seconds:.2f}",
            held,
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def summary(verdicts: list[Verdict]) -> str:
    """Return `N of N held`, by attempt and by item."""
    items = {verdict.attempt.number for verdict in verdicts}
    broken = {verdict.attempt.number for verdict in verdicts if verdict.wrong}
    held = sum(not verdict.wrong for verdict in verdicts)
    return f"{held} of {len(verdicts)} attempts held; {len(items - broken)} of {len(items)} items held"
