r"""Is this answer right? Equality of mathematical answers written by an untrusted hand.

    same_answer(r"\boxed{\frac{6}{4}}", "1.5")  # True

Numbers, quantities, sets, tuples and intervals of numbers are compared here, exactly. Expressions and
equations go to math-verify, which runs in confined processes that are killed at a deadline (`verifier.py`).
An answer must be worked out: `2^{10}` is not the number 1024, and an integral sign answers nothing.
"""

from __future__ import annotations

from rolloom.envs.math import notation, shapes
from rolloom.envs.math.notation import MAX_CHARS, Unreadable, normal_form
from rolloom.envs.math.shapes import Shape
from rolloom.envs.math.units import quantity, without_unit
from rolloom.envs.math.verifier import shared
from rolloom.envs.types import AssistantTurn

__all__ = ["ANSWER_FORM", "final_answer", "final_text", "same_answer"]

ANSWER_FORM = "Finish with the answer alone, or put it in \\boxed{}."
"""What to tell a policy about the form of an answer."""

_BOXES = ("\\boxed", "\\fbox")
MAX_CONTENT = 200_000
MAX_EXPONENT = 100
"""Largest number in an exponent of an answer, unless the expected one has a larger."""

MAX_SYMBOLIC = 8
"""Elements of a set of which some are no numbers: each is compared with each by math-verify."""


def final_answer(turn: AssistantTurn) -> str | None:
    """Return the final answer of a turn, or None: malformed, a tool call, or nothing said."""
    return None if turn.malformed or turn.tool_calls else final_text(turn.content)


def final_text(content: str) -> str | None:
    r"""Return what stands in the last `\boxed{...}`, or the whole content where there is none.

    None when the last box does not close, or when the answer is empty or longer than `MAX_CHARS`.
    """
    content = content[:MAX_CONTENT]
    start, opening = max((content.rfind(name + "{"), name + "{") for name in _BOXES)
    if start < 0:
        boxless = all(name not in content for name in _BOXES)
        answer = content.strip()
        return answer if boxless and 0 < len(answer) <= MAX_CHARS else None
    start += len(opening)
    depth, escaped = 1, False
    for position in range(start, min(len(content), start + MAX_CHARS + 1)):
        character = content[position]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return content[start:position].strip() or None
    return None


def same_answer(answer: str | None, expected: str) -> bool:
    """Return True when an answer is the expected one.

    Args:
        answer: untrusted text: a final answer, or a content with a box in it; None is never right.
        expected: the right answer: a number, quantity, expression, equation, set, tuple, list, interval or
            word. A list without brackets is compared in any order; a tuple in its order.

    Raises:
        EnvError: the expected answer cannot be read, or the machine is too busy to tell.
        SandboxError: the verifier does not work.
    """
    told = final_text(answer) if answer else None
    if told is None:
        return False
    gold = final_text(expected) or expected
    if told.casefold() == gold.strip().casefold():
        return True
    try:
        right = normal_form(gold)
    except Unreadable:
        return False
    try:
        given = normal_form(told)
    except Unreadable:
        return False
    return _match(shapes.read(right), shapes.read(given))


def _match(expected: Shape, answer: Shape) -> bool:
    if expected.text == answer.text:
        return True
    if expected.kind == "scalar" and expected.text != "\\R" and expected.text != "\\emptyset":
        if answer.kind == "scalar":
            return _same_scalar(expected.text, answer.text)
        # An inequality may be answered by its interval.
        area = shapes.region(expected)
        return area is not None and area == shapes.region(answer)
    if expected.kind == "list":
        assigned = _assignments(expected), _assignments(answer)
        if all(assigned):
            return _in_order(*assigned)
        return answer.kind in ("list", "set") and _in_any_order(expected.items, answer.items)
    if expected.kind == "set" and answer.kind in ("set", "list"):
        return _in_any_order(expected.items, answer.items)
    if expected.kind == "tuple":
        if answer.kind == "tuple" and answer.brackets == expected.brackets:
            return _in_order(expected.items, answer.items)
        if answer.kind == "list" and expected.brackets == "()":
            return _in_order(expected.items, _assignments(answer) or answer.items)
    areas = shapes.region(expected), shapes.region(answer)
    if areas[0] is not None and areas[1] is not None:
        return areas[0] == areas[1]
    same_kind = expected.kind == answer.kind and len(expected.items) == len(answer.items)
    return same_kind and expected.kind in ("union", "difference") and all(
        map(_match, expected.items, answer.items)
    )  # fmt: skip


