"""What well-typed values may still get wrong: numbers out of range, unknown words, impossible combinations.

`RANGES` and `WORDS` name every number and every word of the schema (a test holds them to it), `combinations`
the rules that need more than one field. Nothing here imports torch or an environment: whether an environment
or a checkpoint exists is checked where it is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rolloom.configs.schema import EnvConfig, RunConfig
from rolloom.errors import did_you_mean


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a field.

    Attributes:
        path: the field's dotted path.
        message: what was expected of it against what was got.
        beside: the other fields the message is about.
    """

    path: str
    message: str
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers.

    Attributes:
        low: smallest value.
        high: largest value.
        open_low: `low` itself is not allowed.
        open_high: `high` itself is not allowed.
        why: appended to the message, for limits that do not explain themselves.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    why: str = ""

    def __contains__(self, value: float) -> bool:
        """Return True for a finite number inside the interval."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        """Return the interval in words."""
        text = f"{'more than' if self.open_low else 'at least'} {self.low}"
        if math.isfinite(self.high):
            text += f" and {'less than' if self.open_high else 'at most'} {self.high}"
        return f"{text} ({self.why})" if self.why else text


COUNT = Range(1)
NONNEGATIVE = Range(0)
POSITIVE = Range(0, open_low=True)
DECAY = Range(0, 1, open_high=True)
RATE = Range(0, 1)
SEED = Range(0, 2**32 - 1)

RANGES: dict[str, Range] = {
    "seed": SEED,
    "policy.lora.rank": NONNEGATIVE,
    "policy.lora.alpha": POSITIVE,
    "policy.lora.dropout": DECAY,
    "envs[].weight": NONNEGATIVE,
    "envs[].min_level": COUNT,
    "envs[].max_level": COUNT,
    "envs[].step_deadline_s": NONNEGATIVE,
    "envs[].episode_deadline_s": NONNEGATIVE,
    "envs[].min_pass_rate": RATE,
    "envs[].max_pass_rate": RATE,
    "envs[].mean_start": RATE,
    "envs[].mean_end": RATE,
    "envs[].spread": POSITIVE,
    "envs[].curriculum_steps": NONNEGATIVE,
    "envs[].reprofile_window": NONNEGATIVE,
    "envs[].reprofile_margin": RATE,
    "rollout.engines": COUNT,
    "rollout.engine_threads": COUNT,
    "rollout.slots": COUNT,
    "rollout.max_context": Range(2),
    "rollout.env_workers": COUNT,
    "rollout.env_threads": COUNT,
    "rollout.episodes_per_worker": COUNT,
    "rollout.max_new_tokens": COUNT,
    "rollout.temperature": Range(
        0, open_low=True, why="greedy rollouts of a task are all alike: nothing to learn from"
    ),
    "rollout.step_deadline_s": POSITIVE,
    "rollout.episode_deadline_s": POSITIVE,
    "rollout.stall_s": POSITIVE,
    "rollout.max_attempts": COUNT,
    "rollout.speculative_tokens": Range(0, 16, why="later drafts are hardly ever kept"),
    "reward.coefficient": Range(0, 100),
    "reward.gate_low": DECAY,
    "reward.accuracy_margin": Range(0, 1),
    "reward.overlong_tokens": COUNT,
    "reward.overlong_cache": COUNT,
    "trainer.steps": COUNT,
    "trainer.prompts_per_step": COUNT,
    "trainer.group_size": Range(2, why="a rollout is compared with its siblings"),
    "trainer.learning_rate": POSITIVE,
    "trainer.warmup_steps": NONNEGATIVE,
    "trainer.weight_decay": NONNEGATIVE,
    "trainer.beta1": DECAY,
    "trainer.beta2": DECAY,
    "trainer.max_grad_norm": POSITIVE,
    "trainer.clip_low": Range(0, 1, open_low=True, open_high=True),
    "trainer.clip_high": POSITIVE,
    "trainer.kl_coefficient": NONNEGATIVE,
    "trainer.updates_per_step": COUNT,
    "trainer.microbatch_tokens": COUNT,
    "trainer.threads": COUNT,
    "trainer.mtp_loss_weight": NONNEGATIVE,
    "trainer.expert_bias_rate": NONNEGATIVE,
    "trainer.save_every": COUNT,
    "trainer.keep_checkpoints": COUNT,
    "evaluation.tasks_per_env": NONNEGATIVE,
    "evaluation.seed": SEED,
    "evaluation.temperature": NONNEGATIVE,
    "evaluation.side_by_side": NONNEGATIVE,
    "ray.num_cpus": NONNEGATIVE,
    "ray.object_store_mb": Range(75, why="Ray's own minimum, in MiB"),
}


@dataclass(frozen=True, slots=True)
class Words:
    """The strings a field may hold.

    Attributes:
        choices: the words themselves; also what a near miss is compared with.
        pattern: regular expression of further strings that are allowed, matched in full.
        pattern_name: the pattern in words.
    """

    choices: tuple[str, ...]
    pattern: str = ""
    pattern_name: str = ""

    def __contains__(self, value: str) -> bool:
        """Return True for one of the words or a match of the pattern."""
        return value in self.choices or bool(self.pattern and re.fullmatch(self.pattern, value))

    def __str__(self) -> str:
        """Return the choices in words."""
        return " or ".join([*self.choices, *([self.pattern_name] if self.pattern else [])])


WORDS: dict[str, Words] = {
    "name": Words((), r"[\w][\w.+=-]*", "a directory name of letters, digits and . _ + = -"),
    "runs_dir": Words((), r"[^\0]+", "a directory"),
    "policy.path": Words((), r"[^\0]+", "a checkpoint directory (or shipped:NAME)"),
    "policy.device": Words(("cpu", "cuda"), r"cuda:\d+", "cuda:N"),
    "policy.dtype": Words(("float32", "bfloat16")),
    "envs[].id": Words(
        (), r"[^/\s]+/[^/\s]+-v\d+", "a registry id, namespace/name-vN (see `rolloom envs list`)"
    ),
    "envs[].pass_rates": Words((), r"[^\0]*", "a file written by `rolloom envs profile`"),
    "envs[].curriculum": Words(("uniform", "gaussian")),
    "rollout.state_dtype": Words(("float32", "float16", "int8")),
    "rollout.state_rounding": Words(("stochastic", "nearest")),
    "reward.efficiency": Words(("none", "sign_safe", "grlc", "linear", "overlong")),
    "trainer.schedule": Words(("constant", "linear")),
    "trainer.baseline": Words(("leave_one_out", "group_mean")),
    "ray.address": Words(("local", "auto"), r"(ray://)?[^\s:/]+:\d+", "host:port"),
}


def pattern_of(path: str) -> str:
    """Return a field's path with list positions blanked: `envs[3].id` becomes `envs[].id`."""
    return re.sub(r"\[\d+\]", "[]", path)


