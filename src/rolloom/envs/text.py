"""Text that an untrusted hand wrote, made fit to be shown to a policy or a person."""

from __future__ import annotations

MAX_TEXT_CHARS = 20_000
_KEPT_CONTROLS = "\n\t"
_INVISIBLE = {*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF}
_FORGEABLE = ("<|", "<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>")
_BREAK = "\u00b7"


def safe_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Return text that can forge no chat role, tag or terminal sequence, at most `limit` characters of it.

    Control and bidirectional characters and lone surrogates become `?`, the openings of chat tokens and tags
    get a dot after their first character, and what is cut off is counted.
    """
    cut = len(text) - limit
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if _harmless(c) else "?" for c in text)
    for tag in _FORGEABLE:
        if tag in text:
            text = text.replace(tag, tag[0] + _BREAK + tag[1:])
    return f"{text}... [{cut} more characters]" if cut > 0 else text


def whole(text: str) -> str:
    """Return text with `?` for each lone surrogate, which cannot be encoded or sent."""
    return text.encode("utf-8", "replace").decode()


def _harmless(character: str) -> bool:
    number = ord(character)
    if character in _KEPT_CONTROLS:
        return True
    return not (number < 32 or 127 <= number < 160 or 0xD800 <= number < 0xE000 or number in _INVISIBLE)
