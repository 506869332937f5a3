"""`rolloom envs list` and `rolloom envs show ID`."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
from rich.console import Console
from rich.table import Table

from rolloom.envs import registry


def list_environments() -> int:
    """Print every registered environment: a table on a terminal, tab-separated lines elsewhere."""
    specs = registry.all_specs()
    if not sys.stdout.isatty():
        for spec in specs:
            print(spec.id, spec.kind, spec.description, sep="\t")
        return 0
    table = Table("id", "kind", "what the policy has to do", box=None, header_style="bold")
    for spec in specs:
        table.add_row(spec.id, spec.kind, spec.description)
    Console().print(table)
    return 0


def show(id: str, level: int = 1, seed: int = 0) -> int:
    """Print one problem of an environment, its tools, and an episode played by its expert.

    Raises:
        UnknownEnvError: nothing has that id.
        EnvError: the environment has no such level.
    """
    spec = registry.spec(id)
    env = registry.make(id)
    try:
        low, high = env.levels
        print(f"{spec.id}  ({spec.kind}, levels {low} to {high}, at most {env.max_turns} turns)")
        print(f"{spec.description}\n")
        messages, info = env.reset(seed=seed, options={"level": level})
        for tool in info["tools"]:
            arguments = ", ".join(tool.parameters.get("properties", {}))
            print(f"tool {tool.name}({arguments}): {tool.description}")
        rng, done, score = np.random.default_rng(seed), False, 0.0
        for message in messages:
            _say(message["role"], message["content"])
        while not done:
            completion = env.expert("compact", rng)
            _say("expert", completion)
            messages, reward, terminated, truncated, _ = env.step(completion)
            for message in messages:
                _say(message["role"], message["content"])
            score, done = score + reward, terminated or truncated
        print(f"score {score:g}")
    finally:
        env.close()
    return 0


def _say(role: str, text: str) -> None:
    print(f"[{role}]\n{textwrap.indent(text, '  ')}\n")
