"""Write a message that a judge grades by a rubric, item by item."""

from __future__ import annotations

from rolloom.envs.judge.judged import Judged
from rolloom.envs.judge.models import Item
from rolloom.envs.judge.rules import score


class Rubric(Judged):
    """Write a message from notes; a judge says yes or no to each item of a rubric.

    The reward is the weighted share of the items that are true: 2 for each fact told, 1 for the signature,
    1 for the order. It is 0 when the greeting is missing, the message is too long, or something private is
    told. Each item's verdict is a component; `judged_by_rules` or `judged_by_model` says who judged. A
    judge that cannot be reached, or whose verdict cannot be read, makes the rollout an `env_error`, never a
    reward of 0.

    By default a program judges (`judge="rules"`), which needs no model. `judge="openai:URL#MODEL"` asks a
    model; what it judges is quoted between random marks.

    | level | facts to tell | facts to keep | order |
    |---|---|---|---|
    | 1 | 2 | 1 | any |
    | 5 | 4 | 2 | given |
    | 10 | 9 | 3 | given |

    Args:
        judge: `rules`; `openai:URL#MODEL` (`&key=VARIABLE` names the variable with the API key); or
            `python:MODULE:NAME` of a coroutine function `(messages, seed) -> text` around any engine.
        votes: times a model is asked; the majority counts.
        temperature: of the judge's model; by default 0, and 0.7 with several votes.
        max_tokens: tokens that a verdict may take.
        judge_deadline_s: seconds for each question to the model.
    """

    async def verdict(self, items: list[Item], answer: str) -> tuple[float, dict[str, float]]:
        """Return the weighted share of the items that the judge finds true."""
        held = await self.judge.items(self.prompt()[0]["content"], items, answer)
        reward = score([(yes, item.weight, item.must) for yes, item in zip(held, items, strict=True)])
        parts = {
            f"item_{number}_{next(iter(item.rule))}": float(yes)
            for number, (yes, item) in enumerate(zip(held, items, strict=True), 1)
        }
        return reward, parts
