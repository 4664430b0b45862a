"""Finds the expressions that a step's or module's settings hold."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from connectors.settings import Expression
from penstock.reference.fields import key_of
from transforms.steps.substeps import SubStep


@dataclass(frozen=True, slots=True)
class FoundExpression:
    """One expression: the key it stands under, its language (jq, template, path), its text."""

    key: str
    language: str
    text: str


def expressions_of(settings: BaseModel, prefix: str = "") -> list[FoundExpression]:
    """Return the expressions of a model's values, in the order of its keys.

    A template without `{{` is plain text and left out.
    """
    return list(dict.fromkeys(_of_model(settings, prefix)))


def _of_model(settings: BaseModel, prefix: str) -> Iterator[FoundExpression]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        yield from _of_value(value, field.annotation, field.metadata, prefix + key_of(name, field))


def _of_value(
    value: Any, annotation: Any, marks: Sequence[Any], key: str
) -> Iterator[FoundExpression]:
    if value is None:
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _of_value(value, arguments[0], [*arguments[1:], *marks], key)
        return
    mark = next((mark for mark in marks if isinstance(mark, Expression)), None)
    if mark is not None:
        yield from _texts(value, mark.language, key)
    elif isinstance(value, SubStep):
        return  # a step of its own, with settings of its own type
    elif isinstance(value, BaseModel):
        yield from _of_model(value, f"{key}.")
    elif origin in {Union, types.UnionType}:
        for part in arguments:
            yield from _of_value(value, part, (), key)
    elif isinstance(value, Mapping) and len(arguments) == 2:
        for name, inner in value.items():
            yield from _of_value(inner, arguments[1], (), f"{key}.{name}")
    elif isinstance(value, list | tuple) and arguments:
        for number, inner in enumerate(value):
            yield from _of_value(inner, arguments[0], (), f"{key}[{number}]")


def _texts(value: Any, language: str, key: str) -> Iterator[FoundExpression]:
    """Yield every text inside a value, whatever its shape."""
    if isinstance(value, str):
        if language != "template" or "{{" in value:
            yield FoundExpression(key, language, value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, language, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, language, f"{key}[{number}]")
