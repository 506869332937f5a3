"""What the sandbox's tests share: looking for processes, and running a worker of their own."""

import sys
import textwrap
import time
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[2] / "src"


def children_of(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after_name[1]) == pid:
                found.append(int(entry.name))
    return found


def gone_within(seconds, remaining):
    deadline = time.monotonic() + seconds
    while left := remaining():
        if time.monotonic() > deadline:
            return sorted(left)
        time.sleep(0.02)
    return []


def script(body):
    code = "import sys\nsys.path.insert(0, sys.argv[1])\n" + textwrap.dedent(body)
    return [sys.executable, "-c", code, str(SOURCE_ROOT)]
