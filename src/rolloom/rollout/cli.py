"""The `rolloom` command: reads the command line and turns errors into one message.

Only argparse is imported here; the configuration, the environments, torch and ray are imported by the command
that uses them, so `rolloom --help` and a misspelt field answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import rolloom
from rolloom.errors import RolloomError, did_you_mean, nearest
from rolloom.rollout import engines_cli, env_cli, policy_cli
from rolloom.rollout.command import Add, UsageError

RUNS = Path("runs")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are our own errors, with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix("rolloom ")
        _, choice, rest = message.partition("invalid choice: ")
        got, _, listed = rest.partition(" (choose from ")
        words = [word.strip("'") for word in listed.rstrip(")").split(", ")] if choice else []
        hint = did_you_mean(got.strip("'"), words)
        raise UsageError(f"{command}: {message.removeprefix('argument ')}.{hint} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `rolloom`; the process's own by default.

    Returns:
        0 on success, 2 for a mistake of the user, 130 after Ctrl-C, otherwise what the command returned.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Read when torch loads. OpenMP threads that spin while they wait slow a shared machine down tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        args = _parse(words)
        return args.run(args)
    except RolloomError as error:
        if "--debug" in words:
            raise
        print(f"rolloom: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rolloom: interrupted", file=sys.stderr)
        return 130


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; plain words may stand anywhere among the options of their command."""
    parser, commands = _parser()
    top = [name for name in commands if " " not in name]
    words = [word for word in argv if not word.startswith("-")]
    first = words[0] if words else None
    if first is None and not {"-h", "--help", "--version"} & set(argv):
        raise UsageError(f"expected a command: {', '.join(top)} (see `rolloom --help`)")
    if first is not None and first not in top:
        hint = did_you_mean(first, top)
        raise UsageError(f"expected a command ({', '.join(top)}), got {first!r}.{hint}")
    if first in GROUPS and not {"-h", "--help"} & set(argv):
        argv = _group_command(first, argv, words[1:2], commands)
    args, extra = parser.parse_known_args(argv)
    for word in extra:
        if word.startswith("-"):
            options = commands[args.command]._option_string_actions
            raise UsageError(f"{args.command}: no such option {word!r}.{did_you_mean(word, options)}")
    args.words = [*args.words, *extra]
    return args


def _group_command(
    group: str, argv: list[str], word: list[str], commands: dict[str, argparse.ArgumentParser]
) -> list[str]:
    """Return the command line with the command of a group in it, the group's default if there is none."""
    known = [name.partition(" ")[2] for name in commands if name.startswith(f"{group} ")]
    default = GROUPS[group][2]
    if not word and default:
        at = argv.index(group) + 1
        return [*argv[:at], default, *argv[at:]]
    if not word or word[0] not in known:
        got = f"got {word[0]!r}.{did_you_mean(word[0], known)}" if word else "got none"
        raise UsageError(f"{group}: expected one of {', '.join(known)}, {got} (see `rolloom {group} --help`)")
    return argv


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(prog="rolloom", description=rolloom.__doc__, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"rolloom {rolloom.__version__}")
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str, help: str) -> None:
        commands[name] = sub.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", parents=[common], allow_abbrev=False
        )
        commands[name].add_argument("words", nargs="*", metavar="WORD", help=words)
        commands[name].set_defaults(run=run)

    config_words = "CONFIG: a YAML file or a packaged name; then key=value overrides, e.g. trainer.steps=20"
    command("train", _train, config_words, "train a policy")
    train = commands["train"]
    train.add_argument("--dry-run", action="store_true", help="resolve and check everything, train nothing")
    train.add_argument("--local", action="store_true", help="run in this process, without Ray (local=true)")
    train.add_argument(
        "--resume", metavar="RUN", help="go on with a run: its directory, or its name in runs/"
    )

    command(
        "evaluate",
        _evaluate,
        "CHECKPOINT, then key=value overrides",
        "measure a checkpoint on held-out tasks",
    )
    commands["evaluate"].add_argument("--config", required=True, help="a YAML file or a packaged name")

    command("warmstart", _warmstart, "nothing", "make the shipped policy from synthetic demonstrations")
    warmstart = commands["warmstart"]
    warmstart.add_argument("--out", type=Path, help="directory to write (default: the package's own)")
    warmstart.add_argument("--steps", type=int, help="optimizer steps")
    warmstart.add_argument("--seed", type=int, help="seed of the demonstrations and the weights")

    for group, (text, add_commands, _) in GROUPS.items():
        commands[group] = sub.add_parser(
            group, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        inner = commands[group].add_subparsers(dest=f"{group}_command", metavar="COMMAND")
        add_commands(_adder(group, inner, common, commands))
    return parser, commands


def _adder(
    group: str, inner: Any, common: argparse.ArgumentParser, commands: dict[str, argparse.ArgumentParser]
) -> Add:
    """Return what adds a command to a group."""

    def add(
        name: str, run: Callable[[argparse.Namespace], int], words: str, help: str
    ) -> argparse.ArgumentParser:
        made = inner.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", parents=[common], allow_abbrev=False
        )
        made.add_argument("words", nargs="*", metavar="WORD", help=words)
        made.set_defaults(run=run, command=f"{group} {name}")
        commands[f"{group} {name}"] = made
        return made

    return add


