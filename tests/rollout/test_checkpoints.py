"""Checkpoints appear whole or not at all, notice damage, and survive a kill at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rolloom.rollout.checkpoints import (
    MANIFEST,
    CheckpointError,
    latest_checkpoint,
    prune,
    read_checkpoint,
    write_checkpoint,
)


def fill(directory: Path) -> None:
    (directory / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (directory / "config.json").write_text('{"a": 1}')


def write(root: Path, *steps: int) -> list[Path]:
    return [write_checkpoint(root, step, fill, {"step_seconds": step / 2}) for step in steps]


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_was_written_reads_back(tmp_path: Path) -> None:
    root = tmp_path / "run" / "checkpoints"
    (path,) = write(root, 7)
    found = read_checkpoint(path)
    assert (found.path, found.step, found.meta) == (path, 7, {"step_seconds": 3.5})
    assert latest_checkpoint(root) == found
    assert names(path) == sorted(["weights.bin", "config.json", MANIFEST])


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="step_000003"):
        read_checkpoint(tmp_path / "step_000003")


def test_the_newest_is_the_highest_step_in_whatever_order(tmp_path: Path) -> None:
    write(tmp_path, 100, 20, 3)
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 100


def test_the_same_step_is_written_once(tmp_path: Path) -> None:
    (path,) = write(tmp_path, 4)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}

    def forbidden(directory: Path) -> None:
        raise AssertionError(f"filled {directory} again")

    assert write_checkpoint(tmp_path, 4, forbidden, {"other": True}) == path
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()} == before


@pytest.mark.parametrize("name", ["weights.bin", "config.json", MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "empty"])
def test_damage_is_noticed_and_the_one_before_is_used(tmp_path: Path, name: str, damage: str) -> None:
    _, newest = write(tmp_path, 1, 2)
    file = newest / name
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flip":
        # The opening byte of the manifest, the middle of the others.
        data[0 if name == MANIFEST else len(data) // 2] ^= 0x40
        file.write_bytes(data)
    else:
        file.write_bytes(data[:-2] if damage == "cut" else b"")
    with pytest.raises(CheckpointError, match="step_000002"):
        read_checkpoint(newest)
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1


def test_nothing_intact_is_nothing(tmp_path: Path) -> None:
    for path in write(tmp_path, 1, 2):
        (path / "config.json").write_text('{"a": 2}')
    assert latest_checkpoint(tmp_path) is None


def test_a_failing_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path, 1)

    def failing(directory: Path) -> None:
        fill(directory)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(tmp_path, 2, failing, {})
    assert names(tmp_path) == ["step_000001"]


@pytest.mark.parametrize("keep,left", [(1, [5]), (2, [4, 5]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_prune_keeps_the_newest(tmp_path: Path, keep: int, left: list[int]) -> None:
    write(tmp_path, 1, 2, 3, 4, 5)
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    prune(tmp_path, keep)
    assert names(tmp_path) == ["notes.txt", *(f"step_{step:06d}" for step in left)]
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 5


STALLED = """
import sys, time
from pathlib import Path
from rolloom.rollout.checkpoints import write_checkpoint

def fill(directory):
    (directory / "weights.bin").write_bytes(b"half")
    print("filling", flush=True)
    time.sleep(60)

write_checkpoint(Path(sys.argv[1]), 2, fill, {})
"""

ENDLESS = """
import os, sys
from itertools import count
from pathlib import Path
from rolloom.rollout.checkpoints import latest_checkpoint, write_checkpoint

def fill(directory):
    for part in range(4):
        (directory / f"part{part}.bin").write_bytes(os.urandom(20_000))

root = Path(sys.argv[1])
found = latest_checkpoint(root)
for step in count(found.step + 1 if found else 1):
    write_checkpoint(root, step, fill, {})
    if step % 3 == 0:
        print(step, flush=True)
"""


def start(script: str, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL
    assert child.stdout is not None
    child.stdout.close()


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    write(tmp_path, 1)
    child = start(STALLED, tmp_path)
    assert child.stdout is not None and child.stdout.readline() == "filling\n"
    kill(child)
    assert len(list(tmp_path.glob(".step_000002.*.draft"))) == 1, "the kill came too late to test anything"
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_000001"]
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    write(tmp_path, 2)
    prune(tmp_path, 5)
    assert names(tmp_path) == ["step_000001", "step_000002"]


def test_killed_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(6):
        before = latest_checkpoint(tmp_path)
        child = start(ENDLESS, tmp_path)
        assert child.stdout is not None
        announced = int(child.stdout.readline())
        time.sleep(rng.random() * 0.03)
        kill(child)
        visible = sorted(tmp_path.glob("step_*"))
        assert [read_checkpoint(path).path for path in visible] == visible
        found = latest_checkpoint(tmp_path)
        assert found is not None and found.step >= announced
        assert before is None or found.step > before.step
