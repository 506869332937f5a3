"""`rolloom envs list` and `rolloom envs show ID`."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from rolloom.envs import registry
from rolloom.envs.errors import EnvError, RolloomError, UnknownEnvError, did_you_mean, told
from rolloom.envs.spec import EnvSpec

SHOWN_CHARS = 4_000


def list_environments(kinds: Sequence[str] = ()) -> int:
    """Print every registered environment: a table on a terminal, tab-separated lines elsewhere.

    Args:
        kinds: only environments of these kinds or namespaces; all by default.

    Raises:
        UnknownEnvError: there is no such kind.
    """
    specs = registry.all_specs()
    known = sorted({spec.kind for spec in specs} | {spec.id.partition("/")[0] for spec in specs})
    for kind in kinds:
        if kind not in known:
            raise UnknownEnvError(f"envs list: no environments of kind {kind!r}.{did_you_mean(kind, known)}")
    if kinds:
        specs = [spec for spec in specs if {spec.kind, spec.id.partition("/")[0]} & set(kinds)]
    if not sys.stdout.isatty():
        for spec in specs:
            print(spec.id, spec.kind, _told(spec), sep="\t")
        return 0
    table = Table("id", "kind", "what the policy has to do", box=None, header_style="bold")
    for spec in specs:
        table.add_row(spec.id, spec.kind, _told(spec))
    Console().print(table)
    Console().print(f"[dim]{len(specs)} environments. One of them: rolloom envs show ID[/dim]")
    return 0


def _told(spec: EnvSpec) -> str:
    extras = ", ".join(name.partition(":")[2] or name for name in spec.missing())
    return f"{spec.description} (not installed: rolloom[{extras}])" if extras else spec.description


def show(id: str, level: int | None = None, seed: int = 0, split: str = "train") -> int:
    """Print one problem of an environment, its tools, and an episode played by its expert.

    Raises:
        UnknownEnvError: nothing has that id.
        EnvError: the environment has no such level.
    """
    spec = registry.spec(id)
    env = registry.make(id)
    try:
        low, high = env.levels
        options = {"level": low if level is None else level, "split": split}
        messages, info = env.reset(seed=seed, options=options)
        print(f"{spec.id}  ({spec.kind}, levels {low} to {high}, at most {env.max_turns} turns)")
        print(f"{spec.description}\n")
        for tool in info["tools"]:
            arguments = ", ".join(tool.parameters.get("properties", {}))
            print(f"tool {tool.name}({arguments}): {tool.description}")
        rng, done, score = np.random.default_rng(seed), False, 0.0
        for message in messages:
            say(message["role"], message["content"])
        while not done:
            try:
                completion = env.expert("compact", rng)
            except NotImplementedError:
                print("this environment has no expert: nobody plays it here")
                return 0
            say("expert", completion)
            messages, reward, terminated, truncated, _ = env.step(completion)
            for message in messages:
                say(message["role"], message["content"])
            score, done = score + reward, terminated or truncated
        print(f"score {score:g}")
    finally:
        env.close()
    return 0


@contextlib.contextmanager
def named_faults(id: str) -> Iterator[None]:
    """Turn whatever an environment raises into one message.

    Raises:
        EnvError: it raised something that is no error of ours.
    """
    try:
        yield
    except RolloomError:
        raise
    except Exception as error:
        raise EnvError(f"{id}: it raised {told(error)}; --debug shows the traceback") from error


def say(role: str, text: str) -> None:
    """Print one message, its middle left out where it is very long."""
    if len(text) > SHOWN_CHARS:
        half = SHOWN_CHARS // 2
        text = f"{text[:half]}\n... [{len(text) - SHOWN_CHARS} characters] ...\n{text[-half:]}"
    print(f"[{role}]\n{textwrap.indent(text, '  ')}\n")
