"""The environment card: sound environments pass, each broken one fails for its own reason."""

from __future__ import annotations

import copy
import functools
import json
import sys
from pathlib import Path

import pytest

from rolloom.envs import registry
from rolloom.envs.check import Card, check
from rolloom.envs.check.probes import wilson_low
from rolloom.envs.errors import UnknownEnvError
from rolloom.rollout.card_page import page

HERE = Path(__file__).resolve().parent
SECONDS = 2.0


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch):
    """Register the broken environments for one test."""
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    monkeypatch.delitem(sys.modules, "broken_envs", raising=False)
    file = str(HERE / "broken_envs.py")
    registry.import_modules([file])
    for name in ("Raises", "Splits", "Slow", "NoGold"):
        spec = registry.EnvSpec(f"broken/{name.lower()}-v0", f"broken_envs:{name}", file=file)
        registry.register_spec(spec)


@functools.cache
def checked(name: str) -> Card:
    """Return the card of a broken environment, checked once."""
    return check(f"broken/{name}-v0", seconds=SECONDS)


def findings(card: Card, grade: str) -> dict[str, str]:
    return {finding.name: finding.text for finding in card.findings if finding.grade == grade}


def test_a_sound_environment_gets_an_a():
    card = checked("sound")
    assert (card.grade, card.passed, card.reasons) == ("A", True, [])
    names = {finding.name for finding in card.findings}
    assert names == {
        *("gold", "blind policies", "hostile answers", "determinism", "splits", "leakage", "state"),
        "gymnasium",
    }
    assert set(card.lengths) == {1, 5, 10}
    assert {"episodes_per_s_at_1", "episodes_per_s_at_16", "episodes_per_s_at_256"} <= set(card.speed)
    assert min(card.speed.values()) > 0 and min(card.pool.values()) >= 40
    assert [m["role"] for m in card.example] == ["user", "assistant"]
    assert {"null", "prompt echo", "random words", "tag soup", "prompt injection", "test tampering"} <= set(
        card.policies
    )


@pytest.mark.parametrize(
    ("name", "check_name", "reason"),
    [
        ("gold", "gold", "the expert scores below 1 on"),
        ("leaks", "leakage", "the answer stands in the prompt of 100% of the problems"),
        ("constant", "blind policies", "constant yes earns"),
        ("generous", "blind policies", "prompt echo earns"),
        ("generous", "hostile answers", "every number is paid 1"),
        ("random", "determinism", "on a second object"),
        ("hash", "determinism", "in another process"),
        ("state", "state", "interleaved with others"),
        ("raises", "hostile answers", "raises ValueError"),
        ("splits", "splits", "prompts are in both splits"),
        ("nogold", "gold", "no right answer is known"),
    ],
)
def test_a_broken_environment_fails_for_its_own_reason(name: str, check_name: str, reason: str):
    card = checked(name)
    assert card.grade == "F" and not card.passed
    assert reason in findings(card, "fail")[check_name]


@pytest.mark.parametrize("name", ["gold", "leaks", "constant"])
def test_nothing_else_is_wrong_with_it(name: str):
    failed = set(findings(checked(name), "fail"))
    # What leaks is also paid to whoever copies it.
    assert (
        failed
        <= {"gold": {"gold"}, "leaks": {"leakage", "blind policies"}, "constant": {"blind policies"}}[name]
    )


def test_a_slow_environment_is_checked_on_fewer_problems():
    card = check("broken/slow-v0", seconds=1.0)
    assert card.passed, card.reasons
    assert "no time for" in findings(card, "warn")["blind policies"]
    assert len(card.policies) < 10
    assert card.seconds < 60


def test_an_unknown_id_is_answered():
    with pytest.raises(UnknownEnvError, match=r"Did you mean 'broken/sound-v0'"):
        check("broken/sond-v0")


def test_the_card_is_json_and_a_page_that_nothing_breaks_out_of():
    card = copy.deepcopy(checked("sound"))
    told = json.loads(json.dumps(card.to_dict()))
    assert told["grade"] == "A" and told["findings"][0]["name"] == "gold"
    card.example.append({"role": "assistant", "content": "</pre><script>alert(1)</script>\x1b[2J"})
    card.description = "<img src=x>"
    text = page([card, checked("leaks")])
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert "default-src 'none'" in text and 'href="#broken-leaks-v0"' in text


def test_wilsons_interval_asks_for_more_than_luck():
    assert wilson_low(0, 300) == pytest.approx(0, abs=1e-9)
    assert wilson_low(300 * 0.05, 300) < 0.05 < wilson_low(300 * 0.15, 300)
    assert wilson_low(6, 12) > 0.05 > wilson_low(2, 12)