def check_field(path: str, value: Any) -> str | None:
    """Return what is wrong with one well-typed value, or None."""
    pattern = pattern_of(path)
    if isinstance(value, str) and pattern in WORDS and value not in WORDS[pattern]:
        hint = did_you_mean(value, WORDS[pattern].choices)
        return f"expected {WORDS[pattern]}, got {value!r}{'.' if hint else ''}{hint}"
    if isinstance(value, int | float) and pattern in RANGES and value not in RANGES[pattern]:
        return f"expected {RANGES[pattern]}, got {value!r}"
    return None


def _get(config: RunConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _at_most(
    small: str, large: str, why: str, *, strictly: bool = False
) -> Callable[[RunConfig], Iterator[Problem]]:
    """Return the rule `small <= large` (or `<`) for two dotted fields."""

    def rule(config: RunConfig) -> Iterator[Problem]:
        value, limit = _get(config, small), _get(config, large)
        if value > limit or (strictly and value == limit):
            words = "less than" if strictly else "at most"
            yield Problem(small, f"expected {words} {large} = {limit!r} ({why}), got {value!r}", (large,))

    return rule


def _only_if(
    path: str, word: str, rule: Callable[[RunConfig], Iterator[Problem]]
) -> Callable[[RunConfig], Iterator[Problem]]:
    """Return a rule that holds only while a field has a certain value."""

    def conditional(config: RunConfig) -> Iterator[Problem]:
        if _get(config, path) == word:
            yield from rule(config)

    return conditional


def _mixture(config: RunConfig) -> Iterator[Problem]:
    if not config.envs:
        yield Problem(
            "envs", "expected at least one environment, e.g. envs: [{id: math/affine_chain-v0}], got none"
        )
    elif not any(env.weight > 0 for env in config.envs):
        yield Problem("envs", "expected at least one environment with a weight above 0, got only zeros")
    first: dict[str, int] = {}
    for index, env in enumerate(config.envs):
        item = f"envs[{index}]"
        if env.min_level > env.max_level:
            message = f"expected at most {item}.max_level = {env.max_level}, got {env.min_level}"
            yield Problem(f"{item}.min_level", message, (f"{item}.max_level",))
        if env.id and first.setdefault(env.id, index) != index:
            message = f"expected every environment once, but envs[{first[env.id]}] is {env.id!r} too"
            yield Problem(f"{item}.id", message)
        yield from _curriculum(item, env)


def _curriculum(item: str, env: EnvConfig) -> Iterator[Problem]:
    if env.min_pass_rate > env.max_pass_rate:
        message = f"expected at most {item}.max_pass_rate = {env.max_pass_rate}, got {env.min_pass_rate}"
        yield Problem(f"{item}.min_pass_rate", message, (f"{item}.max_pass_rate",))
    if not env.pass_rates:
        asked = {
            "curriculum": env.curriculum != "uniform",
            "min_pass_rate": env.min_pass_rate > 0,
            "max_pass_rate": env.max_pass_rate < 1,
            "reprofile_window": env.reprofile_window > 0,
        }
        for name, wanted in asked.items():
            if wanted:
                message = f"expected a file in {item}.pass_rates to choose tasks by, got none"
                yield Problem(f"{item}.{name}", message, (f"{item}.pass_rates",))
    if env.reprofile_window == 1:
        yield Problem(f"{item}.reprofile_window", "expected 0 or at least 2 (two halves), got 1")
    if env.curriculum == "gaussian" and env.mean_end > env.mean_start:
        message = f"expected at most {item}.mean_start = {env.mean_start} (it falls), got {env.mean_end}"
        yield Problem(f"{item}.mean_end", message, (f"{item}.mean_start",))
    if env.episode_deadline_s and env.step_deadline_s > env.episode_deadline_s:
        message = (
            f"expected at most {item}.episode_deadline_s = {env.episode_deadline_s} (a step is part of it)"
        )
        yield Problem(
            f"{item}.step_deadline_s",
            f"{message}, got {env.step_deadline_s}",
            (f"{item}.episode_deadline_s",),
        )


def _mode(config: RunConfig) -> Iterator[Problem]:
    if config.policy.deterministic and config.policy.device != "cpu":
        message = (
            f"expected False on policy.device = {config.policy.device!r} (it is a mode of CPUs), got True"
        )
        yield Problem("policy.deterministic", message, ("policy.device",))


def _lora(config: RunConfig) -> Iterator[Problem]:
    lora = config.policy.lora
    if lora.rank and config.trainer.train_router:
        message = f"expected False with policy.lora.rank = {lora.rank} (LoRA freezes the routers), got True"
        yield Problem("trainer.train_router", message, ("policy.lora.rank",))
    if lora.target_modules and not lora.rank:
        message = f"expected policy.lora.rank of at least 1 to train {lora.target_modules}, got 0"
        yield Problem("policy.lora.target_modules", message, ("policy.lora.rank",))


def _state(config: RunConfig) -> Iterator[Problem]:
    held = config.rollout.state_dtype
    if held == "float32":
        return
    for path, fits in (
        ("policy.device", config.policy.device == "cpu"),
        ("policy.deterministic", not config.policy.deterministic),
    ):
        if not fits:
            message = f"expected 'float32' with {path} = {_get(config, path)!r}, got {held!r}"
            yield Problem("rollout.state_dtype", message, (path,))


COMBINATIONS: tuple[Callable[[RunConfig], Iterable[Problem]], ...] = (
    _mixture,
    _lora,
    _state,
    _mode,
    _at_most("rollout.max_new_tokens", "rollout.max_context", "a prompt comes first", strictly=True),
    _at_most(
        "rollout.max_context", "trainer.microbatch_tokens", "the longest sequence has to fit a microbatch"
    ),
    _at_most("rollout.step_deadline_s", "rollout.episode_deadline_s", "a step is part of an episode"),
    _only_if(
        "reward.efficiency",
        "overlong",
        _at_most("reward.overlong_cache", "reward.overlong_tokens", "the soft zone ends at the soft limit"),
    ),
    _only_if(
        "trainer.schedule",
        "linear",
        _at_most(
            "trainer.warmup_steps",
            "trainer.steps",
            "a linear schedule decays after the warm-up",
            strictly=True,
        ),
    ),
)


def combinations(config: RunConfig) -> Iterator[Problem]:
    """Yield the problems that only several fields together have."""
    for rule in COMBINATIONS:
        yield from rule(config)
