"""An interpreter of a small part of Python, with a limit on the work done: nothing is handed to `exec`.

Reference programs and programs with an injected bug are computed with it where they are made: a bug may
make a loop endless or a number enormous, and here both end in `Exhausted`. It knows what the routines and the
generated programs use: functions, loops, conditionals, comprehensions, slices, integers, strings, lists,
tuples, dictionaries, sets, and the built-ins below. Anything else is `Unknown`.

A program is compiled once to closures; a value computed is the same as CPython's, as the tests check.
"""

from __future__ import annotations

import ast
import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_STEPS, MAX_DEPTH, MAX_BITS, MAX_LENGTH = 20_000, 40, 2_000, 50_000
Scope = dict[str, Any]
Code = Callable[[Scope], Any]

METHODS = {
    list: {"append", "pop", "extend", "insert", "index", "count", "sort", "reverse", "remove", "copy"},
    str: {"split", "join", "upper", "lower", "replace", "strip", "count", "find", "isdigit", "isalpha",
          "index", "startswith", "endswith", "swapcase", "title", "isupper", "islower"},
    dict: {"get", "items", "keys", "values", "setdefault", "pop", "update"},
    set: {"add", "discard", "remove"},
    tuple: {"count", "index"},
}  # fmt: skip
OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.RShift: operator.rshift,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}  # fmt: skip


class Unknown(Exception):
    """The program uses something that this interpreter does not know."""


class Exhausted(Exception):
    """The program does more work, nests deeper or makes larger values than allowed."""


class _Return(Exception):
    pass


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


def _sized(value: Any) -> Any:
    """Return a value that is not too large to go on with."""
    if type(value) is int:
        if value.bit_length() > MAX_BITS:
            raise Exhausted("a number grew too large")
    elif isinstance(value, str | list | tuple) and len(value) > MAX_LENGTH:
        raise Exhausted("a value grew too long")
    return value


