"""A made-up world in short documents, and chains of facts through it, for `tools/search-v0`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rolloom.envs.tools.call_kinds import FIRST, pick

STARTS = ("Nor", "Al", "Bre", "Cor", "Dun", "El", "Far", "Gal", "Hol", "Is", "Kel", "Lor", "Mar", "Os", "Pel")
MIDDLES = ("a", "ve", "mi", "ta", "so", "ri", "len", "do", "ka", "bu", "na", "ster", "wi", "fo", "che")
ENDS = ("dale", "wick", "ton", "mere", "stad", "by", "ford", "holm", "nes", "mond", "gard", "field", "port")

QUALIFIERS = {
    "person": ("glass blower", "violinist", "botanist", "pilot", "baker", "judge", "surgeon", "potter"),
    "company": ("paper company", "brewing company", "shipping company", "toy company", "salt company"),
    "town": ("coastal town", "mining town", "market town", "garrison town", "spa town"),
    "river": ("northern river", "southern river", "eastern river", "western river"),
    "mountain": ("snowy mountain", "rocky mountain", "wooded mountain", "volcanic mountain"),
    "book": ("novel", "atlas", "cookbook", "memoir", "poetry book"),
}
SHARES = (
    ("person", 0.34),
    ("company", 0.2),
    ("town", 0.2),
    ("river", 0.08),
    ("mountain", 0.07),
    ("book", 0.11),
)
HOBBIES = ("sailing", "chess", "beekeeping", "climbing", "fencing", "embroidery", "rowing", "astronomy")

LINKS = {
    "person": {"home": "town", "employer": "company"},
    "company": {"seat": "town", "head": "person"},
    "town": {"river": "river", "mayor": "person"},
    "river": {"source": "mountain"},
    "mountain": {},
    "book": {"author": "person", "publisher": "company"},
}
"""Kind -> the relations of its entities, and the kinds that these lead to."""

NUMBERS = {
    "person": ("licence", 10_000, 99_999),
    "company": ("founding", 1_650, 2_000),
    "town": ("population", 1_000, 900_000),
    "river": ("length", 100, 999),
    "mountain": ("height", 400, 4_900),
    "book": ("pages", 100, 999),
}
MARKS = {
    "home": "comes from ",
    "employer": "works for ",
    "seat": "has its seat in ",
    "head": "is led by ",
    "river": "lies on ",
    "mayor": "has as its mayor ",
    "source": "rises at ",
    "author": "was written by ",
    "publisher": "was published by ",
    "licence": "holds the licence number ",
    "founding": "was founded in the year ",
    "population": "has a population of ",
    "length": "has a length in kilometres of ",
    "height": "has a height in metres of ",
    "pages": "has a number of pages of ",
}
"""Fact -> what stands before its value in a document."""

ASKED = {
    "home": "the town that {} comes from",
    "employer": "the company that {} works for",
    "seat": "the town where {} has its seat",
    "head": "the person who leads {}",
    "river": "the river that {} lies on",
    "mayor": "the mayor of {}",
    "source": "the mountain where {} rises",
    "author": "the author of {}",
    "publisher": "the publisher of {}",
    "licence": "the licence number of {}",
    "founding": "the founding year of {}",
    "population": "the population of {}",
    "length": "the length in kilometres of {}",
    "height": "the height in metres of {}",
    "pages": "the number of pages of {}",
}
"""Fact -> how a question names its value."""


@dataclass(slots=True)
class Entity:
    """Something with a document.

    Attributes:
        kind: person, company, town ...
        qualifier: what tells it from its namesakes.
        name: shared with them.
        facts: fact -> value in words.
        links: relation -> the entity that it leads to.
    """

    kind: str
    qualifier: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)
    links: dict[str, Entity] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """How documents and questions name it."""
        return f"the {self.qualifier} {self.name}"


def make_world(rng: np.random.Generator, count: int, namesakes: float) -> list[Entity]:
    """Return entities that refer to each other.

    Args:
        rng: source of chance.
        count: about how many.
        namesakes: share of the entities that have their name from another one of their kind.
    """
    world: dict[str, list[Entity]] = {}
    for kind, share in SHARES:
        taken: dict[str, list[str]] = {}
        world[kind] = []
        for _ in range(max(4, round(count * share))):
            shared = [n for n, used in taken.items() if len(used) < len(QUALIFIERS[kind]) - 1]
            name = pick(rng, shared) if shared and rng.random() < namesakes else _name(rng, kind)
            free = [q for q in QUALIFIERS[kind] if q not in taken.get(name, ())]
            if not free:
                continue
            qualifier = pick(rng, free)
            taken.setdefault(name, []).append(qualifier)
            world[kind].append(Entity(kind, qualifier, name))
    for kind, entities in world.items():
        number, low, high = NUMBERS[kind]
        for entity in entities:
            entity.facts[number] = str(int(rng.integers(low, high)))
            for relation, other in LINKS[kind].items():
                entity.links[relation] = world[other][int(rng.integers(len(world[other])))]
                entity.facts[relation] = entity.links[relation].said
    return [entity for entities in world.values() for entity in entities]


def _name(rng: np.random.Generator, kind: str) -> str:
    word = pick(rng, STARTS) + pick(rng, MIDDLES) + pick(rng, ENDS)
    if kind == "person":
        return f"{pick(rng, FIRST)} {word}"
    if kind == "company":
        return f"{word} {pick(rng, ('Works', 'Brothers', 'Trading', 'Union'))}"
    if kind == "book":
        return f"{pick(rng, ('Return to', 'Songs of', 'Below', 'Winter in'))} {word}"
    return word


def documents(rng: np.random.Generator, world: list[Entity], split: bool, clear: bool) -> list[list[str]]:
    """Return documents as title and text, in random order.

    Args:
        rng: source of chance.
        world: what they are about.
        split: the facts of an entity stand in two documents.
        clear: titles tell namesakes apart.
    """
    made = []
    for entity in world:
        facts = [MARKS[name] + value for name, value in entity.facts.items()]
        if entity.kind == "person":
            facts.append(f"likes {pick(rng, HOBBIES)}")
        facts = [facts[int(i)] for i in rng.permutation(len(facts))]
        half = len(facts) // 2 if split and len(facts) > 1 else len(facts)
        for part in filter(None, (facts[:half], facts[half:])):
            rest = "".join(f" {entity.name} {fact}." for fact in part[1:])
            title = f"{entity.name} ({entity.qualifier})" if clear else entity.name
            made.append([title, f"The {entity.said[4:]} {part[0]}.{rest}"])
    return [made[int(i)] for i in rng.permutation(len(made))]


def chain(rng: np.random.Generator, world: list[Entity], hops: int) -> tuple[Entity, list[str], str] | None:
    """Return a start, the facts to follow (the last one a number) and the answer; None for a dead end."""
    start = here = world[int(rng.integers(len(world)))]
    facts: list[str] = []
    for _ in range(hops - 1):
        relations = sorted(here.links)
        if not relations:
            return None
        facts.append(pick(rng, relations))
        here = here.links[facts[-1]]
    facts.append(NUMBERS[here.kind][0])
    return start, facts, here.facts[facts[-1]]


def question(start: str, facts: list[str]) -> str:
    """Return a chain in words, e.g. `the population of the town that the pilot Ana Norvedale comes from`."""
    words = start
    for fact in facts:
        words = ASKED[fact].format(words)
    return words


def read(text: str, fact: str) -> str | None:
    """Return the value of a fact that a document states."""
    _, found, rest = text.partition(MARKS[fact])
    return rest.partition(".")[0] if found else None
