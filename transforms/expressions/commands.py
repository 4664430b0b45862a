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
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from connectors.errors import PermanentError
from transforms.expressions.errors import ExpressionError
from transforms.expressions.functions import FUNCTIONS
from transforms.expressions.jq import compile_jq
from transforms.expressions.paths import walk
from transforms.expressions.printing import misfit
from transforms.expressions.values import access, to_text
from transforms.expressions.views import Plain, Roots

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
_ANEW = {"now", "uuid", "uuidv4"}
"""Functions that give another value each time."""
_NOTHING = Plain({})
_LITERALS = {"true": True, "false": False, "null": None, "nil": None}


class _NotACommand(Exception):  # noqa: N818 - a way out, not an error: jq takes it
    """Raised where a text is no template; then it is tried as jq.

    `mistake` is what is wrong with it if jq can't read it either, `unknown` a function that
    templates don't have, and its place.
    """

    def __init__(
        self, mistake: ExpressionError | None = None, unknown: tuple[str, int] | None = None
    ) -> None:
        super().__init__()
        self.mistake = mistake
        self.unknown = unknown


class Command:
    """A compiled expression of a template."""

    __slots__ = ("engine", "evaluate", "reads", "source", "text")

    def __init__(
        self,
        text: str,
        evaluate: Node,
        engine: str,
        source: str | None = None,
        reads: Sequence[Sequence[str | int]] = (),
    ) -> None:
        self.text = text
        self.evaluate = evaluate
        self.engine = engine
        """path, template, or the jq engine that runs it."""
        self.source = source
        """The Python that a jq program runs as."""
        self.reads = reads
        """The places of the context it reads, each by its keys."""


def parse_command(source: str, offset: int) -> Command:
    """Compile what stands between the braces, at `offset` of its text. Raises ExpressionError."""
    text = source.strip()
    if not text:
        raise ExpressionError("expected an expression between {{ and }}", offset)
    start = offset + source.index(text)
    why = _NotACommand()
    try:
        parser = _Parser(text)
        node = parser.whole()
        engine = "path" if parser.is_path else "template"
        return Command(text, node, engine, reads=parser.reads)
    except _NotACommand as error:
        why = error
    except ExpressionError as error:
        raise _moved(error, start, text) from None
    except RecursionError:
        pass
    try:
        program = compile_jq(_HYPHENATED.sub(r'."\1"', text))
    except ExpressionError as error:
        raise _moved(why.mistake or _of_both(text, error, why.unknown), start, text) from None
    return Command(text, program.first_of, program.engine, program.source, program.reads)


def _of_both(text: str, error: ExpressionError, unknown: tuple[str, int] | None) -> ExpressionError:
    """Return jq's error of a text, or a better one where the text is more of a template than of jq."""
    missing = _undefined(error)
    if missing in FUNCTIONS and unknown is not None:
        try:
            compile_jq(unknown[0])
        except ExpressionError as other:
            # Neither of the two has it; jq has only stumbled over a function of templates before.
            if _undefined(other) == unknown[0]:
                error = ExpressionError(other.message, unknown[1], hint=other.hint)
    return ExpressionError(error.message, error.position, hint=_hint(text, error) or error.hint)


def _undefined(error: ExpressionError) -> str:
    """Return the name of which jq has no function at all."""
    found = re.match(r"(\w+)/\d+ is not defined$", error.message)
    return found[1] if found else ""


def _moved(error: ExpressionError, start: int, text: str) -> ExpressionError:
    """Return an error in `text` as one of the template that it begins in at `start`."""
    at = start + min(error.position, len(text) - 1)
    return ExpressionError(error.message, at, hint=error.hint)


def _hint(text: str, error: ExpressionError) -> str:
    """Return what somebody who knows Go's templates may have meant."""
    word = re.match(r"[a-z]+", text)
    if word and word[0] in _GOS:
        return _GOS[word[0]]
    missing = _undefined(error)
    if missing in FUNCTIONS:
        return (
            f"{missing} is a function of templates. With anything else than calls and paths in it "
            "the whole is a jq program, and jq has no such function."
        )
    found = get_close_matches(missing, FUNCTIONS, 1, 0.75) if missing else []
    return f"Did you mean {found[0]}?" if found else ""