class Program:
    """A program ready to run.

    Args:
        source: its text; trusted to be ours, but not to end.
        max_steps: statements, calls and iterations that one run may take.

    Attributes:
        printed: what the program has printed, line by line, since the last `call` or `run`.

    Raises:
        Unknown: it uses something outside the known part of Python.
    """

    def __init__(self, source: str, max_steps: int = MAX_STEPS) -> None:
        self.max_steps, self._left, self._depth = max_steps, max_steps, 0
        self.printed: list[str] = []
        self._functions: Scope = {}
        self._builtins: Scope = {
            "len": len, "range": self._range, "sum": self._sum, "min": min, "max": max, "abs": abs,
            "sorted": lambda items, **how: sorted(self._counted(items), **how), "reversed": reversed,
            "enumerate": enumerate, "zip": zip, "str": lambda value="": _sized(str(value)), "int": int,
            "list": lambda items=(): list(self._counted(items)), "dict": dict,
            "tuple": lambda items=(): tuple(self._counted(items)),
            "set": lambda items=(): set(self._counted(items)),
            "bool": bool, "any": lambda items: any(self._counted(items)),
            "all": lambda items: all(self._counted(items)), "ord": ord, "chr": chr, "divmod": divmod,
            "print": self._print, "bisect_left": bisect_left, "True": True, "False": False, "None": None,
        }  # fmt: skip
        self._main = [self._statement(node) for node in ast.parse(source).body]

    def run(self, after: Callable[[int, Scope], None] | None = None) -> list[str]:
        """Run the program from the top; return the lines it prints.

        Args:
            after: told the index of each statement at the top as it is done, and the variables.

        Raises:
            Exhausted: it takes too long.
            Exception: whatever the program raises.
        """
        self._left, self._depth, self.printed, self._functions = self.max_steps, 0, [], {}
        for index, statement in enumerate(self._main):
            statement(self._functions)
            if after is not None:
                after(index, self._functions)
        return self.printed

    def call(self, name: str, *arguments: Any) -> Any:
        """Run the program, then call one of its functions; raises as `run` does."""
        self.run()
        return self._functions[name](*arguments)

    # -- limits ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Exhausted(f"took more than {self.max_steps} steps")

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._tick()
            yield item

    def _range(self, *arguments: int) -> range:
        found = range(*arguments)
        if not -MAX_LENGTH <= len(found) <= MAX_LENGTH:
            raise Exhausted("a range is too long")
        return found

    def _sum(self, items: Iterable[Any], start: Any = 0) -> Any:
        for item in self._counted(items):
            start = _sized(start + item)
        return start

    def _print(self, *values: Any, sep: str = " ") -> None:
        self.printed.append(_sized(sep.join(map(str, values))))

    # -- statements ------------------------------------------------------------------------------------------

    def _block(self, nodes: list[ast.stmt]) -> Callable[[Scope], None]:
        statements = [self._statement(node) for node in nodes]
        tick = self._tick

        def run(scope: Scope) -> None:
            for statement in statements:
                tick()
                statement(scope)

        return run

    def _statement(self, node: ast.stmt) -> Callable[[Scope], Any]:
        make = getattr(self, f"_do_{type(node).__name__}", None)
        if make is None:
            raise Unknown(type(node).__name__)
        return make(node)

    def _do_FunctionDef(self, node: ast.FunctionDef) -> Callable[[Scope], None]:
        if node.decorator_list or node.args.defaults or node.args.vararg or node.args.kwonlyargs:
            raise Unknown("parameters other than plain ones")
        names = [argument.arg for argument in node.args.args]
        body = self._block(node.body)

        def function(*arguments: Any) -> Any:
            if len(arguments) != len(names):
                raise TypeError(f"{node.name} takes {len(names)} arguments, got {len(arguments)}")
            self._tick()
            self._depth += 1
            try:
                if self._depth > MAX_DEPTH:
                    raise Exhausted("calls nest too deep")
                body(dict(zip(names, arguments, strict=True)))
            except _Return as returned:
                return returned.args[0]
            finally:
                self._depth -= 1

        return lambda scope: scope.__setitem__(node.name, function)

    def _do_Return(self, node: ast.Return) -> Callable[[Scope], None]:
        value = self._expression(node.value) if node.value else lambda scope: None

        def run(scope: Scope) -> None:
            raise _Return(value(scope))

        return run

    def _do_Assign(self, node: ast.Assign) -> Callable[[Scope], None]:
        value = self._expression(node.value)
        targets = [self._target(target) for target in node.targets]

        def run(scope: Scope) -> None:
            result = value(scope)
            for target in targets:
                target(scope, result)

        return run

    def _do_AugAssign(self, node: ast.AugAssign) -> Callable[[Scope], None]:
        combine = self._operation(node.op)
        value, target = self._expression(node.value), self._target(node.target)
        present = self._expression(node.target)

        def run(scope: Scope) -> None:
            old, new = present(scope), value(scope)
            if type(old) is list and isinstance(node.op, ast.Add):
                old.extend(new)  # as `+=` does, in place
                target(scope, _sized(old))
            else:
                target(scope, combine(old, new))

        return run

    def _do_For(self, node: ast.For) -> Callable[[Scope], None]:
        items, target, body = self._expression(node.iter), self._target(node.target), self._block(node.body)

        def run(scope: Scope) -> None:
            for item in self._counted(items(scope)):
                target(scope, item)
                try:
                    body(scope)
                except _Continue:
                    continue
                except _Break:
                    break

        return run

    def _do_While(self, node: ast.While) -> Callable[[Scope], None]:
        test, body = self._expression(node.test), self._block(node.body)

        def run(scope: Scope) -> None:
            while test(scope):
                self._tick()
                try:
                    body(scope)
                except _Continue:
                    continue
                except _Break:
                    break

        return run

    def _do_If(self, node: ast.If) -> Callable[[Scope], None]:
        test, body, other = self._expression(node.test), self._block(node.body), self._block(node.orelse)
        return lambda scope: body(scope) if test(scope) else other(scope)

    def _do_Expr(self, node: ast.Expr) -> Callable[[Scope], Any]:
        return self._expression(node.value)

    def _do_Pass(self, node: ast.Pass) -> Callable[[Scope], None]:
        return lambda scope: None

    def _do_ImportFrom(self, node: ast.ImportFrom) -> Callable[[Scope], None]:
        if node.module != "bisect" or [alias.name for alias in node.names] != ["bisect_left"]:
            raise Unknown(f"import from {node.module}")
        return lambda scope: None

    def _do_Break(self, node: ast.Break) -> Callable[[Scope], None]:
        return _raiser(_Break)

    def _do_Continue(self, node: ast.Continue) -> Callable[[Scope], None]:
        return _raiser(_Continue)

    def _target(self, node: ast.expr) -> Callable[[Scope, Any], None]:
        if isinstance(node, ast.Name):
            name = node.id
            return lambda scope, value: scope.__setitem__(name, value)
        if isinstance(node, ast.Subscript):
            owner, key = self._expression(node.value), self._expression(node.slice)
            return lambda scope, value: operator.setitem(owner(scope), key(scope), value)
        if isinstance(node, ast.Tuple):
            targets = [self._target(item) for item in node.elts]

            def unpack(scope: Scope, value: Any) -> None:
                values = list(value)
                if len(values) != len(targets):
                    raise ValueError(f"expected {len(targets)} values to unpack, got {len(values)}")
                for target, item in zip(targets, values, strict=True):
                    target(scope, item)

            return unpack
        raise Unknown(f"assignment to {type(node).__name__}")

    # -- expressions -----------------------------------------------------------------------------------------

    def _expression(self, node: ast.expr) -> Code:
        make = getattr(self, f"_eval_{type(node).__name__}", None)
        if make is None:
            raise Unknown(type(node).__name__)
        return make(node)

    def _operation(self, node: ast.AST) -> Callable[[Any, Any], Any]:
        if type(node) not in OPERATORS:
            raise Unknown(type(node).__name__)
        combine = OPERATORS[type(node)]
        if isinstance(node, ast.Mult):

            def multiply(a: Any, b: Any) -> Any:
                for sequence, times in ((a, b), (b, a)):
                    if isinstance(sequence, str | list | tuple) and len(sequence) * int(times) > MAX_LENGTH:
                        raise Exhausted("a value grew too long")
                return _sized(a * b)

            return multiply
        return (lambda a, b: _sized(combine(a, b))) if isinstance(node, ast.Add) else combine

    def _eval_Constant(self, node: ast.Constant) -> Code:
        value = node.value
        return lambda scope: value

    def _eval_Name(self, node: ast.Name) -> Code:
        name = node.id

        def look_up(scope: Scope) -> Any:
            for space in (scope, self._functions, self._builtins):
                if name in space:
                    return space[name]
            raise NameError(f"name {name!r} is not defined")

        return look_up

    def _eval_BinOp(self, node: ast.BinOp) -> Code:
        left, right, combine = (
            self._expression(node.left),
            self._expression(node.right),
            self._operation(node.op),
        )
        return lambda scope: combine(left(scope), right(scope))

    def _eval_UnaryOp(self, node: ast.UnaryOp) -> Code:
        operand, change = self._expression(node.operand), UNARY[type(node.op)]
        return lambda scope: change(operand(scope))

    def _eval_BoolOp(self, node: ast.BoolOp) -> Code:
        values = [self._expression(value) for value in node.values]
        stop_at = isinstance(node.op, ast.Or)

        def decide(scope: Scope) -> Any:
            result = None
            for value in values:
                result = value(scope)
                if bool(result) is stop_at:
                    break
            return result

        return decide

    def _eval_Compare(self, node: ast.Compare) -> Code:
        first = self._expression(node.left)
        rest = [
            (self._operation(op), self._expression(value))
            for op, value in zip(node.ops, node.comparators, strict=True)
        ]

        def compare(scope: Scope) -> Any:
            left, result = first(scope), True
            for holds, value in rest:
                right = value(scope)
                result = holds(left, right)
                if not result:
                    return result
                left = right
            return result

        return compare

    def _eval_IfExp(self, node: ast.IfExp) -> Code:
        test, body, other = map(self._expression, (node.test, node.body, node.orelse))
        return lambda scope: body(scope) if test(scope) else other(scope)

    def _eval_Subscript(self, node: ast.Subscript) -> Code:
        value, key = self._expression(node.value), self._expression(node.slice)
        return lambda scope: value(scope)[key(scope)]

    def _eval_Slice(self, node: ast.Slice) -> Code:
        parts = [
            self._expression(part) if part else lambda scope: None
            for part in (node.lower, node.upper, node.step)
        ]
        return lambda scope: slice(*(part(scope) for part in parts))

    def _eval_List(self, node: ast.List) -> Code:
        items = [self._expression(item) for item in node.elts]
        return lambda scope: [item(scope) for item in items]

    def _eval_Tuple(self, node: ast.Tuple) -> Code:
        items = [self._expression(item) for item in node.elts]
        return lambda scope: tuple([item(scope) for item in items])

    def _eval_Dict(self, node: ast.Dict) -> Code:
        if None in node.keys:
            raise Unknown("** in a dictionary")
        pairs = [
            (self._expression(k), self._expression(v))
            for k, v in zip(node.keys, node.values, strict=True)
            if k
        ]
        return lambda scope: {key(scope): value(scope) for key, value in pairs}

    def _eval_ListComp(self, node: ast.ListComp) -> Code:
        value, run = self._expression(node.elt), self._comprehension(node.generators)
        return lambda scope: [value(inner) for inner in run(scope)]

    def _eval_GeneratorExp(self, node: ast.GeneratorExp) -> Code:
        value, run = self._expression(node.elt), self._comprehension(node.generators)
        return lambda scope: (value(inner) for inner in run(scope))

    def _eval_SetComp(self, node: ast.SetComp) -> Code:
        value, run = self._expression(node.elt), self._comprehension(node.generators)
        return lambda scope: {value(inner) for inner in run(scope)}

    def _eval_DictComp(self, node: ast.DictComp) -> Code:
        key, value, run = (
            self._expression(node.key),
            self._expression(node.value),
            self._comprehension(node.generators),
        )
        return lambda scope: {key(inner): value(inner) for inner in run(scope)}

    def _comprehension(self, generators: list[ast.comprehension]) -> Callable[[Scope], Iterator[Scope]]:
        parts = [
            (self._target(g.target), self._expression(g.iter), [self._expression(test) for test in g.ifs])
            for g in generators
        ]

        def run(scope: Scope, depth: int = 0) -> Iterator[Scope]:
            inner = dict(scope) if depth == 0 else scope
            if depth == len(parts):
                yield inner
                return
            target, items, tests = parts[depth]
            for item in self._counted(items(inner)):
                target(inner, item)
                if all(test(inner) for test in tests):
                    yield from run(inner, depth + 1)

        return run

    def _eval_Lambda(self, node: ast.Lambda) -> Code:
        names, body = [argument.arg for argument in node.args.args], self._expression(node.body)
        return lambda scope: lambda *values: body({**scope, **dict(zip(names, values, strict=True))})

    def _eval_JoinedStr(self, node: ast.JoinedStr) -> Code:
        parts = []
        for item in node.values:
            if isinstance(item, ast.FormattedValue) and (item.format_spec or item.conversion != -1):
                raise Unknown("format specifications")
            parts.append(self._expression(item.value if isinstance(item, ast.FormattedValue) else item))
        return lambda scope: _sized("".join([str(part(scope)) for part in parts]))

    def _eval_Call(self, node: ast.Call) -> Code:
        arguments = [self._expression(argument) for argument in node.args]
        named = {k.arg: self._expression(k.value) for k in node.keywords if k.arg}
        if len(named) != len(node.keywords):
            raise Unknown("** in a call")
        if isinstance(node.func, ast.Attribute):
            owner, method = self._expression(node.func.value), node.func.attr

            def call_method(scope: Scope) -> Any:
                self._tick()
                subject = owner(scope)
                if method not in METHODS.get(type(subject), ()):
                    raise AttributeError(f"{type(subject).__name__!r} object has no attribute {method!r}")
                values = [argument(scope) for argument in arguments]
                return _sized(getattr(subject, method)(*values, **{k: v(scope) for k, v in named.items()}))

            return call_method
        function = self._expression(node.func)

        def call(scope: Scope) -> Any:
            self._tick()
            values = [argument(scope) for argument in arguments]
            return function(scope)(*values, **{k: v(scope) for k, v in named.items()})

        return call


def _raiser(kind: type[Exception]) -> Callable[[Scope], None]:
    def run(scope: Scope) -> None:
        raise kind

    return run
