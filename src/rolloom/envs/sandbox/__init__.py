"""Runs a policy's code outside the worker, confined, where no expected value ever is. See `run_function`."""

from rolloom.envs.sandbox.confine import FULL, LEVELS, NO_FILES, NONE
from rolloom.envs.sandbox.runner import Call, Outcome, run_function, same_value

__all__ = ["FULL", "LEVELS", "NONE", "NO_FILES", "Call", "Outcome", "run_function", "same_value"]
