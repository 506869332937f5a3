"""Reads the letter of an option out of an answer, strictly: whoever names several letters has named none."""

from __future__ import annotations

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_ANSWER_CHARS = 4_000
MARKS = ("\\boxed{", "Answer:", "answer:", "ANSWER:")
_DECORATION = " \t\n*_`$().:{}"


def read_letter(content: str, count: int) -> int | None:
    r"""Return the index of the one option that an answer names, or None.

    Taken are a letter alone (`C`, `(C)`, `**C.**`), and text with `\boxed{C}` or `Answer: C` in it, where
    every letter so marked has to be the same.

    Args:
        content: what followed the reasoning; more than `MAX_ANSWER_CHARS` characters are no answer.
        count: number of options.
    """
    if len(content) > MAX_ANSWER_CHARS:
        return None
    bare = content.strip(_DECORATION)
    if len(bare) == 1:
        return _index(bare, count)
    named = set()
    for mark in MARKS:
        for part in content.split(mark)[1:]:
            named.add(_marked(part, count))
    return named.pop() if len(named) == 1 else None


def _marked(text: str, count: int) -> int | None:
    """Return the option that stands right after a mark, alone on its line or followed by its own words."""
    line = text[:400].lstrip(_DECORATION).split("\n", 1)[0].removeprefix("\\text{")
    line = line.removeprefix("\\boxed{").removeprefix("\\text{").lstrip(_DECORATION)
    if len(line) > 1 and (line[1].isalnum() or line[1] in "'-/,&+"):
        return None
    for word in line[1:].split():
        if (
            len(word.strip(_DECORATION + ",;/")) == 1
            and _index(word.strip(_DECORATION + ",;/"), count) is not None
        ):
            return None
    return _index(line[:1], count)


def _index(letter: str, count: int) -> int | None:
    # ASCII only: `str.upper` would turn other scripts' letters into these.
    found = LETTERS.find(letter.upper()) if len(letter) == 1 and letter.isascii() else -1
    return found if 0 <= found < count else None
