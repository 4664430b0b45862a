"""What stands between `{{` and `}}`: a pipeline of calls and paths, or else a jq program.

    pipeline: command ("|" command)*            command: function operand* | operand
    operand:  path | "text" | `text` | number | true | false | null | "(" pipeline ")"

A name after a dot may have hyphens (`.steps.book-flight.output`), so `.x-1` is a name.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from connectors.errors import PermanentError
from transforms.expressions.errors import ExpressionError
from transforms.expressions.functions import FUNCTIONS
from transforms.expressions.jq import compile_jq
from transforms.expressions.paths import walk
from transforms.expressions.values import access
from transforms.expressions.views import Roots

Node = Callable[[Roots], Any]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<field>\.[A-Za-z_$][\w$-]*)
  | (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
  | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op>[|()\[\].,])
    """,
    re.VERBOSE,
)
_HYPHENATED = re.compile(r"\.([A-Za-z_]\w*(?:-[A-Za-z_]\w*)+)")
_LITERALS = {"true": True, "false": False, "null": None, "nil": None}


class _NotACommand(Exception):  # noqa: N818 - a way out, not an error: jq takes it
    pass


class Command:
    """A compiled expression of a template."""

    __slots__ = ("engine", "evaluate", "source", "text")

    def __init__(self, text: str, evaluate: Node, engine: str, source: str | None = None) -> None:
        self.text = text
        self.evaluate = evaluate
        self.engine = engine
        """path, template, or the jq engine that runs it."""
        self.source = source
        """The Python that a jq program runs as."""


def parse_command(source: str, offset: int) -> Command:
    """Compile what stands between the braces, at `offset` of its text. Raises ExpressionError."""
    text = source.strip()
    if not text:
        raise ExpressionError("expected an expression between {{ and }}", offset)
    try:
        parser = _Parser(text)
        node = parser.whole()
        return Command(text, node, "path" if parser.is_path else "template")
    except (_NotACommand, RecursionError):
        pass
    start = offset + source.index(text)
    try:
        program = compile_jq(_HYPHENATED.sub(r'."\1"', text))
    except ExpressionError as error:
        raise ExpressionError(
            error.message,
            start + min(error.position, len(text) - 1),
            hint=_function_meant(error) or error.hint,
        ) from None
    return Command(text, program.first_of, program.engine, program.source)


def _function_meant(error: ExpressionError) -> str:
    """Return which of the templates' own functions an unknown name is close to."""
    unknown = re.match(r"(\w+)/\d+ is not defined$", error.message)
    found = get_close_matches(unknown[1], FUNCTIONS, 1, 0.75) if unknown else []
    return f"Did you mean {found[0]}?" if found else ""


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self.is_path = False

    def whole(self) -> Node:
        node = self._pipeline()
        if self._at < len(self._tokens):
            raise _NotACommand
        self.is_path = all(kind == "field" for kind, _ in self._tokens)
        return node

    def _pipeline(self) -> Node:
        node = self._command(None)
        while self._take("|"):
            node = self._command(node)
        return node

    def _command(self, piped: Node | None) -> Node:
        kind, value = self._next()
        if kind == "name" and value not in _LITERALS:
            return self._call(value, piped)
        if piped is not None:
            raise _NotACommand  # `.a | .b` is jq
        self._at -= 1
        return self._operand()

    def _call(self, name: str, piped: Node | None) -> Node:
        arguments: list[Node] = []
        while self._at < len(self._tokens) and self._tokens[self._at][1] not in {"|", ")"}:
            arguments.append(self._operand())
        if piped is not None:
            arguments.append(piped)
        if name in {"step", "trigger"} and piped is None and arguments:
            return _lookup("steps" if name == "step" else "trigger", arguments)
        function = FUNCTIONS.get(name)
        if function is None or not _takes(function, len(arguments)):
            raise _NotACommand
        return _calling(name, function, arguments)

    def _operand(self) -> Node:
        kind, value = self._next()
        if kind == "field":
            self._at -= 1
            return self._path()
        if kind == "string":
            return self._constant(value[1:-1] if value[0] == "`" else _unquoted(value))
        if kind == "number":
            return self._constant(_number(value))
        if kind == "name" and value in _LITERALS:
            return self._constant(_LITERALS[value])
        if kind == "name":
            return self._call_without_arguments(value)
        if value == "(":
            node = self._pipeline()
            if not self._take(")"):
                raise _NotACommand
            return self._after(node)
        raise _NotACommand

    def _call_without_arguments(self, name: str) -> Node:
        function = FUNCTIONS.get(name)
        if function is None or not _takes(function, 0):
            raise _NotACommand
        return _calling(name, function, [])

    def _path(self) -> Node:
        parts = self._parts()
        return lambda roots: walk(parts, roots)

    def _parts(self) -> list[str | int]:
        parts: list[str | int] = []
        while self._at < len(self._tokens):
            kind, value = self._tokens[self._at]
            if kind == "field":
                parts.append(value[1:])
                self._at += 1
            elif value == "[" and parts:
                parts.append(self._subscript())
            else:
                break
        return parts

    def _subscript(self) -> str | int:
        self._at += 1
        kind, value = self._next()
        if kind not in {"string", "number"} or not self._take("]"):
            raise _NotACommand
        key = _unquoted(value) if kind == "string" else _number(value)
        if not isinstance(key, (str, int)):
            raise _NotACommand
        return key

    def _after(self, node: Node) -> Node:
        """Read fields after a parenthesis: `(index .items 0).name`."""
        parts = self._parts()

        def reached(roots: Roots) -> Any:
            value = node(roots)
            for part in parts:
                value = access(value, part)
            return value

        return reached if parts else node

    @staticmethod
    def _constant(value: Any) -> Node:
        return lambda _roots: value

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _NotACommand
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, value: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("op", value):
            self._at += 1
            return True
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _NotACommand
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0]))
        at = match.end()
    return found


def _unquoted(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        raise _NotACommand from None


def _number(text: str) -> int | float:
    try:
        number: int | float = json.loads(text)
    except ValueError:  # more digits than Python makes an integer of, or a leading zero
        raise _NotACommand from None
    if isinstance(number, float) and math.isinf(number):
        raise _NotACommand
    return number


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def _calling(name: str, function: Callable[..., Any], arguments: list[Node]) -> Node:
    def call(roots: Roots) -> Any:
        values = [argument(roots) for argument in arguments]
        try:
            return function(*values)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PermanentError(
                f"{name} can't take these values: {error}.", code="template_value"
            ) from None

    return call


def _lookup(root: str, keys: list[Node]) -> Node:
    def look(roots: Roots) -> Any:
        value = roots.get(root)
        for key in keys:
            value = access(value, key(roots))
        return value

    return look
