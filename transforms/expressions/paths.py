"""Dotted paths into the context: `steps.shape.output`, `.trigger.data.items[0]`, `.`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from connectors.batch import Column
from connectors.errors import PenstockError
from transforms.executions import Executions
from transforms.expressions.errors import ExpressionError
from transforms.expressions.values import access
from transforms.expressions.views import Plain, Roots, View

Errors = dict[int, PenstockError]

_PART = re.compile(r"\.?([A-Za-z_$][\w$-]*|\d{1,18})|\[(-?\d{1,18})\]|\[\"((?:[^\"\\]|\\.)*)\"\]")


class Path:
    """A compiled path. The first part names a root of the context; none means all of it."""

    __slots__ = ("parts", "text")

    def __init__(self, parts: tuple[str | int, ...], text: str) -> None:
        self.parts = parts
        self.text = text

    def get(self, context: Mapping[str, Any]) -> Any:
        """Return what is there, None when nothing is. Raises PermanentError where jq would."""
        return walk(self.parts, Plain(context))

    def column(self, executions: Executions, indexes: Sequence[int]) -> tuple[Column, Errors]:
        """Return the value per index, and the errors of those that have none."""
        return path_column(self.parts, executions, indexes)


@cache
def parse_path(text: str) -> Path:
    """Return the path that `text` is, with or without a leading dot. Raises ExpressionError."""
    stripped = text.strip()
    if stripped in {"", "."}:
        if not stripped:
            raise ExpressionError("expected a path such as steps.shape.output", 0)
        return Path((), text)
    parts: list[str | int] = []
    at = 0
    while at < len(stripped):
        match = _PART.match(stripped, at)
        if match is None or (at > 0 and match[1] is not None and stripped[at] != "."):
            raise ExpressionError(
                "expected a path such as steps.shape.output", text.index(stripped) + at
            )
        name, number, quoted = match.groups()
        if name is not None:
            parts.append(int(name) if name.isdigit() and parts else name)
        else:
            parts.append(int(number) if number is not None else quoted.replace('\\"', '"'))
        at = match.end()
    if not isinstance(parts[0], str):
        raise ExpressionError("a path begins with a name", 0)
    return Path(tuple(parts), text)


def walk(parts: Sequence[str | int], roots: Roots) -> Any:
    """Return what `parts` lead to; the whole context when there are none."""
    if not parts:
        return roots.whole()
    value = roots.get(str(parts[0]))
    for part in parts[1:]:
        value = access(value, part)
    return value


def path_column(
    parts: tuple[str | int, ...], executions: Executions, indexes: Sequence[int]
) -> tuple[Column, Errors]:
    """Return the value per index; columns are read as they are where the path allows."""
    column, rest = begun(parts, executions, indexes)
    if column is None:
        return _one_by_one(parts, executions, indexes)
    if not rest:
        return list(column), {}
    try:
        if len(rest) == 1 and isinstance(rest[0], str):
            key = rest[0]
            return [value.get(key) for value in column], {}
    except AttributeError:  # not an object somewhere: null or an error, one by one
        pass
    values: Column = []
    errors: Errors = {}
    for index, found in zip(indexes, column, strict=True):
        try:
            value = found
            for part in rest:
                value = access(value, part)
        except PenstockError as error:
            errors[index] = error
            value = None
        values.append(value)
    return values, errors


def begun(
    parts: tuple[str | int, ...], executions: Executions, indexes: Sequence[int]
) -> tuple[Column | None, tuple[str | int, ...]]:
    """Return per index what a path begins with, and what is left of it.

    None for all of the context, of the steps, or of one step. The column may be the batch's own.
    """
    match parts:
        case ("data", *rest) | ("trigger", "data", *rest):
            return executions.picked(executions.events.column("data"), indexes), tuple(rest)
        case ("steps", str(name), "output", *rest):
            return executions.output_column(name, indexes), tuple(rest)
        case ("steps", *_):
            return None, parts
        case ("trigger", str(name), *rest):
            return executions.trigger_column(name, indexes), tuple(rest)
        case (str(name), *rest):
            return executions.root_column(name, indexes), tuple(rest)
        case _:
            return None, parts


def _one_by_one(
    parts: tuple[str | int, ...], executions: Executions, indexes: Sequence[int]
) -> tuple[Column, Errors]:
    values: Column = []
    errors: Errors = {}
    for index in indexes:
        try:
            values.append(walk(parts, View(executions, index)))
        except PenstockError as error:
            errors[index] = error
            values.append(None)
    return values, errors
