"""What the room `knowledge` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "knowledge/multiple_choice-v0",
        "rolloom.envs.knowledge.multiple_choice:MultipleChoice",
        "knowledge",
        "choose one of ten options that facts in the question decide",
    ),
    EnvSpec(
        "knowledge/questions-v0",
        "rolloom.envs.knowledge.questions:Questions",
        "knowledge",
        "multiple-choice questions of a data set (MMLU-style rows), several at once",
    ),
    EnvSpec(
        "knowledge/dates-v0",
        "rolloom.envs.knowledge.dates:Dates",
        "knowledge",
        "reckon with dates, weekdays and working days; exact answers",
    ),
    EnvSpec(
        "knowledge/table_qa-v0",
        "rolloom.envs.knowledge.table_qa:TableQA",
        "knowledge",
        "filter, join, group and order tables in the prompt; exact answers",
    ),
)
