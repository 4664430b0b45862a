"""Masks what a schema marks as `writeOnly`: what is told of a value must not show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schema_registry.documents import Document, Place
from schema_registry.patterns import matches
from schema_registry.validation import REDACTED, SchemaError

_IN_PLACE = ("allOf", "anyOf", "oneOf")
_ALSO = ("not", "if", "then", "else")


def marks_secrets(document: Document) -> bool:
    """Tell whether a schema, or one that it refers to, marks anything as `writeOnly`."""
    waiting: list[Any] = [document.value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if value.get("writeOnly") is True:
                return True
            waiting += value.values()
    return any(map(marks_secrets, document.referred.values()))


def masked(document: Document, value: Any) -> Any:
    """Return the value with what is `writeOnly` masked, wherever it stands.

    A part that fits one alternative and is a secret in another is masked, too.
    """
    return _masked(list(_saying([document.root])), value)


def _masked(places: list[Place], value: Any) -> Any:
    if any(_says(place).get("writeOnly") is True for place in places):
        return REDACTED
    if not places:
        return value
    if isinstance(value, dict):
        return {
            name: _masked(list(_saying(_of_property(places, name))), inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [
            _masked(list(_saying(_of_item(places, index))), inner)
            for index, inner in enumerate(value)
        ]
    return value


def _saying(places: list[Place]) -> Iterator[Place]:
    """Yield all schemas that say something about the place that these are about."""
    waiting, seen = list(places), set()
    while waiting:
        place = waiting.pop()
        if id(place.value) in seen or not isinstance(place.value, dict):
            continue
        seen.add(id(place.value))
        yield place
        schema = place.value
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(schema.get(keyword), str):
                try:
                    waiting.append(place.document.follow(schema[keyword], place.base))
                except SchemaError:
                    continue
        for keyword in _IN_PLACE:
            parts = schema.get(keyword)
            waiting += [_below(place, each) for each in parts] if isinstance(parts, list) else []
        waiting += [_below(place, schema[each]) for each in _ALSO if each in schema]
        for keyword in ("dependentSchemas", "dependencies"):
            waiting += [_below(place, each) for each in _mapping(schema, keyword).values()]


def _of_property(places: list[Place], name: str) -> list[Place]:
    found = []
    for place in places:
        schema = _says(place)
        named = _mapping(schema, "properties")
        if name in named:
            found.append(_below(place, named[name]))
        for pattern, inner in _mapping(schema, "patternProperties").items():
            if matches(pattern, name):
                found.append(_below(place, inner))
        found += [
            _below(place, schema[each])
            for each in ("additionalProperties", "unevaluatedProperties")
            if each in schema and name not in named
        ]
    return found


def _of_item(places: list[Place], index: int) -> list[Place]:
    found = []
    for place in places:
        schema = _says(place)
        for keyword in ("prefixItems", "items"):
            each = schema.get(keyword)
            if isinstance(each, list):
                found += [_below(place, each[index])] if index < len(each) else []
            elif each is not None:
                found.append(_below(place, each))
        found += [
            _below(place, schema[each])
            for each in ("additionalItems", "unevaluatedItems", "contains")
            if each in schema
        ]
    return found


def _says(place: Place) -> Mapping[str, Any]:
    value: Mapping[str, Any] = place.value
    return value


def _below(place: Place, value: Any) -> Place:
    return Place(place.document, value, place.document.base_of(value, place.base))


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    inner = schema.get(keyword)
    return inner if isinstance(inner, dict) else {}
