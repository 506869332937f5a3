"""What the room `code` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "code/int_function-v0",
        "rolloom.envs.code.int_function:IntFunction",
        "code",
        "write a Python function that passes hidden tests, run in the sandbox",
    ),
    EnvSpec(
        "code/synthesis-v0",
        "rolloom.envs.code.synthesis:FunctionSynthesis",
        "code",
        "write a function over lists, strings, dictionaries, grids or intervals from its specification",
    ),
    EnvSpec(
        "code/stdio-v0",
        "rolloom.envs.code.stdio:StdioProgram",
        "code",
        "write a program from standard input to standard output: parsing, simulation, greedy, DP, graphs",
    ),
)
