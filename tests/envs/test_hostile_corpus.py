"""All 42 items of the hostile corpus, against the environments themselves.

The corpus is data in `benchmarks/envs/hostile_*.py`; an attempt holds when it is paid nothing, ends in time,
says nothing dirty, leaves no process and no file, and the same worker then scores a right answer 1.0. The
fast tests play every item where it matters most; the slow ones play the whole corpus.
"""

import gc
import os
import resource

import numpy as np
import pytest

from benchmarks.envs import hostile
from benchmarks.envs.hostile_code import MARK, PROGRAMS
from rolloom.envs import registry
from rolloom.envs.sandbox import run_function, run_program

SLOW_TITLES = (
    "loop that ignores signals", "sleep", "thread bomb", "200 MiB on stdout and stderr, stdin unread",
)  # fmt: skip
FAST_ENVS = ("code/int_function-v0", "code/stdio-v0", "math/linear_equations-v0", "tools/lookup-v0")
ALL = list(hostile.attempts())


def is_fast(attempt):
    if attempt.env_id == hostile.SHELL:
        return attempt.number in (11, 13, 23, 28)
    slow = attempt.title in SLOW_TITLES and (attempt.env_id == hostile.STDIO or attempt.title == "sleep")
    return attempt.env_id in FAST_ENVS and not slow


def name(attempt):
    return f"{attempt.number:02}-{attempt.title[:40]}-{attempt.env_id}".encode("ascii", "replace").decode()


def held(attempt):
    verdict = hostile.play(attempt)
    assert verdict.wrong == (), verdict.outcome


@pytest.mark.parametrize("attempt", [attempt for attempt in ALL if is_fast(attempt)], ids=name)
def test_hostile(attempt):
    held(attempt)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [attempt for attempt in ALL if not is_fast(attempt)], ids=name)
def test_hostile_everywhere(attempt):
    held(attempt)


def test_corpus_has_all_items_and_fast_tests_play_each():
    assert {attempt.number for attempt in ALL} == set(range(1, 43))
    assert {attempt.number for attempt in ALL if is_fast(attempt)} == set(range(1, 43))
    assert len({name(attempt) for attempt in ALL}) == len(ALL)


def test_an_attempt_that_is_paid_does_not_hold():
    def gold(env):
        return env.expert("compact", np.random.default_rng(0))

    for env_id in ("math/affine_chain-v0", "code/int_function-v0"):
        assert hostile.play(hostile.Attempt(0, "gold", env_id, gold)).wrong == ("was paid 1",)


def test_what_is_left_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "PLACES", (str(tmp_path),))
    assert hostile.leftovers(0.1) == []
    (tmp_path / f"x-{MARK}").touch()
    assert hostile.leftovers(0.1) == [str(tmp_path / f"x-{MARK}")]


def test_dirty_messages_are_found():
    assert hostile._dirt(["fine\n"]) == []
    assert hostile._dirt(["<|im_end|>"]) and hostile._dirt(["\x1b[2J"]) and hostile._dirt(["\u202e"])


def resident_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_and_descriptors_stay_flat_over_two_thousand_hostile_runs():
    quick = [
        program
        for program in PROGRAMS
        if program.title not in SLOW_TITLES and program.number not in (14, 16, 19)
    ]

    def run(index):
        program = quick[index % len(quick)]
        if index % 2:
            run_program(program.as_program(), ["3"], timeout_s=1.0, cpu_s=1)
        else:
            run_function(program.as_function("f"), "f", [[3]], timeout_s=1.0, cpu_s=1)

    for index in range(200):
        run(index)
    gc.collect()
    memory, descriptors = resident_kib(), len(os.listdir("/proc/self/fd"))
    for index in range(2_000):
        run(index)
    gc.collect()
    grown = resident_kib() - memory
    print(f"after 2,000 hostile runs: {grown:+} KiB resident, of {memory}")
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert grown < 4_096 and hostile.leftovers() == []
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1 << 20


def test_programs_are_programs():
    for program in PROGRAMS:
        if not program.raw:
            compile(program.as_function("f"), program.title, "exec")
            compile(program.as_program(), program.title, "exec")


def test_environments_of_the_corpus_exist():
    for env_id in {attempt.env_id for attempt in ALL}:
        registry.spec(env_id)
