"""`rolloom envs ...`: the words and options of its commands. What they do is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path

from rolloom.rollout.command import Add, UsageError


def add_commands(add: Add) -> None:
    """Add every command.

    Args:
        add: `(name, run, meaning of the plain words, help)` to a parser to add options to.
    """
    listing = add("list", _list, "KIND ..., or nothing", "list the environments")

    show = add("show", _show, "ID", "show a problem, its tools, and an episode played by the expert")
    _task_options(show)

    new = add("new", _new, "NAME", "write a package with an environment and a passing test")
    new.add_argument("--kind", choices=("math", "code", "tools", "agent"), default="math", help="what kind")
    new.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")

    check = add("check", _check, "ID ...", "make the environment card, without any model")
    check.add_argument("--all", action="store_true", help="check every environment that is installed")
    check.add_argument("--seconds", type=float, default=30.0, help="about how long one may take (default 30)")
    check.add_argument("--json", type=Path, metavar="FILE", help="write the cards as JSON")
    check.add_argument("--html", type=Path, metavar="FILE", help="write the cards as one page")
    check.add_argument("--jobs", type=int, default=0, help="processes with --all (default: one a CPU)")

    play = add("play", _play, "ID", "take the policy's seat in the terminal")
    _task_options(play)

    profile = add("profile", _profile, "ID ...", "measure pass rates of a policy, task by task")
    profile.add_argument(
        "--policy", default="shipped:tiny", help="checkpoint, shipped:NAME or openai:URL#MODEL"
    )
    profile.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSONL; resumed if it exists"
    )
    profile.add_argument("--tasks", type=int, default=64, help="tasks of each environment (default 64)")
    profile.add_argument("-k", "--samples", type=int, default=8, help="rollouts of each task (default 8)")
    profile.add_argument("--levels", default="", metavar="LOW-HIGH", help="difficulty (default: all)")
    profile.add_argument("--split", choices=("train", "heldout"), default="train", help="which tasks")
    profile.add_argument("--seed", type=int, default=0, help="first seed of the tasks (default 0)")

    replay = add("replay", _replay, "FILE|RUN", "score stored rollouts again, with today's reward code")
    replay.add_argument("--json", type=Path, metavar="FILE", help="write what changed as JSON")

    serve = add("serve", _serve, "ID ...", "serve environments over HTTP")
    serve.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8765, help="port (default 8765); 0 takes a free one")
    serve.add_argument(
        "--token-env", default="ROLLOOM_SERVE_TOKEN", metavar="NAME",
        help="environment variable with the bearer token; one is made and printed if it is not set",
    )  # fmt: skip
    serve.add_argument("--max-sessions", type=int, default=256, help="sessions at a time (default 256)")
    serve.add_argument("--idle-s", type=float, default=600.0, help="seconds until an idle session ends")
    serve.add_argument("--step-deadline-s", type=float, default=60.0, help="seconds one step may take")
    serve.add_argument("--allow-kwargs", action="store_true", help="let clients pass keyword arguments")

    for parser in (listing, show, check, play, profile, replay, serve):
        parser.add_argument(
            "--import", dest="imports", action="append", default=[], metavar="MODULE|FILE.py",
            help="import this first: it registers environments; may be given again",
        )  # fmt: skip


def _task_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", type=int, help="difficulty (default: the lowest)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problem (default 0)")
    parser.add_argument("--split", choices=("train", "heldout"), default="train", help="which tasks")


def _imported(args: argparse.Namespace) -> None:
    from rolloom.envs import registry

    registry.import_modules(args.imports)


def _one(args: argparse.Namespace, what: str) -> str:
    if len(args.words) != 1:
        raise UsageError(f"{args.command}: expected one {what}, got {' '.join(args.words) or 'none'}")
    return args.words[0]


def _list(args: argparse.Namespace) -> int:
    from rolloom.rollout import env_commands

    _imported(args)
    return env_commands.list_environments(args.words)


def _show(args: argparse.Namespace) -> int:
    from rolloom.rollout import env_commands

    _imported(args)
    id = _one(args, "ID")
    with env_commands.named_faults(id):
        return env_commands.show(id, args.level, args.seed, args.split)


def _new(args: argparse.Namespace) -> int:
    from rolloom.rollout import env_new

    return env_new.main(_one(args, "NAME"), args.kind, args.into)


def _check(args: argparse.Namespace) -> int:
    from rolloom.rollout import env_check

    _imported(args)
    if bool(args.words) == args.all:
        raise UsageError("envs check: expected one or more IDs, or --all")
    return env_check.main(args.words, args.seconds, args.json, args.html, args.jobs, args.imports)


def _play(args: argparse.Namespace) -> int:
    from rolloom.rollout import env_commands, env_play

    _imported(args)
    id = _one(args, "ID")
    with env_commands.named_faults(id):
        return env_play.main(id, args.level, args.seed, args.split)


def _profile(args: argparse.Namespace) -> int:
    from rolloom.rollout import profile

    _imported(args)
    low, _, high = args.levels.partition("-")
    if args.levels and not (low.isdecimal() and (high or low).isdecimal()):
        raise UsageError(f"envs profile: --levels: expected LOW or LOW-HIGH, got {args.levels!r}")
    levels = (int(low), int(high or low)) if args.levels else None
    names, overrides = _split(args.words)
    if args.imports:
        overrides.append(f"imports=[{', '.join(args.imports)}]")
    return profile.profile_main(
        names, args.policy, args.out, tasks=args.tasks, k=args.samples, levels=levels, split=args.split,
        seed=args.seed, overrides=overrides,
    )  # fmt: skip


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    overrides = [word for word in words if "=" in word]
    return [word for word in words if word not in overrides], overrides


def _replay(args: argparse.Namespace) -> int:
    from rolloom.rollout import replay

    return replay.replay_main(_one(args, "file of rollouts or run's directory"), args.json, args.imports)


def _serve(args: argparse.Namespace) -> int:
    import os

    from rolloom.envs import serve

    _imported(args)
    if not args.words:
        raise UsageError("envs serve: expected one or more IDs")
    serve.serve(
        args.words, host=args.host, port=args.port, token=os.environ.get(args.token_env, ""),
        max_sessions=args.max_sessions, idle_s=args.idle_s, step_deadline_s=args.step_deadline_s,
        allow_kwargs=args.allow_kwargs,
    )  # fmt: skip
    return 0
