"""Answers that an agent states at the end: the last line of its message, `answer: VALUE; VALUE`."""

from __future__ import annotations

ANSWER = "answer:"
MAX_READ = 4000


def stated(content: str) -> list[str]:
    """Return what the last line of a message answers, in lower case; nothing without such a line."""
    lines = [line for line in content[-MAX_READ:].splitlines() if line.strip()]
    last = lines[-1].strip().lower() if lines else ""
    if not last.startswith(ANSWER):
        return []
    return [part.strip(" .\"'`") for part in last[len(ANSWER) :].split(";")]


def closing(answers: list[str]) -> str:
    """Return the last message of an agent that has done all."""
    return f"All done.\n{ANSWER} {'; '.join(answers)}" if answers else "All done."
