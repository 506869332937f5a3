"""The process that draws and scores reasoning-gym's problems. Run by `reasoning_gym_pool`, one job at a time.

Why a process: some scorers compute with what the policy wrote (`9**9**9**9`), which only a kill ends; some
generators print, use the global generator of random numbers or the order of sets, and here the first is
silenced, the second is seeded, and `PYTHONHASHSEED` is fixed. Frames on stdin and stdout: four bytes of
length, then a pickle in, JSON out. A job that outlives its seconds is killed by its own timer, even when the
parent is gone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import random
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

MEMORY_BYTES = 4 << 30
MAX_ANSWER_CHARS = 50_000
"""Longer answers (a tower of a dozen disks) are cut before they are read."""

MAX_SKIPS = 50
"""Problems of a row whose own answer is not paid in full, after which a generator counts as broken."""


@functools.lru_cache(maxsize=8)
def dataset(name: str, level: int, config: str, chunk: int, size: int) -> Any:
    """Return a generator at a level of its curriculum.

    Args:
        name: of the generator.
        level: of the curriculum, from 0; -1 for the generator's default configuration.
        config: JSON of fields that replace the level's.
        chunk: seed; the same for all problems of a generator that makes them one by one.
        size: how many problems the generator says it has.
    """
    from reasoning_gym.factory import CURRICULA, DATASETS

    cls, config_cls = DATASETS[name]
    fixed = {"seed": chunk, "size": size}
    if level >= 0:
        curriculum = CURRICULA[name]()  # type: ignore[operator]  # the package annotates the class as an object
        curriculum.set_global_level(level)
        made = curriculum.generate_configuration(fixed)
    elif name == "composite":
        made = config_cls(datasets=_parts(json.loads(config)), **fixed)
        config = "{}"
    else:
        made = config_cls(**fixed)
    for field, value in json.loads(config).items():
        if not hasattr(made, field):
            raise ValueError(f"{name} has no field {field!r}; expected one of {', '.join(vars(made))}")
        setattr(made, field, value)
    built: Any = cls(config=made)  # its constructor validates the configuration
    if name == "codeio":
        # The package keeps the rows in the class, where those of another level replace them.
        built.rows_of_level = built._jsonl_data
    return built


def _parts(config: dict[str, Any]) -> list[Any]:
    from reasoning_gym.composite import DatasetSpec

    names = config.get("datasets", ["chain_sum", "gcd", "word_sorting"])
    return [DatasetSpec(name=name, weight=1, config={}) for name in names]


def draw(name: str, level: int, config: str, index: int, chunked: int) -> dict[str, Any]:
    """Return the problem of an index, or the next one after it whose own answer scores 1.0.

    Args:
        name: of the generator.
        level: of its curriculum.
        config: JSON of further fields.
        index: which problem.
        chunked: problems a seed, for generators that make all of theirs at once; 0 for the others; below 0
            for one that has so many problems, of a single seed.
    """
    from rolloom.envs.adapters import reasoning_gym_fixes as fixes

    for skipped in range(MAX_SKIPS):
        at = index + skipped if chunked >= 0 else (index + skipped) % -chunked
        chunk, size = (at // chunked, chunked) if chunked > 0 else (0, -chunked or 2**31 - 1)
        _seed(at)
        made = dataset(name, level, config, chunk, size)
        if name == "codeio":
            type(made)._jsonl_data = made.rows_of_level
        entry = made[at % chunked if chunked > 0 else at]
        gold = fixes.gold(name, entry)
        if gold is not None and len(gold) > MAX_ANSWER_CHARS:
            continue
        if name in fixes.TRUSTED or (gold is not None and fixes.score(made, name, gold, entry) >= fixes.FULL):
            packed = pickle.dumps(entry).hex()
            return {"question": str(entry["question"]), "gold": gold, "entry": packed, "skipped": skipped}
    raise ValueError(f"{name}: {MAX_SKIPS} problems in a row whose own answer is not paid in full")


def _seed(number: int) -> None:
    """Seed the global generators, which some of the package's generators draw from."""
    random.seed(number)
    with contextlib.suppress(ImportError):
        import numpy as np

        np.random.seed(number % 2**32)  # theirs to use, ours to seed


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job: `draw`, `score`, `solve`, or `sleep`, which only its timer ends."""
    from rolloom.envs.adapters import reasoning_gym_fixes as fixes

    what, place = job["what"], job["place"]
    if what == "sleep":
        while True:
            pass
    if what == "draw":
        name, level, config = place
        return draw(name, level, config, job["index"], job["chunked"])
    entry = pickle.loads(bytes.fromhex(job["entry"]))  # made by `draw`, kept by the parent
    if what == "solve":
        return {"gold": fixes.solve(place[0], entry)}
    name, level, config = place
    chunked = job["chunked"]
    made = dataset(name, level, config, 0, abs(chunked) or 2**31 - 1)
    return {"score": fixes.score(made, name, job["answer"], entry)}


def _read(stream: BinaryIO) -> Any:
    head = stream.read(4)
    if len(head) < 4:
        return None
    return pickle.loads(stream.read(struct.unpack("!I", head)[0]))


def main() -> None:
    """Serve jobs until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(3_000)
    answers = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    jobs = sys.stdin.buffer
    import reasoning_gym  # noqa: F401  # fills the tables of generators

    while (job := _read(jobs)) is not None:
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])
        try:
            reply = work(job)
        except Exception as error:  # whatever a generator or a scorer raises is told to the parent
            reply = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        body = json.dumps(reply).encode()
        answers.write(struct.pack("!I", len(body)) + body)
        answers.flush()


if __name__ == "__main__":
    main()
