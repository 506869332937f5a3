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
    EnvSpec(
        "code/repair-v0",
        "rolloom.envs.code.repair:ProgramRepair",
        "code",
        "repair a program with injected bugs; the repaired program passes hidden tests",
    ),
    EnvSpec(
        "code/output_prediction-v0",
        "rolloom.envs.code.output_prediction:OutputPrediction",
        "code",
        "say what a Python program prints",
    ),
    EnvSpec(
        "code/input_prediction-v0",
        "rolloom.envs.code.input_prediction:InputPrediction",
        "code",
        "find an argument for which a function returns a given value, checked by calling it",
    ),
    EnvSpec(
        "code/test_writing-v0",
        "rolloom.envs.code.test_writing:TestWriting",
        "code",
        "write an input that tells a program with a bug from the right one, checked by running both",
    ),
    EnvSpec(
        "code/problems-v0",
        "rolloom.envs.code.problems:CodeProblems",
        "code",
        "LiveCodeBench-style rows of a data set (48 original problems by default), stdin and functions",
    ),
)
