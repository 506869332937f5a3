"""What can go wrong between a YAML file and a run's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from rolloom.errors import RolloomError


class ConfigError(RolloomError):
    """A configuration cannot be used.

    Attributes:
        problems: one message a problem; every problem that was found, not only the first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Return the only problem, or a list of all of them."""
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n".join(
            [f"{len(self.problems)} problems:", *(f"  - {problem}" for problem in self.problems)]
        )
