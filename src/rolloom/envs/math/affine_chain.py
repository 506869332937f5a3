"""Follow a chain of affine maps modulo m: `mod 5: x=3; x=2x+1; x=4x+3; x=? number only`.

Every step has one right result, so the length of a correct trace is the writer's choice: the verbose expert
needs about 3.5 times the tokens of the medium one. The answer is one of m residues, so a
guess pays 1/m: 0.2 at level 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.base import TextEnv
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

MODULI = (5, 7, 11, 23, 97, 499, 4_999, 49_999, 299_993, 1_000_003)
"""Modulus of each level; primes, so that no map loses information and every residue stays equally likely."""

STEPS = ((2, 4), (3, 5), (4, 6), (5, 8), (7, 10), (10, 14), (15, 20), (22, 28), (32, 44), (48, 64))
"""Fewest and most steps of each level."""

SLIP = 0.1
"""Share of the verbose expert's steps that are first written wrong and then corrected by a check."""


class AffineChain(TextEnv):
    """Single-turn modular arithmetic with a scratchpad; reward 1.0 for the exact decimal answer, else 0.0."""

    max_turns = 1

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"m", "start", "steps": [[a, b], ...]}` for x -> a*x + b mod m, with 0 < a < m."""
        m, (fewest, most) = MODULI[level - 1], STEPS[level - 1]
        count = int(rng.integers(fewest, most + 1))
        steps = [[int(rng.integers(1, m)), int(rng.integers(m))] for _ in range(count)]
        return {"m": m, "start": int(rng.integers(m)), "steps": steps}

    def chance(self, level: int) -> float:
        """Return the share of any one residue."""
        return 1 / MODULI[level - 1]

    def prompt(self) -> Messages:
        """Return the chain as one short user message."""
        maps = "".join(f" x={a}x+{b};" for a, b in self.problem["steps"])
        text = f"mod {self.problem['m']}: x={self.problem['start']};{maps} x=? number only"
        return (Message(role="user", content=text),)

    def states(self) -> list[int]:
        """Return x before the first step and after every step."""
        xs = [self.problem["start"]]
        for a, b in self.problem["steps"]:
            xs.append((a * xs[-1] + b) % self.problem["m"])
        return xs

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode: the content must be exactly the last x's canonical digits, with no tool call."""
        right = not turn.tool_calls and turn.content == str(self.states()[-1])
        return Reply(reward=float(right), done=True, components={"correct": float(right)})

    def expert(self, style: Style, rng: np.random.Generator) -> str:
        """Return a right solution; see `Style`. Slips of the verbose style are corrected within the trace."""
        xs = self.states()
        if style == "compact":
            text = " ".join(map(str, xs[1:]))
        elif style == "medium":
            text = " ".join(f"{self._work(i, x)};" for i, x in enumerate(xs[:-1]))
        else:
            text = self._verbose(xs, rng)
        return f"<think>\n{text}</think>\n{xs[-1]}"

    def _work(self, index: int, x: int, error: int = 0) -> str:
        """Return one worked step, `2*3+1=7=2`; `error` is added to the sum to write a slip."""
        (a, b), m = self.problem["steps"][index], self.problem["m"]
        total = a * x + b + error
        return f"{a}*{x}+{b}={total}={total % m}"

    def _verbose(self, xs: list[int], rng: np.random.Generator) -> str:
        """Return an over-reasoned trace; its parts are drawn independently, so that RL can drop each."""
        parts = []
        if rng.random() < 0.9:
            parts.append(f"mod {self.problem['m']}, start x={xs[0]}.")
        for i, x in enumerate(xs[:-1]):
            work = self._work(i, x)
            slipped = rng.random() < SLIP
            if slipped:
                wrong = self._work(i, x, error=int(rng.integers(1, 3)))
                parts.append(f"now {wrong}. wait, let me check: no, {work}.")
            else:
                parts.append(f"now {work}.")
            if not slipped and rng.random() < 0.6:
                parts.append(f"wait, let me check: {work}. that is right.")
            if rng.random() < 0.12:
                parts.append(f"check again: {work}. that is right.")
        if rng.random() < 0.9:
            parts.append(f"let me check all: {' '.join(map(str, xs))}. that is right.")
        parts.append(f"so x={xs[-1]}.")
        return " ".join(parts)
