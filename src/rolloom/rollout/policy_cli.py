"""`rolloom policy ...`: the words and options of its commands. What they do is imported when they run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rolloom.errors import RolloomError

ADD = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]
DTYPES = ("float32", "bfloat16", "float16")


class PolicyUsageError(RolloomError):
    """A command of `rolloom policy` was called with the wrong words."""


def add_commands(add: ADD) -> None:
    """Add every command.

    Args:
        add: `(name, run, meaning of the plain words, help)` to a parser to add options to.
    """
    inspect = add("inspect", _inspect, "PATH|PRESET", "show the layers, sizes and faults of a checkpoint")
    inspect.add_argument("--json", action="store_true", help="print JSON")

    convert = add("convert", _convert, "PATH OUT", "write a checkpoint in another layout, dtype or sharding")
    convert.add_argument(
        "--layout", choices=("released", "hf"), default="released",
        help="names of the released checkpoints, which vLLM and transformers read, or transformers' own",
    )  # fmt: skip
    convert.add_argument("--dtype", choices=DTYPES, help="of the weights, routers excepted (default: kept)")
    convert.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file (default 5GB)")


def words(args: argparse.Namespace, *names: str) -> list[str]:
    """Return the plain words of a command.

    Raises:
        PolicyUsageError: there are not as many as names.
    """
    if len(args.words) != len(names):
        got = " ".join(args.words) or "none"
        raise PolicyUsageError(f"{args.command}: expected {' '.join(names)}, got {got}")
    return args.words


def _inspect(args: argparse.Namespace) -> int:
    (path,) = words(args, "PATH|PRESET")
    from rolloom.rollout import policy_inspect

    return policy_inspect.inspect(path, args.json)


def _convert(args: argparse.Namespace) -> int:
    source, target = words(args, "PATH", "OUT")
    from rolloom.rollout import policy_convert

    return policy_convert.convert(
        Path(source), Path(target), args.layout, args.dtype, policy_convert.size_of(args.max_shard_size)
    )
