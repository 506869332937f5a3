"""Function tools: `@tool` makes one of a method, `ToolEnv` lets a policy call them over several turns.

    class Shop(ToolEnv):
        @tool
        def price(self, item: str, currency: Literal["EUR", "USD"] = "EUR") -> float:
            '''Price of an item.

Args:
                item: its name.
            '''
            ...

The JSON schema that the policy sees is made of the signature and the docstring by pydantic, and the same
model checks the arguments of a call, strictly: `"3"` is no integer. A method may be `async`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

import jsonschema
import jsonschema.validators
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from rolloom.envs.aio import settled
from rolloom.envs.base import Answer, TextEnv
from rolloom.envs.errors import EnvError, ToolError
from rolloom.envs.text import safe_text
from rolloom.envs.tools.schema import MAX_INTEGER, MAX_STRING, plain
from rolloom.envs.types import AssistantTurn, Message, Reply, ToolCall, ToolSpec

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__rolloom_tool__"
MAX_ERROR_CHARS = 500
MAX_PROBLEMS = 3
MISTAKES = (ToolError, LookupError, ValueError, TypeError, ArithmeticError)
"""What a tool raises for arguments that make no sense; anything else is the environment's failure.

A policy that could turn its bad calls into environment errors would have them left out of every baseline.
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the policy may call.

    Attributes:
        spec: what the policy sees.
        function: called with the checked arguments as keywords; returns text or JSON types, or awaits them.
        check: returns the arguments as the function wants them; raises `ToolError` for bad ones.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    check: Callable[[dict[str, Any]], dict[str, Any]]


def tool(method: F) -> F:
    """Mark a method as a function tool; see the module."""
    setattr(method, MARK, True)
    return method


def tools_of(owner: object) -> dict[str, Tool]:
    """Return the marked methods of an object as tools by name, in the order in which they are defined.

    Raises:
        EnvError: a parameter has no annotation, or one that no JSON schema can express.
    """
    made = {}
    for name in _marked(type(owner)):
        spec, check = _described(getattr(type(owner), name))
        made[name] = Tool(spec, getattr(owner, name), check)
    return made


@cache
def _marked(cls: type) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        found.update((name, None) for name, value in vars(base).items() if hasattr(value, MARK))
    return tuple(name for name in found if hasattr(getattr(cls, name, None), MARK))


@cache
def _described(function: Callable[..., Any]) -> tuple[ToolSpec, Callable[[dict[str, Any]], dict[str, Any]]]:
    model, told = _model(function)
    schema = model.model_json_schema()
    _drop_titles(schema)
    schema.pop("description", None)
    description = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    spec = ToolSpec(function.__name__, description, schema)

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        _refuse_extremes(arguments)
        try:
            # JSON has no tuples, sets or enums: strictness is about the JSON types.
            made = model.model_validate_json(json.dumps(arguments), strict=True)
        except ValidationError as error:
            raise ToolError(_in_words(spec, error)) from None
        return {name: getattr(made, name) for name in told}

    return spec, check


def _model(function: Callable[..., Any]) -> tuple[type[BaseModel], tuple[str, ...]]:
    """Return the pydantic model of a function's arguments, and their names."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise EnvError(f"tool {function.__name__}: an annotation cannot be resolved: {error}") from error
    notes = _argument_notes(function.__doc__ or "")
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(function).parameters.items()):
        if name == "self":
            continue
        if name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise EnvError(
                f"tool {function.__name__}: parameter {name} needs an annotation, e.g. {name}: str"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=notes.get(name)))
    try:
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False, allow_inf_nan=False)
        return create_model(function.__name__, __config__=config, **fields), tuple(fields)
    except Exception as error:  # pydantic raises errors of several kinds for what it cannot express
        raise EnvError(f"tool {function.__name__}: its signature has no JSON schema: {error}") from error


def _argument_notes(docstring: str) -> dict[str, str]:
    """Return what a Google-style docstring's `Args:` says of each parameter."""
    _, found, rest = inspect.cleandoc(docstring).partition("\nArgs:\n")
    notes: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if found else ():
        if line and not line.startswith(" "):
            break
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            name, _, text = line.strip().partition(":")
            name = name.partition(" ")[0]
            notes[name] = text.strip()
        elif name and line.strip():
            notes[name] += " " + line.strip()
    return notes


