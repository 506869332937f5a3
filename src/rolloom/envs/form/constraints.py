"""The verifiable constraints: how each is drawn, worded, checked, and fulfilled by a draft.

Longer than most files because it is one table: a constraint's parts are best read side by side.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rolloom.envs.form.draft import ADJECTIVES, ADVERBS, NOUNS, Draft
from rolloom.envs.form.reading import Reading
from rolloom.envs.knowledge.words import CITIES, COLOURS, one, pick

Params = dict[str, Any]
FULL = 4
"""Words of a sentence with a keyword at least: a list of keywords is no text."""

REQUEST = "Write a short text about {topic}."
PALINDROMES = ("civic", "level", "radar", "rotor", "kayak", "madam", "refer", "racecar", "rotator", "reviver")
STARTS = (
    "Once upon a time",
    "To begin with",
    "In my view",
    "As a matter of fact",
    "Dear reader",
    "Let me explain",
)
FINISHES = (
    "That is all.",
    "The end.",
    "Thank you for reading.",
    "More tomorrow.",
    "Is that clear?",
    "So it goes.",
)
ACROSTICS = (
    "bird",
    "coat",
    "dance",
    "flame",
    "grape",
    "house",
    "light",
    "mint",
    "ocean",
    "pearl",
    "spark",
    "trail",
)
COMMON = ("the", "a", "and", "of", "is", "to", "in", "it", "very", "with", "was", "that")
SCRIPTS = {
    "Greek": (0x370, 0x3FF, "\u03c4\u03ad\u03bb\u03bf\u03c2 \u03ba\u03b1\u03bb\u03cc"),
    "Cyrillic": (
        0x400,
        0x4FF,
        "\u043a\u043e\u043d\u0435\u0446 \u0440\u0430\u0441\u0441\u043a\u0430\u0437\u0430",
    ),
    "Hebrew": (0x590, 0x5FF, "\u05e1\u05d5\u05e3 \u05d8\u05d5\u05d1"),
    "Armenian": (0x530, 0x58F, "\u057e\u0565\u0580\u057b \u0562\u0561\u0580\u056b"),
    "Georgian": (0x10A0, 0x10FF, "\u10d3\u10d0\u10e1\u10d0\u10e1\u10e0\u10e3\u10da\u10d8"),
    "Hiragana": (0x3040, 0x309F, "\u304a\u308f\u308a\u3067\u3059"),
}
MARKS = ("***", "-----", "=====", "~~~", "+++")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A kind of constraint.

    Attributes:
        claims: what it takes for itself: two constraints that claim the same thing are never combined.
        draw: `(rng, level) -> params`, JSON types.
        wordings: ways to say it, filled with the params.
        check: `(reading, params) -> bool`, linear in the text.
        build: puts what it needs into a draft.
    """

    claims: frozenset[str]
    draw: Callable[[np.random.Generator, int], Params]
    wordings: tuple[str, ...]
    check: Callable[[Reading, Params], bool]
    build: Callable[[Draft, Params], None]


def _up_to(low: int, by: float = 0.5) -> Callable[[np.random.Generator, int], Params]:
    """Draw `n` from `low` up, further up with the level."""
    return lambda rng, level: {"n": low + int(rng.integers(0, 2 + int(level * by)))}


def _one_of(name: str, items: tuple[str, ...]) -> Callable[[np.random.Generator, int], Params]:
    return lambda rng, level: {name: one(rng, items)}


def _set(**values: Any) -> Callable[[Draft, Params], None]:
    """Set fields of a draft; a value may be made of the params."""

    def build(draft: Draft, params: Params) -> None:
        for name, value in values.items():
            setattr(draft, name, value(params) if callable(value) else value)

    return build


def _insert(pieces: Callable[[Params], list[str]]) -> Callable[[Draft, Params], None]:
    return lambda draft, params: draft.inserts.extend(pieces(params))


def _ban(draft: Draft, params: Params) -> None:
    draft.banned |= set(params["words"])


def _without(draft: Draft, params: Params) -> None:
    draft.without.add(params["letter"])


def _listed(text: Reading, starts: Callable[[str], bool]) -> list[str]:
    return [line for line in text.lines if starts(line)]


def _numbered(text: Reading) -> list[str]:
    """Return the items of lines `1) item`, `2) item` ... if they are numbered in order, else none."""
    items = []
    for line in text.lines:
        head, mark, item = line.partition(")")
        if mark and head.isascii() and head.isdecimal() and len(head) < 4:
            if int(head) != len(items) + 1:
                return []
            items.append(item.strip().lower())
    return items


