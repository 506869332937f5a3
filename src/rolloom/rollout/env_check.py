"""`rolloom envs check`: environment cards in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from rolloom.envs import registry
from rolloom.envs.check import Card, check
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.card_page import page
from rolloom.rollout.display import safe_text
from rolloom.rollout.rundir import write_atomic

MARKS = {"pass": "[green]pass[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}
TOKENIZER = Path(__file__).resolve().parents[1] / "policy" / "shipped" / "tiny"


def main(
    ids: Sequence[str],
    seconds: float,
    json_file: Path | None,
    html_file: Path | None,
    jobs: int,
    imports: Sequence[str],
) -> int:
    """Check environments and print their cards.

    Args:
        ids: registry ids; none checks everything that is installed.
        seconds: about how long one may take.
        json_file: also write the cards as JSON.
        html_file: also write them as a page.
        jobs: processes when everything is checked; 0 takes one a CPU.
        imports: modules that a worker process has to import as well.

    Returns:
        0 when every card passes, 1 otherwise.

    Raises:
        UnknownEnvError: nothing has one of the ids.
    """
    console = Console(highlight=False, soft_wrap=True)
    everything = not ids
    for id in ids:
        registry.spec(id)
    if everything:
        specs = registry.all_specs()
        ids = [spec.id for spec in specs if not spec.missing()]
        for spec in specs:
            if spec.missing():
                console.print(f"[dim]{spec.id} is left out: it needs {', '.join(spec.missing())}[/dim]")
    cards = []
    for card in _cards(ids, seconds, (jobs or os.cpu_count() or 1) if everything else 1, imports):
        cards.append(card)
        _line(console, card) if everything else _card(console, card)
    cards.sort(key=lambda card: card.id)
    failed = [card for card in cards if not card.passed]
    if len(cards) > 1:
        counts = ", ".join(f"{sum(card.grade == grade for card in cards)} {grade}" for grade in "ABCF")
        console.print(f"{len(cards)} environments: {counts}; {len(failed)} not fit to train on")
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(json_file, json.dumps([card.to_dict() for card in cards], indent=1) + "\n")
        console.print(f"cards: {json_file}")
    if html_file:
        html_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(html_file, page(cards))
        console.print(f"page: {html_file}")
    return 1 if failed else 0


def _cards(ids: Sequence[str], seconds: float, jobs: int, imports: Sequence[str]) -> Iterator[Card]:
    if jobs == 1 or len(ids) == 1:
        for id in ids:
            yield _one(id, seconds, ())
        return
    # Forked workers would inherit the event loop and the sandbox's sockets of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running = [pool.submit(_one, id, seconds, tuple(imports)) for id in ids]
        for future in as_completed(running):
            yield future.result()


def _one(id: str, seconds: float, imports: Sequence[str]) -> Card:
    registry.import_modules(imports)
    tokenizer = ChatTokenizer.load(TOKENIZER)
    return check(id, seconds=seconds, count_tokens=lambda text: len(tokenizer.encode(text[:200_000])))


def _line(console: Console, card: Card) -> None:
    colour = {"A": "green", "B": "green", "C": "yellow", "F": "red"}[card.grade]
    reason = f"  {escape(safe_text(card.reasons[0], 160))}" if card.reasons else ""
    console.print(f"[bold {colour}]{card.grade}[/bold {colour}] {card.id:<44} {card.seconds:5.1f} s{reason}")
    sys.stdout.flush()


def _card(console: Console, card: Card) -> None:
    console.print(f"[bold]{escape(card.id)}[/bold]  {escape(card.description)}")
    for finding in card.findings:
        console.print(f"  {MARKS[finding.grade]}  {finding.name}: {escape(safe_text(finding.text, 600))}")
        if finding.advice:
            console.print(f"        [dim]{escape(finding.advice)}[/dim]")
    for level, lengths in card.lengths.items():
        console.print(
            f"  level {level}: prompt {lengths['prompt_tokens_median']:.0f} tokens "
            f"(longest {lengths['prompt_tokens_max']:.0f}), gold {lengths['completion_tokens_median']:.0f} "
            f"(longest {lengths['completion_tokens_max']:.0f}), {lengths['turns_median']:.0f} turns"
        )
    rates = ", ".join(
        f"{value:g} at {name.rpartition('_')[2]}" for name, value in card.speed.items() if "episodes" in name
    )
    if rates:
        console.print(
            f"  episodes/s with the gold policy: {rates}; reset {card.speed['reset_ms']:g} ms, "
            f"step {card.speed['step_ms']:g} ms"
        )
    verdict = "fit to train on" if card.passed else "not fit to train on"
    console.print(f"  grade [bold]{card.grade}[/bold]: {verdict}  [dim]({card.seconds:.1f} s)[/dim]\n")
