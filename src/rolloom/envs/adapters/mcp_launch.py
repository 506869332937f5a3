"""Runs a server so that nothing of it outlives the process that asked for it; a script of its own.

`python -I -S mcp_launch.py PARENT_PID COMMAND ...` starts the command on its own standard streams and waits.
When the parent dies (even by SIGKILL), when it sends SIGTERM, or when the command ends, everything the
command started is killed: this process adopts what its descendants orphan.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 0.5
WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def prctl(option: int, value: int) -> None:
    """Set an option of this process; elsewhere than on Linux, do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3)


def descendants(of: int) -> list[int]:
    """Return the process ids of everything below a process."""
    children: dict[int, list[int]] = {}
    if not os.path.isdir("/proc"):
        return []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as stat:
            # The command's name may contain anything, so count from the last bracket.
            parent = int(stat.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [of]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def reap(child: int) -> int | None:
    """Collect what has ended; return the exit status of `child` if it is among it."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = os.waitstatus_to_exitcode(code)
    return status


def start(command: list[str]) -> int:
    """Start the command, which dies with this process; return its process id."""
    own = os.getpid()
    child = os.fork()
    if child:
        return child
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    if os.getppid() == own:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def main(parent: int, command: list[str]) -> int:
    """Run the command; return its exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    child = start(command)
    # The streams are the command's alone: whoever reads them must see their end when it ends.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    status: int | None = None
    while status is None and signal.sigwait(WATCHED) == signal.SIGCHLD:
        status = reap(child)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while status is None and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, until - time.monotonic()))
            status = reap(child)
    # What forks while it is being killed is found by the next round.
    for _ in range(20):
        left = descendants(os.getpid())
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
        reap(child)
    return 1 if status is None else status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
