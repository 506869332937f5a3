"""A small root of its own for a workspace: private mounts, processes, network; where the kernel lets us.

The new root is a memory file system with the system's programs bound in read-only and two writable parts,
`/workspace` and `/tmp`, whose sizes and numbers of files the kernel bounds. It vanishes with its last user.
Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
PRIVATE = NEWNS | NEWUTS | NEWIPC | NEWNET
INNER_UID = 1000
WORKSPACE, TEMPORARY = "/workspace", "/tmp"
USERS = ("/etc/passwd", "/etc/group")
"""Files of the new root that name its only user."""

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SIGCHLD = 17
_DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mounting {target}")


def clone_into_new_pids() -> int:
    """Fork a child that is process 1 of a new process namespace; return 0 in it, its id in the parent."""
    number = ctypes.c_long(_CLONE[platform.machine()])
    zero = ctypes.c_ulong(0)
    return _check(_libc.syscall(number, ctypes.c_ulong(NEWPID | _SIGCHLD), zero, zero, zero, zero), "clone")


def unshare(user: bool) -> None:
    """Give this process namespaces of its own.

    Args:
        user: start with a user namespace, which lets a plain user make the others; we become user 1000.

    Raises:
        OSError: the kernel or the container's policy refuses.
    """
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(ctypes.c_int(PRIVATE | (NEWUSER if user else 0))), "unshare")
    if user:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INNER_UID} {uid} 1"),
            ("gid_map", f"{INNER_UID} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def enter_new_root(readable: list[str], uid: int, disk_bytes: int, inodes: int) -> None:
    """Replace this process's root; afterwards only `readable` (read-only) and the two writable parts exist.

    Args:
        readable: absolute paths that keep their names.
        uid: owner of the writable parts.
        disk_bytes: size of each writable part.
        inodes: files and directories each may hold.

    Raises:
        OSError: a mount was refused.
    """
    _mount("none", "/", None, _REC | _MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in readable if not os.path.islink(path)}
    links = {path: os.readlink(path) for path in readable if os.path.islink(path)}
    devices = {
        f"/dev/{name}": os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC)
        for name in _DEVICES
        if os.path.exists(f"/dev/{name}")
    }
    proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = TEMPORARY
    _mount("none", root, "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m,nr_inodes=512")
    os.chmod(root, 0o755)
    for path, descriptor in (held | devices).items():
        _bind(descriptor, root + path, read_only=path not in devices)
    for path, target in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    os.makedirs(root + "/etc", exist_ok=True)
    for name, line in (("passwd", f"agent:x:{uid}:{uid}::{WORKSPACE}:/bin/sh"), ("group", f"agent:x:{uid}:")):
        with open(f"{root}/etc/{name}", "w") as file:
            file.write(line + "\n")
    for part in (WORKSPACE, TEMPORARY):
        os.mkdir(root + part)
        limits = f"mode=700,uid={uid},gid={uid},size={disk_bytes},nr_inodes={inodes}"
        _mount("none", root + part, "tmpfs", _NOSUID | _NODEV, limits)
    for descriptor in (*held.values(), *devices.values(), proc):
        os.close(descriptor)
    os.chdir(root)
    number = ctypes.c_long(_PIVOT_ROOT[platform.machine()])
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", ctypes.c_int(_DETACH)), "leaving the old root")
    os.chdir("/")


def _bind(source: int, target: str, read_only: bool) -> None:
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    _mount(f"/proc/self/fd/{source}", target, None, _BIND | _REC)
    if read_only:
        # A mount seen from a user namespace keeps the flags it came with, or changing it is refused.
        kept = os.statvfs(target).f_flag & (_NOSUID | _NODEV | _NOEXEC)
        _mount("none", target, None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV | kept)
