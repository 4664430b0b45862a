"""Templates: text in which `{{ … }}` is an expression.

Inside stands what Go's templates and their users write (paths with hyphenated names, calls in front of
their arguments, pipes, literals, parentheses) or else any jq program. A string that is nothing but one
`{{ … }}` keeps the value's type where a value is wanted; in text null and what is missing read as
nothing, or are an error where the field needs something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from connectors.batch import Column
from connectors.errors import PenstockError, PermanentError
from transforms.executions import Executions
from transforms.expressions.commands import Command, parse_command
from transforms.expressions.errors import ExpressionError
from transforms.expressions.paths import Errors
from transforms.expressions.values import shortened, to_text
from transforms.expressions.views import Plain, Roots, View

Context = Mapping[str, Any] | View | Plain


class Template:
    """A compiled template. `render` gives text, `render_value` a value where it is one expression."""

    __slots__ = ("_only", "_parts", "constant", "is_single", "text")

    def __init__(self, text: str, parts: tuple[str | Command, ...]) -> None:
        self.text = text
        self._parts = parts
        first = parts[0] if len(parts) == 1 else None
        self._only = first if isinstance(first, Command) else None
        self.is_single = self._only is not None
        self.constant: str | None = (
            "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
        )
        """The text, when there is no expression in it."""

    @property
    def commands(self) -> list[Command]:
        """The expressions in it, for `explain`."""
        return [part for part in self._parts if not isinstance(part, str)]

    def render(self, context: Context, *, required: bool = False) -> str:
        """Return the text. Raises PermanentError: `missing_value` for a null where `required`."""
        if self.constant is not None:
            return self.constant
        roots = _roots(context)
        return "".join(
            [
                part if isinstance(part, str) else self._text(part, roots, required=required)
                for part in self._parts
            ]
        )

    def render_value(self, context: Context, *, required: bool = False) -> Any:
        """Return the value of the one expression it is, else the text."""
        if self._only is None:
            return self.render(context, required=required)
        value = _evaluate(self._only, _roots(context))
        if value is None and required:
            raise _missing(self._only)
        return value

    def column(
        self, executions: Executions, indexes: Sequence[int], *, required: bool = False
    ) -> tuple[Column, Errors]:
        """Return the text per index, and the errors of those that have none."""
        if self.constant is not None:
            return [self.constant] * len(indexes), {}
        return _column(lambda view: self.render(view, required=required), executions, indexes)

    @staticmethod
    def _text(command: Command, roots: Roots, *, required: bool) -> str:
        value = _evaluate(command, roots)
        if value is None and required:
            raise _missing(command)
        return to_text(value)


class ValueTemplate:
    """A YAML value in which every string may be a template."""

    __slots__ = ("_build", "constant")

    def __init__(self, build: Callable[[Roots], Any], *, constant: bool) -> None:
        self._build = build
        self.constant = constant
        """No expression is in it: every event gets the same value."""

    def render(self, context: Context) -> Any:
        """Return the value. Raises PermanentError where an expression fails."""
        return self._build(_roots(context))

    def column(self, executions: Executions, indexes: Sequence[int]) -> tuple[Column, Errors]:
        """Return the value per index, and the errors of those that have none."""
        return _column(self._build, executions, indexes)


@cache
def compile_template(text: str) -> Template:
    """Compile a template, once per process. Raises ExpressionError with the place in `text`."""
    parts: list[str | Command] = []
    at = 0
    while True:
        opening = text.find("{{", at)
        if opening < 0:
            break
        if opening > at:
            parts.append(text[at:opening])
        closing = _closing(text, opening + 2)
        parts.append(parse_command(text[opening + 2 : closing], opening + 2))
        at = closing + 2
    if at < len(text) or not parts:
        parts.append(text[at:])
    return Template(text, tuple(parts))


def compile_value(value: Any) -> ValueTemplate:
    """Compile every string in a YAML value. Raises ExpressionError."""
    build, constant = _builder(value)
    return ValueTemplate(build, constant=constant)


def _builder(value: Any) -> tuple[Callable[[Roots], Any], bool]:
    if isinstance(value, str):
        template = compile_template(value)
        if template.constant is not None:
            return (lambda _roots: value), True
        return template.render_value, False
    if isinstance(value, Mapping):
        entries = [(str(name), _builder(item)) for name, item in value.items()]
        if not all(constant for _, (_, constant) in entries):
            builders = [(name, build) for name, (build, _) in entries]
            return (lambda roots: {name: build(roots) for name, build in builders}), False
    elif isinstance(value, (list, tuple)):
        items = [_builder(item) for item in value]
        if not all(constant for _, constant in items):
            return (lambda roots: [build(roots) for build, _ in items]), False
    return (lambda _roots: value), True


def _closing(text: str, start: int) -> int:
    """Return where the `}}` is that closes an expression: not one inside a string, nor `{a: {…}}`."""
    at, depth = start, 0
    quote: Literal['"', "`", ""] = ""
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\" and quote == '"':
                at += 1
            elif character == quote:
                quote = ""
        elif character in {'"', "`"}:
            quote = character  # type: ignore[assignment]  # one of the two
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0 and text.startswith("}}", at):
                return at
            depth = max(0, depth - 1)
        at += 1
    raise ExpressionError("{{ has no closing }}", start - 2)


def _roots(context: Context) -> Roots:
    return context if isinstance(context, (View, Plain)) else Plain(context)


def _evaluate(command: Command, roots: Roots) -> Any:
    try:
        return command.evaluate(roots)
    except PenstockError as error:
        raise PermanentError(
            f"{error.message.rstrip('.')} (in {{{{ {shortened(command.text)} }}}}).",
            code=error.code,
            hint=error.hint,
            **error.context,
        ) from None


def _missing(command: Command) -> PermanentError:
    return PermanentError(
        f"{{{{ {shortened(command.text)} }}}} has no value in this event.",
        code="missing_value",
        hint='Give it one with `| default "…"`, or send only events that have it here.',
    )


def _column(
    build: Callable[[View], Any], executions: Executions, indexes: Sequence[int]
) -> tuple[Column, Errors]:
    values: Column = []
    errors: Errors = {}
    for index in indexes:
        try:
            values.append(build(View(executions, index)))
        except PenstockError as error:
            errors[index] = error
            values.append(None)
    return values, errors
