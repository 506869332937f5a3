"""Turns the calling process into a confined shell command. Standard library only; used by the keeper.

On top of `confine`: commands may read and execute the system's programs, write inside their workspace and
start processes, all of which die with the command.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolloom.envs.sandbox import confine, shell_calls
else:
    # The keeper server loads the files beside it under these names.
    confine, shell_calls = sys.modules["confine"], sys.modules["shell_calls"]

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK, _IOCTL_DEV = 1 << 6, 1 << 9, 1 << 11, 1 << 15
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
_PR_CAPBSET_DROP = 24
_LAST_CAPABILITY = 63
WRITABLE_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
READABLE_DEVICES = ("/dev/urandom", "/dev/random")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use.

    Attributes:
        cpu_s: CPU seconds of each process.
        memory_mb: address space of each process in MiB.
        processes: processes and threads at once.
        file_bytes: size of a file.
    """

    cpu_s: int
    memory_mb: int
    processes: int
    file_bytes: int

    def apply(self) -> None:
        """Set them for this process and what it starts."""
        memory = self.memory_mb << 20
        for limit, value in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_NOFILE, 256),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_FSIZE, self.file_bytes),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            resource.setrlimit(limit, (value, value))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_s, self.cpu_s + 1))


def landlock_abi() -> int:
    """Return the version of Landlock this kernel has.

    Raises:
        confine.Unsupported: none.
    """
    return confine.check(
        confine.syscall(confine.LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "Landlock"
    )


def build_ruleset(readable: Iterable[str], hidden: Iterable[str], writable: Iterable[str]) -> int:
    """Return the descriptor of a Landlock ruleset.

    Args:
        readable: what may be read and executed.
        hidden: directories inside it that may not (their names can be listed).
        writable: directories in which anything but devices and sockets may be made.

    Raises:
        confine.Unsupported: the kernel has no Landlock, or it is switched off.
    """
    abi = landlock_abi()
    handled = (1 << confine.FS_RIGHTS_BY_ABI.get(abi, confine.FS_RIGHTS_NEWEST)) - 1
    ruleset = confine.create_ruleset(abi)
    gone = tuple(map(os.path.realpath, hidden))
    for path, rights in (grant for root in readable for grant in _grants(root, gone)):
        confine.allow(ruleset, path, rights & handled)
    everything = handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK | _IOCTL_DEV)
    for path in writable:
        confine.allow(ruleset, path, everything)
    for path in filter(os.path.exists, WRITABLE_DEVICES):
        confine.allow(ruleset, path, (READ_FILE | WRITE_FILE | TRUNCATE) & handled)
    for path in filter(os.path.exists, READABLE_DEVICES):
        confine.allow(ruleset, path, READ_FILE)
    return ruleset


def _grants(path: str, hidden: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    real = os.path.realpath(path)
    if real in hidden or not os.path.exists(real):
        return
    if not stat.S_ISDIR(os.stat(real).st_mode):
        yield real, EXECUTE | READ_FILE
    elif not any(name.startswith(f"{real}/") for name in hidden):
        yield real, EXECUTE | READ_FILE | READ_DIR
    else:
        yield real, READ_DIR
        for entry in os.scandir(real):
            if not entry.is_symlink():
                yield from _grants(entry.path, hidden)


def build_filter(metadata: bool, signals: bool, groups: bool) -> bytes:
    """Return the seccomp program; see `shell_calls.build_shell_filter`.

    Raises:
        confine.Unsupported: this processor's system calls are not known here.
    """
    audit_arch, numbers = confine.call_table(platform.machine())
    return shell_calls.build_shell_filter(
        numbers, audit_arch, metadata=metadata, signals=signals, groups=groups
    )


def become(uid: int | None, limits: Limits, ruleset: int, program: bytes, alive: int) -> None:
    """Confine the calling process, and what it will start, for good.

    Args:
        uid: user and group to become; None keeps them.
        limits: what it may use.
        ruleset: descriptor of the Landlock ruleset; -1 for none.
        program: seccomp program; empty for none.
        alive: pipe to the keeper, written to once the process dies with it: fails if it is dead already.

    Raises:
        confine.Unsupported: the kernel refused a step.
        OSError: the same, or the keeper is gone.
    """
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if ruleset >= 0 and os.geteuid() == 0:
        for capability in range(_LAST_CAPABILITY + 1):
            # Unknown ones fail; without the right to drop them there are none to drop.
            confine.prctl_quietly(_PR_CAPBSET_DROP, capability)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    # A change of user forgets the death signal, so it is asked for after it.
    confine.prctl(confine.PR_SET_PDEATHSIG, signal.SIGKILL, "PDEATHSIG")
    os.write(alive, b".")
    limits.apply()
    confine.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    if ruleset >= 0:
        confine.drop_capabilities()
        confine.restrict(ruleset)
        buffer = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
        confine.install_filter(header)
