"""jq programs: simple ones evaluated natively, all others by libjq, behind one interface.

`Program.engine` and `reason` say which it is, and `penstock explain` shows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import jq
import orjson

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from transforms.executions import Executions
from transforms.expressions.errors import ExpressionError
from transforms.expressions.native import Native, parse
from transforms.expressions.paths import Errors, path_column
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

    __slots__ = ("_evaluate", "_native", "engine", "reason", "text")

    def __init__(self, text: str, native: Native | None) -> None:
        self.text = text
        self._native = native
        self._evaluate: Callable[[Roots], list[Any]]
        self.engine: Engine
        if native is None:
            self._evaluate = _libjq(text)
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
        return self._native.roots if self._native is not None else None

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
    return Program(text, parse(tokens))


def _libjq(text: str) -> Callable[[Roots], list[Any]]:
    """Return a function that runs a program in libjq.

    The program runs to an array that is rendered as text inside libjq: that keeps integers exact
    which it only passes on (the binding makes doubles of them), and asks for one output only, since
    asking libjq for more after a runtime error aborts the process. Comments are blanked first, so
    that what was scanned for refused names is what runs.
    """
    plain = without_comments(text)
    try:
        jq.compile(plain)
        compiled = jq.compile(f"[{plain}\n] | tojson")
    except ValueError as error:
        raise _not_compiled(text, str(error)) from None

    def run(roots: Roots) -> list[Any]:
        try:
            found = compiled.input_text(to_json(roots.whole())).first()
        except ValueError as error:
            said = shortened(str(error), 200)
            raise PermanentError(f"jq: {said}.", code="jq_error", jq=said) from None
        outputs: list[Any] = json.loads(found) if _BIG.search(found) else orjson.loads(found)
        return outputs

    return run


def _refuse(tokens: Sequence[Token]) -> None:
    for number, token in enumerate(tokens):
        reason = None
        if token.kind == "name" and not _is_key(tokens, number):
            reason = _REFUSED.get(token.value)
        elif token.kind == "variable":
            reason = _REFUSED_VARIABLES.get(token.value)
        elif token.kind == "interpolated":
            _refuse(token.inner)
        if reason is not None:
            raise ExpressionError(f"{token.value} is not allowed: {reason}", token.start)


def _is_key(tokens: Sequence[Token], number: int) -> bool:
    """Whether the name there is a key of an object: `{env: 1}`, `{env}`, `{a, env}`."""
    before = tokens[number - 1].value if number else ""
    after = tokens[number + 1].value
    return (before in {"{", ","} and after in {":", "}"}) or (before == "{" and after == ",")


def _not_compiled(text: str, said: str) -> ExpressionError:
    """Turn libjq's message, whose first line says what and where, into ours."""
    message = said.splitlines()[0].removeprefix("jq: error: ").partition(" at <top-level>")[0]
    place = _AT.search(said)
    position = 0
    if place is not None:
        lines = text.splitlines(keepends=True)
        position = sum(map(len, lines[: int(place[1]) - 1])) + int(place[2]) - 1
    return ExpressionError(f"jq: {message}", min(position, len(text) - 1))
