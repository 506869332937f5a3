"""Takes rights away from the calling process: rlimits, capabilities, Landlock and seccomp, all unprivileged.

Runs inside the fork server, so it imports the standard library only. What a confined process keeps:
computing, reading Python's own standard library (under Landlock), writing to the pipes it holds. It can
open nothing for writing, start no process or thread, send no signal, make no socket. The seccomp filter
is an allow-list: a system call that a future kernel adds is denied.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable

FULL = "landlock+seccomp+rlimits"
NO_FILES = "seccomp+rlimits"
NONE = "none"
NAMESPACES = f"namespaces+{FULL}"
LEVELS = (NAMESPACES, FULL, NO_FILES, NONE)
WORKSPACE_LEVELS = (f"namespaces+uid+{FULL}", f"namespaces+{FULL}", f"uid+{FULL}", FULL, NONE)
"""Of commands in a workspace; `uid` is a user of its own. They need files: there is none without Landlock."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
CLOSE_RANGE = 436
LANDLOCK_CREATE, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FS_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}
FS_RIGHTS_NEWEST = 16

OPEN_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FCNTL_ALLOWED = (0, 1, 2, 3, 1030)  # DUPFD, GETFD, SETFD, GETFL, DUPFD_CLOEXEC: none can route signals

# Syscall numbers: AUDIT_ARCH, then name -> number. Architectures not listed here fail closed.
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39,
    "exit": 60, "uname": 63, "getcwd": 79, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
    "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "newfstatat": 262, "faccessat": 269, "pselect6": 270, "ppoll": 271, "dup3": 292,
    "pipe2": 293, "getrandom": 318, "statx": 332, "rseq": 334, "faccessat2": 439, "open": 2, "openat": 257,
    "ioctl": 16, "fcntl": 72,
}  # fmt: skip
_AARCH64 = {
    "read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222, "mprotect": 226,
    "munmap": 215, "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
    "pread64": 67, "pwrite64": 68, "readv": 65, "writev": 66, "sched_yield": 124, "mremap": 216,
    "madvise": 233, "dup": 23, "nanosleep": 101, "getpid": 172, "exit": 93, "uname": 160, "getcwd": 17,
    "gettimeofday": 169, "getrusage": 165, "sysinfo": 179, "times": 153, "getuid": 174, "getgid": 176,
    "geteuid": 175, "getegid": 177, "getppid": 173, "sigaltstack": 132, "gettid": 178, "futex": 98,
    "sched_getaffinity": 123, "getdents64": 61, "restart_syscall": 128, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "exit_group": 94, "newfstatat": 79, "faccessat": 48,
    "pselect6": 72, "ppoll": 73, "dup3": 24, "pipe2": 59, "getrandom": 278, "statx": 291, "rseq": 293,
    "faccessat2": 439, "openat": 56, "ioctl": 29, "fcntl": 25,
}  # fmt: skip
ARCHITECTURES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
_SPECIAL = ("open", "openat", "ioctl", "fcntl")
_FLAGS_ARGUMENT = {"open": 1, "openat": 2}

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class Unsupported(Exception):
    """A part of the confinement is missing on this kernel; the message says which."""


def check(result: int, what: str) -> int:
    """Return the result of a call to the kernel.

    Raises:
        Unsupported: it failed.
    """
    if result < 0:
        raise Unsupported(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def prctl(option: int, value: int, what: str) -> None:
    """Set an option of this process.

    Raises:
        Unsupported: the kernel refused.
    """
    check(
        _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)),
        what,
    )


