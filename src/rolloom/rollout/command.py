"""What the modules that add commands to `rolloom` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rolloom.errors import RolloomError

Add = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]
"""Adds a command: its name, what runs it, the meaning of its plain words and its help; returns its parser."""


class UsageError(RolloomError):
    """The command line does not say what to do."""
