"""What the room `judge` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "judge/rubric-v0",
        "rolloom.envs.judge.rubric:Rubric",
        "judge",
        "write a message that a judge (rules, or a model behind an endpoint) grades by a rubric",
    ),
    EnvSpec(
        "judge/pairwise-v0",
        "rolloom.envs.judge.pairwise:Pairwise",
        "judge",
        "write a message that a judge compares with a reference, in both orders",
    ),
    EnvSpec(
        "judge/verdict-v0",
        "rolloom.envs.judge.verdict:Verdict",
        "judge",
        "be the judge: say which of several worked solutions are right",
    ),
)