def prctl_quietly(option: int, value: int) -> None:
    """Set an option of this process if the kernel lets us."""
    _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def close_at_exec() -> None:
    """Have every descriptor above 2 closed when this process executes a program.

    Raises:
        Unsupported: the kernel refused.
    """
    last, cloexec = ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(4)
    check(syscall(CLOSE_RANGE, ctypes.c_uint(3), last, cloexec), "closing descriptors")


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number."""
    return _libc.syscall(ctypes.c_long(number), *arguments)


def create_ruleset(abi: int) -> int:
    """Return the descriptor of a Landlock ruleset that denies all this version can deny.

    Raises:
        Unsupported: the kernel refused.
    """
    attributes = [(1 << FS_RIGHTS_BY_ABI.get(abi, FS_RIGHTS_NEWEST)) - 1]
    if abi >= 4:
        attributes.append(0b11)  # TCP bind and connect
    if abi >= 6:
        attributes.append(0b11)  # abstract Unix sockets and signals to processes outside
    raw = struct.pack(f"={len(attributes)}Q", *attributes)
    return check(
        syscall(LANDLOCK_CREATE, raw, ctypes.c_size_t(len(raw)), ctypes.c_uint(0)), "Landlock ruleset"
    )


def build_ruleset() -> int:
    """Return the descriptor of a Landlock ruleset that grants reading the standard library, nothing else.

    Raises:
        Unsupported: the kernel has no Landlock, or it is switched off.
    """
    abi = check(syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1)), "Landlock")
    ruleset = create_ruleset(abi)
    for root in filter(os.path.isdir, sys.path):
        allow(ruleset, root, READ_DIR)
        for entry in os.scandir(root):
            if entry.name not in ("site-packages", "dist-packages"):
                allow(ruleset, entry.path, READ_FILE)
    return ruleset


def allow(ruleset: int, path: str, rights: int) -> None:
    """Grant Landlock rights on a file, or on a directory and all below it.

    Raises:
        Unsupported: the kernel refused.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", rights, descriptor)
    check(
        syscall(LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0)),
        "Landlock rule",
    )
    os.close(descriptor)


