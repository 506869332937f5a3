"""`rolloom envs replay`: scores stored rollouts again with today's environments and shows what changed.

A row of `rollouts/` or `evaluation/` holds the task and every message. The task is set up again, the recorded
completions are given to it in turn, and its messages are held against the recorded ones. Where they differ,
the environment does not replay (it depends on a clock or a service, or was changed): its score says little.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rolloom.configs.errors import ConfigError
from rolloom.configs.load import load_run_config
from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError
from rolloom.errors import RolloomError
from rolloom.rollout.daemon_pool import DaemonPool
from rolloom.rollout.display import safe_text
from rolloom.rollout.episode import MAX_OPENING_CHARS, checked_reply
from rolloom.rollout.rundir import RunDir, write_atomic

SAME = 1e-6
EXAMPLES = 3
STEP_S = 60.0


class ReplayError(RolloomError):
    """There is nothing to replay."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One row, scored again.

    Attributes:
        where: file and line of the row.
        env_id: its environment.
        before: recorded score; None if the rollout had failed.
        after: today's score; None if the environment failed.
        same_messages: the environment said what it said then.
        error: why there is no score.
    """

    where: str
    env_id: str
    before: float | None
    after: float | None
    same_messages: bool
    error: str = ""

    @property
    def verdict(self) -> str:
        """`error`, `differs` (other messages), `up`, `down` or `unchanged`."""
        if self.error or self.after is None:
            return "error"
        if not self.same_messages:
            return "differs"
        change = self.after - (self.before or 0.0)
        return "unchanged" if abs(change) <= SAME else "up" if change > 0 else "down"


@dataclass(slots=True)
class Tally:
    """What became of an environment's rows.

    Attributes:
        env_id: the environment.
        n: rows replayed.
        unchanged: same score.
        up: a higher score today.
        down: a lower one.
        differs: the environment's messages are no longer the recorded ones.
        error: the environment failed.
        before: mean recorded score.
        after: mean score today, of the rows that have one.
        examples: rows that are not unchanged, a few of each kind.
    """

    env_id: str
    n: int = 0
    unchanged: int = 0
    up: int = 0
    down: int = 0
    differs: int = 0
    error: int = 0
    before: float = 0.0
    after: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)


def replay_main(
    path: str | Path, out: str | Path | None = None, imports: Sequence[str] = (),
    kwargs: Mapping[str, Mapping[str, Any]] | None = None, say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Replay a file, or every rollout of a run's directory, and say what changed.

    Args:
        path: JSONL file of rollouts, or a run's directory.
        out: also write the result here, as JSON.
        imports: modules or files that register environments.
        kwargs: keyword arguments by environment id; a run's directory brings its own.
        say: receives lines for the person.

    Returns:
        0 if no score changed, 1 if one did or could not be made again.

    Raises:
        ReplayError: there is no such file, or no rollout in it.
    """
    files, run_imports, run_kwargs = _sources(Path(path))
    from rolloom.rollout.launch import imported

    imported([*run_imports, *imports])
    rows, malformed, failed = _read(files)
    if not rows:
        raise ReplayError(
            f"replay: expected rollouts with their messages in {path}, got none "
            f"({malformed} malformed lines, {failed} failed rollouts)"
        )
    results = replay_rows(rows, {**run_kwargs, **(kwargs or {})})
    tallies = tally(results)
    for line in _table(tallies):
        say(line)
    if malformed:
        say(f"{malformed} malformed lines were skipped")
    if failed:
        say(f"{failed} rollouts had failed when they were recorded, and have no score to compare")
    if out is not None:
        told = {"malformed": malformed, "failed": failed, "environments": [asdict(one) for one in tallies]}
        write_atomic(Path(out), json.dumps(told, indent=2) + "\n")
    return 0 if all(result.verdict == "unchanged" for result in results) else 1


def _sources(path: Path) -> tuple[list[Path], list[str], dict[str, Mapping[str, Any]]]:
    """Return the files that a path means, and the imports and keyword arguments of their run."""
    if path.is_dir():
        root, run = path, RunDir(path)
        files = [*sorted(run.rollouts.glob("step_*.jsonl")), *sorted(run.evaluation.glob("*.jsonl"))]
    elif path.is_file():
        root, files = path.resolve().parent.parent, [path]
    else:
        raise ReplayError(f"replay: expected a file of rollouts or a run's directory, got {str(path)!r}")
    config = RunDir(root).config
    if not config.is_file():
        return files, [], {}
    try:
        loaded = load_run_config(config)
    except ConfigError:
        # Of another version of this program: its rollouts can be read all the same.
        return files, [], {}
    return files, loaded.imports, {env.id: env.kwargs for env in loaded.envs}


def _read(files: Iterable[Path]) -> tuple[list[tuple[str, dict[str, Any]]], int, int]:
    """Return the rows with where they stand, the number of malformed lines, and of rollouts that failed."""
    rows: list[tuple[str, dict[str, Any]]] = []
    malformed = failed = 0
    for file in files:
        with file.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                row = _row(line)
                if row is None:
                    malformed += 1
                elif row.get("failure") or row.get("score") is None:
                    failed += 1
                else:
                    rows.append((f"{file.name}:{number}", row))
    return rows, malformed, failed


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a row that can be replayed; None for any other line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("env_id"), str):
        return None
    whole = all(type(row.get(name)) is int for name in ("level", "task_seed"))
    text, score = row.get("text"), row.get("score")
    spoken = isinstance(text, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in text
    )
    scored = score is None or (isinstance(score, int | float) and not isinstance(score, bool))
    return row if whole and spoken and scored and row.get("split") in ("train", "heldout") else None