GROUPS: dict[str, tuple[str, Callable[[Add], None], str]] = {
    "envs": (
        "list, show, check, play, profile, replay, serve or scaffold environments",
        env_cli.add_commands,
        "list",
    ),
    "policy": ("inspect, convert or quantize checkpoints", policy_cli.add_commands, ""),
    "engines": (
        "list, set up or try the environments of engines such as vLLM",
        engines_cli.add_commands,
        "list",
    ),
}
"""Groups of commands: what they do, what adds them, and the command that a bare group means."""


def _train(args: argparse.Namespace) -> int:
    from rolloom.configs.load import load_run_config

    config_words, overrides = _split(args.words)
    resume = None if args.resume is None else _run_directory(args.resume)
    if len(config_words) > 1:
        raise UsageError(
            f"train: expected one CONFIG and key=value overrides, got {' '.join(config_words)!r}"
        )
    if not config_words and resume is None:
        raise UsageError("train: expected a CONFIG, e.g. `rolloom train quickstart`")
    source = config_words[0] if config_words else str(_run_config(resume))
    config = load_run_config(source, [*overrides, *(["local=true"] if args.local else [])])

    from rolloom.rollout import launch

    return launch.dry_run(config) if args.dry_run else launch.train(config, resume=resume)


def _evaluate(args: argparse.Namespace) -> int:
    from rolloom.configs.load import load_run_config

    checkpoints, overrides = _split(args.words)
    if len(checkpoints) != 1:
        raise UsageError(
            f"evaluate: expected one CHECKPOINT directory, got {' '.join(checkpoints) or 'none'}"
        )
    config = load_run_config(args.config, overrides)
    config.policy.path = checkpoints[0]

    from rolloom.rollout import evaluate

    return evaluate.main(config)


def _warmstart(args: argparse.Namespace) -> int:
    if args.words:
        raise UsageError(f"warmstart: expected options only, got {' '.join(args.words)!r}")
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"warmstart: --steps: expected at least 1, got {args.steps}")
    given = {name: getattr(args, name) for name in ("out", "steps", "seed")}

    from rolloom.rollout import warmstart

    return warmstart.main(**{name: value for name, value in given.items() if value is not None})


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide words into names and `key=value` overrides."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def _run_directory(run: str) -> Path:
    """Return the directory of a run given by path or by name."""
    for candidate in (Path(run), RUNS / run):
        if (candidate / "config.yaml").is_file():
            return candidate
    known = sorted(path.parent.name for path in RUNS.glob("*/config.yaml"))
    near = nearest(Path(run).name, known)
    hint = f" Did you mean {str(RUNS / near)!r}?" if near else f" Runs here: {', '.join(known) or 'none'}."
    raise UsageError(f"train: --resume: expected a run's directory (with config.yaml), got {run!r}.{hint}")


def _run_config(run: Path | None) -> Path:
    assert run is not None
    return run / "config.yaml"


if __name__ == "__main__":
    sys.exit(main())
