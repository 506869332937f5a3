"""Injects one bug into a program: the slips that people make, at a place drawn at random.

Whether a bug shows is for the caller to find out, by running the program with `minipy`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import numpy as np

Edit = Callable[[], None]
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mod,),
    ast.Mod: (ast.FloorDiv,),
}
SWAPPED_CALLS = {"max": "min", "min": "max", "any": "all", "all": "any", "sorted": "list"}
SUBTLE = ("boundary", "off by one", "wrong start")
"""Kinds that often show on few inputs only."""


def bugs(tree: ast.Module) -> Iterator[tuple[str, Edit]]:
    """Yield `(kind, edit)` for every bug that could be injected; an edit changes the tree in place."""
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        names = sorted(_names(function))
        for node in ast.walk(function):
            yield from _in_expression(node, names)
            yield from _in_body(node, function)


def _names(function: ast.FunctionDef) -> set[str]:
    found = {argument.arg for argument in function.args.args}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.For):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
    return found


def _setter(node: ast.AST, field: str, value: object) -> Edit:
    return lambda: setattr(node, field, value)


def _in_expression(node: ast.AST, names: list[str]) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            for other in COMPARISONS.get(type(op), ()):
                ops: list[ast.cmpop] = [*node.ops]
                ops[index] = other()
                boundary = {type(op), other} in ({ast.Lt, ast.LtE}, {ast.Gt, ast.GtE})
                yield "boundary" if boundary else "wrong comparison", _setter(node, "ops", ops)
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        for other in ARITHMETIC.get(type(node.op), ()):
            yield "wrong operator", _setter(node, "op", other())
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            yield "swapped operands", lambda: _swap(node, "left", "right")
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "wrong connective", _setter(node, "op", other_op)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "off by one", _setter(node, "value", node.value + 1)
        if node.value > 0:
            yield "off by one", _setter(node, "value", node.value - 1)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for name in names:
            if name != node.id:
                yield "wrong variable", _setter(node, "id", name)
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in SWAPPED_CALLS:
            yield "wrong function", _setter(node.func, "id", SWAPPED_CALLS[node.func.id])
        if len(node.args) >= 2 and not (isinstance(node.func, ast.Name) and node.func.id in ("min", "max")):
            yield "swapped arguments", _setter(node, "args", [node.args[1], node.args[0], *node.args[2:]])
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            end = node.args[-1] if len(node.args) < 2 else node.args[1]
            for op in (ast.Sub(), ast.Add()):
                changed = ast.BinOp(end, op, ast.Constant(1))
                arguments = [changed] if len(node.args) < 2 else [node.args[0], changed, *node.args[2:]]
                yield "off by one", _setter(node, "args", arguments)


def _swap(node: ast.AST, first: str, second: str) -> None:
    a, b = getattr(node, first), getattr(node, second)
    setattr(node, first, b)
    setattr(node, second, a)


def _in_body(node: ast.AST, function: ast.FunctionDef) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.If):
        yield "negated condition", _setter(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and type(node.value.value) is int
    ):
        yield "wrong start", _setter(node, "value", ast.Constant(1 - min(node.value.value, 1)))
    if node is function and len(function.body) > 1:
        for index, statement in enumerate(function.body[:-1]):
            # Steps of the form `x = step(x)`: every chain has one, so every program can be broken.
            if isinstance(statement, ast.Assign) and _reads_its_target(statement):
                rest = [*function.body[:index], *function.body[index + 1 :]]
                yield "missing step", _setter(function, "body", rest)
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if not isinstance(body, list):
            continue
        for index, statement in enumerate(body):
            rest = [*body[:index], *body[index + 1 :]]
            if isinstance(statement, ast.If) and isinstance(statement.body[0], ast.Return) and rest:
                if not statement.orelse:
                    kind = "missing base case" if node is function else "missing case"
                    yield kind, _setter(node, field, rest)
            elif rest and (
                isinstance(statement, ast.AugAssign | ast.Expr)
                or (isinstance(statement, ast.Assign) and node is not function)
            ):
                yield "missing statement", _setter(node, field, rest)


def _reads_its_target(statement: ast.Assign) -> bool:
    target = statement.targets[0]
    names = {name.id for name in ast.walk(statement.value) if isinstance(name, ast.Name)}
    return isinstance(target, ast.Name) and target.id in names


def inject(
    source: str, rng: np.random.Generator, subtle: bool = False, kinds: tuple[str, ...] = ()
) -> tuple[str, str] | None:
    """Return `(kind, program)` with one more bug, or None where there is no place for one.

    Args:
        source: the program.
        rng: draws the kind of bug, then its place, so that no kind drowns the others.
        subtle: only kinds of `SUBTLE`.
        kinds: only these kinds; () for all.
    """
    by_kind: dict[str, list[Edit]] = {}
    tree = ast.parse(source)
    for kind, edit in bugs(tree):
        if (not subtle or kind in SUBTLE) and (not kinds or kind in kinds):
            by_kind.setdefault(kind, []).append(edit)
    if not by_kind:
        return None
    kind = sorted(by_kind)[int(rng.integers(len(by_kind)))]
    edits = by_kind[kind]
    edits[int(rng.integers(len(edits)))]()
    ast.fix_missing_locations(tree)
    return kind, tidy(tree)


def tidy(tree: ast.Module) -> str:
    """Return a tree as text, laid out as references are."""
    parts = [ast.unparse(node) for node in tree.body]
    return "\n\n\n".join(parts)
