"""What a JSON Schema says, taken apart into shapes that can be compared.

A schema object may say several things at once; each is a shape of its own then, and all of them
together are a `Combined` of `allOf`. What lies below is not read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from typing import Any, Literal, TypeAlias

from schema_registry.documents import Place, canonical
from schema_registry.validation import SchemaError

Criterion = Literal["allOf", "anyOf", "oneOf"]


@dataclass(eq=False, slots=True)
class Shape:
    """What one schema says; two are the same only if they are the same object."""

    notes: tuple[str | None, ...] = (None, None, None, None)
    """id, title, description, default: their canonical texts."""
    connect_type: Any = None

    @property
    def has_default(self) -> bool:
        """Whether it names a default."""
        return self.notes[3] is not None


@dataclass(eq=False, slots=True)
class Anything(Shape):
    """`{}` or `true`."""


@dataclass(eq=False, slots=True)
class Nothing(Shape):
    """`false`."""


@dataclass(eq=False, slots=True)
class Truth(Shape):
    """`type: boolean`."""


@dataclass(eq=False, slots=True)
class Null(Shape):
    """`type: null`."""


@dataclass(eq=False, slots=True)
class Text(Shape):
    """A string."""

    limits: Mapping[str, Fraction] = field(default_factory=dict)
    pattern: str | None = None


@dataclass(eq=False, slots=True)
class Number(Shape):
    """A number."""

    limits: Mapping[str, Fraction] = field(default_factory=dict)
    multiple_of: Fraction | None = None
    integer: bool = False


@dataclass(eq=False, slots=True)
class Object(Shape):
    """An object."""

    limits: Mapping[str, Fraction] = field(default_factory=dict)
    properties: Mapping[str, Node] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    patterns: Mapping[str, Node] = field(default_factory=dict)
    others: Node | bool = True
    """additionalProperties: whether they are allowed, or what they must fit."""
    unevaluated: Node | None = None
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """A property → those that must be there with it."""
    needs_schema: Mapping[str, Node] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Array(Shape):
    """An array."""

    limits: Mapping[str, Fraction] = field(default_factory=dict)
    all_items: Node | None = None
    items: Sequence[Node] = ()
    others: Node | bool = True
    """Items behind `items`: whether they are allowed, or what they must fit."""
    unevaluated: Node | None = None
    unique: bool = False


@dataclass(eq=False, slots=True)
class Enum(Shape):
    """One of some values."""

    values: frozenset[str] = frozenset()


@dataclass(eq=False, slots=True)
class Const(Shape):
    """One value."""

    value: str = ""


@dataclass(eq=False, slots=True)
class Not(Shape):
    """Whatever does not fit another."""

    refused: Node = field(default_factory=Anything)


@dataclass(eq=False, slots=True)
class Conditional(Shape):
    """`if`, `then` and `else`; what is in them is not compared, as Confluent does not."""


@dataclass(eq=False, slots=True)
class Combined(Shape):
    """Several schemas, all, any or one of which must fit."""

    criterion: Criterion = "allOf"
    parts: Sequence[Node] = ()


Node: TypeAlias = Place | Shape
"""A schema that is yet to be read, or what it says."""

_SIZES = {
    "string": ("maxLength", "minLength"),
    "number": ("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"),
    "object": ("maxProperties", "minProperties"),
    "array": ("maxItems", "minItems", "maxContains", "minContains"),
}

_KEYWORDS = {
    "array": {"items", "prefixItems", "additionalItems", "unevaluatedItems", "uniqueItems"}
    | {"contains", *_SIZES["array"]},
    "object": {"properties", "patternProperties", "additionalProperties", "unevaluatedProperties"}
    | {"required", "dependencies", "dependentRequired", "dependentSchemas", "propertyNames"}
    | {*_SIZES["object"]},
    "number": {"multipleOf", *_SIZES["number"]},
    "string": {"pattern", "format", *_SIZES["string"]},
}
"""Which type a keyword is about, where no `type` is said."""

_ANYTHING, _NOTHING = Anything(), Nothing()
"""What true and false say. Shapes are told apart by identity, so there is one of each."""

_OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")
"""There a `$ref` stands alone: what is beside it does not count."""


class Reader:
    """Reads schemas, each once: the same schema is the same shape."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, int], Shape] = {}
        self._kept: list[Any] = []  # what is known by its id must live as long

    def shape(self, node: Node) -> Shape:
        """Return what a schema says, where its `$ref` leads to if it is one. Raises SchemaError."""
        if isinstance(node, Shape):
            return node
        seen: set[int] = set()
        while (target := _alone(node)) is not None:
            if id(node.value) in seen:
                return _ANYTHING  # it refers to itself and to nothing else
            seen.add(id(node.value))
            node = node.document.follow(target, node.base)
        if isinstance(node.value, bool):
            return _ANYTHING if node.value else _NOTHING
        key = (id(node.document), id(node.value))
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = _read(node)
            self._kept.append(node)
        return found


def _alone(place: Place) -> str | None:
    """Return the `$ref` of a schema that says nothing else that counts."""
    value = place.value
    if not isinstance(value, dict):
        return None
    target = _target(value)
    if target is None:
        return None
    dialect = place.document.value.get("$schema") if isinstance(place.document.value, dict) else ""
    if isinstance(dialect, str) and any(draft in dialect for draft in _OLD_DRAFTS):
        return target
    return target if not any(_says(keyword) for keyword in value) else None


def _target(value: Mapping[str, Any]) -> str | None:
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(value.get(keyword), str):
            target: str = value[keyword]
            return target
    return None


_SAYS = frozenset(
    {"type", "enum", "const", "not", "allOf", "anyOf", "oneOf", "if"}.union(*_KEYWORDS.values())
)


