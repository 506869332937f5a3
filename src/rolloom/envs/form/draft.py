"""Writes a text that fulfils given constraints: each says what it needs, `render` writes it all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from rolloom.envs.form.reading import Reading
from rolloom.envs.knowledge.words import pick

ADJECTIVES = (
    *("ancient", "brave", "calm", "dusty", "eager", "fresh", "gentle", "humble", "icy", "jolly", "kind"),
    *("lucky", "mellow", "narrow", "open", "proud", "quiet", "rapid", "silent", "tiny", "upright", "vivid"),
    *(
        "warm",
        "young",
        "zesty",
        "bright",
        "careful",
        "distant",
        "early",
        "famous",
        "grand",
        "heavy",
        "modest",
    ),
    *("noble", "odd", "plain", "round", "steady", "tall", "useful", "wild"),
)
NOUNS = (
    *("bird", "child", "dog", "farmer", "guest", "horse", "king", "lady", "miner", "nurse", "owl", "poet"),
    *("queen", "robin", "sailor", "tailor", "uncle", "visitor", "writer", "zebra", "baker", "dancer"),
    *("fox", "giant", "judge", "monk", "painter", "rider", "singer", "wolf"),
)
VERBS = (
    *(
        "arrives",
        "begins",
        "climbs",
        "dances",
        "eats",
        "falls",
        "grows",
        "hums",
        "jumps",
        "knocks",
        "listens",
    ),
    *("moves", "nods", "opens", "plays", "quits", "rests", "sings", "turns", "unwinds", "visits", "waits"),
    *("yawns", "zooms", "sits", "laughs", "walks", "runs"),
)
ADVERBS = (
    *("again", "boldly", "calmly", "daily", "easily", "fully", "gladly", "here", "inside", "just", "kindly"),
    *("later", "mostly", "now", "outside", "partly", "quickly", "rarely", "slowly", "today", "upstairs"),
    *("vaguely", "warmly", "yearly", "often", "nearby", "forward", "quietly", "soon", "twice", "gently"),
)
MAX_FILL = 400


@dataclass
class Draft:
    """What a text needs.

    Attributes:
        keywords: words to use once each, in this order, in a sentence of their own.
        sentences: how many sentences, if that is fixed.
        initials: first letters of the sentences.
        longest: words of a sentence at most.
        words: words to fill up to at least.
        banned: words that must not be used.
        without: letters that must not be used.
        inserts: pieces to put into sentences.
        opening: words before the first sentence's, `{index: word}`.
        questions: sentences that end with a question mark.
        parts: how many paragraphs or parts.
        separator: what stands between them.
        before: lines before everything.
        lines: lines after the sentences.
        after: text at the very end.
        start: text at the very start.
        case: `lower` or `upper`.
        wrap: `json` or `quotes`.
        width: characters of a line at most.
    """

    keywords: list[str]
    sentences: int | None = None
    initials: str = ""
    longest: int = 1_000
    words: int = 0
    banned: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)
    inserts: list[str] = field(default_factory=list)
    opening: dict[int, str] = field(default_factory=dict)
    questions: int = 0
    parts: int = 1
    separator: str = "\n\n"
    before: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    after: str = ""
    start: str = ""
    case: str = ""
    wrap: str = ""
    width: int = 0

    def allows(self, word: str) -> bool:
        """Return True when no constraint bans a word of the bank."""
        return word not in self.banned and word not in self.keywords and not self.without & set(word)

    def render(self, rng: np.random.Generator) -> str:
        """Return the text; whoever asked checks it, as constraints may contradict each other."""
        banks = [
            pick(rng, [word for word in bank if self.allows(word)], 99)
            for bank in (ADJECTIVES, NOUNS, VERBS, ADVERBS)
        ]
        if not all(banks):
            return ""
        taken = [0, 0, 0, 0]

        def draw(kind: int) -> str:
            taken[kind] += 1
            return banks[kind][(taken[kind] - 1) % len(banks[kind])]

        count = self.sentences or max(len(self.keywords), self.parts, self.questions)
        sentences = [self._sentence(index, draw) for index in range(count)]
        for piece in self.inserts:
            if self.sentences is None and min(map(_length, sentences)) + len(piece.split()) > self.longest:
                sentences.append(self._sentence(len(sentences), draw))
            min(sentences, key=_length).append(piece)
        text = self._laid_out(sentences)
        for _ in range(MAX_FILL):
            if len(Reading(text).words) >= self.words:
                break
            if self.sentences is None and min(map(_length, sentences)) >= min(self.longest, 9):
                sentences.append([draw(0), draw(1), draw(2)])
            else:
                min(sentences, key=_length).append(draw(3))
            text = self._laid_out(sentences)
        return text

    def _sentence(self, index: int, draw: Callable[[int], str]) -> list[str]:
        first = draw(0)
        if index < len(self.initials):
            wanted = [word for word in ADJECTIVES if word[0] == self.initials[index] and self.allows(word)]
            first = wanted[index % len(wanted)] if wanted else first
        subject = self.keywords[index] if index < len(self.keywords) else draw(1)
        words = [first, subject, draw(2), draw(3)]
        if index == 0:
            for place, word in sorted(self.opening.items()):
                words.insert(place, word)
        return words

    def _laid_out(self, sentences: list[list[str]]) -> str:
        written = []
        for index, words in enumerate(sentences):
            line = " ".join(words)
            written.append(line[0].upper() + line[1:] + ("?" if index < self.questions else "."))
        cut = [len(written) * part // self.parts for part in range(self.parts + 1)]
        body = self.separator.join(" ".join(written[a:b]) for a, b in pairwise(cut))
        start = f"{self.start} " if self.start else ""
        gap = "\n" if self.lines else " "
        end = gap + self.after if self.after and not self.after.startswith("\n") else self.after
        text = "\n".join([*self.before, start + body, *self.lines]) + end
        if self.case:
            text = text.lower() if self.case == "lower" else text.upper()
        if self.wrap == "json":
            return json.dumps({"title": "Notes", "text": text})
        if self.width:
            text = _wrapped(text, self.width)
        if self.wrap == "quotes":
            # A heading or bullet has to end its own line.
            return f'"{text}\n"' if self.lines else f'"{text}"'
        return text


def _length(words: list[str]) -> int:
    return sum(len(word.split()) for word in words)


def _wrapped(text: str, width: int) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        current = ""
        for word in line.split(" "):
            if current and len(current) + 1 + len(word) > width:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        lines.append(current)
    return "\n".join(lines)
