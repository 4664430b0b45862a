"""Looks into configuration models: which keys they take, and which nodes hold what.

Goes by the types alone, so that it works on a file that does not validate.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from connectors.settings import Expression
from flows.spec.nodes import Mapping, Node, Scalar, scalars

Marks = tuple[Any, ...]
"""What stands beside a type in `Annotated`."""


def keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return every key that the model takes, other spellings included, with its field."""
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        for key in spellings(name, info):
            found[key] = info
    return found


def spellings(name: str, info: FieldInfo) -> list[str]:
    """Return the keys that a field is read from, the documented one first."""
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    if isinstance(alias, str):
        return [alias]
    return [info.alias or name]


def options(annotation: Any, marks: Marks = ()) -> list[tuple[Any, Marks]]:
    """Return the types that a value may have, unions and aliases taken apart, with their marks."""
    if isinstance(annotation, TypeAliasType):
        return options(annotation.__value__, marks)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *beside = get_args(annotation)
        return options(inner, (*marks, *beside))
    if origin in {Union, UnionType}:
        return [found for arm in get_args(annotation) for found in options(arm, marks)]
    return [(annotation, marks)]


def field_options(info: FieldInfo) -> list[tuple[Any, Marks]]:
    """Return the types of a field; pydantic keeps the outermost marks apart."""
    return options(info.annotation, tuple(info.metadata))


def within(annotation: Any, step: str | int) -> list[tuple[Any, Marks]]:
    """Return the types of what lies under key or index `step` of a value of this type."""
    if is_model(annotation):
        info = keys(annotation).get(str(step)) if isinstance(step, str) else None
        return field_options(info) if info else []
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return []
    if issubclass(origin, AbstractMapping):
        return options(arguments[1]) if isinstance(step, str) and len(arguments) > 1 else []
    if isinstance(step, int) and issubclass(origin, AbstractSequence | set | frozenset):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return options(arguments[step]) if step < len(arguments) else []
        return options(arguments[0])
    return []


def types_at(model: type[BaseModel], path: AbstractSequence[str | int]) -> list[tuple[Any, Marks]]:
    """Return the types that the model has at a path of keys and indexes."""
    found: list[tuple[Any, Marks]] = [(model, ())]
    for step in path:
        found = [inner for annotation, _ in found for inner in within(annotation, step)]
    return found


def is_model(annotation: Any) -> bool:
    """Whether a type is a configuration model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def marked(model: type[BaseModel], node: Node) -> Iterator[tuple[Scalar, Marks]]:
    """Yield each text of the tree that the model marks (an expression, a secret), with its marks.

    A mark on a type that holds anything (`TemplateValue`) is on every text within it.
    """
    yield from _marked([(model, ())], node)


def mappings_of(
    wanted: type[BaseModel], model: type[BaseModel], node: Node
) -> Iterator[tuple[tuple[str | int, ...], Mapping]]:
    """Yield each mapping of the tree that the model reads into a `wanted`, with its path."""
    yield from _mappings_of(wanted, [(model, ())], node, ())


def _mappings_of(
    wanted: type[BaseModel],
    types: list[tuple[Any, Marks]],
    node: Node,
    path: tuple[str | int, ...],
) -> Iterator[tuple[tuple[str | int, ...], Mapping]]:
    if isinstance(node, Mapping) and any(annotation is wanted for annotation, _ in types):
        yield path, node
        return
    for step, child in _children(node):
        inner = [found for annotation, _ in types for found in within(annotation, step)]
        if inner:
            yield from _mappings_of(wanted, inner, child, (*path, step))


def _children(node: Node) -> list[tuple[str | int, Node]]:
    match node:
        case Mapping():
            return [(name, entry.value) for name, entry in node.entries.items()]
        case Scalar():
            return []
        case _:
            return list(enumerate(node.items))


def _marked(types: list[tuple[Any, Marks]], node: Node) -> Iterator[tuple[Scalar, Marks]]:
    if isinstance(node, Scalar):
        if not node.is_text() or _is_literal(types, node.value):
            return
        marks = next((m for annotation, m in types if annotation in {str, Any} and m), ())
        if marks:
            yield node, marks
        return
    whole = next((m for annotation, m in types if annotation is Any and _expression(m)), None)
    if whole is not None:
        for _, scalar in scalars(node):
            if scalar.is_text():
                yield scalar, whole
        return
    types = _fitting(types, node)
    for step, child in _children(node):
        inner = [found for annotation, _ in types for found in within(annotation, step)]
        if inner:
            yield from _marked(inner, child)


def _expression(marks: Marks) -> bool:
    return any(isinstance(mark, Expression) for mark in marks)


def _is_literal(types: list[tuple[Any, Marks]], value: str) -> bool:
    return any(get_origin(t) is Literal and value in get_args(t) for t, _ in types)


def _fitting(types: list[tuple[Any, Marks]], node: Node) -> list[tuple[Any, Marks]]:
    """Return the models whose `type` is the node's, where several differ by it; else all."""
    kind = node.text("type") if isinstance(node, Mapping) else None
    if kind is None:
        return types
    fitting = []
    for annotation, marks in types:
        info = keys(annotation).get("type") if is_model(annotation) else None
        literals = [a for t, _ in (field_options(info) if info else []) for a in get_args(t)]
        if not literals or kind.value in literals:
            fitting.append((annotation, marks))
    return fitting or types
