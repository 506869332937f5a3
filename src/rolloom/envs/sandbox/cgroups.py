"""Control groups: bounds on the memory and the processes of all of a workspace's commands together.

Version 2, where the group we are in may have children with these controllers, or version 1. Standard library
only. Directories are held by descriptor, because the keeper leaves the root in which they have names.
"""

from __future__ import annotations

import contextlib
import os
import time

PREFIX = "rolloom-"
_MOUNT = "/sys/fs/cgroup"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REMOVE_S = 2.0


def parents() -> list[str]:
    """Return the directories in which our groups are made: one of version 2, or those of memory and pids.

    Raises:
        OSError: there are none.
    """
    with open("/proc/self/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    own = {name: path for _, names, path in lines for name in names.split(",")}
    if "memory" in own and "pids" in own:
        return [_directory(name, own[name]) for name in ("memory", "pids")]
    if "" in own:
        return [_directory("", own[""])]
    raise OSError("this process is in no control group")


def _directory(controller: str, path: str) -> str:
    mount = os.path.join(_MOUNT, controller) if controller else _MOUNT
    # In a container the path may be the host's, and what is mounted is our part of it.
    found = mount + path.rstrip("/")
    return found if os.path.isdir(found) else mount


class Group:
    """A group of its own for what joins it.

    Args:
        memory_bytes: memory of all members together, files in memory included.
        processes: processes and threads at once.

    Raises:
        OSError: no such group can be made here.
    """

    def __init__(self, memory_bytes: int, processes: int) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        self._held: list[tuple[int, int]] = []
        self.joined = False
        settings = {"memory.max": memory_bytes, "memory.limit_in_bytes": memory_bytes, "pids.max": processes}
        done = set()
        try:
            for parent in parents():
                above = os.open(parent, _DIRECTORY)
                try:
                    os.mkdir(self.name, dir_fd=above)
                    self._held.append((above, os.open(self.name, _DIRECTORY, dir_fd=above)))
                except OSError:
                    os.close(above)
                    raise
                for setting, value in settings.items():
                    with contextlib.suppress(FileNotFoundError):
                        self._write(self._held[-1][1], setting, str(value))
                        done.add(setting.partition(".")[0])
            if done != {"memory", "pids"}:
                raise OSError(f"its controllers are {sorted(done)}, expected memory and pids")
        except OSError:
            self.remove()
            raise

    @staticmethod
    def _write(folder: int, name: str, text: str) -> None:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def join(self) -> None:
        """Put the calling process, and what it will start, into the group; takes the kernel some 15 ms.

        Raises:
            OSError: the kernel refused.
        """
        if not self.joined:
            for _, folder in self._held:
                self._write(folder, "cgroup.procs", "0")
            self.joined = True

    def leave(self) -> None:
        """Put the calling process back where it was."""
        for above, _ in self._held if self.joined else ():
            with contextlib.suppress(OSError):
                self._write(above, "cgroup.procs", "0")
        self.joined = False

    def remove(self) -> None:
        """Remove the group once its members have ended; gives up on one that does not empty."""
        for above, folder in self._held:
            os.close(folder)
            deadline = time.monotonic() + _REMOVE_S
            while time.monotonic() < deadline:
                try:
                    os.rmdir(self.name, dir_fd=above)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
            os.close(above)
        self._held = []


def remove_stale() -> None:
    """Remove the groups of keepers that were killed before they could."""
    with contextlib.suppress(OSError):
        for parent in parents():
            for name in os.listdir(parent):
                number = name.removeprefix(PREFIX)
                if name.startswith(PREFIX) and number.isdecimal() and not os.path.exists(f"/proc/{number}"):
                    with contextlib.suppress(OSError):
                        os.rmdir(os.path.join(parent, name))


def work() -> bool:
    """True when a group can be made here, joined and removed."""
    try:
        group = Group(64 << 20, 16)
    except OSError:
        return False
    pid = os.fork()
    if pid == 0:
        try:
            group.join()
        except OSError:
            os._exit(1)
        os._exit(0)
    joined = os.waitpid(pid, 0)[1] == 0
    group.remove()
    return joined