def _is_palindrome(word: str) -> bool:
    return word.isalpha() and word == word[::-1] and len(set(word)) > 1


def _longest_run(words: list[str], letter: str) -> int:
    best = run = 0
    for word in words:
        run = run + 1 if word[0] == letter else 0
        best = max(best, run)
    return best


def _json_text(text: Reading) -> bool:
    try:
        value = json.loads(text.text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or set(value) != {"title", "text"}:
        return False
    return all(isinstance(part, str) and part.strip() for part in value.values())


def _script(text: Reading, params: Params) -> bool:
    low, high, _ = SCRIPTS[params["script"]]
    letters = [c for c in (text.lines[-1] if text.lines else "") if c.isalpha()]
    return len(letters) >= 3 and all(low <= ord(c) <= high for c in letters)


def _upper_words(text: Reading) -> int:
    return sum(word.isupper() and len(word) > 1 for word in text.words)


def _two_parts(text: Reading, params: Params) -> bool:
    parts = text.parts("******")
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _sections(text: Reading, params: Params) -> bool:
    heads = [line for line in text.lines if line.split(" ")[0] == params["word"]]
    return heads == [f"{params['word']} {number}" for number in range(1, params["n"] + 1)]


def _c(
    claims: str,
    draw: Callable[[np.random.Generator, int], Params],
    wordings: tuple[str, ...],
    check: Callable[[Reading, Params], bool],
    build: Callable[[Draft, Params], None],
) -> Constraint:
    return Constraint(frozenset(claims.split()), draw, wordings, check, build)


CONSTRAINTS: dict[str, Constraint] = {
    "words_at_least": _c(
        "words",
        lambda rng, level: {"n": int(rng.integers(25, 40 + 20 * level))},
        (
            "Use at least {n} words.",
            "Your answer must be {n} words long or longer.",
            "Write no fewer than {n} words.",
        ),
        lambda text, p: len(text.words) >= p["n"],
        _set(words=lambda p: p["n"]),
    ),
    "words_at_most": _c(
        "words",
        lambda rng, level: {"n": int(rng.integers(40, 70)) + 4 * level},
        ("Use at most {n} words.", "Do not exceed {n} words.", "Keep it to {n} words or fewer."),
        lambda text, p: 0 < len(text.words) <= p["n"],
        _set(),
    ),
    "words_exactly": _c(
        "words",
        lambda rng, level: {"n": int(rng.integers(30, 60)) + 8 * level},
        ("Use exactly {n} words.", "The answer must have exactly {n} words, no more and no fewer."),
        lambda text, p: len(text.words) == p["n"],
        _set(words=lambda p: p["n"]),
    ),
    "sentences": _c(
        "sentences",
        lambda rng, level: {"n": int(rng.integers(6, 9 + level))},
        ("Write exactly {n} sentences.", "The text must consist of {n} sentences, neither more nor fewer."),
        lambda text, p: len(text.sentences) == p["n"],
        _set(sentences=lambda p: p["n"]),
    ),
    "sentence_length": _c(
        "sentence_words",
        lambda rng, level: {"n": int(rng.integers(7, 14))},
        ("No sentence may have more than {n} words.", "Keep every sentence to {n} words or fewer."),
        lambda text, p: bool(text.sentences) and max(map(len, text.sentences)) <= p["n"],
        _set(longest=lambda p: p["n"]),
    ),
    "paragraphs": _c(
        "paragraphs",
        _up_to(2, 0.3),
        (
            "Write {n} paragraphs, with a blank line between them.",
            "Split it into exactly {n} paragraphs (blank lines).",
        ),
        lambda text, p: len(text.paragraphs) == p["n"],
        _set(parts=lambda p: p["n"]),
    ),
    "separator": _c(
        "paragraphs stars",
        lambda rng, level: {"n": int(rng.integers(2, 4 + level // 4)), "mark": one(rng, MARKS)},
        (
            "Divide it into {n} parts; between two parts put a line that is exactly {mark}",
            "Use lines {mark} to divide it into exactly {n} parts.",
        ),
        lambda text, p: len(text.parts(p["mark"])) == p["n"] and all(text.parts(p["mark"])),
        lambda draft, p: _set(parts=p["n"], separator=f"\n{p['mark']}\n")(draft, p),
    ),
    "two_responses": _c(
        "paragraphs stars",
        lambda rng, level: {},
        (
            (
                "Give two different responses, separated by a line of six "
                "asterisks (******); the rules hold for both taken together."
            ),
            "Answer in two different versions with a line ****** between them; count all rules over both.",
        ),
        _two_parts,
        _set(parts=2, separator="\n******\n"),
    ),
    "forbidden_words": _c(
        "forbidden",
        lambda rng, level: {"words": pick(rng, COMMON, 1 + level // 2)},
        (
            "Do not use any of these words: {words}.",
            "These words are forbidden: {words}.",
            "Avoid these words entirely: {words}.",
        ),
        lambda text, p: bool(text.words) and not set(p["words"]) & set(text.lowered),
        _ban,
    ),
    "word_frequency": _c(
        "frequency",
        lambda rng, level: {"word": one(rng, COLOURS), "n": int(rng.integers(2, 4 + level // 2))},
        (
            "Use the word {word} exactly {n} times.",
            "The word {word} must appear exactly {n} times.",
            "Mention {word} {n} times, no more and no less.",
        ),
        lambda text, p: text.lowered.count(p["word"]) == p["n"],
        _insert(lambda p: [p["word"]] * p["n"]),
    ),
    "few_repeats": _c(
        "frequency",
        lambda rng, level: {"n": 2 if level > 5 else 3},
        ("Use no word more than {n} times.", "No word may occur more than {n} times."),
        lambda text, p: bool(text.words) and max(Counter(text.lowered).values()) <= p["n"],
        _set(),
    ),
    "letter_at_least": _c(
        "letters",
        lambda rng, level: {"letter": one(rng, "bcdfgkmpvwyz"), "n": int(rng.integers(5, 9 + 2 * level))},
        ("The letter {letter} must appear at least {n} times.", "Use the letter {letter} {n} times or more."),
        lambda text, p: text.text.lower().count(p["letter"]) >= p["n"],
        lambda draft, p: draft.inserts.extend(
            [w for w in (*ADJECTIVES, *ADVERBS) if p["letter"] in w][: p["n"]]
        ),
    ),
    "no_letter": _c(
        "letters",
        lambda rng, level: {"letter": one(rng, "bcdfghjkmpquvwxyz" if level < 7 else "bcdfghmpuwy")},
        (
            "Do not use the letter {letter} at all.",
            "The letter {letter} must not appear anywhere.",
            "Avoid the letter {letter}.",
        ),
        lambda text, p: bool(text.words) and p["letter"] not in text.text.lower(),
        _without,
    ),
    "lowercase": _c(
        "case",
        lambda rng, level: {},
        (
            "Write everything in lower case.",
            "Do not use any capital letter.",
            "All letters must be lowercase.",
        ),
        lambda text, p: bool(text.words) and text.text == text.text.lower(),
        _set(case="lower"),
    ),
    "uppercase": _c(
        "case",
        lambda rng, level: {},
        (
            "Write everything in capital letters.",
            "ALL LETTERS MUST BE UPPERCASE.",
            "Use capital letters only.",
        ),
        lambda text, p: bool(text.words) and text.text == text.text.upper(),
        _set(case="upper"),
    ),
    "capital_words": _c(
        "case",
        _up_to(2),
        (
            "Write exactly {n} words in capital letters only (such as WOW).",
            "Exactly {n} words of two or more letters must be in ALL CAPS.",
        ),
        lambda text, p: _upper_words(text) == p["n"],
        _insert(lambda p: [city.upper() for city in CITIES[: p["n"]]]),
    ),
    "no_commas": _c(
        "commas",
        lambda rng, level: {},
        (
            "Do not use any commas.",
            "Refrain from using commas.",
            "There must be no comma in the whole answer.",
        ),
        lambda text, p: bool(text.words) and "," not in text.text,
        _set(),
    ),
    "start": _c(
        "start case",
        _one_of("phrase", STARTS),
        (
            'Begin with the exact words "{phrase}".',
            'The first words must be "{phrase}".',
            "Start your answer with: {phrase}",
        ),
        lambda text, p: text.text.startswith(p["phrase"]),
        _set(start=lambda p: p["phrase"]),
    ),
    "end": _c(
        "end sentences case",
        _one_of("phrase", FINISHES),
        (
            'Finish with the exact words "{phrase}" and nothing after them.',
            "The last words must be: {phrase}",
        ),
        lambda text, p: text.text.endswith(p["phrase"]),
        _set(after=lambda p: p["phrase"]),
    ),
    "nth_word": _c(
        "start",
        lambda rng, level: {"n": int(rng.integers(1, 5)), "word": one(rng, COLOURS)},
        (
            "Word number {n} of your answer must be {word}.",
            "Make {word} the word at position {n} (counting from 1).",
        ),
        lambda text, p: len(text.words) >= p["n"] and text.lowered[p["n"] - 1] == p["word"],
        lambda draft, p: draft.opening.update({p["n"] - 1: p["word"]}),
    ),
    "bullets": _c(
        "list",
        _up_to(2),
        (
            "Include exactly {n} bullet points (lines that start with - ).",
            "There must be a list of exactly {n} bullets, each line starting with - ",
        ),
        lambda text, p: len(_listed(text, lambda line: line.startswith(("- ", "* ")))) == p["n"],
        lambda draft, p: draft.lines.extend(f"- {noun}" for noun in NOUNS[-p["n"] :]),
    ),
    "sorted_list": _c(
        "list digits",
        _up_to(3),
        (
            "Include a numbered list of {n} items, written 1) 2) 3) and so on, in alphabetical order.",
            "Add {n} numbered lines (1) first, 2) second ...) whose items are sorted alphabetically.",
        ),
        lambda text, p: (
            len(_numbered(text)) == p["n"]
            and all(_numbered(text))
            and _numbered(text) == sorted(set(_numbered(text)))
        ),
        lambda draft, p: draft.lines.extend(
            f"{i}) {noun}" for i, noun in enumerate(sorted(NOUNS[: p["n"]]), 1)
        ),
    ),
    "highlights": _c(
        "stars",
        _up_to(2),
        (
            "Highlight at least {n} passages with asterisks, *like this*.",
            "At least {n} pieces of text must stand between single asterisks, *as here*.",
        ),
        lambda text, p: text.enclosed("*", "*") >= p["n"],
        _insert(lambda p: [f"*{word}*" for word in ADVERBS[-p["n"] :]]),
    ),
    "placeholders": _c(
        "brackets",
        _up_to(2),
        (
            "Include at least {n} placeholders in square brackets, such as [name].",
            "Use {n} or more placeholders like [address].",
        ),
        lambda text, p: text.enclosed("[", "]") >= p["n"],
        _insert(lambda p: [f"[{word}]" for word in NOUNS[: p["n"]]]),
    ),
    "postscript": _c(
        "end sentences case lines",
        lambda rng, level: {},
        (
            "End with a postscript: a last line that starts with P.S.",
            "Add a postscript (P.S.) as the last line.",
        ),
        lambda text, p: (
            len(text.lines) > 1 and text.lines[-1].startswith("P.S.") and len(text.lines[-1].split()) > 1
        ),
        _set(after="\nP.S. More later."),
    ),
    "title": _c(
        "start",
        lambda rng, level: {},
        (
            "Put a title in double angle brackets, such as <<My title>>, on the first line.",
            "The first line must be a title wrapped like this: <<title>>",
        ),
        lambda text, p: (
            len(text.lines) > 1
            and text.lines[0].startswith("<<")
            and text.lines[0].endswith(">>")
            and len(text.lines[0].strip("<> ")) > 0
        ),
        lambda draft, p: draft.before.append("<<Notes>>"),
    ),
    "json_object": _c(
        "start end case paragraphs list stars quotes lines commas sentences sentence_words",
        lambda rng, level: {},
        (
            'Give the whole answer as a JSON object with exactly the keys "title" and "text", both strings.',
            'Wrap everything in JSON: {{"title": ..., "text": ...}} and nothing else.',
        ),
        lambda text, p: _json_text(text),
        _set(wrap="json"),
    ),
    "quotes": _c(
        "start end quotes",
        lambda rng, level: {},
        (
            "Put the whole answer in double quotation marks.",
            'Wrap everything in double quotes: it starts and ends with a ".',
        ),
        lambda text, p: len(text.text) > 2 and text.text[0] == text.text[-1] == '"',
        _set(wrap="quotes"),
    ),
    "script_line": _c(
        "end case lines letters",
        _one_of("script", tuple(SCRIPTS)),
        (
            "Write the last line in {script} letters only (a line of its own, three letters or more).",
            "Close with a separate line that has only {script} letters.",
        ),
        _script,
        lambda draft, p: _set(after="\n" + SCRIPTS[p["script"]][2])(draft, p),
    ),
    "alliteration": _c(
        "runs",
        lambda rng, level: {"letter": one(rng, "bcdfghlmpst"), "n": int(rng.integers(3, 4 + level // 3))},
        (
            "Somewhere, {n} words in a row must all start with the letter {letter}.",
            "Include an alliteration: at least {n} consecutive words that begin with {letter}.",
        ),
        lambda text, p: _longest_run(text.lowered, p["letter"]) >= p["n"],
        _insert(
            lambda p: [
                " ".join([w for w in (*ADJECTIVES, *ADVERBS, *NOUNS) if w[0] == p["letter"]][: p["n"]])
            ]
        ),
    ),
    "palindrome": _c(
        "palindromes",
        lambda rng, level: {"n": 5 if level < 6 else 7},
        (
            "Include a palindrome: a word of at least {n} letters that reads the same backwards.",
            "Use some word of {n} or more letters that is the same read from its end.",
        ),
        lambda text, p: any(len(word) >= p["n"] and _is_palindrome(word) for word in text.lowered),
        _insert(lambda p: [next(word for word in PALINDROMES if len(word) >= p["n"])]),
    ),
    "repeat_request": _c(
        "start case sentences",
        lambda rng, level: {},
        (
            "First repeat the first sentence of this request word for word, then go on.",
            "Start by copying the first sentence of this request exactly.",
        ),
        lambda text, p: text.text.startswith(p["request"]) and len(text.text) > len(p["request"]),
        lambda draft, p: draft.before.append(p["request"]),
    ),
    "numbers": _c(
        "digits",
        _up_to(2),
        (
            "Include exactly {n} numbers written in digits.",
            "Exactly {n} words of the text must be numbers in digits.",
        ),
        lambda text, p: sum(word.isascii() and word.isdecimal() for word in text.words) == p["n"],
        _insert(lambda p: [str(11 * number) for number in range(1, p["n"] + 1)]),
    ),
    "no_digits": _c(
        "digits",
        lambda rng, level: {},
        ("Do not use any digits.", "No digit may appear in the answer."),
        lambda text, p: bool(text.words) and not any(map(str.isdigit, text.text)),
        _set(),
    ),
    "questions": _c(
        "marks",
        _up_to(2, 0.3),
        ("Use exactly {n} question marks.", "There must be exactly {n} question marks in the text."),
        lambda text, p: text.text.count("?") == p["n"],
        _set(questions=lambda p: p["n"]),
    ),
    "sections": _c(
        "list digits case lines",
        lambda rng, level: {
            "n": int(rng.integers(2, 4 + level // 4)),
            "word": one(rng, ("SECTION", "PART", "CHAPTER")),
        },
        (
            "Mark {n} sections by lines {word} 1, {word} 2 and so on, each heading on a line of its own.",
            "It must contain the headings {word} 1 to {word} {n}, in order and each alone on its line.",
        ),
        _sections,
        lambda draft, p: draft.lines.extend(f"{p['word']} {number}" for number in range(1, p["n"] + 1)),
    ),
    "line_length": _c(
        "lines",
        lambda rng, level: {"n": int(rng.integers(45, 90)) - 2 * level},
        (
            "No line may be longer than {n} characters.",
            "Break lines so that each has at most {n} characters.",
        ),
        lambda text, p: bool(text.words) and max(map(len, text.text.split("\n"))) <= p["n"],
        _set(width=lambda p: p["n"]),
    ),
    "acrostic": _c(
        "sentences start initials",
        lambda rng, level: {
            "word": one(rng, [word for word in ACROSTICS if len(word) >= min(4 + level // 6, 5)])
        },
        (
            "The first letters of your sentences must spell the word {word}, one sentence a letter.",
            (
                "Write an acrostic: the sentences begin with the "
                "letters of {word}, in order, and there are no others."
            ),
        ),
        lambda text, p: "".join(words[0][0].lower() for words in text.sentences) == p["word"],
        lambda draft, p: _set(sentences=len(p["word"]), initials=p["word"])(draft, p),
    ),
}


def conflict(a: str, b: str) -> bool:
    """Return True when two kinds of constraint must not be combined."""
    return bool(CONSTRAINTS[a].claims & CONSTRAINTS[b].claims)


def describe(name: str, params: Params, wording: int) -> str:
    """Return one of a constraint's wordings for the policy."""
    shown = {key: ", ".join(value) if isinstance(value, list) else value for key, value in params.items()}
    wordings = CONSTRAINTS[name].wordings
    return wordings[wording % len(wordings)].format(**shown)


def keywords_hold(text: Reading, keywords: list[str]) -> bool:
    """Return True when each keyword stands once in the text, in this order, in a full sentence of its own."""
    wanted = set(keywords)
    found = [[word for word in map(str.lower, words) if word in wanted] for words in text.sentences]
    full = all(len(words) >= FULL for words, used in zip(text.sentences, found, strict=True) if used)
    return full and [words for words in found if words] == [[word] for word in keywords]