_BLOCKS = "There are no blocks; jq has expressions instead: "
_GOS = {
    "if": f'{_BLOCKS}{{{{ if .total > 3 then "big" else "small" end }}}}.',
    "with": f"{_BLOCKS}{{{{ .customer | .name }}}}.",
    "range": f'{_BLOCKS}{{{{ [.items[] | .sku] | join(", ") }}}}.',
    "else": f'{_BLOCKS}{{{{ if .total > 3 then "big" else "small" end }}}}.',
    "end": f'{_BLOCKS}{{{{ if .total > 3 then "big" else "small" end }}}}.',
    "env": "What is in the environment is written ${NAME}, and read once when the flow is loaded.",
    "config": "What is configured is written ${NAME}, and read once when the flow is loaded.",
    "call": "Functions of your own are steps: step.python.",
}
"""What Go's templates have and these don't → what to write instead."""


class _Constant:
    """A literal."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, _roots: Roots) -> Any:
        return self.value


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self.is_path = False
        self.reads: list[Sequence[str | int]] = []

    def whole(self) -> Node:
        node = self._pipeline()
        if self._at < len(self._tokens):
            raise _NotACommand
        self.is_path = all(kind == "field" for kind, _, _ in self._tokens)
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
        at = self._place
        if name not in FUNCTIONS and name not in {"step", "trigger"}:
            raise _NotACommand(unknown=(name, at))
        arguments: list[Node] = []
        while self._at < len(self._tokens) and self._tokens[self._at][1] not in {"|", ")"}:
            arguments.append(self._operand())
        if piped is not None:
            arguments.append(piped)
        if name in {"step", "trigger"} and piped is None and arguments:
            if name == "step" and isinstance(arguments[0], _Constant):
                self.reads.append(["steps", arguments[0].value])
            return _lookup("steps" if name == "step" else "trigger", arguments)
        return self._calling(name, arguments, at)

    def _calling(self, name: str, arguments: list[Node], at: int) -> Node:
        """Return the call. Raises _NotACommand for another number of values than it takes."""
        function = FUNCTIONS.get(name)
        if function is None:
            raise _NotACommand
        if not _takes(function, len(arguments)):
            raise _NotACommand(_wrong_count(name, function, len(arguments), at))
        call = _calling(name, function, arguments)
        if name in _ANEW:
            return call
        try:
            if all(isinstance(argument, _Constant) for argument in arguments):
                call(_NOTHING)  # what never can be is said now, and not event by event
            elif name == "printf" and isinstance(arguments[0], _Constant):
                wrong = misfit(to_text(arguments[0].value), len(arguments) - 1)
                if wrong:
                    raise ExpressionError(f"printf can't take these values: {wrong}", at)
        except PermanentError as error:
            raise ExpressionError(error.message.rstrip("."), at) from None
        return call

    def _operand(self) -> Node:
        kind, value = self._next()
        if kind == "field":
            self._at -= 1
            return self._path()
        if kind == "string":
            return _Constant(value[1:-1] if value[0] == "`" else _unquoted(value))
        if kind == "number":
            return _Constant(_number(value))
        if kind == "name" and value in _LITERALS:
            return _Constant(_LITERALS[value])
        if kind == "name":
            return self._calling(value, [], self._place)
        if value == "(":
            node = self._pipeline()
            if not self._take(")"):
                raise _NotACommand
            return self._after(node)
        raise _NotACommand

    def _path(self) -> Node:
        parts = self._parts()
        self.reads.append(parts)
        return lambda roots: walk(parts, roots)

    def _parts(self) -> list[str | int]:
        parts: list[str | int] = []
        while self._at < len(self._tokens):
            kind, value, at = self._tokens[self._at]
            if at != self._end and (parts or value == "["):
                break  # `eq .a .b` compares two values
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

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _NotACommand
        self._at += 1
        return self._tokens[self._at - 1][:2]

    @property
    def _end(self) -> int:
        """Where the token ends that was read last."""
        if not self._at:
            return 0
        _, value, at = self._tokens[self._at - 1]
        return at + len(value)

    @property
    def _place(self) -> int:
        """Where the token stands that was read last."""
        return self._tokens[self._at - 1][2]

    def _take(self, value: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][:2] == ("op", value):
            self._at += 1
            return True
        return False


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """Return kind, text and place of each. Raises _NotACommand."""
    found: list[tuple[str, str, int]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _NotACommand
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0], at))
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


def _wrong_count(name: str, function: Callable[..., Any], count: int, at: int) -> ExpressionError:
    """Return the error of a function that is given too many or too few values."""
    parameters = inspect.signature(function).parameters.values()
    least = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
    most = len(parameters)
    wanted = f"{least} value{'s' if least != 1 else ''}"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        wanted = f"at least {wanted}"
    elif most > least:
        wanted = f"{least} to {most} values"
    return ExpressionError(
        f"{name} takes {wanted}, and is given {count}",
        at,
        hint="What is piped into it comes last; a value that is computed needs parentheses.",
    )


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
