"""Drafts a JSON Schema from values: one that takes all of them, to be read and sharpened by a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from schema_registry.validation import compile_schema

MANY_NAMES = 100
"""An object with more different properties than this holds entries by key, not fields."""

_FEW = 2
"""Texts that a format must have been seen in before it is believed."""

_LOOKS_LIKE = {
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT.+"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "uuid": re.compile(r"[0-9A-Fa-f-]{36}"),
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "uri": re.compile(r"[a-z][a-z0-9+.-]*://\S+"),
}
_VALID: dict[str, Callable[[Any], bool]] = {}


def _valid(format_: str, text: str) -> bool:
    if not _LOOKS_LIKE[format_].fullmatch(text):
        return False
    check = _VALID.get(format_)
    if check is None:
        check = _VALID[format_] = compile_schema({"type": "string", "format": format_}).is_valid
    return check(text)


@dataclass(slots=True)
class _Seen:
    """What was seen at one place of all values."""

    types: dict[str, None] = field(default_factory=dict)
    texts: int = 0
    formats: list[str] = field(default_factory=lambda: list(_LOOKS_LIKE))
    objects: int = 0
    fields: dict[str, _Seen] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    entries: _Seen | None = None
    """What stands under the names of an object that has too many."""
    items: _Seen | None = None

    def take(self, value: Any) -> None:
        match value:
            case None:
                self.types["null"] = None
            case bool():
                self.types["boolean"] = None
            case int():
                self.types["integer"] = None
            case float():
                self.types["integer" if value.is_integer() else "number"] = None
            case str():
                self.types["string"] = None
                self.texts += 1
                self.formats = [each for each in self.formats if _valid(each, value)]
            case list():
                self.types["array"] = None
                self.items = self.items or _Seen()
                for item in value:
                    self.items.take(item)
            case dict():
                self.types["object"] = None
                self._take_object(value)

    def _take_object(self, value: dict[str, Any]) -> None:
        self.objects += 1
        for name, inner in value.items():
            if self.entries is not None:
                self.entries.take(inner)
                continue
            self.fields.setdefault(name, _Seen()).take(inner)
            self.counts[name] = self.counts.get(name, 0) + 1
            if len(self.fields) > MANY_NAMES:
                self.entries = _Seen()
                for each in self.fields.values():
                    self.entries.merge(each)
                self.fields, self.counts = {}, {}

    def merge(self, other: _Seen) -> None:
        """Take all that another has seen."""
        self.types |= other.types
        self.texts += other.texts
        self.formats = [each for each in self.formats if each in other.formats]
        for name, seen in other.fields.items():
            self.fields.setdefault(name, _Seen()).merge(seen)
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]
        self.objects += other.objects
        for mine in ("entries", "items"):
            theirs = getattr(other, mine)
            if theirs is not None:
                seen = getattr(self, mine) or _Seen()
                seen.merge(theirs)
                setattr(self, mine, seen)

    def schema(self) -> dict[str, Any]:
        """Return the draft."""
        types = [each for each in self.types if not (each == "integer" and "number" in self.types)]
        if not types:
            return {}
        found: dict[str, Any] = {"type": types[0] if len(types) == 1 else sorted(types)}
        if "string" in types and self.texts >= _FEW and self.formats:
            found["format"] = self.formats[0]
        if self.items is not None and (items := self.items.schema()):
            found["items"] = items
        if self.entries is not None:
            for each in self.fields.values():
                self.entries.merge(each)
            found["additionalProperties"] = self.entries.schema()
        elif self.fields:
            found["properties"] = {name: seen.schema() for name, seen in self.fields.items()}
            required = [name for name in self.fields if self.counts[name] == self.objects]
            if required:
                found["required"] = required
        return found


def infer(values: Iterable[Any]) -> tuple[dict[str, Any], int]:
    """Return a draft that takes all values, and how many those were.

    What is in every object is required; texts that all have a format get it; numbers that are whole
    are integers. It says nothing of what is allowed beside what was seen.
    """
    seen, count = _Seen(), 0
    for value in values:
        seen.take(value)
        count += 1
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema", **seen.schema()}
    return draft, count
