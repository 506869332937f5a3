"""An answer as the checkers of constraints see it: words, sentences, lines, paragraphs, in linear time."""

from __future__ import annotations

import string
from functools import cached_property

MAX_ANSWER_CHARS = 20_000
PUNCTUATION = string.punctuation + "\u201c\u201d\u2018\u2019\u00ab\u00bb\u2026\u2013\u2014"
_CLOSING = "\"')]}*>_\u201d\u2019"
_ENDS = (".", "!", "?")


class Reading:
    """An answer, at most `MAX_ANSWER_CHARS` characters of it.

    Attributes:
        text: the answer, stripped.
    """

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_ANSWER_CHARS].strip()

    @cached_property
    def words(self) -> list[str]:
        """Words without the punctuation around them; a word has a letter or a digit."""
        bare = (token.strip(PUNCTUATION) for token in self.text.split())
        return [word for word in bare if any(map(str.isalnum, word))]

    @cached_property
    def lowered(self) -> list[str]:
        """Words in lower case."""
        return [word.lower() for word in self.words]

    @cached_property
    def sentences(self) -> list[list[str]]:
        """Words of each sentence: it ends with `.`, `!` or `?`; a rest without is none."""
        found, current = [], []
        for token in self.text.split():
            word = token.strip(PUNCTUATION)
            if any(map(str.isalnum, word)):
                current.append(word)
            if current and token.rstrip(_CLOSING).endswith(_ENDS):
                found.append(current)
                current = []
        return found

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, stripped."""
        return [line.strip() for line in self.text.split("\n") if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """Runs of lines between blank lines."""
        found: list[list[str]] = [[]]
        for line in self.text.split("\n"):
            if line.strip():
                found[-1].append(line.strip())
            elif found[-1]:
                found.append([])
        return ["\n".join(lines) for lines in found if lines]

    def parts(self, mark: str) -> list[str]:
        """Return the text between lines that are exactly a mark."""
        found: list[list[str]] = [[]]
        for line in self.text.split("\n"):
            if line.strip() == mark:
                found.append([])
            else:
                found[-1].append(line)
        return ["\n".join(lines).strip() for lines in found]

    def enclosed(self, opening: str, closing: str) -> int:
        """Return how many pieces stand between an opening and the next closing character of the same line."""
        count = 0
        for line in self.lines:
            at = 0
            while (start := line.find(opening, at)) >= 0:
                end = line.find(closing, start + 1)
                if end < 0:
                    break
                inner = line[start + 1 : end]
                if inner.strip() and inner == inner.strip():
                    count, at = count + 1, end + 1
                else:
                    at = start + 1 if opening == closing else end + 1
            # A lone opening leaves the rest of the line unread.
        return count
