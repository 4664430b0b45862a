"""jq programs: simple ones evaluated natively, all others by libjq, behind one interface.

`Program.engine` and `reason` say which it is, and `penstock explain` shows them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import jq
import orjson

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from transforms.executions import Executions
from transforms.expressions.errors import ExpressionError
from transforms.expressions.generated import generate
from transforms.expressions.native import parse
from transforms.expressions.paths import Errors, path_column
from transforms.expressions.reads import Reads, reads_of
from transforms.expressions.tokens import Token, tokenize, without_comments
from transforms.expressions.values import shortened, to_json
from transforms.expressions.views import Plain, Roots, View

Engine = Literal["path", "native", "libjq"]

_MODULES = "a flow has no modules"
_REFUSED = {
    "env": "a flow may not read the environment",
    "halt": "a flow may not end the process",
    "halt_error": "a flow may not end the process",
    "input": "an event is the only input",
    "inputs": "an event is the only input",
    "input_filename": "an event comes from no file",
    "input_line_number": "an event comes from no file",
    "debug": "nothing reads its output; use a log step",
    "stderr": "nothing reads its output; use a log step",
    "get_search_list": _MODULES,
    "get_prog_origin": _MODULES,
    "get_jq_origin": _MODULES,
    "modulemeta": _MODULES,
    "import": _MODULES,
    "include": _MODULES,
}
_REFUSED_VARIABLES = {
    "$ENV": "a flow may not read the environment",
    "$__prog_args": "a flow has no arguments",
}
_AT = re.compile(r"line (\d+), column (\d+)")
_BIG = re.compile(r"\d{16}")
"""Digits that may be an integer beyond what orjson and doubles keep."""


class Program:
    """A compiled jq program over an execution's context."""

    __slots__ = ("_evaluate", "_generated", "_native", "engine", "reads", "reason", "text")

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self._native = native = parse(tokens)
        self._generated = generate(tokens) if native is not None else None
        self.reads: Reads | None = reads_of(tokens)
        """Root of the context → what it reads there; None when it may read anything."""
        self._evaluate: Callable[[Roots], list[Any]]
        self.engine: Engine
        if native is None:
            self._evaluate = _libjq(text, tokens, self.reads)
            self.engine, self.reason = "libjq", "more than paths, literals, comparisons and objects"
            return
        node = native.evaluate
        self._evaluate = lambda roots: [node(roots)]
        if native.path is not None:
            self.engine, self.reason = "path", "reads one place of the context"
        else:
            self.engine, self.reason = "native", "paths, literals, comparisons and objects only"

    @property
    def roots(self) -> frozenset[str] | None:
        """The roots of the context it reads; None when it may read all of it."""
        return None if self.reads is None else frozenset(self.reads)

    def run(self, context: Mapping[str, Any]) -> list[Any]:
        """Return all outputs over `context`. Raises PermanentError `jq_error`."""
        return self._outputs(Plain(context))

    def first(self, context: Mapping[str, Any]) -> Any:
        """Return the first output, None when there is none. Raises PermanentError `jq_error`."""
        return self.first_of(Plain(context))

    def first_of(self, roots: Roots) -> Any:
        """Return the first output over a view of the context, None when there is none."""
        outputs = self._outputs(roots)
        return outputs[0] if outputs else None

    def column(self, executions: Executions, indexes: Sequence[int]) -> tuple[Column, Errors]:
        """Return the first output per index (None without one), and the errors of those that fail."""
        native = self._native
        if native is not None and native.path is not None:
            return path_column(native.path, executions, indexes)
        if self._generated is not None:
            try:
                return self._generated.column(executions, indexes), {}
            except PenstockError:
                pass  # an event that it does not fit: one by one, to tell which
        values, errors = self.outputs(executions, indexes)
        return [found[0] if found else None for found in values], errors

    def outputs(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[list[list[Any]], Errors]:
        """Return all outputs per index ([] for those that fail), and their errors."""
        values: list[list[Any]] = []
        errors: Errors = {}
        for index in indexes:
            try:
                values.append(self._outputs(View(executions, index)))
            except PenstockError as error:
                errors[index] = error
                values.append([])
        return values, errors

    def _outputs(self, roots: Roots) -> list[Any]:
        try:
            return self._evaluate(roots)
        except PenstockError as error:
            raise PermanentError(
                f"{error.message.rstrip('.')} (in `{shortened(self.text)}`).",
                code=error.code,
                hint=error.hint,
                **{**error.context, "program": shortened(self.text, 200)},
            ) from None


@cache
def compile_jq(text: str) -> Program:
    """Compile a program, once per process. Raises ExpressionError with the place of what is wrong."""
    if not text.strip():
        raise ExpressionError("expected a jq program, found nothing", hint="`.` is everything.")
    tokens = tokenize(text)
    _refuse(tokens)
    try:
        return Program(text, tokens)
    except RecursionError:
        raise ExpressionError("the program is nested too deeply") from None


def _libjq(text: str, tokens: Sequence[Token], reads: Reads | None) -> Callable[[Roots], list[Any]]:
    """Return a function that runs a program in libjq.

    The program runs to an array that is rendered as text inside libjq: that keeps integers exact
    which it only passes on (the binding makes doubles of them), and asks for one output only, since
    asking libjq for more after a runtime error aborts the process. Comments are blanked first, so
    that what was scanned for refused names is what runs. It is given what it reads of the context.
    """
    plain = without_comments(text)
    try:
        jq.compile(plain)
        compiled = jq.compile(f"[{plain}\n] | tojson")
    except ValueError as error:
        raise _not_compiled(text, tokens, str(error)) from None

    def run(roots: Roots) -> list[Any]:
        try:
            context = roots.whole() if reads is None else roots.parts(reads)
            found = compiled.input_text(to_json(context)).first()
        except (ValueError, TypeError, RecursionError, StopIteration) as error:
            # ValueError is libjq's; the others are of values that are not JSON.
            said = shortened(str(error) or type(error).__name__, 200)
            raise PermanentError(f"jq: {said}.", code="jq_error", jq=said) from None
        return _decoded(found)

    return run


def _decoded(text: str) -> list[Any]:
    """Return the array that libjq wrote: integers of up to 4,300 digits, doubles within range."""
    try:
        if _BIG.search(text):
            outputs: list[Any] = json.loads(text, parse_float=_finite)
        else:
            outputs = orjson.loads(text)
    except (ValueError, RecursionError):
        raise PermanentError(
            "jq: its output has a number out of range, or is nested too deeply.",
            code="jq_error",
            jq="output out of range",
        ) from None
    return outputs


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _refuse(tokens: Sequence[Token]) -> None:
    """Raise ExpressionError for a name that reaches outside the program's event."""
    brackets: list[str] = []
    for number, token in enumerate(tokens):
        reason = None
        if token.kind == "op":
            if token.value in {"(", "[", "{"}:
                brackets.append(token.value)
            elif token.value in {")", "]", "}"} and brackets:
                brackets.pop()
        elif token.kind == "name":
            # Right behind an object's brace, or one of its commas, stands a key: `{env: 1, input}`.
            before = tokens[number - 1].value if number else ""
            if brackets[-1:] != ["{"] or before not in {"{", ","}:
                reason = _REFUSED.get(token.value.rpartition("::")[2])
        elif token.kind == "variable":
            reason = _REFUSED_VARIABLES.get(token.value)
        elif token.kind == "interpolated":
            for inner in _interpolations(token):
                _refuse(inner)
        if reason is not None:
            raise ExpressionError(f"{token.value} is not allowed: {reason}", token.start)


def _interpolations(token: Token) -> Iterator[list[Token]]:
    tokens: list[Token] = []
    for inner in token.inner:
        tokens.append(inner)
        if inner.kind == "end":
            yield tokens
            tokens = []


def _not_compiled(text: str, tokens: Sequence[Token], said: str) -> ExpressionError:
    """Turn libjq's message, whose first line says what and where, into ours."""
    message = said.splitlines()[0].removeprefix("jq: error: ").partition(" at <top-level>")[0]
    place = _AT.search(said)
    position = 0
    if place is not None:
        lines = text.splitlines(keepends=True)
        position = sum(map(len, lines[: int(place[1]) - 1])) + int(place[2]) - 1
    position = min(position, len(text) - 1)
    return ExpressionError(f"jq: {message}", position, hint=_hint(text, tokens, position))


def _hint(text: str, tokens: Sequence[Token], position: int) -> str:
    """Return what to write for `.steps.book-flight`, which is a subtraction in jq."""
    for field, minus, name in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (field.kind, minus.value, name.kind, name.start) == ("field", "-", "name", position):
            whole = re.match(r"[\w-]+", text[field.start + 1 :], re.ASCII)
            if whole is not None and field.end == minus.start and minus.end == name.start:
                return f'A name with a hyphen is written ["{whole[0]}"] in jq.'
    return ""