def call_table(machine: str) -> tuple[int, dict[str, int]]:
    """Return an architecture's audit number and the numbers of its system calls.

    Raises:
        Unsupported: not known here.
    """
    if machine not in ARCHITECTURES:
        raise Unsupported(
            f"seccomp filter: no system call table for {machine!r}, only {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[machine]


def build_filter(may_open: bool) -> bytes:
    """Return the seccomp program: calls not on the list give EPERM.

    Args:
        may_open: files may be opened read-only (Landlock says which); otherwise no file can be opened at all.

    Raises:
        Unsupported: this processor's system calls are not known here.
    """
    audit_arch, numbers = call_table(platform.machine())
    code = [(_LOAD, 0, 0, 4), (_JEQ, 1, 0, audit_arch), (_RET, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _KILL)]
    for name, number in numbers.items():
        if name not in _SPECIAL:
            code += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ALLOW)]
    code += [(_JEQ, 0, 1, numbers["ioctl"]), (_RET, 0, 0, _ERRNO | errno.ENOTTY)]
    commands = [(_JEQ, len(FCNTL_ALLOWED) - i, 0, command) for i, command in enumerate(FCNTL_ALLOWED)]
    code += [(_JEQ, 0, len(commands) + 3, numbers["fcntl"]), (_LOAD, 0, 0, 16 + 8), *commands]
    code += [(_RET, 0, 0, _ERRNO | errno.EPERM), (_RET, 0, 0, _ALLOW)]
    for name, argument in _FLAGS_ARGUMENT.items():
        if may_open and name in numbers:
            code += [(_JEQ, 0, 4, numbers[name]), (_LOAD, 0, 0, 16 + 8 * argument)]
            code += [
                (_JSET, 0, 1, OPEN_FOR_WRITING),
                (_RET, 0, 0, _ERRNO | errno.EACCES),
                (_RET, 0, 0, _ALLOW),
            ]
    code.append((_RET, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class Confinement:
    """One level of isolation: the server enters what children can inherit, each child enters the rest.

    Attributes:
        level: one of `LEVELS`.

    Raises:
        Unsupported: the level is missing on this kernel.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self._ruleset = build_ruleset() if "landlock" in level else -1
        self._program = b"" if level == NONE else build_filter(may_open="landlock" in level)
        self._buffer = ctypes.create_string_buffer(self._program, max(1, len(self._program)))
        self._header = struct.pack("HxxxxxxP", len(self._program) // 8, ctypes.addressof(self._buffer))

    def prepare(self, unshare: Callable[[bool], None]) -> None:
        """Give up what neither the server nor its children need, for good.

        Args:
            unshare: enters new namespaces, starting with one of users where that is asked for.

        Raises:
            Unsupported: the kernel refused a step.
            OSError: the same.
        """
        if "namespaces" in self.level:
            unshare(os.geteuid() != 0)
        for limit in (
            resource.RLIMIT_CORE,
            resource.RLIMIT_FSIZE,
            resource.RLIMIT_MSGQUEUE,
            resource.RLIMIT_MEMLOCK,
        ):
            resource.setrlimit(limit, (0, 0))
        prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
        if self.level != NONE:
            drop_capabilities()
        if self._ruleset >= 0:
            restrict(self._ruleset)
            os.close(self._ruleset)

    def enter(self, cpu_s: int, memory_mb: int) -> None:
        """Confine the calling process, a child of the prepared server, for good.

        Args:
            cpu_s: CPU seconds it may use.
            memory_mb: address space it may have, in MiB.

        Raises:
            Unsupported: the kernel refused a step.
        """
        memory = memory_mb << 20
        # The hard limit is a second later, so that the default SIGXCPU tells a CPU timeout from other deaths.
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        if self.level != NONE:
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            install_filter(self._header)


def drop_capabilities() -> None:
    """Give up every capability.

    Raises:
        Unsupported: the kernel refused.
    """
    nothing = struct.pack("6I", 0, 0, 0, 0, 0, 0)
    version_3_self = struct.pack("=Ii", 0x20080522, 0)
    check(_libc.capset(version_3_self, nothing), "dropping capabilities")


def restrict(ruleset: int) -> None:
    """Enter a Landlock ruleset for good.

    Raises:
        Unsupported: the kernel refused.
    """
    result = syscall(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    check(result, "Landlock restriction")


def install_filter(header: bytes) -> None:
    """Enter a seccomp filter for good; the program that the header points to must still be alive.

    Raises:
        Unsupported: the kernel refused.
    """
    pointer = ctypes.create_string_buffer(header, len(header))
    zero = ctypes.c_ulong(0)
    check(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), pointer, zero, zero), "seccomp filter")


def die_with_parent(parent: int, signal_number: int) -> None:
    """Ask for a signal when the parent dies, and exit at once if it is dead already."""
    prctl(PR_SET_PDEATHSIG, signal_number, "PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)


def probe(confinement: Confinement, unshare: Callable[[bool], None]) -> None:
    """Check in the calling process, which stays confined, that what must be denied is denied.

    Raises:
        Unsupported: something that must be denied still works.
    """
    confinement.prepare(unshare)
    confinement.enter(cpu_s=5, memory_mb=1024)
    if confinement.level == NONE:
        return
    for what, attempt in {
        "open a socket": lambda: _syscall_by_name("socket"),
        "start a process": os.fork,
        "send a signal": lambda: os.kill(os.getppid(), 0),
        "read a file outside the standard library": lambda: os.open(os.path.abspath(__file__), os.O_RDONLY),
        "write a file": lambda: os.open("/tmp/rolloom-probe", os.O_WRONLY | os.O_CREAT),
    }.items():
        with contextlib.suppress(PermissionError):
            attempt()
            raise Unsupported(f"{confinement.level} is set up but a confined process can still {what}")


def _syscall_by_name(name: str) -> None:
    number = {"socket": {"x86_64": 41, "aarch64": 198}}[name][platform.machine()]
    if syscall(number, ctypes.c_int(1), ctypes.c_int(1), ctypes.c_int(0)) < 0:
        raise OSError(ctypes.get_errno(), name)
