"""Every name of a program is known, and none reaches outside its event: checked before it is compiled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from transforms.jq.builtins import FORMATS, FUNCTIONS
from transforms.jq.emit_builtins import NATIVE
from transforms.jq.invalid import ExpressionError
from transforms.jq.prelude import prelude_names
from transforms.jq.syntax import (
    Alternative,
    Array,
    Assign,
    Binary,
    Bind,
    Break,
    Call,
    Comma,
    Define,
    Foreach,
    Format,
    Function,
    If,
    Index,
    Iterate,
    Label,
    Logic,
    Negate,
    Node,
    Object,
    Pattern,
    PatternArray,
    PatternObject,
    Pipe,
    Reduce,
    Slice,
    Text,
    Try,
    Variable,
    pattern_names,
)

_MODULES = "a flow has no modules"
_ENVIRONMENT = "a flow may not read the environment"
_PROCESS = "a flow may not end the process"
_INPUT = "an event is the only input"
_OUTPUT = "nothing reads its output; use a log step"
REFUSED = {
    "env": _ENVIRONMENT,
    "halt": _PROCESS,
    "halt_error": _PROCESS,
    "input": _INPUT,
    "inputs": _INPUT,
    "input_filename": "an event comes from no file",
    "input_line_number": "an event comes from no file",
    "debug": _OUTPUT,
    "stderr": _OUTPUT,
    "get_search_list": _MODULES,
    "get_prog_origin": _MODULES,
    "get_jq_origin": _MODULES,
    "modulemeta": _MODULES,
}
"""Builtins of jq that a flow has no use for, and why."""

_REFUSED_VARIABLES = {
    "ENV": _ENVIRONMENT,
    "__prog_args": "a flow has no arguments",
    "__prog_name": "a flow has no arguments",
}

Names = frozenset[str]
Functions = frozenset[tuple[str, int]]


def known_functions() -> set[tuple[str, int]]:
    """Return name and arity of every builtin."""
    return {key for key in {*FUNCTIONS, *NATIVE, *prelude_names()} if key[0][0] != "_"}


def check_names(tree: Node, text: str) -> None:
    """Raise ExpressionError at a name that means nothing here, or is refused."""
    _Checker(text).check(tree, frozenset(), frozenset(), frozenset())


class _Checker:
    def __init__(self, text: str) -> None:
        self.text = text
        self.known = {*FUNCTIONS, *NATIVE, *prelude_names()}

    def check(self, node: Node, variables: Names, functions: Functions, labels: Names) -> None:
        match node:
            case Variable(at, name):
                if name not in variables:
                    raise self._variable(at, name, variables)
            case Call(at, name, arguments):
                if (name, len(arguments)) not in functions:
                    self._builtin(at, name, len(arguments), functions)
            case Break(at, name):
                if name not in labels:
                    raise ExpressionError(
                        f"there is no label ${name} here",
                        at,
                        hint="`label $name | …` is around what `break $name` ends.",
                    )
            case Format(at, name):
                self._format(at, name)
            case Text(at, _, name) if name is not None:
                self._format(at, name)
            case _:
                pass
        self._inside(node, variables, functions, labels)

    def _inside(self, node: Node, variables: Names, functions: Functions, labels: Names) -> None:
        match node:
            case Bind(_, source, patterns, body):
                self.check(source, variables, functions, labels)
                inner = self._patterns(patterns, variables, functions, labels)
                self.check(body, inner, functions, labels)
            case Reduce(_, source, patterns, initial, update):
                self.check(source, variables, functions, labels)
                self.check(initial, variables, functions, labels)
                inner = self._patterns(patterns, variables, functions, labels)
                self.check(update, inner, functions, labels)
            case Foreach(_, source, patterns, initial, update, extract):
                self.check(source, variables, functions, labels)
                self.check(initial, variables, functions, labels)
                inner = self._patterns(patterns, variables, functions, labels)
                self.check(update, inner, functions, labels)
                if extract is not None:
                    self.check(extract, inner, functions, labels)
            case Label(_, name, body):
                self.check(body, variables, functions, labels | {name})
            case Define(_, function, body):
                here = functions | {(function.name, len(function.parameters))}
                self._function(function, variables, here, labels)
                self.check(body, variables, here, labels)
            case _:
                for child in _children(node):
                    self.check(child, variables, functions, labels)

    def _function(
        self, function: Function, variables: Names, functions: Functions, labels: Names
    ) -> None:
        plain = {name.removeprefix("$") for name in function.parameters}
        values = {name[1:] for name in function.parameters if name[0] == "$"}
        self.check(
            function.body, variables | values, functions | {(name, 0) for name in plain}, labels
        )

    def _patterns(
        self,
        patterns: Iterable[Pattern],
        variables: Names,
        functions: Functions,
        labels: Names,
    ) -> Names:
        patterns = tuple(patterns)
        found = variables | {name for one in patterns for name in pattern_names(one)}
        for pattern in patterns:
            self._keys(pattern, found, functions, labels)
        return found

    def _keys(
        self, pattern: Pattern, variables: Names, functions: Functions, labels: Names
    ) -> None:
        match pattern:
            case PatternArray(_, items):
                for item in items:
                    self._keys(item, variables, functions, labels)
            case PatternObject(_, entries):
                for key, _, inner in entries:
                    self.check(key, variables, functions, labels)
                    if inner is not None:
                        self._keys(inner, variables, functions, labels)

    # --- what is wrong ------------------------------------------------------------------------

    def _variable(self, at: int, name: str, variables: Names) -> ExpressionError:
        reason = _REFUSED_VARIABLES.get(name)
        if reason is not None:
            return ExpressionError(f"${name} is not allowed: {reason}", at)
        return ExpressionError(
            f"${name} is not defined", at, hint=_suggestion(name, variables, lambda one: f"${one}")
        )

    def _builtin(self, at: int, name: str, arity: int, functions: Functions) -> None:
        plain = name.rpartition("::")[2]
        reason = REFUSED.get(plain)
        if reason is not None and (plain, arity) not in self.known:
            raise ExpressionError(f"{name} is not allowed: {reason}", at)
        if (name, arity) in self.known:
            return
        every = self.known | functions
        arities = sorted(count for one, count in every if one == name)
        if arities:
            counts = " or ".join(map(_arguments, arities))
            raise ExpressionError(
                f"{name}/{arity} is not defined: {name} takes {counts}, this is {_arguments(arity)}",
                at,
            )
        hint = self._hyphen(at) or _suggestion(
            name, {one for one, _ in every if one[0] != "_"}, lambda one: one
        )
        raise ExpressionError(f"{name}/{arity} is not defined", at, hint=hint)

    def _hyphen(self, at: int) -> str:
        """Return what to write for `.steps.book-flight`, which is a subtraction in jq."""
        before = re.search(r"\.([a-zA-Z_][\w-]*)-$", self.text[:at], re.ASCII)
        if before is None:
            return ""
        whole = before[1] + "-" + (re.match(r"[\w-]+", self.text[at:], re.ASCII) or [""])[0]
        return f'A name with a hyphen is written ["{whole}"] in jq.'

    def _format(self, at: int, name: str) -> None:
        if name not in FORMATS:
            raise ExpressionError(
                # jq itself finds out when the program runs: here no event has to fail for it.
                f"@{name} is not allowed: jq has no such format",
                at,
                hint=f"Formats are {', '.join(f'@{one}' for one in sorted(FORMATS))}.",
            )


def _arguments(count: int) -> str:
    return "no arguments" if count == 0 else "1 argument" if count == 1 else f"{count} arguments"


def _suggestion(name: str, known: Iterable[str], shown: object) -> str:
    close = difflib.get_close_matches(name, sorted(set(known)), 1)
    return f"Did you mean {shown(close[0])}?" if close else ""  # type: ignore[operator] # a callable


def _children(node: Node) -> list[Node]:
    match node:
        case Index(_, target, key):
            return [target, key]
        case Slice(_, target, start, stop):
            return [target, *[end for end in (start, stop) if end is not None]]
        case Iterate(_, target):
            return [target]
        case Try(_, body, handler):
            return [body] if handler is None else [body, handler]
        case Negate(_, operand):
            return [operand]
        case Array(_, body):
            return [body]
        case Object(_, entries):
            return [part for entry in entries for part in entry]
        case Binary(_, _, left, right) | Logic(_, _, left, right) | Alternative(_, left, right):
            return [left, right]
        case Assign(_, _, target, value):
            return [target, value]
        case Pipe(_, parts) | Comma(_, parts):
            return list(parts)
        case Text(_, parts, _):
            return [part for part in parts if not isinstance(part, str)]
        case If(_, condition, then, otherwise):
            return [condition, then] if otherwise is None else [condition, then, otherwise]
        case Call(_, _, arguments):
            return list(arguments)
    return []