def _drop_titles(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for value in schema.values():
            _drop_titles(value)
    elif isinstance(schema, list):
        for value in schema:
            _drop_titles(value)


def _refuse_extremes(value: Any, name: str = "an argument") -> None:
    """Refuse numbers and strings no honest call has, before anything computes with them."""
    if isinstance(value, str) and len(value) > MAX_STRING:
        raise ToolError(f"{name} must have at most {MAX_STRING} characters")
    if isinstance(value, int | float) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ToolError(f"{name} must lie between {-MAX_INTEGER} and {MAX_INTEGER}")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_extremes(key)
            _refuse_extremes(item, plain(key))
    elif isinstance(value, list):
        for item in value:
            _refuse_extremes(item, name)


def _in_words(spec: ToolSpec, error: ValidationError) -> str:
    """Return pydantic's findings without repeating what the policy wrote."""
    expected = ", ".join(spec.parameters.get("properties", {})) or "no arguments"
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(plain(str(part)) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{spec.name} has no argument {place}, expected {expected}")
        elif problem["type"] == "missing":
            lines.append(f"{spec.name} needs {place}, expected {expected}")
        else:
            lines.append(f"{place}: {problem['msg']}")
    more = f" (and {len(lines) - MAX_PROBLEMS} more)" if len(lines) > MAX_PROBLEMS else ""
    return "; ".join(lines[:MAX_PROBLEMS]) + more


def schema_tool(spec: ToolSpec, function: Callable[..., Any]) -> Tool:
    """Return a tool whose arguments are checked against its own JSON schema (MCP servers bring such).

    Regular expressions in the schema are shown to the policy but not run here: they may backtrack for ever on
    what a policy wrote.

    Raises:
        EnvError: the schema is not a valid JSON schema, or refers to another document.
    """
    validator_class = jsonschema.validators.validator_for(spec.parameters)
    try:
        validator_class.check_schema(spec.parameters)
    except jsonschema.SchemaError as error:
        raise EnvError(f"tool {spec.name}: its parameters are no JSON schema: {error.message}") from error
    validator = validator_class(_checkable(spec.name, spec.parameters))

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        _refuse_extremes(arguments)
        problem = next(iter(validator.iter_errors(arguments)), None)
        if problem is not None:
            place = ".".join(plain(str(part)) for part in problem.absolute_path) or spec.name
            wanted = json.dumps(problem.validator_value)[:120]
            raise ToolError(f"{place}: does not fit the schema, expected {problem.validator} {wanted}")
        return arguments

    return Tool(spec, function, check)


def _mistake(call: ToolCall, error: Exception) -> ToolError:
    if isinstance(error, ToolError):
        return error
    return ToolError(f"{plain(call.name)} failed: {type(error).__name__}: {error}")


def _checkable(tool: str, schema: Any) -> Any:
    """Return a schema without regular expressions.

    Raises:
        EnvError: it refers to another document, which jsonschema would fetch.
    """
    if isinstance(schema, list):
        return [_checkable(tool, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise EnvError(
            f"tool {tool}: its schema refers to another document, {reference!r}; expected one of its own"
        )
    # A property may be called `pattern`; the keyword is a string, a property's schema is not.
    kept = {
        name: value for name, value in schema.items() if not (name == "pattern" and isinstance(value, str))
    }
    return {name: _checkable(tool, value) for name, value in kept.items() if name != "patternProperties"}


class ToolEnv(TextEnv):
    """An environment whose policy may call tools until it answers.

    A turn with tool calls is answered by one tool message a call, in order. A turn without any is the answer
    and goes to `answer`. A turn that cannot be parsed is told why.

    Attributes:
        calls: every call of the episode that ran, in order, with the text that it brought.
        parallel_calls: the asynchronous calls of one turn run at the same time, for tools that only read;
            without it, each waits for the one before.
    """

    max_turns = 8
    parallel_calls = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls: list[tuple[ToolCall, str]] = []
        tools = (getattr(type(self), name) for name in _marked(type(self)))
        self.asynchronous = self.asynchronous or any(map(inspect.iscoroutinefunction, [*tools, self.answer]))

    # -- what an author writes -------------------------------------------------------------------------------

    def answer(self, turn: AssistantTurn) -> Answer | Awaitable[Answer]:
        """Return what answers a turn without tool calls: a number ends the episode with that reward."""
        raise NotImplementedError

    def toolbox(self) -> Mapping[str, Tool]:
        """Return the tools of this problem by name; the methods marked with `@tool` by default."""
        return tools_of(self)

    # -- the loop --------------------------------------------------------------------------------------------

    async def areset(self, **kwargs: Any) -> Any:
        """Start an episode; see `TextEnv.reset`."""
        self.calls = []
        return await super().areset(**kwargs)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Return what the policy sees of the toolbox."""
        return tuple(tool.spec for tool in self.toolbox().values())

    def respond(self, turn: AssistantTurn) -> Answer | Awaitable[Answer]:
        """Run the calls of a turn in order, or hand a turn without calls to `answer`."""
        if turn.malformed is not None:
            return Reply((Message(role="tool", content=safe_text(f"error: {turn.malformed}")),))
        if not turn.tool_calls:
            return self.answer(turn)
        return self._run_all(turn.tool_calls) if self.asynchronous else self._run_now(turn.tool_calls)

    def _run_now(self, calls: Iterable[ToolCall]) -> Reply:
        box = self.toolbox()
        return Reply(tuple(self._told(call, self._start(box, call)) for call in calls))

    async def _run_all(self, calls: Iterable[ToolCall]) -> Reply:
        box, calls = self.toolbox(), list(calls)
        if self.parallel_calls:
            results = await asyncio.gather(*(self._run_one(box, call) for call in calls))
        else:
            results = [await self._run_one(box, call) for call in calls]
        return Reply(tuple(map(self._told, calls, results)))

    async def _run_one(self, box: Mapping[str, Tool], call: ToolCall) -> Any:
        try:
            return await settled(self._start(box, call))
        except MISTAKES as error:
            return _mistake(call, error)

    def _start(self, box: Mapping[str, Tool], call: ToolCall) -> Any:
        """Return what a call brings, an awaitable of it, or the policy's mistake as a `ToolError`."""
        try:
            if call.name not in box:
                known = ", ".join(box)
                raise ToolError(f"unknown tool {plain(call.name)}, expected {known}")
            return box[call.name].function(**box[call.name].check(call.arguments))
        except MISTAKES as error:
            return _mistake(call, error)

    def _told(self, call: ToolCall, result: Any) -> Message:
        if isinstance(result, ToolError):
            text = "error: " + safe_text(str(result), MAX_ERROR_CHARS)
        else:
            try:
                written = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            except (TypeError, ValueError) as error:
                raise EnvError(f"tool {call.name} returned no text and no JSON: {error}") from error
            text = safe_text(written)
        self.calls.append((call, text))
        return Message(role="tool", content=text)
