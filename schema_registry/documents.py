"""JSON Schemas as documents: read exactly, written canonically, their `$ref`s followed.

Nothing is fetched: a `$ref` leads into its own document, or into one that was handed over with it
under the name that the `$ref` uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from urllib.parse import unquote, urljoin

from schema_registry.validation import SchemaError

DEEPEST = 100
"""Levels of objects and arrays within a schema. Real ones have less than 30."""

_DATA = frozenset({"enum", "const", "default", "examples"})
"""Keywords whose values are data: what looks like a schema's identifier in there is none."""

_NAMES = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
"""Keywords that hold schemas by names, which may be any, `enum` too."""


def parse_schema(text: str) -> dict[str, Any] | bool:
    """Return the schema that a text holds, its integers exact. Raises SchemaError."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SchemaError(f"this is not JSON: {reason}.", ()) from None
    check_storable(value)
    return value  # type: ignore[no-any-return]  # check_storable has looked


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:40]} is beyond all floating-point numbers")
    return number


def check_storable(value: Any) -> None:
    """Raise SchemaError for what is no schema at all, is nested too deep, or can't be stored."""
    if not isinstance(value, (dict, bool)):
        raise SchemaError("a JSON Schema is an object, or true or false.", ())
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            break
    else:
        raise SchemaError(f"the schema is nested deeper than {DEEPEST} levels.", ())
    try:
        canonical(value).encode()
    except UnicodeEncodeError:
        raise SchemaError("the schema holds half of a surrogate pair.", ()) from None
    except ValueError:
        raise SchemaError("the schema holds a number that JSON does not have.", ()) from None


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _schemas_within(value: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what may hold schemas below one; data in enum, const and default is passed over."""
    for keyword, inner in value.items():
        if keyword in _NAMES and isinstance(inner, dict):
            yield from inner.values()
        elif keyword not in _DATA:
            yield inner


def canonical(value: Any) -> str:
    """Return the JSON text that equal values share: keys sorted, no spaces."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def compact(value: Any) -> str:
    """Return the JSON text of a value without spaces, its keys in their own order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """What a schema refers to: `name` is how its `$ref` says it, up to the `#`."""

    name: str
    subject: str
    version: int


def digest(value: Any, references: tuple[Reference, ...] = ()) -> str:
    """Return what tells contents apart: SHA-256 of the canonical text and the references."""
    referred = [[each.name, each.subject, each.version] for each in sorted(set(references))]
    return hashlib.sha256(canonical([value, referred]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """A schema within a document, and the URI that its `$ref`s are relative to."""

    document: Document
    value: Any
    base: str


@dataclass(frozen=True, eq=False)
class Document:
    """A schema and those that it refers to, by the names that its `$ref`s use."""

    value: Any
    referred: Mapping[str, Document] = field(default_factory=dict)
    _resources: dict[str, tuple[Any, str]] = field(default_factory=dict, repr=False)
    """URI → the schema of that `$id`, and its base."""
    _anchors: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        base = _without_fragment(self._own_id(self.value) or "")
        self._resources[""] = self._resources[base] = (self.value, base)
        self._index(self.value, base)

    @property
    def root(self) -> Place:
        """Return the whole document."""
        return Place(self, *self._resources[""])

    def follow(self, reference: str, base: str) -> Place:
        """Return what a `$ref` leads to. Raises SchemaError `json_schema_invalid`."""
        name, _, fragment = reference.partition("#")
        uri = _without_fragment(_join(base, name))
        found = self._resources.get(uri if name else base) or self._resources.get(name)
        document = self
        if found is None:
            document = self._other(name, uri)  # type: ignore[assignment]
            if document is None:
                raise _nowhere(reference, "no such schema is declared among its references")
            found = document._resources[""]  # noqa: SLF001 - another of the same kind
        value, base = found
        fragment = unquote(fragment)
        if not fragment:
            return Place(document, value, base)
        if fragment.startswith("/"):
            return document._pointed(fragment, value, base, reference)  # noqa: SLF001
        anchored = document._anchors.get((base, fragment))  # noqa: SLF001
        if anchored is None:
            raise _nowhere(reference, f"there is no $anchor {fragment}")
        return Place(document, *anchored)

    def has(self, name: str, base: str) -> bool:
        """Tell whether a URI is of this document itself."""
        return name in self._resources or _without_fragment(_join(base, name)) in self._resources

    def _other(self, name: str, uri: str) -> Document | None:
        for each in (name, uri):
            if each in self.referred:
                return self.referred[each]
        for other in self.referred.values():
            if uri and uri in other._resources:  # noqa: SLF001
                return other
        return None

    def _pointed(self, pointer: str, value: Any, base: str, reference: str) -> Place:
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key[:9]) < len(value):
                value = value[int(key[:9])]
            else:
                raise _nowhere(reference, f"there is no {key}")
            base = self.base_of(value, base)
        return Place(self, value, base)

    def base_of(self, value: Any, base: str) -> str:
        """Return what `$ref`s in a schema are relative to, when `base` is so around it."""
        own = self._own_id(value)
        if own is None or own.startswith("#"):
            return base
        return _without_fragment(_join(base, own))

    def _own_id(self, value: Any) -> str | None:
        """Return `$id`; in draft 4 `id`, which is nothing in later ones."""
        own = value.get(self._id_keyword) if isinstance(value, dict) else None
        return own if isinstance(own, str) else None

    @property
    def _id_keyword(self) -> str:
        dialect = self.value.get("$schema") if isinstance(self.value, dict) else None
        old = isinstance(dialect, str) and "draft-04" in dialect
        return "id" if old else "$id"

    def _index(self, value: Any, base: str) -> None:
        """Note every `$id` and `$anchor` below."""
        waiting = [(value, base)]
        while waiting:
            value, base = waiting.pop()
            if isinstance(value, list):
                waiting += [(inner, base) for inner in value]
                continue
            if not isinstance(value, dict):
                continue
            own = self._own_id(value)
            if own is not None and own.startswith("#"):  # drafts 4 to 7 name anchors so
                self._anchors.setdefault((base, own[1:]), (value, base))
            elif own is not None and value is not self.value:
                base = self.base_of(value, base)
                self._resources.setdefault(base, (value, base))
            for keyword in ("$anchor", "$dynamicAnchor"):
                anchor = value.get(keyword)
                if isinstance(anchor, str):
                    self._anchors.setdefault((base, anchor), (value, base))
            waiting += [(inner, base) for inner in _schemas_within(value)]


def _without_fragment(uri: str) -> str:
    return uri.partition("#")[0]


def _join(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:  # such as an address with half of its brackets
        return reference


def _nowhere(reference: str, why: str) -> SchemaError:
    return SchemaError(
        f"the $ref {reference[:200]} leads nowhere: {why}.",
        (),
        hint="A $ref leads into its own schema or into a registered one that is named in its"
        " references; nothing is fetched.",
    )


def check_references(document: Document) -> None:
    """Raise SchemaError when a `$ref` of the document leads nowhere."""
    for target, base in _references(document):
        document.follow(target, base)


def outside(value: Any) -> set[str]:
    """Return the names of other documents that a schema's `$ref`s lead to."""
    document = Document(value)
    return {
        name
        for target, base in _references(document)
        if (name := _without_fragment(target)) and not document.has(name, base)
    }


def _references(document: Document) -> Iterator[tuple[str, str]]:
    """Yield each `$ref` with the URI that it is relative to."""
    waiting: list[tuple[Any, str]] = [(document.value, document.root.base)]
    while waiting:
        value, base = waiting.pop()
        if isinstance(value, list):
            waiting += [(inner, base) for inner in value]
        elif isinstance(value, dict):
            base = document.base_of(value, base)
            target = value.get("$ref")
            if isinstance(target, str):
                yield target, base
            waiting += [(inner, base) for inner in _schemas_within(value)]
