"""The seccomp filter of shell commands: an allow-list that lets them work on files and start processes.

Longer than the one of `confine` because real programs run under it; sockets, namespaces, mounts, ptrace,
io_uring, bpf, keyrings, device nodes, ownership and extended attributes are not on it. Standard library only.
"""

from __future__ import annotations

import errno
import platform
import struct

Numbers = dict[str, tuple[int | None, int | None]]

# Names beyond `confine`'s -> numbers on x86_64 and aarch64 (None where it does not exist).
_MORE: Numbers = {
    "execve": (59, 221), "fork": (57, None), "vfork": (58, None), "wait4": (61, 260), "waitid": (247, 95),
    "tgkill": (234, 131), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "umask": (95, 166), "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None),
    "rmdir": (84, None), "creat": (85, None), "link": (86, None), "unlink": (87, None),
    "symlink": (88, None), "readlink": (89, None), "ftruncate": (77, 46), "getdents": (78, None),
    "fsync": (74, 82), "fdatasync": (75, 83), "flock": (73, 32), "sendfile": (40, 71),
    "copy_file_range": (326, 285), "mkdirat": (258, 34), "unlinkat": (263, 35), "renameat": (264, 38),
    "linkat": (265, 37), "symlinkat": (266, 36), "readlinkat": (267, 78), "renameat2": (316, 276),
    "statfs": (137, 43), "fstatfs": (138, 44), "prlimit64": (302, 261), "getrlimit": (97, 163),
    "setrlimit": (160, 164), "arch_prctl": (158, None), "set_tid_address": (218, 96),
    "set_robust_list": (273, 99), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133), "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102),
    "pause": (34, None), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286),
    "pwritev2": (328, 287), "fadvise64": (221, 223), "fallocate": (285, 47), "eventfd2": (290, 19),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158), "getcpu": (309, 168),
    "getpriority": (140, 141), "membarrier": (324, 283), "close_range": (436, 436), "mincore": (27, 232),
    "msync": (26, 227), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "capget": (125, 90),
    "timer_create": (222, 107), "timer_settime": (223, 110), "timer_gettime": (224, 108),
    "timer_getoverrun": (225, 109), "timer_delete": (226, 111), "execveat": (322, 281), "openat2": (437, 437),
}  # fmt: skip
# Landlock does not watch these: allowed only where other files are out of reach by owner or mount.
_METADATA: Numbers = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "truncate": (76, 45),
}  # fmt: skip
# Allowed only where no process outside can be signalled or joined.
_SIGNALS: Numbers = {"kill": (62, 129), "tkill": (200, 130)}
_GROUPS: Numbers = {"setpgid": (109, 154), "setsid": (112, 157)}
# Programs fall back when told that these do not exist or are not supported.
_MISSING: Numbers = {"clone3": (435, 435)}
_UNSUPPORTED: Numbers = {
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "listxattr": (194, 11),
    "llistxattr": (195, 12), "flistxattr": (196, 13), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
_CLONE, _PRCTL = (56, 220), (157, 167)
# CLONE_NEW*, CLONE_PTRACE, CLONE_UNTRACED, CLONE_PARENT.
_CLONE_DENIED = 0x7E000000 | 0x00020000 | 0x00002000 | 0x00800000 | 0x00008000
_PRCTL_ALLOWED = (15, 16, 23)  # SET_NAME, GET_NAME, CAPBSET_READ
_FCNTL_ALLOWED = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # also SETFL and locks; none can route signals
_BASE_SPECIAL = ("ioctl", "fcntl")
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

Instruction = tuple[int, int, int, int]


def build_shell_filter(
    base: dict[str, int], audit_arch: int, *, metadata: bool, signals: bool, groups: bool
) -> bytes:
    """Return the seccomp program of a shell command: calls not on the list give EPERM.

    Args:
        base: calls that a computing process may make, by name.
        audit_arch: the kernel's word for this architecture.
        metadata: `chmod` and its like may be used, because no file outside belongs to the command.
        signals: `kill` may be used, because no process outside can be reached.
        groups: new process groups may be made, because killing the command's namespace kills all of them.
    """
    column = 0 if platform.machine() == "x86_64" else 1
    allowed = [number for name, number in base.items() if name not in _BASE_SPECIAL]
    parts = (
        _MORE,
        *(part for part, on in ((_METADATA, metadata), (_SIGNALS, signals), (_GROUPS, groups)) if on),
    )
    for part in parts:
        allowed += [number for pair in part.values() if (number := pair[column]) is not None]
    code: list[Instruction] = [(_LOAD, 0, 0, 4), (_JEQ, 1, 0, audit_arch), (_RET, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_JGE, 0, 1, 0x40000000), (_RET, 0, 0, _KILL)]
    for number in allowed:
        code += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ALLOW)]
    refused = {errno.ENOSYS: _MISSING, errno.ENOTSUP: _UNSUPPORTED}
    for error, part in refused.items():
        for pair in part.values():
            code += [(_JEQ, 0, 1, pair[column] or 0), (_RET, 0, 0, _ERRNO | error)]
    code += [(_JEQ, 0, 1, base["ioctl"]), (_RET, 0, 0, _ERRNO | errno.ENOTTY)]
    code += [(_JEQ, 0, 4, _CLONE[column]), (_LOAD, 0, 0, 16), (_JSET, 0, 1, _CLONE_DENIED)]
    code += [(_RET, 0, 0, _ERRNO | errno.EPERM), (_RET, 0, 0, _ALLOW)]
    code += _one_of(base["fcntl"], 1, _FCNTL_ALLOWED)
    code += _one_of(_PRCTL[column], 0, _PRCTL_ALLOWED)
    code.append((_RET, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _one_of(number: int, argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Return code that allows a call when its argument is one of `values`, and refuses it otherwise."""
    tests = [(_JEQ, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [
        (_JEQ, 0, len(tests) + 3, number),
        (_LOAD, 0, 0, 16 + 8 * argument),
        *tests,
        (_RET, 0, 0, _ERRNO | errno.EPERM),
        (_RET, 0, 0, _ALLOW),
    ]
