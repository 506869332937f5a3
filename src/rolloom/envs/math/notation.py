r"""Untrusted mathematical text -> one normal form, by linear scans over capped input; nothing is evaluated.

The normal form is a small LaTeX: braces around every argument, `\frac`, `\sqrt`, `^{..}`, single letters for
symbols, words only where units and `and` stand. What is not on the list of known commands and characters is
refused, so that nothing else ever reaches a parser.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

MAX_CHARS = 2_000
MAX_DEPTH = 32
MAX_DIGITS = 400
MAX_WORD = 3
"""Letters that may stand in a row as a product of symbols (`xyz`); longer runs are words."""

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[0-9]+|[A-Za-z]+| +|.")
_UNICODE = {
    "\u2212": "-", "\u2013": "-",
    "\u00d7": "\\cdot ", "\u00b7": "\\cdot ", "\u22c5": "\\cdot ", "\u00f7": "/",
    "\u03c0": "\\pi ", "\u221e": "\\infty ", "\u222a": "\\cup ", "\u2208": "\\in ", "\u2264": "\\le ",
    "\u2265": "\\ge ", "\u2260": "\\ne ", "\u00b0": "\\degree ", "\u2205": "\\emptyset ", "\u211d": "\\R ",
    "\u221a": "\\sqrt ", "\u00b2": "^2", "\u00b3": "^3", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
    "\u20ac": " euro ", "\u00a3": " pound ", "\u00b1": "\\pm ", "\t": " ", "\n": " ", "\r": " ",
}  # fmt: skip
_TRANSLATION = str.maketrans(_UNICODE)
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))
_DROPPED = {
    "left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle", "limits",
}  # fmt: skip
_SPACES = {",", ";", ":", "!", " ", "quad", "qquad", "thinspace"}
_RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "lbrace": "{", "rbrace": "}", "varnothing": "emptyset", "times": "cdot",
    "ast": "cdot", "infin": "infty", "backslash": "setminus",
}  # fmt: skip
_CHARACTERS = {"div": "/", "lt": "<", "gt": ">", "%": "%", "$": "$", "lbrack": "[", "rbrack": "]"}
_TEXT = {"text", "mathrm", "textbf", "mathbf", "textrm", "textit", "mbox", "operatorname", "rm", "mathit"}
FUNCTIONS = {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
_GROUP = dict.fromkeys(FUNCTIONS, "trigonometry") | dict.fromkeys(("ln", "log"), "logarithm")
_FUNCTIONS = FUNCTIONS | {"ln", "log", "exp"}
EVALUATORS = {"sum", "prod", "int", "lim", "binom", "gcd", "lcm", "det", "max", "min", "bmod", "pmod", "mod"}
"""Commands that ask for a computation; an answer may use one only where the expected answer does."""
_COMPUTING = EVALUATORS | _GROUP.keys()
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "kappa", "lambda",
    "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega",
}  # fmt: skip
_COMMANDS = {
    "frac", "sqrt", "pi", "cdot", "pm", "infty", "le", "ge", "ne", "in", "cup", "cap", "setminus", "emptyset",
    "R", "circ", "degree",
} | _FUNCTIONS | _GREEK | EVALUATORS  # fmt: skip
_WORDS = {"pi": "pi", "inf": "infty", "infinity": "infty", "oo": "infty", "sqrt": "sqrt"}
_PLAIN = set("+-*/=<>()[]{},;:.|!%$^_")


class Unreadable(ValueError):
    """The text is not mathematical notation as it is understood here; the message says why."""


def normal_form(text: str) -> str:
    """Return the normal form of a text.

    Raises:
        Unreadable: too long, unknown commands or characters, or brackets that do not close.
    """
    if len(text) > MAX_CHARS:
        raise Unreadable(f"longer than {MAX_CHARS} characters")
    text = text.translate(_TRANSLATION)
    if not (text.isascii() and text.isprintable()):
        raise Unreadable("characters that are no mathematical notation")
    text = _unwrapped(text)
    for written in ("\\mathbb{R}", "\\mathbb R", "\\Reals"):
        text = text.replace(written, "\\R ")
    return _Rewriter(text.replace("{,}", ",")).run()


def tokens(text: str) -> Iterator[str]:
    """Return the tokens of a text: commands, runs of digits, runs of letters, runs of spaces, characters."""
    return (match.group() for match in _TOKEN.finditer(text))


def split_top(text: str, *separators: str) -> list[str]:
    """Split a normal form at tokens that stand outside all brackets."""
    parts, depth, start, position = [], 0, 0, 0
    for token in tokens(text):
        if token in separators and depth == 0:
            parts.append(text[start:position])
            start = position + len(token)
        elif token in ("(", "[", "{", "\\{"):
            depth += 1
        elif token in (")", "]", "}", "\\}"):
            depth -= 1
        position += len(token)
    return [part.strip() for part in [*parts, text[start:]]]


def is_expression(text: str) -> bool:
    """Return True for a normal form without words, lists or long numbers: fit for the verifier process."""
    for token in tokens(text):
        if token.isdigit() and len(token) > MAX_DIGITS // 4:
            return False
        if token.isalpha() and len(token) > MAX_WORD:
            return False
    return bool(text) and "$" not in text and "%" not in text and "\\{" not in text


def evaluators(text: str) -> set[str]:
    r"""Return what in a normal form asks for a computation that an answer should have done.

    Trigonometric functions count as one, logarithms as one: `1/\cos x` may answer `\sec x`, but
    `\sin(\pi/3)` is not yet `\sqrt{3}/2`.
    """
    found = {_GROUP.get(token[1:], token[1:]) for token in tokens(text) if token[1:] in _COMPUTING}
    squeezed = text.replace(" ", "")
    return found | ({"!"} if "!" in text else set()) | ({"d/d"} if _DERIVATIVE.search(squeezed) else set())


def symbols(text: str) -> set[str]:
    """Return the letters that stand for something unknown: all but those of commands, e and i."""
    return {letter for token in tokens(text) if token.isalpha() for letter in token} - {"e", "i"}


def largest_exponent(text: str) -> float:
    """Return the largest number written in an exponent; infinite when a number has a tower of exponents."""
    largest, depths, depth, power = 0.0, [], 0, False
    for token in tokens(text):
        if token == "{":
            depth += 1
            if power:
                depths.append(depth)
        elif token == "}":
            if depths and depths[-1] == depth:
                depths.pop()
            depth -= 1
        elif depths and token.isdigit():
            largest = math.inf if len(depths) > 1 else max(largest, float(token[:9]))
        power = token == "^"
    return largest


def exact_decimals(text: str) -> str:
    """Return a normal form with every decimal numeral as a fraction, so that no comparison rounds."""
    return _DECIMAL.sub(_as_fraction, text)


_DERIVATIVE = re.compile(r"(?:\}|/)[{(]*d(?:\^\{[0-9]+\})?[A-Za-z\\{(]")
_DECIMAL = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]+)")


def _as_fraction(match: re.Match[str]) -> str:
    whole, places = match.group(1), match.group(2)
    return f"\\frac{{{int(whole + places)}}}{{{10 ** len(places)}}}"


def _unwrapped(text: str) -> str:
    """Return text without math delimiters, emphasis and a closing full stop."""
    for _ in range(8):
        before, text = text, text.strip()
        while text.endswith((".", ",", ";")) and not text.endswith("\\,") and not text.endswith("\\;"):
            text = text[:-1].rstrip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            long_enough = len(text) > len(opening) + len(closing) - 1
            if (
                long_enough
                and text.startswith(opening)
                and text.endswith(closing)
                and opening[0] not in (inner if opening[0] != "\\" else "")
            ):
                text = inner
                break
        if text == before:
            break
    bare = text.replace("\\$", "").count("$")
    if bare and bare % 2 == 0:
        # Several formulas in a row, `$3$ and $5$`.
        return text.replace("\\$", "\x00").replace("$", "").replace("\x00", "\\$")
    return text


class _Rewriter:
    """One pass over the tokens that braces every argument and checks that brackets nest.

    Attributes:
        want: arguments that the last command still waits for.
        stack: open brackets, each as (what closes it, what to write there, `want` to come back to).
    """

    def __init__(self, text: str) -> None:
        self.tokens = list(tokens(text))
        self.out: list[str] = []
        self.stack: list[tuple[str, str, int]] = []
        self.want = 0
        self.text_next = self.root_next = False

    def run(self) -> str:
        """Return the normal form."""
        for index, token in enumerate(self.tokens):
            following = self.tokens[index + 1] if index + 1 < len(self.tokens) else ""
            if self.text_next and token not in ("{", " "):
                raise Unreadable("\\text without braces")
            self._take(token, following)
        if self.stack or self.want or self.text_next:
            raise Unreadable("a bracket or argument is not closed")
        joined = "".join(self.out)
        for mark in ("^{\\circ}", "^{\\degree}", "\\degree"):
            joined = joined.replace(mark, " deg ")
        return " ".join(joined.split()).replace(" ^", "^").replace(" _", "_")

    def _take(self, token: str, following: str) -> None:
        if token[0] == "\\":
            self._command(token[1:])
        elif token.isspace():
            self.out.append(" ")
        elif token.isdigit():
            self._digits(token)
        elif token.isalpha():
            self._letters(token)
        elif token not in _PLAIN:
            raise Unreadable(f"unknown character {token!r}")
        else:
            self._character(token, following)

    def _command(self, name: str) -> None:
        name = _RENAMED.get(name, name)
        if name in _DROPPED:
            return
        if name in _SPACES:
            self.out.append(" ")
        elif name in _TEXT:
            self.text_next = True
        elif name in _CHARACTERS:
            self._character(_CHARACTERS[name], "")
        elif name == "{":
            self._open("\\{", "\\}", "\\}")
        elif name == "}":
            self._close("\\}")
        elif name not in _COMMANDS:
            raise Unreadable(f"unknown command \\{name[:20]}")
        else:
            self._symbol(f"\\{name}")
            if name in ("frac", "binom"):
                self._expect(2)
            elif name == "sqrt":
                self._expect(1)
                self.root_next = True

    def _symbol(self, written: str) -> None:
        if self.want and written not in ("\\frac", "\\sqrt", "\\binom"):
            self._argument(written)
        else:
            self.out.append(f"{written} " if written[-1].isalpha() and written[0] == "\\" else written)

    def _argument(self, written: str) -> None:
        self.out.append(f"{written}}}" if self.out[-1] == "^{-" else f"{{{written}}}")
        self.want -= 1

    def _expect(self, count: int) -> None:
        if self.want:
            raise Unreadable("a command stands where an argument was expected; put it in braces")
        self.out[-1] = self.out[-1].rstrip() or self.out[-1]
        self.want = count

    def _digits(self, token: str) -> None:
        if len(token) > MAX_DIGITS:
            raise Unreadable(f"a number of more than {MAX_DIGITS} digits")
        if self.want and self.out[-1] in ("^", "^{-"):
            self._argument(token)
            return
        while self.want and token:
            self._argument(token[0])
            token = token[1:]
        self.out.append(token)
        self.root_next = False

    def _letters(self, token: str) -> None:
        if token in _WORDS or token in _FUNCTIONS:
            self._command(_WORDS.get(token, token))
            return
        while self.want and token:
            self._argument(token[0])
            token = token[1:]
        self.out.append(token)

    def _character(self, token: str, following: str) -> None:
        if token == "{":
            self._open("" if self.text_next else "{", "}", " " if self.text_next else "}")
        elif token == "(" and self.want and self.out[-1] in ("\\sqrt", "^"):
            self._open("{", ")", "}")
        elif token == "[" and self.root_next and self.want:
            self._open("[", "]", "]", keep=True)
        elif token in "([":
            self._open(token, ")]", "")
        elif token in ")]}":
            self._close(token)
        elif token == "^" or (token == "*" and following == "*"):
            self.out.append("^")
            self._expect(1)
        elif token == "*" and self.out and self.out[-1] == "^":
            return
        elif token == "_":
            self.out.append("_")
            self._expect(1)
        elif token == "-" and self.want and self.out[-1] == "^":
            self.out[-1] = "^{-"
        elif self.want:
            raise Unreadable(f"{token!r} stands where an argument was expected")
        else:
            self.out.append("\\cdot " if token == "*" else token)
        self.root_next = False

    def _open(self, written: str, closing: str, closed: str, keep: bool = False) -> None:
        if len(self.stack) == MAX_DEPTH:
            raise Unreadable(f"brackets more than {MAX_DEPTH} deep")
        if self.want and closing not in ("}", ")") and not keep:
            raise Unreadable("a bracket stands where an argument was expected")
        if self.out and self.out[-1] == "^{-":
            raise Unreadable("a bracket after ^-; put the exponent in braces")
        after = self.want if keep else max(0, self.want - 1)
        self.stack.append((closing, closed, after))
        self.out.append(written or " ")
        self.want, self.text_next = 0, False

    def _close(self, token: str) -> None:
        if not self.stack or self.want or token not in self.stack[-1][0]:
            raise Unreadable(f"{token} closes nothing")
        _, written, self.want = self.stack.pop()
        self.out.append(written or token)
