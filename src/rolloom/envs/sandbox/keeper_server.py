"""The keeper server: forks a keeper for each workspace, which runs its commands one after another.

Started by `zygote.py` as a program with an empty environment; holds no tests and no expected values. Each
request is one byte that carries the session socket. A keeper sets its workspace up, hands over a descriptor
of it, then takes commands; when its session ends, because the worker closed it or died, it kills what runs
and removes what is left. It outlives its server, and nothing outlives it.

Usage: keeper_server.py CONTROL_FD PARENT_PID LEVEL[,LEVEL...] SETTINGS_JSON
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloom.envs.sandbox import cgroups, confine, namespaces
    from rolloom.envs.sandbox.keeper import MAX_MESSAGE, PR_SET_CHILD_SUBREAPER, Keeper, shown


def load_sibling(name: str) -> ModuleType:
    """Return the module beside this file, without importing the package (this interpreter cannot see it)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    confine, _ = load_sibling("confine"), load_sibling("shell_calls")
    namespaces, cgroups = load_sibling("namespaces"), load_sibling("cgroups")
    load_sibling("tree")
    load_sibling("shell")
    keeper = load_sibling("keeper")
    MAX_MESSAGE, PR_SET_CHILD_SUBREAPER = keeper.MAX_MESSAGE, keeper.PR_SET_CHILD_SUBREAPER
    Keeper, shown = keeper.Keeper, keeper.shown


def forbidden(keeper: Keeper, outside: list[int]) -> None:
    """Check, in a confined process, that what must be denied is denied.

    Raises:
        confine.Unsupported: something that must be denied works.
    """

    def make_socket() -> None:
        socket.socket(socket.AF_UNIX).close()

    attempts: dict[str, Callable[[], Any]] = {
        "open a socket": make_socket,
        "read a file outside": lambda: os.open(os.path.abspath(__file__), os.O_RDONLY),
        "read another process's files": lambda: os.open(f"/proc/{outside[0]}/environ", os.O_RDONLY),
        "write to the system": lambda: os.open("/usr/.rolloom-probe", os.O_WRONLY | os.O_CREAT),
        "write beside the workspace": lambda: os.open("/.rolloom-probe", os.O_WRONLY | os.O_CREAT),
        "change the system's modes": lambda: os.chmod("/usr", 0o755),
        "make a namespace": lambda: namespaces.unshare(user=True),
        "make a device": lambda: os.mknod("probe-device", 0o20600, os.makedev(1, 3)),
    }
    for what, attempt in attempts.items():
        with contextlib.suppress(OSError):
            attempt()
            raise confine.Unsupported(f"{keeper.level} is set up but a command can still {what}")
    for pid in outside:
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            if pid != os.getpid():
                raise confine.Unsupported(f"{keeper.level} is set up but a command can still signal {pid}")


def probe(level: str, settings: dict[str, Any], path: str) -> None:
    """Set up a workspace, check what its commands can and cannot do, and remove it.

    Raises:
        confine.Unsupported: the level does not hold here.
        OSError: the same.
    """
    outside = [os.getpid(), os.getppid()]
    request = {"path": path, "disk_bytes": 1 << 20, "inodes": 64, "processes": 16, "memory_mb": 1024}
    keeper = Keeper(level, settings, request)
    try:
        keeper.join_group()
        limits = {"command": "", "timeout_s": 10.0, "cpu_s": 5}
        if keeper.confined:
            denied = keeper.run(limits, [], None, instead=lambda: forbidden(keeper, outside))
            if denied.get("error") or denied["status"]:
                raise confine.Unsupported(denied.get("error") or f"the probe ended with {denied}")
        reader, writer = os.pipe()
        # In a pipeline, so that it shows that commands can start processes, write files and read them.
        line = "echo works > file && cat < file | cat"
        done = keeper.run(limits | {"command": line}, [writer], None)
        os.close(writer)
        said = os.read(reader, 1000)
        if done.get("error") or said != b"works\n":
            raise confine.Unsupported(f"a command failed: {done}, {said.decode(errors='replace')}")
    finally:
        keeper.clean_up()


def find_level(levels: list[str], settings: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the first level that a forked probe proves to hold, and what was wrong with those before it."""
    wrong: list[str] = []
    for level in levels:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                probe(level, settings, f"{settings['directory']}/rolloom-probe-{os.getpid()}")
            except BaseException as error:
                os.write(writer, str(error).encode(errors="replace")[:500])
                os._exit(1)
            os._exit(0)
        os.close(writer)
        problem = os.read(reader, 500).decode(errors="replace")
        status = os.waitpid(pid, 0)[1]
        os.close(reader)
        if not problem and not status:
            return level, wrong
        wrong.append(f"{level}: {problem or f'the probe died (wait status {status})'}")
    return None, wrong


def keep(level: str, settings: dict[str, Any], session: socket.socket) -> None:
    """In a forked child: be the keeper of one workspace. Never returns."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        request = json.loads(session.recv(MAX_MESSAGE))
        try:
            keeper = Keeper(level, settings, request)
        except (confine.Unsupported, OSError) as error:
            session.send(json.dumps({"error": str(error)[:500]}).encode())
        else:
            keeper.serve(session)
    finally:
        os._exit(0)


def serve(control: socket.socket, become: Callable[[socket.socket], None]) -> None:
    """Fork a keeper for each request until the worker has gone; clean up behind keepers that were killed."""
    keepers: dict[int, int] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in keepers:
                poll.unregister(descriptor)
                os.close(descriptor)
                if os.waitpid(keepers.pop(descriptor), 0)[1]:
                    kill_orphans(set(keepers.values()))
                    cgroups.remove_stale()
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                return
            session = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                control.close()
                become(session)
            session.close()
            ended = os.pidfd_open(pid)
            keepers[ended] = pid
            poll.register(ended, select.POLLIN)


def kill_orphans(keepers: set[int]) -> None:
    """Kill what a keeper that was killed left to us, its process groups at once, until there is none."""
    while True:
        orphans = set(children()) - keepers
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(OSError):
                group = os.getpgid(pid)
                if group not in (0, os.getpgid(0)):
                    os.killpg(group, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children() -> list[int]:
    """Return the ids of our children."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


def main() -> None:
    """Become the keeper server."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    confine.die_with_parent(int(sys.argv[2]), signal.SIGTERM)
    os.chdir("/")
    settings = json.loads(sys.argv[4])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    cgroups.remove_stale()
    settings["cgroup"] = cgroups.work()
    level, wrong = find_level(sys.argv[3].split(","), settings)
    grouped = settings["cgroup"] and level != confine.NONE
    told = None if level is None else shown(level, grouped)
    control.sendall(json.dumps({"isolation": told, "wrong": wrong}).encode() + b"\n")
    if level is not None:
        confine.prctl(PR_SET_CHILD_SUBREAPER, 1, "subreaper")
        serve(control, lambda session: keep(level, settings, session))


if __name__ == "__main__":
    main()