def _assignments(shape: Shape) -> tuple[Shape, ...]:
    """Return the values of `x=1, y=2` in the order of their names; () when an item is no assignment."""
    named = [(*shapes.assigned(item.text), item) for item in shape.items if item.kind == "scalar"]
    if not named or len(named) < len(shape.items) or not all(name for name, *_ in named):
        return ()
    if len({name for name, *_ in named}) < len(named):
        return ()
    # The fourth unknown after x, y and z is called w.
    last = "w" if {"x", "y", "z"} <= {name for name, *_ in named} else ""
    ordered = sorted(named, key=lambda entry: (entry[0] == last, entry[0]))
    return tuple(Shape("scalar", value) for _, value, _ in ordered)


def _in_order(expected: tuple[Shape, ...], answer: tuple[Shape, ...]) -> bool:
    return len(expected) == len(answer) <= shapes.MAX_ITEMS and all(map(_match, expected, answer))


def _in_any_order(expected: tuple[Shape, ...], answer: tuple[Shape, ...]) -> bool:
    if max(len(expected), len(answer)) > shapes.MAX_ITEMS:
        return False
    wanted, values = [quantity(item.text) for item in expected], [quantity(item.text) for item in answer]
    if None not in wanted:
        # Exact numbers: one look at each, and repeated elements are one element.
        gold, told = [want for want in wanted if want], [value for value in values if value]
        return (
            len(told) == len(values)
            and all(any(value.answers(want) for value in told) for want in gold)
            and all(any(value.answers(want) for want in gold) for value in told)
        )
    if max(len(expected), len(answer)) > MAX_SYMBOLIC or len(expected) != len(answer):
        return False
    left = list(answer)
    for want in expected:
        found = next((item for item in left if _match(want, item)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_scalar(expected: str, answer: str) -> bool:
    name, value = shapes.assigned(expected)
    given_name, given = shapes.assigned(answer)
    if name and given_name and name != given_name:
        return False
    whole = answer if "=" in given else given
    if "=" not in value and "=" not in given:
        expected, answer = value, given
    elif not name:
        answer = whole
    want, told = quantity(expected), quantity(answer)
    if want is not None and told is not None:
        return told.answers(want)
    if want is not None and not (want.unit and notation.is_expression(expected)):
        return False
    (expected, unit), (answer, told_unit) = without_unit(expected), without_unit(answer)
    if (unit and told_unit and unit != told_unit) or (told_unit == "%") != (unit == "%"):
        return False
    areas = [shapes.region(Shape("scalar", text)) for text in (expected, answer)]
    if None not in areas:
        return areas[0] == areas[1] and shapes.symbols(expected) == shapes.symbols(answer)
    if not notation.is_expression(expected):
        return _words(expected) == _words(answer)
    if not notation.is_expression(answer):
        return False
    if not notation.evaluators(answer) <= notation.evaluators(expected):
        return False
    unknown, named = notation.symbols(expected), notation.symbols(answer)
    if not named <= unknown or (unknown and not named):
        return False
    if notation.largest_exponent(answer) > max(MAX_EXPONENT, notation.largest_exponent(expected)):
        return False
    return shared().equal(notation.exact_decimals(expected), notation.exact_decimals(answer))


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
