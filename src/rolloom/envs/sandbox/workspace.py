r"""`Workspace`: a directory of its own for an episode, in which shell commands run confined.

    with Workspace({"notes.txt": "a\nb\n"}) as workspace:
        result = workspace.run("sort -r notes.txt > out.txt && wc -l out.txt")
        workspace.read("out.txt")  # b"b\na\n"

A keeper process (see `keeper.py`) holds the directory and runs the commands; what it needs to judge them
stays here. Files come back by descriptor, regular ones only, whatever a command put in their place.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import confine, namespaces, tree
from rolloom.envs.sandbox.run import FORK_TIMEOUT_S, MAX_STARTS
from rolloom.envs.sandbox.zygote import Zygote, get_server, resolve_levels

KEEPER_SERVER = Path(__file__).with_name("keeper_server.py")
MAX_COMMAND_BYTES = 64 << 10
MAX_READ_BYTES = 1 << 20
SHOWN = "/workspace"
CLOSE_TIMEOUT_S = 30.0

CommandStatus = Literal["finished", "timeout", "killed", "disk", "refused"]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did.

    Attributes:
        output: what it wrote to stdout and stderr, in order, cut off at the cap; invalid UTF-8 is replaced,
            nothing else: it is the policy's text, so pass it through `rolloom.envs.text.safe_text`.
        exit_status: as a shell shows it (128 + the signal's number when one ended it).
        status: `finished` (it ended by itself), `timeout` (wall clock or CPU), `killed` (a signal), `disk`
            (it used more disk or files than it may), `refused` (too long or not text: it never ran).
        truncated: there was more output than is kept.
        seconds: wall-clock time.
        isolation: the level it had.
    """

    output: str
    exit_status: int
    status: CommandStatus
    truncated: bool
    seconds: float
    isolation: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a workspace.

    Attributes:
        kind: `file`, `directory`, `link` or `other`.
        size: bytes.
        mode: permission bits.
    """

    kind: Literal["file", "directory", "link", "other"]
    size: int
    mode: int


class Workspace:
    """A fresh directory, confined commands in it, and its files; closed at the end of the episode.

    Commands run one at a time as a user without rights: `/bin/sh` and the system's programs may be executed,
    files written only here and under `$TMPDIR`; there is no network, and what a command leaves running is
    killed when it ends. A killed worker leaves no process and no file.

    Args:
        files: what it starts with: relative path -> text or bytes.
        disk_bytes: what all files together may take; also the largest file.
        inodes: files and directories at once.
        processes: processes and threads at once.
        memory_mb: address space of each process in MiB.
        max_output_bytes: what is kept of a command's output.
        isolation: `auto`, a level of `confine.WORKSPACE_LEVELS`, or None for `ROLLOOM_SANDBOX_ISOLATION` or
            `auto`.

    Attributes:
        isolation: the level it has, after `cgroup+` where a control group bounds it too.
        path: the directory as commands see it. `run` shows it as `/workspace` whatever it is.

    Raises:
        SandboxError: no isolation, or the machinery failed.
    """

    def __init__(
        self,
        files: Mapping[str, str | bytes] | None = None,
        *,
        disk_bytes: int = 32 << 20,
        inodes: int = 4096,
        processes: int = 64,
        memory_mb: int = 512,
        max_output_bytes: int = 16 << 10,
        isolation: str | None = None,
    ) -> None:
        self.max_output_bytes = max_output_bytes
        self._lock = threading.Lock()
        self._root = -1
        directory = f"{_directory()}/rolloom-workspace-{secrets.token_hex(8)}"
        request = {
            "path": directory,
            "disk_bytes": disk_bytes,
            "inodes": inodes,
            "processes": processes,
            "memory_mb": memory_mb,
        }
        self._session = _open_session(isolation)
        try:
            self._session.settimeout(FORK_TIMEOUT_S)
            self._session.send(json.dumps(request).encode())
            message, descriptors, _, _ = socket.recv_fds(self._session, 1 << 16, 1)
            told = _read_reply(message)
            self._root = descriptors[0]
            self.isolation: str = told["isolation"]
            self.path: str = told["work"]
            self._owner: int | None = told["owner"]
            self._directory = directory if self.path.startswith(directory) else ""
            for path, content in (files or {}).items():
                self.write(path, content)
        except OSError as error:
            self.close()
            raise SandboxError(f"a workspace could not be set up: {error}") from error
        except BaseException:
            self.close()
            raise

    def run(self, command: str, *, timeout_s: float = 10.0, cpu_s: int = 5, stdin: str = "") -> CommandResult:
        """Run one command line with `/bin/sh`, in the workspace's directory.

        Args:
            command: untrusted.
            timeout_s: wall-clock seconds.
            cpu_s: CPU seconds of each of its processes.
            stdin: standard input.

        Raises:
            SandboxError: the machinery failed, or the workspace is closed; no verdict on the command.
        """
        encoded = command.encode(errors="replace")
        if len(encoded) > MAX_COMMAND_BYTES or b"\0" in encoded:
            why = f"expected at most {MAX_COMMAND_BYTES} bytes without NUL"
            return CommandResult(f"not run: {why}", 126, "refused", False, 0.0, self.isolation)
        if timeout_s <= 0 or cpu_s < 1:
            raise SandboxError(
                f"limits: expected timeout_s > 0 and cpu_s >= 1, got timeout_s={timeout_s}, cpu_s={cpu_s}"
            )
        message = {"command": encoded.decode(), "timeout_s": timeout_s, "cpu_s": cpu_s}
        with self._lock:
            if self._root < 0:
                raise SandboxError("the workspace is closed")
            started = time.monotonic()
            output, reply = self._exchange(message, stdin.encode(errors="replace"), timeout_s)
            seconds = time.monotonic() - started
        return self._result(output, reply, seconds, cpu_s)

    def _exchange(
        self, message: dict[str, Any], stdin: bytes, timeout_s: float
    ) -> tuple[bytearray, dict[str, Any]]:
        reader, writer = os.pipe()
        given = os.memfd_create("stdin")
        output = bytearray()
        try:
            os.set_blocking(reader, False)
            with os.fdopen(os.dup(given), "wb") as file:
                file.write(stdin)
            os.lseek(given, 0, os.SEEK_SET)
            socket.send_fds(self._session, [json.dumps(message).encode()], [writer, given])
            os.close(writer)
            writer = -1
            poll = select.poll()
            poll.register(reader, select.POLLIN)
            poll.register(self._session, select.POLLIN)
            deadline = time.monotonic() + timeout_s + FORK_TIMEOUT_S
            while (left := deadline - time.monotonic()) > 0:
                for descriptor, _ in poll.poll(left * 1000 + 1):
                    if descriptor == reader:
                        if not self._drain(reader, output):
                            poll.unregister(reader)
                        continue
                    reply = _read_reply(self._session.recv(1 << 16))
                    self._drain(reader, output)
                    return output, reply
        except OSError as error:
            raise SandboxError(f"a workspace's keeper is gone: {error}") from error
        finally:
            for descriptor in (reader, writer, given):
                if descriptor >= 0:
                    os.close(descriptor)
        raise SandboxError(f"a command was not ended within {FORK_TIMEOUT_S} s of its deadline")

    def _drain(self, reader: int, output: bytearray) -> bool:
        while True:
            try:
                chunk = os.read(reader, 1 << 16)
            except BlockingIOError:
                return True
            output += chunk[: self.max_output_bytes + 1 - len(output)]
            if len(chunk) < 1 << 16:
                return bool(chunk)

    def _result(self, output: bytearray, reply: dict[str, Any], seconds: float, cpu_s: int) -> CommandResult:
        wait_status = reply["status"]
        number = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0
        status: CommandStatus = "killed" if number else "finished"
        if reply["why"] in ("timeout", "disk"):
            status = reply["why"]
        elif number == signal.SIGXCPU or (number == signal.SIGKILL and reply["cpu_s"] >= cpu_s):
            # The first process of a namespace overlooks SIGXCPU; the hard limit ends it.
            status = "timeout"
        text = output[: self.max_output_bytes].decode(errors="replace")
        if self._directory:
            text = text.replace(self.path, SHOWN)
        exit_status = 128 + number if number else os.WEXITSTATUS(wait_status)
        truncated = len(output) > self.max_output_bytes
        return CommandResult(text, exit_status, status, truncated, seconds, self.isolation)

    def read(self, path: str, max_bytes: int = MAX_READ_BYTES) -> bytes | None:
        """Return the first bytes of a regular file; None for anything else at that path (links too).

        Raises:
            ValueError: not a relative path inside the workspace.
        """
        return tree.read_file(self._root, path, max_bytes)

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Create or replace a file, and the directories above it.

        Raises:
            ValueError: not a relative path inside the workspace.
            SandboxError: it cannot be written there, as a command may have arranged.
        """
        data = content.encode() if isinstance(content, str) else content
        try:
            tree.write_file(self._root, path, data, mode, self._owner)
        except OSError as error:
            raise SandboxError(f"{path!r:.200} could not be written to the workspace: {error}") from error

    def entries(self, max_entries: int = tree.MAX_ENTRIES) -> dict[str, Entry]:
        """Return what there is, by relative path in order of name; nothing below unreadable directories."""
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        found = {
            path: Entry(
                kinds.get(stat.S_IFMT(info.st_mode), "other"),  # pyright: ignore[reportArgumentType]
                info.st_size,
                stat.S_IMODE(info.st_mode),
            )
            for path, info in tree.walk(self._root, max_entries)
        }
        return dict(sorted(found.items()))

    def close(self) -> None:
        """Kill what runs and remove every file; may be called again."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
        with contextlib.suppress(OSError):
            # The keeper ends its side only once everything is removed.
            self._session.shutdown(socket.SHUT_WR)
            self._session.settimeout(CLOSE_TIMEOUT_S)
            while self._session.recv(1 << 16):
                pass
        self._session.close()
        if directory := getattr(self, "_directory", ""):
            _quarantine(directory)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _quarantine(directory: str) -> None:
    """Try once more to remove what a keeper left, else put it aside: a stubborn tree is never fatal."""
    if os.path.isdir(directory):
        for part in ("work", "tmp"):
            tree.remove_tree(f"{directory}/{part}")
        try:
            os.rmdir(directory)
        except OSError:
            with contextlib.suppress(OSError):
                os.rename(directory, f"{directory}.quarantine")


def _directory() -> str:
    return os.path.realpath(tempfile.gettempdir())


def _server(isolation: str | None) -> Zygote:
    best = tuple(level for level in confine.WORKSPACE_LEVELS if level != confine.NONE)
    package = str(Path(__file__).resolve().parents[3])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    hidden = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    hidden += [f"{sys.base_prefix}/lib/{version}/site-packages", package]
    readable = [*namespaces.SYSTEM, *namespaces.SETTINGS]
    search = ["/usr/local/bin", "/usr/bin", "/bin"]
    if not os.path.realpath(sys.base_prefix).startswith("/usr"):
        readable.append(os.path.realpath(sys.base_prefix))
        search.append(f"{os.path.realpath(sys.base_prefix)}/bin")
    settings = {"readable": readable, "hidden": hidden, "path": search, "directory": _directory()}
    return get_server(resolve_levels(isolation, best), KEEPER_SERVER, (json.dumps(settings),))


def _open_session(isolation: str | None) -> socket.socket:
    for _ in range(MAX_STARTS):
        server = _server(isolation)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            server.submit([theirs.fileno()])
            return ours
        except OSError:
            ours.close()
            server.wait_ended()
        finally:
            theirs.close()
    raise SandboxError(f"the keeper server died {MAX_STARTS} times before it took a workspace")


def _read_reply(message: bytes) -> dict[str, Any]:
    if not message:
        raise SandboxError("a workspace's keeper was killed")
    reply = json.loads(message)
    if "error" in reply:
        raise SandboxError(f"a command could not be confined: {reply['error']}")
    return reply