def _says(keyword: str) -> bool:
    return keyword in _SAYS


def _read(place: Place) -> Shape:
    value = place.value
    if not isinstance(value, dict):
        raise SchemaError(f"expected a schema, found {canonical(value)[:60]}.", ())
    found: list[Node] = []
    target = _target(value)
    if target is not None:
        found.append(place.document.follow(target, place.base))
    if isinstance(value.get("enum"), list):
        found.append(Enum(values=frozenset(map(canonical, value["enum"]))))
    for criterion in ("allOf", "anyOf", "oneOf"):
        parts = value.get(criterion)
        if isinstance(parts, list) and parts:
            inner = [_below(place, part) for part in parts]
            found.append(Combined(criterion=criterion, parts=inner))
    if "not" in value:
        found.append(Not(refused=_below(place, value["not"])))
    if "const" in value:
        found.append(Const(value=canonical(value["const"])))
    if "if" in value:
        found.append(Conditional())
    found += _typed(place, value)
    shape: Shape
    if not found:
        shape = Anything()
    elif len(found) == 1 and isinstance(found[0], Shape):
        shape = found[0]
    else:
        shape = Combined(criterion="allOf", parts=found)
    shape.notes = tuple(
        canonical(value[name]) if name in value else None
        for name in ("$id" if "$id" in value else "id", "title", "description", "default")
    )
    shape.connect_type = value.get("connect.type")
    return shape


def _typed(place: Place, value: Mapping[str, Any]) -> list[Shape]:
    kinds = value.get("type")
    if isinstance(kinds, str):
        return [_of_type(place, value, kinds)]
    if isinstance(kinds, list):
        parts = [_of_type(place, value, kind) for kind in kinds if isinstance(kind, str)]
        return [Combined(criterion="anyOf", parts=parts)] if parts else []
    return [
        _of_type(place, value, kind)
        for kind, keywords in _KEYWORDS.items()
        if not keywords.isdisjoint(value)
    ]


def _of_type(place: Place, value: Mapping[str, Any], kind: str) -> Shape:
    limits = _limits(value, _SIZES.get("number" if kind == "integer" else kind, ()))
    match kind:
        case "string":
            pattern = value.get("pattern")
            return Text(limits=limits, pattern=pattern if isinstance(pattern, str) else None)
        case "number" | "integer":
            return Number(
                limits=limits,
                multiple_of=_exact(value.get("multipleOf")),
                integer=kind == "integer",
            )
        case "object":
            return _object(place, value, limits)
        case "array":
            return _array(place, value, limits)
        case "boolean":
            return Truth()
        case "null":
            return Null()
    return Anything()


def _object(place: Place, value: Mapping[str, Any], limits: Mapping[str, Fraction]) -> Object:
    needs: dict[str, frozenset[str]] = {}
    needs_schema: dict[str, Node] = {}
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        for name, needed in _mapping(value, keyword).items():
            if isinstance(needed, list):
                needs[name] = frozenset(map(str, needed))
            else:
                needs_schema[name] = _below(place, needed)
    required = value.get("required")
    return Object(
        limits=limits,
        properties=_all_below(place, _mapping(value, "properties")),
        required=frozenset(map(str, required)) if isinstance(required, list) else frozenset(),
        patterns=_all_below(place, _mapping(value, "patternProperties")),
        others=_others(place, value.get("additionalProperties", True)),
        unevaluated=_maybe(place, value, "unevaluatedProperties"),
        needs=needs,
        needs_schema=needs_schema,
    )


def _array(place: Place, value: Mapping[str, Any], limits: Mapping[str, Fraction]) -> Array:
    prefix, rest = value.get("prefixItems"), value.get("items")
    if isinstance(rest, list):  # up to draft 2019-09
        prefix, rest = rest, value.get("additionalItems", True)
    all_items: Node | None = None
    others: Node | bool = True
    if isinstance(prefix, list) and prefix:
        others = _others(place, True if rest is None else rest)
    elif rest is False:
        others = False
    else:
        others = _others(place, value.get("additionalItems", True))
        if rest is not None and rest is not True:
            all_items = _below(place, rest)
    return Array(
        limits=limits,
        all_items=all_items,
        items=[_below(place, item) for item in prefix] if isinstance(prefix, list) else (),
        others=others,
        unevaluated=_maybe(place, value, "unevaluatedItems"),
        unique=value.get("uniqueItems") is True,
    )


def _below(place: Place, value: Any) -> Node:
    return Place(place.document, value, place.document.base_of(value, place.base))


def _all_below(place: Place, values: Mapping[str, Any]) -> dict[str, Node]:
    return {name: _below(place, value) for name, value in values.items()}


def _maybe(place: Place, value: Mapping[str, Any], keyword: str) -> Node | None:
    return _below(place, value[keyword]) if keyword in value else None


def _others(place: Place, value: Any) -> Node | bool:
    return value if isinstance(value, bool) else _below(place, value)


def _mapping(value: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    inner = value.get(keyword)
    return inner if isinstance(inner, dict) else {}


def _limits(value: Mapping[str, Any], keywords: Sequence[str]) -> dict[str, Fraction]:
    found = {}
    for keyword in keywords:
        limit = value.get(keyword)
        if limit is True:  # draft 4: exclusiveMaximum says how maximum is meant
            limit = value.get(keyword.replace("exclusiveM", "m"))
        number = _exact(limit)
        if number is not None:
            found[keyword] = number
    return found


def _exact(value: Any) -> Fraction | None:
    """Return a number as it is written: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return Fraction(str(value)) if isinstance(value, int) or isfinite(value) else None
