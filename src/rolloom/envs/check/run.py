"""`check`: every check of one environment, within a time, whatever goes wrong in it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.check import probes
from rolloom.envs.check.card import Card
from rolloom.envs.errors import told


def check(
    id: str,
    *,
    seconds: float = 30.0,
    count_tokens: Callable[[str], int] = lambda text: len(text) // 4,
    **kwargs: Any,
) -> Card:
    """Check an environment without any model.

    The expert scores 1.0; policies that do not solve the problem, hostile answers and the environment's own
    attacks score ~0; a seed is one problem in every process; splits are disjoint; the prompt does not give
    the answer away; concurrent episodes share nothing; Gymnasium's checker passes. Lengths and throughput
    are measured.

    Args:
        id: registry id.
        seconds: about how long it may take; fewer problems are drawn where episodes are slow.
        count_tokens: tokens of a text, for the table of lengths.
        kwargs: keyword arguments of the environment.

    Returns:
        The card. An environment that raises gets a card that fails, with the error.

    Raises:
        UnknownEnvError: nothing has that id.
    """
    spec = registry.spec(id)
    card = Card(id, spec.kind, spec.description)
    started = time.monotonic()
    made: weakref.WeakSet[TextEnv] = weakref.WeakSet()

    def make() -> TextEnv:
        env = registry.make(id, **kwargs)
        made.add(env)
        return env

    clock = probes.Clock(seconds)
    answers: list[str] = []
    checks: dict[str, Callable[[], Any]] = {
        "gold": lambda: answers.extend(probes.gold(card, make, clock, count_tokens)),
        "blind policies": lambda: probes.blind(card, make, clock, answers),
        "hostile answers": lambda: probes.hostile(card, make, clock),
        "determinism": lambda: probes.determinism(card, make, clock, spec, kwargs),
        "splits": lambda: probes.splits(card, make, clock),
        "leakage": lambda: probes.leakage(card, make, clock),
        "state": lambda: probes.isolation(card, make, clock),
        "gymnasium": lambda: probes.gymnasium_checker(card, make),
        "throughput": lambda: probes.throughput(card, make, clock),
    }
    try:
        # What cannot even be reset would fail every check for one and the same reason.
        try:
            env = make()
            env.reset(seed=0, options={"level": env.levels[0]})
        except Exception as error:
            advice = f"its traceback: rolloom envs show {id} --debug"
            card.add("start", "fail", f"the environment cannot be reset: {told(error)}", advice)
            checks = {}
        for name, run in checks.items():
            try:
                run()
            except NotImplementedError:
                card.add(name, "warn", "needs an expert, and there is none", "write gold() or expert()")
            except Exception as error:
                card.add(name, "fail", f"the environment raised {told(error)}")
    finally:
        for env in list(made):
            env.close()
    card.seconds = round(time.monotonic() - started, 2)
    return card
