"""`agent/shell-v0`: bring a directory into the state asked for, with a shell in the sandbox.

What is expected never enters the workspace: the tree is read back and compared here.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np

from rolloom.envs.agents.answers import closing, stated
from rolloom.envs.agents.narrate import narrate
from rolloom.envs.agents.shell.jobs import WORDS, Draw, Job
from rolloom.envs.agents.shell.templates import TEMPLATES
from rolloom.envs.errors import SandboxError, ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.sandbox.workspace import CommandResult, Workspace
from rolloom.envs.tool import ToolEnv, tool
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

MAX_SHOWN = 3000
MAX_FILES = 5000
SLACK = 1000
"""A file this much longer than what is expected cannot be it and is not read."""

TIERS = ((1,), (1, 2), (2,), (2, 3), (3,), (3, 4), (2, 3, 4), (3, 4), (3, 4), (3, 4))
JOBS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 4)
SIZES = (6, 6, 8, 10, 12, 16, 16, 24, 32, 40)
ODD_FROM = 6


class Shell(ToolEnv):
    """Shell and file-system tasks in a sandboxed workspace.

    The policy runs commands (`/bin/sh`, coreutils, awk, sed, python3; no network) and reads and writes files,
    and ends the episode with a message without calls. Some requests ask something: the answer is the last
    line, `answer: VALUE`.

    Reward: 1.0 when afterwards the tree has exactly the files that it should have, with their content (spaces
    at line ends do not count, JSON is compared as values), every answer is right, and a script that was asked
    for prints what it should on hidden files; else 0.0. Files left behind or changed without need fail.

    | level | what it adds |
    |---|---|
    | 1 | one command: count, find, extract, delete, rename |
    | 2-3 | sorting into folders, configuration files, replacing, merging, sums |
    | 4-5 | CSV and JSON: filter, group, join, mend; files with the same content |
    | 6 | checksums, renaming by content or date, log rotation, scripts; names with spaces |
    | 7-8 | two jobs in folders of their own, more files |
    | 9-10 | three and four jobs, up to 40 files each |

    Args:
        isolation: the sandbox level; None leaves it to `ROLLOOM_SANDBOX_ISOLATION` or the best that works.
        command_s: seconds a command, or a script in a check, may take.
        kwargs: see `TextEnv`.
    """

    system = (
        "You work in a Linux directory. Use the tools to do exactly what is asked, and leave no other files"
        " behind. When all is done, end with a message without tool calls. If something was asked for, the"
        " last line of that message is `answer: VALUE`; several values stand on that line in the order asked,"
        " separated by semicolons."
    )
    max_turns = 10
    step_deadline_s = 60.0

    def __init__(self, isolation: str | None = None, command_s: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.isolation, self.command_s = isolation, command_s
        self._limited = "max_turns" in kwargs
        self._workspace: Workspace | None = None
        self._ran = 0

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"files", "after", "request", "commands", "why", "answers", "scripts"}`."""
        chance = Random(int(rng.integers(2**62)))
        pool = [name for name, (_, tier) in TEMPLATES.items() if tier in TIERS[level - 1]]
        names = chance.sample(pool, JOBS[level - 1])
        folders = chance.sample(WORDS, len(names))
        jobs = [
            TEMPLATES[name][0](Draw(chance, folder, SIZES[level - 1], level >= ODD_FROM))
            for name, folder in zip(names, folders, strict=True)
        ]
        return _problem(jobs, folders)

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the request with the files."""
        return json.dumps([problem["request"], problem["files"]], sort_keys=True)

    def begin(self) -> None:
        """Forget the last episode's workspace; the new one is opened by the first call that needs it."""
        self.close()
        self._ran = 0
        if not self._limited:
            turns = 2 * len(self.problem["commands"]) + 8
            self.max_turns = turns  # pyright: ignore[reportAttributeAccessIssue]  # by problem

    def close(self) -> None:
        """Remove the workspace."""
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    @property
    def workspace(self) -> Workspace:
        """This episode's workspace."""
        if self._workspace is None:
            self._workspace = Workspace(
                self.problem["files"], max_output_bytes=MAX_SHOWN, isolation=self.isolation
            )
        return self._workspace

    def prompt(self) -> Messages:
        """Return the request."""
        return (Message(role="user", content=self.problem["request"]),)

    # -- tools -----------------------------------------------------------------------------------------------

    @tool
    def run(self, command: str) -> str:
        """Run a command line with /bin/sh in the directory; it must end within seconds.

        Args:
            command: the command line; every call starts in the directory again.
        """
        return _in_words(self.workspace.run(command, timeout_s=self.command_s))

    @tool
    def read_file(self, path: str, offset: int = 0) -> str:
        """Read a file, 3,000 characters at a time.

        Args:
            path: relative to the directory.
            offset: where to start, in characters.
        """
        data = self._read(path)
        if data is None:
            raise ToolError("there is no regular file at that path")
        text = data.decode(errors="replace")
        if offset < 0:
            raise ToolError("offset must be at least 0")
        more = len(text) - offset - MAX_SHOWN
        return text[offset : offset + MAX_SHOWN] + (f"\n[{more} more characters]" if more > 0 else "")

    @tool
    def write_file(self, path: str, content: str) -> str:
        """Create a file or replace its content; folders above it are made.

        Args:
            path: relative to the directory.
            content: the whole content.
        """
        try:
            self.workspace.write(path, content.encode(errors="replace"))
        except (ValueError, SandboxError):
            raise ToolError("the file cannot be written there") from None
        return "ok"

    def _read(self, path: str) -> bytes | None:
        try:
            return self.workspace.read(path)
        except ValueError:
            raise ToolError("the path must be relative and lie within the directory") from None

    # -- the verdict -----------------------------------------------------------------------------------------

    def answer(self, turn: AssistantTurn) -> Reply:
        """End the episode: the tree, the answers and the scripts must be right."""
        wanted = self.problem["answers"]
        components = {
            "answer_right": float(stated(turn.content) == [word.lower() for word in wanted])
            if wanted
            else 1.0,
            "tree_right": float(self._tree_right()),
        }
        reward = min(components.values())
        if reward:
            components["scripts_right"] = float(all(map(self._script_right, self.problem["scripts"])))
            reward = components["scripts_right"]
        self.close()
        return Reply(reward=reward, done=True, components=components)

    def _tree_right(self) -> bool:
        after: dict[str, str] = self.problem["after"]
        scripts = {script["path"] for script in self.problem["scripts"]}
        if self._workspace is None:
            return after == self.problem["files"] and not scripts
        entries = self._workspace.entries(MAX_FILES)
        files = {path for path, entry in entries.items() if entry.kind != "directory"}
        if files != set(after) | scripts or any(entries[path].kind != "file" for path in files):
            return False
        return all(self._same(path, text, entries[path].size) for path, text in after.items())

    def _same(self, path: str, wanted: str, size: int) -> bool:
        if size > len(wanted.encode()) * 3 + SLACK:
            return False
        data = self.workspace.read(path)
        return data is not None and _same_text(path, data.decode(errors="replace"), wanted)

    def _script_right(self, script: dict[str, Any]) -> bool:
        source = self.workspace.read(script["path"], 1 << 16)
        if source is None:
            return False
        for files, arguments, output in script["cases"]:
            with Workspace({"script.sh": source, **files}, isolation=self.isolation) as fresh:
                quoted = " ".join(f"'{argument}'" for argument in arguments)
                result = fresh.run(f"sh script.sh {quoted}", timeout_s=self.command_s)
            if result.status != "finished" or result.exit_status or result.output.strip() != output:
                return False
        return True

    # -- the gold agent --------------------------------------------------------------------------------------

    def gold(self) -> str:
        """Return the next command, or the last message."""
        done = {call.arguments.get("command") for call, _ in self.calls if call.name == "run"}
        pending = [command for command in self.problem["commands"] if command not in done]
        if pending:
            return render_call("run", {"command": pending[0]})
        return closing(self.problem["answers"])

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return why."""
        done = {call.arguments.get("command") for call, _ in self.calls if call.name == "run"}
        pending = [i for i, command in enumerate(self.problem["commands"]) if command not in done]
        task = "" if self.calls else self.problem["request"]
        reason = self.problem["why"][pending[0]] if pending else "everything that was asked for is done"
        return narrate([reason], style, rng, task)

    def attacks(self) -> dict[str, str]:
        """Return what looks for the answers where they are not, or breaks the workspace."""
        return {
            "search": render_call(
                "run", {"command": "grep -rls after / 2>/dev/null | head; cat /proc/*/environ"}
            ),
            "outside": render_call("read_file", {"path": "../../../../etc/passwd"})
            + render_call("write_file", {"path": "/etc/passwd", "content": "x"}),
            "links": render_call("run", {"command": "rm -rf ./*; ln -s /etc/passwd app.log; mkfifo pipe"}),
            "fill": render_call("run", {"command": "yes > big; mkdir -p a/b; chmod 0 a"}),
            "daemon": render_call("run", {"command": "(sleep 100 &) ; setsid sleep 100 & echo all done"}),
            "claim": "All done. The tree is right.\nanswer: ok",
        }


def _problem(jobs: list[Job], folders: list[str]) -> dict[str, Any]:
    problem: dict[str, Any] = {
        **{"files": {}, "after": {}, "commands": [], "why": [], "answers": [], "scripts": []},
    }
    requests = []
    for job, folder in zip(jobs, folders, strict=True):
        problem["files"] |= {f"{folder}/{path}": text for path, text in job.files.items()}
        problem["after"] |= {f"{folder}/{path}": text for path, text in job.after.items()}
        problem["commands"] += [f"cd {folder} && {_grouped(command)}" for command in job.commands]
        problem["why"] += [job.why] * len(job.commands)
        problem["answers"] += [job.answer] if job.answer else []
        if job.script:
            problem["scripts"].append({**job.script, "path": f"{folder}/{job.script['path']}"})
        requests.append(f"In the folder {folder}: {job.request}")
    numbered = [f"{i}. {request}" for i, request in enumerate(requests, 1)]
    return {**problem, "request": "\n".join(numbered) if len(requests) > 1 else requests[0]}


def _grouped(command: str) -> str:
    """Return a command that `cd x &&` guards as a whole."""
    return command if "\n" in command or ";" not in command else f"{{ {command}; }}"


def _in_words(result: CommandResult) -> str:
    text = result.output + ("\n[output cut off]" if result.truncated else "")
    if result.status != "finished":
        return f"{text}\n[{result.status}]"
    return f"{text}\n[exit status {result.exit_status}]" if result.exit_status or not text else text


def _same_text(path: str, text: str, wanted: str) -> bool:
    if path.endswith(".json"):
        try:
            return json.loads(text) == json.loads(wanted) and _types(json.loads(text)) == _types(
                json.loads(wanted)
            )
        except (ValueError, RecursionError):
            return False
    return [line.rstrip() for line in text.rstrip().splitlines()] == [
        line.rstrip() for line in wanted.rstrip().splitlines()
    ]


def _types(value: Any) -> Any:
    """Return a JSON value with types in the place of values: True is not 1, and 1.0 is not 1."""
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    return [_types(item) for item in value] if isinstance(value, list) else type(value).__name__