def replay_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]], kwargs: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Replayed]:
    """Score rows again; a step that hangs costs its row, not the command.

    Args:
        rows: where a row stands, and the row.
        kwargs: keyword arguments by environment id.
    """
    pool = DaemonPool(2)
    envs: dict[str, TextEnv] = {}
    results = []
    for where, row in rows:
        env_id = row["env_id"]
        score, same, error = _guarded(pool, lambda row=row: _replay(row, envs, kwargs or {}))
        if error:
            # It may be in any state, or in the hands of a thread that hangs.
            envs.pop(env_id, None)
        results.append(Replayed(where, env_id, row["score"], score, same, error))
    for env in envs.values():
        env.close()
    return results


def _guarded(pool: DaemonPool, function: Callable[[], tuple[float, bool]]) -> tuple[float | None, bool, str]:
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    job = pool.submit(function, lambda job, result, error: answers.put((result, error)))
    try:
        result, error = answers.get(timeout=STEP_S)
    except queue.Empty:
        pool.abandon(job)
        return None, False, f"no answer within {STEP_S:g} s"
    if error is not None:
        return None, False, safe_text(f"{type(error).__name__}: {error}", 300)
    return result[0], result[1], ""


def _replay(
    row: Mapping[str, Any], envs: dict[str, TextEnv], kwargs: Mapping[str, Mapping[str, Any]]
) -> tuple[float, bool]:
    """Return today's score, and whether the environment's messages are the recorded ones."""
    env_id, recorded = row["env_id"], row["text"]
    env = envs.get(env_id)
    if env is None:
        env = envs[env_id] = registry.make(env_id, **kwargs.get(env_id, {}))
    options = {"split": row["split"], "level": row["level"]}
    messages, info = env.reset(seed=row["task_seed"], options=options)
    said = list(checked_reply(messages, 0.0, False, False, info, MAX_OPENING_CHARS).messages)
    heard = said[:]
    score, over = 0.0, False
    completions = [message["content"] for message in recorded if message["role"] == "assistant"]
    # A completion that was cut off by a token limit never reached the environment.
    if row.get("stop") == "max_tokens" and recorded and recorded[-1]["role"] == "assistant":
        completions.pop()
    for text in completions:
        if over:
            raise EnvError("the episode ended before all recorded completions were given")
        reply = checked_reply(*env.step(text))
        score, over = score + reply.reward, reply.terminated or reply.truncated
        heard += reply.messages
    spoken = [message for message in recorded if message["role"] != "assistant"]
    return min(1.0, max(0.0, score)), _plain(heard) == _plain(spoken)


def _plain(messages: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    # As the file holds them: a lone surrogate was replaced when it was written.
    return [(m["role"], m["content"].encode("utf-8", "replace").decode()) for m in messages]


def tally(results: Sequence[Replayed]) -> list[Tally]:
    """Return one tally an environment, in order of first appearance."""
    found: dict[str, Tally] = {}
    scored: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        one = found.setdefault(result.env_id, Tally(result.env_id))
        one.n += 1
        verdict = result.verdict
        setattr(one, verdict, getattr(one, verdict) + 1)
        if result.after is not None and result.before is not None:
            scored.setdefault(result.env_id, []).append((result.before, result.after))
        shown = sum(example["verdict"] == verdict for example in one.examples)
        if verdict != "unchanged" and shown < EXAMPLES:
            one.examples.append({**asdict(result), "verdict": verdict})
    for env_id, pairs in scored.items():
        found[env_id].before = sum(before for before, _ in pairs) / len(pairs)
        found[env_id].after = sum(after for _, after in pairs) / len(pairs)
    return list(found.values())


def _table(tallies: Sequence[Tally]) -> list[str]:
    lines = [
        f"{'environment':<28} {'n':>6} {'unchanged':>9} {'up':>6} {'down':>6} {'differs':>7} {'errors':>6}"
        f" {'score then':>10} {'now':>6}"
    ]
    for one in tallies:
        lines.append(
            f"{safe_text(one.env_id, 60):<28} {one.n:>6} {one.unchanged:>9} {one.up:>6} {one.down:>6} "
            f"{one.differs:>7} {one.error:>6} {one.before:>10.3f} {one.after:>6.3f}"
        )
    for one in tallies:
        for example in one.examples:
            then, now = example["before"], example["after"]
            change = f"{then:g} -> {now:g}" if now is not None else example["error"]
            lines.append(
                f"  {example['verdict']:<8} {safe_text(one.env_id, 60)} {example['where']}: {change}"
            )
        if one.differs:
            lines.append(
                f"  {safe_text(one.env_id, 60)} does not replay: in {one.differs} of {one.n} rollouts its "
                "messages are not the recorded ones"
            )
    return lines
