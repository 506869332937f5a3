"""Chat templates in the environment transformers renders them in, so that published ones work here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rolloom.policy.config import PolicyError


class Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` marks what an assistant said; here it only renders it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads it as a plain attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the statements between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(text: str, special_tokens: Mapping[str, str]) -> Template:
    """Compile a chat template.

    Args:
        text: the template.
        special_tokens: by the names templates know them by: `bos_token`, `eos_token` ...

    Raises:
        PolicyError: it is not a valid template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals.update(special_tokens)
    try:
        return environment.from_string(text)
    except TemplateError as error:
        raise PolicyError(f"the chat template is malformed: {error}") from error


def _to_json(value: Any, indent: int | None = None, **settings: Any) -> str:
    # jinja2's own filter escapes characters of HTML.
    return json.dumps(value, ensure_ascii=False, indent=indent, **settings)


def _refuse(message: str) -> str:
    raise PolicyError(f"the chat template refuses the conversation: {message}")


def pick_template(held: object) -> str:
    """Return the template of `tokenizer_config.json`: its text, or the one named default of several."""
    if isinstance(held, list):
        named = {entry.get("name"): entry.get("template") for entry in held if isinstance(entry, dict)}
        held = named.get("default") or next(iter(named.values()), None)
    return held if isinstance(held, str) else ""
