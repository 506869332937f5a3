"""Runs a policy's code outside the worker, confined, where no expected value ever is.

`run_function` calls a function on JSON arguments; `run_program` runs a program once a test, stdin to stdout;
`Workspace` is a directory in which shell commands run.
"""

from rolloom.envs.sandbox.confine import FULL, LEVELS, NAMESPACES, NO_FILES, NONE, WORKSPACE_LEVELS
from rolloom.envs.sandbox.program import Case, ProgramOutcome, run_program
from rolloom.envs.sandbox.runner import Call, Outcome, run_function, same_value
from rolloom.envs.sandbox.workspace import CommandResult, Entry, Workspace

__all__ = [
    "FULL",
    "LEVELS",
    "NAMESPACES",
    "NONE",
    "NO_FILES",
    "WORKSPACE_LEVELS",
    "Call",
    "Case",
    "CommandResult",
    "Entry",
    "Outcome",
    "ProgramOutcome",
    "Workspace",
    "run_function",
    "run_program",
    "same_value",
]
