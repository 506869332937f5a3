"""Specifications of levels 7 to 10: a list of integers drives registers through numbered, interacting rules.

A specification is `{"family": "machine", "params": ["v"], "start": {register: number}, "modulus",
"backwards", "rules": [{"if": [condition, ...], "do": action}], "order": printed order of the rules}`.
Besides the conditions of the arithmetic family, a rule may ask whether an earlier rule fired for this
number (`fired`) or for the number before (`before`). Actions: `change` a register, `swap` two, `skip`
the later rules for this number, `ignore` the next number, `restore` a register to what it was when the
number came. The function returns all registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rolloom.envs.code import arithmetic

RULES = {7: 3, 8: 5, 9: 9, 10: 15}
REGISTERS = {7: ("a", "b"), 8: ("a", "b", "c"), 9: ("a", "b", "c"), 10: ("a", "b", "c", "d")}
MODULUS = 997
CHANGES = ("add", "subtract", "multiply")


def generate(rng: np.random.Generator, level: int) -> dict[str, Any]:
    """Draw a specification of level 7 to 10."""
    registers, count = REGISTERS[level], RULES[level]
    rules = [
        {"if": _conditions(rng, level, i, registers), "do": _action(rng, level, registers)}
        for i in range(count)
    ]
    order = [int(i) for i in rng.permutation(count)] if level >= 9 else list(range(count))
    return {
        "family": "machine",
        "params": ["v"],
        "start": {name: int(rng.integers(0, 10)) for name in registers},
        "modulus": MODULUS,
        "backwards": bool(level >= 9 and rng.random() < 0.5),
        "rules": rules,
        "order": order,
    }


def _conditions(
    rng: np.random.Generator, level: int, index: int, registers: tuple[str, ...]
) -> list[list[Any]]:
    if level >= 8 and rng.random() < 0.5:
        # A register is never negative, and after a few changes it is anywhere below the modulus.
        conditions = [arithmetic.draw_condition(rng, registers, MODULUS // 2, ("even", "over", "divides"))]
    else:
        conditions = [arithmetic.draw_condition(rng, ("x",), 9)]
    if level >= 8 and index and rng.random() < 0.4:
        kind = ("fired", "before")[int(rng.integers(2))]
        conditions.append([kind, int(rng.integers(index)), bool(rng.integers(2))])
    return conditions


def _action(rng: np.random.Generator, level: int, registers: tuple[str, ...]) -> list[Any]:
    draw = rng.random()
    first, second = (registers[int(i)] for i in rng.permutation(len(registers))[:2])
    if level >= 8 and draw < 0.15:
        return ["swap", first, second]
    if level >= 9 and draw < 0.35:
        return [("skip", "ignore", "restore")[int(rng.integers(3))], first]
    return ["change", first, arithmetic.draw_operations(rng, 1 + int(level >= 9), CHANGES, 9, ("x", second))]


def _condition_phrase(condition: list[Any]) -> str:
    kind, rule, wanted = condition
    if kind == "fired":
        return f"rule {rule + 1} {'fired' if wanted else 'did not fire'} for x"
    if kind == "before":
        return f"rule {rule + 1} {'fired' if wanted else 'did not fire'} for the number handled before x"
    return arithmetic.condition_phrase(condition)


def _action_phrase(action: list[Any]) -> str:
    if action[0] == "change":
        return f"change {action[1]}: {', then '.join(map(arithmetic.phrase, action[2]))}"
    return {
        "swap": "swap {1} and {2}",
        "skip": "skip the later rules for x",
        "ignore": "ignore the next number, no rule fires for it",
        "restore": "set {1} back to what it was when x came",
    }[action[0]].format(*action)


def describe(spec: dict[str, Any]) -> str:
    """Return the specification in words."""
    start = ", ".join(f"{name}={number}" for name, number in spec["start"].items())
    text = f"v is a list of integers. start with {start}. for each x in v, "
    if spec["backwards"]:
        text += "the last one first, "
    text += f"apply the rules by number; after each change take the register modulo {spec['modulus']}.\n"
    for index in spec["order"]:
        conditions = " and ".join(map(_condition_phrase, spec["rules"][index]["if"]))
        text += f"rule {index + 1}: if {conditions}, {_action_phrase(spec['rules'][index]['do'])}.\n"
    if any(condition[0] == "before" for rule in spec["rules"] for condition in rule["if"]):
        text += "an ignored number counts as handled; before the first number no rule has fired.\n"
    return text + f"return the list [{', '.join(spec['start'])}]"


def evaluate(spec: dict[str, Any], arguments: list[Any]) -> list[int]:
    """Return what the specified function returns."""
    registers = dict(spec["start"])
    before: set[int] = set()
    ignore = False
    for number in reversed(arguments[0]) if spec["backwards"] else arguments[0]:
        fired: set[int] = set()
        came_with = dict(registers)
        ignored, ignore = ignore, False
        for index, rule in enumerate([] if ignored else spec["rules"]):
            values = {**registers, "x": number}
            if not all(_holds(condition, values, fired, before) for condition in rule["if"]):
                continue
            fired.add(index)
            kind, name, *rest = rule["do"]
            if kind == "skip":
                break
            if kind == "ignore":
                ignore = True
            elif kind == "restore":
                registers[name] = came_with[name]
            elif kind == "swap":
                registers[name], registers[rest[0]] = registers[rest[0]], registers[name]
            else:
                for operation in rest[0]:
                    values[name] = arithmetic.apply(operation, values[name], values)
                registers[name] = values[name] % spec["modulus"]
        before = fired
    return list(registers.values())


def _holds(condition: list[Any], values: dict[str, int], fired: set[int], before: set[int]) -> bool:
    if condition[0] in ("fired", "before"):
        return (condition[1] in (fired if condition[0] == "fired" else before)) == condition[2]
    return arithmetic.holds(condition, values)


def _condition_code(condition: list[Any]) -> str:
    if condition[0] in ("fired", "before"):
        where = "now" if condition[0] == "fired" else "before"
        return f"{condition[1] + 1} {'in' if condition[2] else 'not in'} {where}"
    return arithmetic.condition_code(condition)


def _rule_lines(spec: dict[str, Any], index: int) -> list[str]:
    rule = spec["rules"][index]
    kind, name, *rest = rule["do"]
    lines = [f"now.add({index + 1})"] if _remembers(spec) else []
    if kind == "change":
        lines.append(f"{name}=({arithmetic.expression(rest[0], name)})%{spec['modulus']}")
    elif kind == "swap":
        lines.append(f"{name},{rest[0]}={rest[0]},{name}")
    else:
        lines.append({"skip": "break", "ignore": "ignore=True", "restore": f"{name}=old[{name!r}]"}[kind])
    condition = " and ".join(map(_condition_code, rule["if"]))
    return [f"if {condition}:", *(f"    {line}" for line in lines)]


def _remembers(spec: dict[str, Any]) -> bool:
    """Return whether any rule asks which rules fired."""
    return any(condition[0] in ("fired", "before") for rule in spec["rules"] for condition in rule["if"])


def body(spec: dict[str, Any]) -> list[str]:
    """Return the lines of a right function's body, with only the bookkeeping that its rules need."""
    names = list(spec["start"])
    kinds = {rule["do"][0] for rule in spec["rules"]}
    inner = [line for index in range(len(spec["rules"])) for line in _rule_lines(spec, index)]
    if kinds & {"skip", "ignore"}:
        loop = f"for _ in range({'0 if ignored else 1' if 'ignore' in kinds else '1'}):"
        inner = [loop, *(f"    {line}" for line in inner)]
    if "restore" in kinds:
        inner.insert(0, f"old=dict({', '.join(f'{name}={name}' for name in names)})")
    if "ignore" in kinds:
        inner.insert(0, "ignored,ignore=ignore,False")
    if _remembers(spec):
        inner = ["now=set()", *inner, "before=now"]
    lines = [f"{name}={number}" for name, number in spec["start"].items()]
    lines += ["before=set()"] if _remembers(spec) else []
    lines += ["ignore=False"] if "ignore" in kinds else []
    lines += [f"for x in {'reversed(v)' if spec['backwards'] else 'v'}:", *(f"    {line}" for line in inner)]
    return [*lines, f"return [{', '.join(names)}]"]


def steps(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Return `(what is asked, how it is written)` for each rule, in the order in which they apply."""
    found = []
    for index, rule in enumerate(spec["rules"]):
        conditions = " and ".join(map(_condition_phrase, rule["if"]))
        asked = f"rule {index + 1}: if {conditions}, {_action_phrase(rule['do'])}"
        found.append((asked, " ".join(line.strip() for line in _rule_lines(spec, index))))
    return found


def inputs(spec: dict[str, Any], rng: np.random.Generator) -> list[list[Any]]:
    """Draw test inputs; the first ones are edge cases."""
    sizes = (0, 1, 1, 2, 2, *(int(rng.integers(3, 16)) for _ in range(11)))
    return [[[int(number) for number in rng.integers(-20, 21, size=size)]] for size in sizes]
