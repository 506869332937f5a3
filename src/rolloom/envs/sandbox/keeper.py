"""A keeper: sets one workspace up, runs its commands one after another, and removes it. See `keeper_server`.

What is confined is the command, not the keeper, which holds nothing that a command may not know. Standard
library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.sandbox import cgroups, confine, namespaces, shell, tree
else:
    # The keeper server loads the files beside it under these names.
    confine, namespaces, cgroups = (sys.modules[name] for name in ("confine", "namespaces", "cgroups"))
    shell, tree = sys.modules["shell"], sys.modules["tree"]

PR_SET_CHILD_SUBREAPER = 36
MAX_MESSAGE = 1 << 17
_LOOK_AT_DISK_S = 0.1
_OWN_BYTES = 16 << 20
"""What a keeper itself may take of its group's memory."""


def mapped(uid: int) -> bool:
    """True when a user of this number exists in our user namespace."""
    with open("/proc/self/uid_map") as file:
        spans = [list(map(int, line.split())) for line in file]
    return any(first <= uid < first + count for first, _, count in spans)


def own_uid() -> int:
    """Return a user number that nobody else has, for this process's workspace.

    Raises:
        confine.Unsupported: none is mapped.
    """
    for uid in (1_600_000_000 + os.getpid(), 40_000 + os.getpid() % 20_000):
        if mapped(uid):
            return uid
    raise confine.Unsupported("no user number is free for a workspace")


def shown(level: str, grouped: bool) -> str:
    """Return what an outcome says of its isolation."""
    return f"cgroup+{level}" if grouped else level


