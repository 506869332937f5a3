"""A card: findings, figures and the verdict that follows from them. Plain data, as JSON too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Grade = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome.

    Attributes:
        name: which check, e.g. `gold`.
        grade: `pass`; `warn`, something to know; `fail`, not fit to train on.
        text: what was measured against what was expected, in one line.
        advice: what to do about it; "" when nothing has to be done.
    """

    name: str
    grade: Grade
    text: str
    advice: str = ""


@dataclass(slots=True)
class Card:
    """What `rolloom envs check` found.

    Attributes:
        id: registry id.
        kind: as registered.
        description: as registered.
        findings: in the order in which they were checked.
        policies: mean reward of each policy that does not solve the problem, 0 to 1.
        lengths: by level: median and longest prompt and gold completion of an episode, in tokens (characters
            over four where no tokenizer was given), and turns.
        speed: episodes a second of the gold policy by number of concurrent episodes, and milliseconds a reset
            and a step take.
        pool: distinct problems among those drawn, by split.
        example: one episode of the gold policy as chat messages.
        seconds: wall time of the check.
    """

    id: str
    kind: str = ""
    description: str = ""
    findings: list[Finding] = field(default_factory=list)
    policies: dict[str, float] = field(default_factory=dict)
    lengths: dict[int, dict[str, float]] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)
    pool: dict[str, int] = field(default_factory=dict)
    example: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True when no finding fails."""
        return bool(self.findings) and all(finding.grade != "fail" for finding in self.findings)

    @property
    def grade(self) -> str:
        """`A` with nothing to remark, `B` with one or two remarks, `C` with more, `F` when a check failed."""
        if not self.passed:
            return "F"
        warnings = sum(finding.grade == "warn" for finding in self.findings)
        return "A" if not warnings else "B" if warnings <= 2 else "C"

    @property
    def reasons(self) -> list[str]:
        """What kept the grade from being an A, failures first."""
        order = ("fail", "warn")
        found = sorted(
            (f for f in self.findings if f.grade in order), key=lambda finding: order.index(finding.grade)
        )
        return [f"{finding.name}: {finding.text}" for finding in found]

    def add(self, name: str, grade: Grade, text: str, advice: str = "") -> None:
        """Append a finding."""
        self.findings.append(Finding(name, grade, text, advice if grade != "pass" else ""))

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON types, verdict included."""
        verdict = {"id": self.id, "grade": self.grade, "passed": self.passed, "reasons": self.reasons}
        return {**verdict, **dataclasses.asdict(self)}
