"""Reads and removes trees that something hostile wrote: by descriptor, no link followed, all of it bounded.

Standard library only: the keeper removes a workspace with it, the worker reads artefacts with it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

MAX_DEPTH = 64
MAX_ENTRIES = 20_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def split_path(path: str) -> list[str]:
    """Return the components of a relative path inside a workspace.

    Raises:
        ValueError: it is absolute, empty, too deep, or has `..` or NUL in it.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or not parts or ".." in parts or "\0" in path or len(parts) > MAX_DEPTH:
        raise ValueError(
            f"expected a relative path without '..' of at most {MAX_DEPTH} parts, got {path!r:.200}"
        )
    return parts


@contextlib.contextmanager
def parent_of(root: int, parts: list[str]) -> Iterator[int]:
    """Open the directory that holds the last component, following no link.

    Args:
        root: descriptor of the tree's root.
        parts: components of the path.

    Raises:
        OSError: a component is missing or is no directory.
    """
    current = os.open(".", _DIRECTORY, dir_fd=root)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = deeper
        yield current
    finally:
        os.close(current)


def read_file(root: int, path: str, max_bytes: int) -> bytes | None:
    """Return a regular file's bytes, at most `max_bytes`; None if there is no such regular file.

    A link, FIFO, device or socket in its place is no regular file, and is never opened.
    """
    parts = split_path(path)
    try:
        with parent_of(root, parts) as parent:
            seen = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISREG(seen.st_mode):
                return None
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            descriptor = os.open(parts[-1], flags, dir_fd=parent)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(max_bytes) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def write_file(root: int, path: str, data: bytes, mode: int = 0o644, owner: int | None = None) -> None:
    """Create or replace a regular file and the directories above it.

    Args:
        root: descriptor of the tree's root.
        path: relative path.
        data: content.
        mode: permission bits.
        owner: user and group of the file and of directories made for it; None leaves them.

    Raises:
        OSError: a component above is a link or no directory, or the disk is full.
    """
    parts = split_path(path)
    for depth in range(1, len(parts)):
        with parent_of(root, parts[:depth]) as parent, contextlib.suppress(FileExistsError):
            os.mkdir(parts[depth - 1], 0o755, dir_fd=parent)
            if owner is not None:
                os.chown(parts[depth - 1], owner, owner, dir_fd=parent, follow_symlinks=False)
    with parent_of(root, parts) as parent:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(parts[-1], dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(parts[-1], flags, mode, dir_fd=parent), "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), owner, owner)


def walk(root: int, max_entries: int = MAX_ENTRIES) -> Iterator[tuple[str, os.stat_result]]:
    """Yield `(relative path, lstat)` of everything below, in order of name, down to `MAX_DEPTH`.

    Directories that cannot be read are passed over. Ends after `max_entries`.
    """
    left = max_entries
    todo = [""]
    while todo and left > 0:
        folder = todo.pop()
        try:
            with parent_of(root, [*split_path(folder), "."] if folder else ["."]) as descriptor:
                names = sorted(_names(descriptor, left))
                found = []
                for name in names:
                    with contextlib.suppress(OSError):
                        found.append((name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)))
        except OSError:
            continue
        left -= len(found)
        for name, info in found:
            path = f"{folder}/{name}" if folder else name
            yield path, info
            if stat.S_ISDIR(info.st_mode) and path.count("/") < MAX_DEPTH - 2:
                todo.append(path)


def _names(descriptor: int, most: int) -> Iterator[str]:
    with os.scandir(descriptor) as entries:
        for count, entry in enumerate(entries):
            if count >= most:
                return
            yield entry.name


def remove_tree(path: str, deadline_s: float = 30.0) -> bool:
    """Remove a tree, directories of mode 0 and any depth included; return False when something is left.

    Deep trees are flattened on the way: a directory inside a directory is first moved up to the root, so
    that neither a path nor a stack of descriptors grows with depth.
    """
    deadline = time.monotonic() + deadline_s
    try:
        root = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        counter = 0
        while time.monotonic() < deadline:
            directories = _remove_files(root)
            if not directories:
                break
            for name in directories:
                counter = _lift(root, name, counter)
    except OSError:
        return False
    finally:
        os.close(root)
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def _remove_files(folder: int) -> list[str]:
    """Remove what is no directory; return the names of the directories."""
    directories = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return directories


def _lift(root: int, name: str, counter: int) -> int:
    """Empty one directory of the root, moving its directories up to the root, and remove it."""
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=root)
    folder = os.open(name, _DIRECTORY, dir_fd=root)
    try:
        for inner in _remove_files(folder):
            with contextlib.suppress(OSError):
                # Moving a directory rewrites its `..`, which takes write permission on it.
                os.chmod(inner, 0o700, dir_fd=folder)
            while True:
                counter += 1
                try:
                    os.rename(inner, f".lifted-{counter}", src_dir_fd=folder, dst_dir_fd=root)
                    break
                except (FileExistsError, NotADirectoryError):
                    continue
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=root)
    return counter
