"""Writes docs/environments/, a page an environment, from docstrings, an example and its card.

`make docs` runs it.

The cards are those of docs/environments/cards.json, which `make cards` measures and writes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rolloom.envs import registry
from rolloom.envs.spec import EnvSpec

TARGET = Path(__file__).parent / "environments"
CARDS = TARGET / "cards.json"
FOREIGN = "reasoning_gym"
SHOWN_CHARS = 1_500
SHOWN_MESSAGES = 12
MADE = "Made by `make docs`; the card by `make cards`."


def built_in() -> list[EnvSpec]:
    """Return the suite's environments, another project's left out."""
    specs = [spec for spec in registry.all_specs() if spec.entry_point.startswith("rolloom.envs.")]
    return [spec for spec in specs if not spec.id.startswith(f"{FOREIGN}/")]


def read_cards() -> dict[str, dict[str, Any]]:
    """Return the stored cards by id."""
    return {card["id"]: card for card in json.loads(CARDS.read_text())} if CARDS.is_file() else {}


def page_name(id: str) -> str:
    """Return the file of an environment's page."""
    return id.replace("/", "-") + ".md"


def page(spec: EnvSpec, card: Mapping[str, Any] | None) -> str:
    """Return an environment's page."""
    module, _, name = spec.entry_point.partition(":")
    cls = getattr(import_module(module), name)
    env = registry.make(spec.id)
    low, high = env.levels
    parts = [
        f"# `{spec.id}`",
        "",
        f"{spec.description[:1].upper()}{spec.description[1:]}.",
        "",
        _docstring(cls),
        "",
    ]
    parts += [
        f"Kind `{spec.kind}`, levels {low} to {high}, at most {env.max_turns} turns at level {low}.",
        "",
    ]
    messages, info = env.reset(seed=0, options={"level": low})
    if info["tools"]:
        parts += ["## Tools", "", "| tool | arguments | what it does |", "|---|---|---|"]
        parts += [
            f"| `{tool.name}` | {', '.join(f'`{a}`' for a in tool.parameters.get('properties', {}))} "
            f"| {tool.description} |"
            for tool in info["tools"]
        ]
        parts.append("")
    parts += [f"## An episode (level {low}, seed 0, played by the expert)", ""]
    rng, over, shown = np.random.default_rng(0), False, 0
    parts += [_said(message["role"], message["content"]) for message in messages]
    while not over:
        completion = env.expert("medium", rng)
        messages, reward, terminated, truncated, _ = env.step(completion)
        over = terminated or truncated
        if shown < SHOWN_MESSAGES or over:
            parts.append(_said("assistant", completion))
            parts += [_said(message["role"], message["content"]) for message in messages[:4]]
        shown += 1 + len(messages)
    if shown > SHOWN_MESSAGES:
        parts.append("Turns in between are left out.\n")
    env.close()
    parts += [f"Reward {reward:g}.", ""]
    parts += _card(card) if card else []
    return "\n".join([*parts, MADE, ""])


def _docstring(cls: Any) -> str:
    """Return a class's docstring as Markdown: its sections as lists."""
    lines = (inspect.getdoc(cls) or "").splitlines()
    found, inside = [], False
    for line in lines:
        if line in ("Args:", "Attributes:", "Raises:"):
            found += ["", f"**{line[:-1]}**" if line != "Args:" else "**Keyword arguments**", ""]
            inside = True
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, _, text = line.strip().partition(": ")
            found.append(f"- `{name}`: {text}")
        elif inside and line and not line.startswith(" "):
            inside = False
            found += ["", line]
        else:
            found.append(f"  {line.strip()}" if inside and line.strip() else line)
    return "\n".join(found)


def _said(role: str, text: str) -> str:
    cut = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}... [{len(text)} characters]"
    fence = "````" if "```" in cut else "```"
    return f"{role}:\n\n{fence}text\n{cut}\n{fence}\n"


def _card(card: Mapping[str, Any]) -> list[str]:
    best = max(card["policies"].items(), key=lambda item: item[1], default=("none", 0.0))
    rows = [f"| {f['name']} | {f['grade']} | {_cell(f['text'])} |" for f in card["findings"]]
    lengths = [
        f"| {level} | {row['prompt_tokens_median']:.0f} | {row['prompt_tokens_max']:.0f} "
        f"| {row['completion_tokens_median']:.0f} | {row['completion_tokens_max']:.0f} "
        f"| {row['turns_median']:.0f} |"
        for level, row in card["lengths"].items()
    ]
    speed = ", ".join(
        f"{value:,.0f} at {name.rpartition('_')[2]}"
        for name, value in card["speed"].items()
        if "episodes" in name
    )
    return [
        f"## Card: grade {card['grade']}",
        "",
        "| check | | measured |",
        "|---|---|---|",
        *rows,
        "",
        f"The best policy that solves nothing ({_cell(best[0])}) earns {best[1]:.3f}.",
        "",
        "| level | prompt tokens | longest | gold tokens | longest | turns |",
        "|---|---|---|---|---|---|",
        *lengths,
        "",
        "Tokens of the shipped tokenizer, medians. Episodes/s with the gold policy on two shared cores: "
        f"{speed} concurrent.",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def index(specs: list[EnvSpec], cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of all environments."""
    lines = [
        "# The suite",
        "",
        f"{len(specs)} environments of our own, and reasoning-gym's generators. {MADE}",
        "",
    ]
    for kind in dict.fromkeys(spec.kind for spec in specs):
        lines += [
            f"## {kind}",
            "",
            "| environment | what the policy has to do | levels | grade | paid blind |",
        ]
        lines.append("|---|---|---|---|---|")
        for spec in (spec for spec in specs if spec.kind == kind):
            env = registry.make(spec.id)
            low, high = env.levels
            env.close()
            link = f"[`{spec.id}`]({page_name(spec.id)})"
            lines.append(f"| {link} | {spec.description} | {low}-{high} {_verdict(cards.get(spec.id))}")
        lines.append("")
    foreign = [spec for spec in registry.all_specs() if spec.id.startswith(f"{FOREIGN}/")]
    install = "`pip install 'rolloom[reasoning-gym]'`"
    lines += ["## reasoning-gym", "", f"{len(foreign)} generators, scored by their own scorers ({install})."]
    lines += ["", "| environment | grade | paid blind |", "|---|---|---|"]
    lines += [f"| `{spec.id}` {_verdict(cards.get(spec.id))}" for spec in foreign]
    return "\n".join([*lines, "", "Paid blind: the largest mean reward of a policy that solves nothing.", ""])


def _verdict(card: Mapping[str, Any] | None) -> str:
    if card is None:
        return "| | |"
    return f"| {card['grade']} | {max(card['policies'].values(), default=0):.3f} |"


def main() -> None:
    """Write every page, and remove those of environments that are gone."""
    TARGET.mkdir(exist_ok=True)
    specs, cards = built_in(), read_cards()
    wanted = {"README.md": index(specs, cards)}
    wanted |= {page_name(spec.id): page(spec, cards.get(spec.id)) for spec in specs}
    for old in TARGET.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    print(f"wrote {len(wanted)} pages to {TARGET}")


if __name__ == "__main__":
    main()