def tasks_of(uid: int) -> int:
    """Return how many processes and threads a user has."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


class Keeper:
    """One workspace.

    Args:
        level: of `confine.WORKSPACE_LEVELS`.
        settings: `{"readable", "hidden", "path", "cgroup"}`: paths of the system, what in them is not to be
            read, where to look for programs, and whether control groups work here.
        request: `{"path", "disk_bytes", "inodes", "processes", "memory_mb"}`.

    Attributes:
        work: path of the workspace as commands see it.
        temporary: path of its directory for temporary files.
        owner: user that owns its files; None where that is us.

    Raises:
        confine.Unsupported: the level is missing here.
        OSError: the same.
    """

    def __init__(self, level: str, settings: dict[str, Any], request: dict[str, Any]) -> None:
        self.level, self.request = level, request
        self.namespaces = level.startswith("namespaces")
        self.confined = level != confine.NONE
        self.null = os.open(os.devnull, os.O_RDWR)
        self.group: cgroups.Group | None = None
        self.base = ""
        self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.confined and settings["cgroup"]:
            memory = (request["memory_mb"] << 20) + 2 * request["disk_bytes"] + _OWN_BYTES
            self.group = cgroups.Group(memory, request["processes"] + 1)
        try:
            self._set_up(settings)
        except BaseException:
            self.clean_up()
            raise

    def _set_up(self, settings: dict[str, Any]) -> None:
        level, request = self.level, self.request
        uid = own_uid() if "uid+" in level else None
        counted = self.group is not None or self.namespaces or os.geteuid() != 0
        if uid is None and self.confined and not counted:
            raise confine.Unsupported("processes of root cannot be counted, and root needs a user of its own")
        self.owner = uid
        readable = [path for path in settings["readable"] if os.path.exists(path)]
        if self.namespaces:
            plain_user = os.geteuid() != 0
            namespaces.unshare(user=plain_user)
            inner = namespaces.INNER_UID if uid is None else uid
            namespaces.enter_new_root(readable, inner, request["disk_bytes"], request["inodes"])
            self.work, self.temporary = namespaces.WORKSPACE, namespaces.TEMPORARY
            readable += namespaces.USERS
        else:
            self.base = request["path"]
            self.work, self.temporary = f"{self.base}/work", f"{self.base}/tmp"
            os.mkdir(self.base, 0o711)
            for path in (self.work, self.temporary):
                os.mkdir(path, 0o700)
                if uid is not None:
                    os.chown(path, uid, uid)
        confine.prctl(PR_SET_CHILD_SUBREAPER, 1, "subreaper")
        self.ruleset, self.program = -1, b""
        if self.confined:
            writable = (self.work, self.temporary)
            self.ruleset = shell.build_ruleset(readable, settings["hidden"], writable)
            alone = self.namespaces or uid is not None
            self.program = shell.build_filter(
                metadata=alone, signals=alone or shell.landlock_abi() >= 6, groups=self.namespaces
            )
        self.environment = {
            "PATH": ":".join(settings["path"]),
            "HOME": self.work,
            "TMPDIR": self.temporary,
            "USER": "agent",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def serve(self, session: socket.socket) -> None:
        """Hand over the workspace, run commands until the session ends, then clean up."""
        work = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        told = {
            "isolation": shown(self.level, self.group is not None),
            "work": self.work,
            "owner": self.owner,
        }
        socket.send_fds(session, [json.dumps(told).encode()], [work])
        os.close(work)
        try:
            # Slow, so done while the policy still thinks about its first command.
            self.join_group()
            while True:
                message, descriptors, _, _ = socket.recv_fds(session, MAX_MESSAGE, 2)
                if not message:
                    return
                command = json.loads(message)
                reply = self.run(command, descriptors, session)
                for descriptor in descriptors:
                    os.close(descriptor)
                session.send(json.dumps(reply).encode())
        except OSError:
            return
        finally:
            self.clean_up(session)

    def join_group(self) -> None:
        """Have the group's bounds hold for us and for all commands.

        Raises:
            OSError: the kernel refused.
        """
        if self.group is not None:
            self.group.join()

    def clean_up(self, session: socket.socket | None = None) -> None:
        """Remove the files, end the session, remove the group; a workspace in memory vanishes by itself."""
        if self.base:
            for path in (self.work, self.temporary):
                tree.remove_tree(path)
            with contextlib.suppress(OSError):
                os.rmdir(self.base)
        if session is not None:
            session.close()
        if self.group is not None:
            self.group.leave()
            self.group.remove()

    def run(
        self,
        command: dict[str, Any],
        descriptors: list[int],
        session: socket.socket | None,
        instead: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Run one command to its end, its deadline, or the end of the session.

        Args:
            command: `{"command", "timeout_s", "cpu_s"}`.
            descriptors: what it gets as output, and, if there is a second, as input.
            session: watched meanwhile; its end ends the command.
            instead: called, confined, instead of executing the command.

        Returns:
            `{"status", "cpu_s", "why"}`, or `{"error"}` when it could not be confined.
        """
        reader, writer = os.pipe()
        processes = self.request["processes"]
        if self.confined and not self.namespaces and self.owner is None:
            processes += tasks_of(os.geteuid())
        limits = shell.Limits(
            command["cpu_s"], self.request["memory_mb"], processes, self.request["disk_bytes"]
        )
        pid = namespaces.clone_into_new_pids() if self.namespaces else os.fork()
        if pid == 0:
            self._become(command, descriptors, limits, writer, instead)
        os.close(writer)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        said = b""
        while chunk := os.read(reader, 1024):
            said += chunk
        os.close(reader)
        why = "" if said == b"." else "error"
        if not why:
            why = self._watch(pid, time.monotonic() + command["timeout_s"], session)
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        if why == "error":
            return {"error": said.lstrip(b".").decode(errors="replace") or "the keeper lost its child"}
        return {"status": status, "cpu_s": usage.ru_utime + usage.ru_stime, "why": why}

    def _be_first_to_go(self) -> None:
        """Have the kernel choose a command, not its keeper, when memory runs out."""
        with contextlib.suppress(OSError):
            score = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.proc)
            os.write(score, b"1000")
            os.close(score)

    def _become(
        self,
        command: dict[str, Any],
        descriptors: list[int],
        limits: shell.Limits,
        alive: int,
        instead: Callable[[], None] | None,
    ) -> None:
        """In the child: confine it and execute the command. Never returns."""
        try:
            os.setpgid(0, 0)
            self._be_first_to_go()
            output = descriptors[0] if descriptors else self.null
            given = descriptors[1] if len(descriptors) > 1 else self.null
            os.dup2(given, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.work)
            uid = self.owner if self.confined else None
            shell.become(uid, limits, self.ruleset, self.program, alive)
            if instead is not None:
                instead()
                os._exit(0)
            # Closing the pipe by executing is what tells the keeper that it worked.
            confine.close_at_exec()
            os.execve("/bin/sh", ["sh", "-c", command["command"]], self.environment)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(alive, f"{type(error).__name__}: {error}".encode(errors="replace")[:500])
        finally:
            os._exit(126)

    def _watch(self, pid: int, deadline: float, session: socket.socket | None) -> str:
        """Wait for a command; return "", or why it has to be killed."""
        ended = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if session is not None:
            poll.register(session, select.POLLIN)
        try:
            while (left := deadline - time.monotonic()) > 0:
                pause = min(left, _LOOK_AT_DISK_S) if self.base else left
                ready = {descriptor for descriptor, _ in poll.poll(pause * 1000 + 1)}
                if ended in ready:
                    return "disk" if self.base and self._disk_is_full() else ""
                if ready:
                    return "closed"
                if self.base and self._disk_is_full():
                    return "disk"
            return "timeout"
        finally:
            os.close(ended)

    def _disk_is_full(self) -> bool:
        """True when the workspace on disk holds more than its share."""
        total = count = 0
        for path in (self.work, self.temporary):
            with contextlib.suppress(OSError):
                root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    for _, info in tree.walk(root, self.request["inodes"] + 1):
                        total, count = total + info.st_blocks * 512, count + 1
                finally:
                    os.close(root)
        return total > self.request["disk_bytes"] or count > self.request["inodes"]
