"""Writes docs/guide/configuration.md from the docstrings of configs/schema.py; `make docs` runs it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from rolloom.configs.checks import RANGES, WORDS, pattern_of
from rolloom.configs.schema import RunConfig
from rolloom.configs.sources import Parts, dotted
from rolloom.configs.typed import fields_of

TARGET = Path(__file__).parent / "guide" / "configuration.md"
TOP = """# Every field of a run

Made from `configs/schema.py` by `make docs`. [How fields are set](running.md).
"""


def attributes(section: type) -> dict[str, str]:
    """Return the `Attributes:` part of a class's docstring, one line a field."""
    _, _, text = (inspect.getdoc(section) or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w)", text)
    return {
        name.strip(): " ".join(rest.split()) for name, _, rest in (entry.partition(":") for entry in entries)
    }


def render() -> str:
    """Return the page."""
    hints = fields_of(RunConfig)
    sections: dict[Parts, type] = {(): RunConfig}
    for parts, hint in hints.items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            sections[parts] = hint
        elif len(parts) > 1 and parts[-2] == 0:
            sections.setdefault(parts[:-1], _item(hints[parts[:-2]]))
    lines = [TOP]
    for parts, section in sections.items():
        name = pattern_of(dotted(parts))
        summary = (inspect.getdoc(section) or "").partition("\n")[0]
        lines += [f"## {f'`{name}`' if name else 'Top level'}", "", summary, ""]
        lines += ["| field | default | allowed | meaning |", "|---|---|---|---|"]
        lines += [
            _row(parts, field, attributes(section)[field.name]) for field in dataclasses.fields(section)
        ]
        lines.append("")
    return "\n".join(lines)


def _item(hint: object) -> type:
    return hint.__args__[0]  # type: ignore[attr-defined]


def _row(parts: Parts, field: dataclasses.Field[object], meaning: str) -> str:
    path = pattern_of(dotted((*parts, field.name)))
    allowed = str(WORDS.get(path) or RANGES.get(path) or "")
    default = field.default
    if default is dataclasses.MISSING:
        assert field.default_factory is not dataclasses.MISSING
        made = field.default_factory()
        default = "" if dataclasses.is_dataclass(made) else made
    shown = "" if default == "" else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{field.name}` | {shown} | {allowed} | {meaning} |"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"wrote {TARGET}")
