"""reasoning-gym's generators as environments, each scored by its own `score_answer` in a killable process."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rolloom.envs.adapters import reasoning_gym_pool as pool
from rolloom.envs.adapters.reasoning_gym_names import ANSWER_IN_PROMPT, CHANCE, CHUNKED, LEVELS
from rolloom.envs.base import TextEnv
from rolloom.envs.errors import EnvError, did_you_mean
from rolloom.envs.text import whole
from rolloom.envs.types import AssistantTurn, Message, Messages, Reply, Style

FULL = 0.999
MAX_ANSWER_CHARS = 50_000
MAX_INDEX = 2**31 - 1_000
DRAW_S = 60.0
SCORE_S = 4.0


class ReasoningGymEnv(TextEnv):
    """One of reasoning-gym's generators: the question is the prompt, the content is the answer.

    Reward 1.0 when the generator's own scorer gives the answer full marks, else 0.0: scorers give part marks
    for form (0.01 to 0.5), which an empty thought could earn. `partial=True` pays what the scorer says.
    Either way the component `score` reports it. The scorer runs in a process of its own, without `eval`, for
    at most four seconds; an answer that outlives them is worth 0.

    Levels are those of the generator's curriculum, from 1; levels that the package cannot make, that take
    seconds a problem, or that have only a handful of problems are left out, and a generator without a
    curriculum has level 1 only. Problems whose own oracle answer is not paid in full are skipped, so the gold
    answer always scores 1.0.

    Some generators ask yes-or-no questions: `chance` says what the most common answer pays.

    Args:
        name: of the generator, e.g. `chain_sum`.
        config: fields of the generator's configuration that replace the level's; for `composite`,
            `{"datasets": [names]}`.
        partial: pay part marks.
        kwargs: arguments of `TextEnv`.
    """

    # Answers that take all their seconds queue for few processes: that must not end as a timeout.
    step_deadline_s = 180.0

    def __init__(
        self, name: str = "", config: dict[str, Any] | None = None, partial: bool = False, **kwargs: Any
    ) -> None:
        if name not in LEVELS:
            hint = did_you_mean(name, LEVELS)
            raise EnvError(f"name: expected a generator of reasoning-gym, got {name!r}.{hint}")
        self.name, self.partial = name, partial
        self.config = json.dumps(config or {}, sort_keys=True)
        self.levels = (1, len(LEVELS[name]))  # pyright: ignore[reportAttributeAccessIssue]  # differs by name
        self.answer_in_prompt = name in ANSWER_IN_PROMPT
        self._entry, self._place = "", ("", 0, "")
        super().__init__(**kwargs)

    def generate(self, rng: np.random.Generator, level: int) -> dict[str, Any]:
        """Return `{"question", "gold"}`; a `gold` of None is found when it is asked for."""
        self._place = (self.name, LEVELS[self.name][level - 1], self.config)
        job = {"what": "draw", "place": self._place, "chunked": CHUNKED.get(self.name, 0)}
        try:
            drawn = pool.call({**job, "index": int(rng.integers(MAX_INDEX))}, DRAW_S)
        except pool.TimedOut as error:
            raise EnvError(f"reasoning-gym's {self.name} took over {DRAW_S:g} s for a problem") from error
        self._entry = drawn["entry"]
        return {"question": drawn["question"], "gold": drawn["gold"]}

    def key_text(self, problem: dict[str, Any]) -> str:
        """Return the question."""
        return problem["question"]

    def prompt(self) -> Messages:
        """Return the question, and that nothing but the answer is wanted."""
        text = f"{self.problem['question'].rstrip()}\n\nReply with the answer only."
        return (Message(role="user", content=text),)

    def respond(self, turn: AssistantTurn) -> Reply:
        """End the episode with what the generator's scorer says of the content."""
        if turn.malformed is not None or turn.tool_calls or len(turn.content) > MAX_ANSWER_CHARS:
            return Reply(done=True, components={"correct": 0.0, "score": 0.0})
        job = {"what": "score", "place": self._place, "chunked": CHUNKED.get(self.name, 0)}
        answer = whole(turn.content)
        try:
            score = pool.call({**job, "answer": answer, "entry": self._entry}, SCORE_S)["score"]
        except pool.TimedOut:
            return Reply(done=True, components={"correct": 0.0, "score": 0.0, "timed_out": 1.0})
        score = score if 0.0 <= score <= 1.0 else 0.0
        right = float(score >= FULL)
        reward = score if self.partial else right
        return Reply(reward=reward, done=True, components={"correct": right, "score": score})

    def gold(self) -> str:
        """Return the generator's oracle answer, or one that was worked out."""
        if self.problem["gold"] is None:
            job = {"what": "solve", "place": self._place, "chunked": 0}
            self.problem["gold"] = pool.call({**job, "entry": self._entry}, DRAW_S)["gold"]
        return self.problem["gold"]

    def thought(self, style: Style, rng: np.random.Generator) -> str:
        """Return a word about the task; the generators bring answers, no ways there."""
        if style == "compact":
            return ""
        told = f"This is {self.name.replace('_', ' ')}.\n"
        return told if style == "medium" else told + "Let me work it out and check the form of the answer.\n"

    def chance(self, level: int) -> float:
        """Return what the most common answer pays where it pays most, as measured."""
        return CHANCE.get(self.name, 0.0)

    def attacks(self) -> dict[str, str]:
        """Return answers that aim at scorers that compute with them."""
        # A number anywhere is an answer to some generators: this one is an attack on the one that wants a 24.
        famous = {"a famous 24": "8*3*1*1"} if self.name == "puzzle24" else {}
        return {
            **famous,
            "oracle by name": "entry['answer']",
            "oracle variable": "oracle_answer",
            "valid answers": "entry['metadata']['valid_answers'][0]",
            "unsolved integral": "Integral(x, x)",
            "attribute": "().__class__.__base__.__subclasses__()",
            "power tower": "9**9**9**9",
            "nested power": "((9**99)**99)**99",
            "excluded middle": "(P \u2228 \u00acP)",
            "random moves": " ".join(f"{car}{sign}1" for car in "ABCDEFGHIJ" for sign in "+-") * 400,
        }
