"""Finds the program in an answer: the last closed code fence, or the whole content when there is no fence."""

from __future__ import annotations

FENCE = "```"


def extract_code(content: str) -> str:
    """Return the program in a turn's content, "" when there is none.

    Reads lines once from start to end, so hostile text costs no more than its length. A fence that is
    never closed (a completion cut off at its token limit) is not a program.
    """
    blocks: list[str] = []
    block: list[str] | None = None
    fenced = False
    for line in content.split("\n"):
        if line.lstrip().startswith(FENCE):
            fenced = True
            if block is None:
                block = []
            else:
                blocks.append("\n".join(block))
                block = None
        elif block is not None:
            block.append(line)
    if fenced:
        return blocks[-1] if blocks else ""
    return content
