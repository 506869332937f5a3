"""`rolloom policy ...`: the words and options of its commands. What they do is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path

from rolloom.rollout.command import Add, UsageError

DTYPES = ("float32", "bfloat16", "float16")


def add_commands(add: Add) -> None:
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

    quantize = add("quantize", _quantize, "PATH OUT, then key=value overrides", "write a checkpoint in NVFP4")
    quantize.add_argument(
        "--layers", default="default", metavar="default|all|REGEX",
        help="which matrices: Nemotron 3's choice, all, or those whose names match (default: default)",
    )  # fmt: skip
    roundings = ("nearest", "stochastic")
    quantize.add_argument("--rounding", choices=roundings, default="nearest", help="of weights")
    quantize.add_argument("--seed", type=int, default=0, help="of stochastic rounding and distillation")
    quantize.add_argument(
        "--distill", type=int, default=0, metavar="STEPS", help="distil from the policy first"
    )
    quantize.add_argument("--learning-rate", type=float, default=2e-4, help="of distillation (default 2e-4)")
    quantize.add_argument("--config", default="quickstart", help="environments that distillation samples")


def words(args: argparse.Namespace, *names: str) -> list[str]:
    """Return the plain words of a command.

    Raises:
        UsageError: there are not as many as names.
    """
    if len(args.words) != len(names):
        got = " ".join(args.words) or "none"
        raise UsageError(f"{args.command}: expected {' '.join(names)}, got {got}")
    return args.words


def _inspect(args: argparse.Namespace) -> int:
    (path,) = words(args, "PATH|PRESET")
    from rolloom.rollout import policy_inspect

    return policy_inspect.inspect(path, args.json)


def _quantize(args: argparse.Namespace) -> int:
    overrides = [word for word in args.words if "=" in word and not Path(word).exists()]
    args.words = [word for word in args.words if word not in overrides]
    source, target = words(args, "PATH", "OUT")
    if args.distill < 0 or args.seed < 0 or args.learning_rate <= 0:
        raise UsageError(
            f"{args.command}: expected --distill and --seed of at least 0 and --learning-rate above 0, got "
            f"{args.distill}, {args.seed} and {args.learning_rate}"
        )
    if overrides and not args.distill:
        raise UsageError(f"{args.command}: {overrides[0]!r} is for distillation: expected --distill STEPS")
    from rolloom.rollout import policy_quantize

    return policy_quantize.main(
        source, target, args.layers, args.rounding, args.seed, args.distill, args.config, overrides,
        args.learning_rate,
    )  # fmt: skip


def _convert(args: argparse.Namespace) -> int:
    source, target = words(args, "PATH", "OUT")
    from rolloom.rollout import policy_convert

    return policy_convert.convert(
        Path(source), Path(target), args.layout, args.dtype, policy_convert.size_of(args.max_shard_size)
    )
