"""Environment cards as one self-contained page, in the report's style."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from rolloom.envs.check import Card
from rolloom.rollout.display import safe_text
from rolloom.rollout.report_style import STYLE

OWN_STYLE = """
td.text, th.text { text-align: left; white-space: normal; }
.grade { display: inline-block; min-width: 1.8em; text-align: center; border-radius: 5px; color: #fff;
  font-weight: 700; padding: 0 .3em; }
.gradeA, .gradeB { background: #0b6b3a; } .gradeC { background: #8a5a00; } .gradeF { background: #a3242b; }
.grid2 { align-items: start; margin: 1rem 0; }
th:first-child.text { width: 9rem; }
.pass { color: var(--good); } .warn { color: #b06a00; } .fail { color: var(--bad); font-weight: 650; }
"""
SHOWN_CHARS = 6_000
WORST_POLICIES = 8


def page(cards: Sequence[Card]) -> str:
    """Return the page of some cards: a table of all, then each."""
    style = STYLE + OWN_STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    title = cards[0].id if len(cards) == 1 else f"{len(cards)} environment cards"
    body = "".join(map(_card, cards))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>What each environment proves of itself, without any model. A: nothing "
        "to remark; B, C: remarks; F: not fit to train on.</p>"
        f"{_overview(cards) if len(cards) > 1 else ''}{body}</body></html>\n"
    )


def _overview(cards: Sequence[Card]) -> str:
    rows = "".join(
        f'<tr><th class="text" scope="row"><a href="#{_anchor(card)}">{escape(card.id)}</a></th>'
        f"<td>{_grade(card)}</td><td class='text'>{_text(card.description)}</td>"
        f"<td>{_best(card)}</td><td>{_speed(card, 'episodes_per_s_at_16')}</td>"
        f"<td class='text'>{_text('; '.join(card.reasons), 200)}</td></tr>"
        for card in cards
    )
    heads = (
        '<th class="text">environment</th><th>grade</th><th class="text">what the policy has to do</th>'
        '<th>best without solving</th><th>episodes/s at 16</th><th class="text">remarks</th>'
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _card(card: Card) -> str:
    findings = "".join(
        f'<tr><th class="text" scope="row">{escape(finding.name)}</th>'
        f'<td class="{finding.grade}">{finding.grade}</td>'
        f'<td class="text">{_text(finding.text)}'
        + (f'<br><span class="muted">{_text(finding.advice)}</span>' if finding.advice else "")
        + "</td></tr>"
        for finding in card.findings
    )
    lengths = "".join(
        f'<tr><th scope="row">{level}</th><td>{row["prompt_tokens_median"]:.0f}</td>'
        f"<td>{row['prompt_tokens_max']:.0f}</td><td>{row['completion_tokens_median']:.0f}</td>"
        f"<td>{row['completion_tokens_max']:.0f}</td><td>{row['turns_median']:.0f}</td></tr>"
        for level, row in card.lengths.items()
    )
    paid = sorted(card.policies.items(), key=lambda item: -item[1])[:WORST_POLICIES]
    policies = "".join(
        f'<tr><th class="text" scope="row">{_text(name)}</th><td>{value:.3f}</td></tr>'
        for name, value in paid
    )
    speed = "".join(
        f'<tr><th class="text" scope="row">{escape(name.replace("_", " "))}</th><td>{value:g}</td></tr>'
        for name, value in card.speed.items()
    )
    example = "".join(
        f'<div class="role">{escape(message["role"])}</div>'
        f'<pre class="{"" if message["role"] == "assistant" else "prompt"}" tabindex="0">'
        f"{_text(message['content'], SHOWN_CHARS)}</pre>"
        for message in card.example
    )
    return (
        f'<h2 id="{_anchor(card)}">{_grade(card)} {escape(card.id)}</h2><p>{_text(card.description)}</p>'
        f'<div class="scroll" tabindex="0"><table><caption>checks, {card.seconds:.1f} s</caption><tbody>'
        f'{findings}</tbody></table></div><div class="grid2">'
        f"<table><caption>tokens and turns by level (shipped tokenizer)</caption><thead><tr><th>level</th>"
        f"<th>prompt</th><th>longest</th><th>gold</th><th>longest</th><th>turns</th></tr></thead>"
        f"<tbody>{lengths}</tbody></table>"
        f"<table><caption>paid without solving, mean reward</caption><tbody>{policies}</tbody></table>"
        f"<table><caption>speed with the gold policy</caption><tbody>{speed}</tbody></table></div>"
        f"<details><summary>an episode, played by the expert</summary>{example}</details>"
    )


def _anchor(card: Card) -> str:
    return "".join(c if c.isalnum() else "-" for c in card.id)


def _grade(card: Card) -> str:
    return f'<span class="grade grade{card.grade}">{card.grade}</span>'


def _best(card: Card) -> str:
    return f"{max(card.policies.values()):.3f}" if card.policies else "–"  # noqa: RUF001  # a dash for a gap


def _speed(card: Card, name: str) -> str:
    return f"{card.speed[name]:,.0f}" if name in card.speed else "–"  # noqa: RUF001  # a dash for a gap


def _text(text: str, limit: int = 1_000) -> str:
    return escape(safe_text(text, limit))
