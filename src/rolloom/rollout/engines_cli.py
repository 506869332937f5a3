"""`rolloom engines ...`: environments of engines that cannot stand beside ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rolloom.errors import RolloomError
from rolloom.rollout import engines_setup
from rolloom.rollout.command import Add, UsageError


def add_commands(add: Add) -> None:
    """Add every command.

    Args:
        add: `(name, run, meaning of the plain words, help)` to a parser to add options to.
    """
    listing = add("list", _list, "nothing", "list the engines' environments, and what is there")
    setup = add("setup", _setup, "ENGINE: vllm", "build an engine's environment, or go on with one")
    doctor = add("doctor", _doctor, "ENGINE, or nothing for all", "try the environments that are there")
    for parser in (setup, doctor):
        parser.add_argument("--cpu", action="store_true", help="the build that needs no GPU")
    setup.add_argument("--recreate", action="store_true", help="begin anew")
    setup.add_argument(
        "--python", default=sys.executable, help="interpreter to make it from (default: this one)"
    )
    for parser in (listing, setup, doctor):
        parser.add_argument(
            "--path", type=Path, metavar="DIR",
            help=f"where they lie (default: ${engines_setup.FOLDER_VARIABLE}, or the user's data folder)",
        )  # fmt: skip


def _list(args: argparse.Namespace) -> int:
    if args.words:
        raise UsageError(f"engines list: expected options only, got {' '.join(args.words)!r}")
    folder = engines_setup.engines_folder(args.path)
    print(f"engines in {folder}")
    for entry in engines_setup.RECIPES:
        print(f"  {entry.name:<12} {engines_setup.state(entry, folder)}")
    return 0


def _setup(args: argparse.Namespace) -> int:
    if len(args.words) != 1:
        raise UsageError(f"engines setup: expected one ENGINE, got {' '.join(args.words) or 'none'}")
    chosen = engines_setup.recipe(args.words[0], args.cpu)
    if not args.cpu:
        engines_setup.expect_gpu(chosen)
    python = engines_setup.setup(chosen, args.path, args.recreate, args.python)
    print(f"{chosen.name}: {engines_setup.state(chosen, python.parent.parent.parent)}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    if len(args.words) > 1:
        raise UsageError(f"engines doctor: expected one ENGINE or none, got {' '.join(args.words)}")
    folder = engines_setup.engines_folder(args.path)
    if args.words:
        chosen = [engines_setup.recipe(args.words[0], args.cpu)]
        engines_setup.interpreter(chosen[0], folder)
    else:
        chosen = [entry for entry in engines_setup.RECIPES if (folder / entry.name).is_dir()]
    if not chosen:
        print(f"no engine's environment in {folder}; `rolloom engines setup vllm --cpu` makes one")
        return 0
    from rolloom.rollout import engines_check

    failed = 0
    for entry in chosen:
        try:
            engines_setup.interpreter(entry, folder)
            found = engines_check.check(entry, folder / entry.name)
        except RolloomError as error:
            failed += 1
            print(f"{entry.name}: FAILED: {error}")
        else:
            print(f"{entry.name}: well: {engines_setup.told(found)}")
    return 1 if failed else 0
