"""The tree that a flow file is read into: values with their places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flows.spec.problems import Place


@dataclass(frozen=True, slots=True)
class SourceText:
    """A file's text; offsets in scalars are found in it again."""

    file: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Edit:
    """What a substitution replaced: `length` characters of the raw text by `made` characters."""

    start: int
    length: int
    made: int


@dataclass(slots=True)
class Scalar:
    """A value: text, number, true, false or null."""

    value: Any
    place: Place
    source: SourceText
    span: tuple[int, int]
    """Where it stands in the source's text."""
    style: str | None
    """`|`, `>`, a quote, or None for a plain one."""
    raw: str
    """The value's text before substitution."""
    edits: tuple[Edit, ...] = ()
    missing: bool = False
    """A variable or file in it is missing, which is a problem of its own: the value means nothing."""

    @property
    def width(self) -> int:
        """Return how many characters of its first line it takes."""
        start, end = self.span
        return max(1, len(self.source.text[start:end].split("\n", 1)[0].rstrip()))

    def is_text(self) -> bool:
        """Whether the value is text."""
        return isinstance(self.value, str)


@dataclass(slots=True)
class Entry:
    """A key and its value."""

    key: Scalar
    value: Node


@dataclass(slots=True)
class Mapping:
    """Keys and values, in order."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)
    width: int = 1

    def get(self, key: str) -> Node | None:
        """Return the value of `key`, or None when it is absent."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def text(self, key: str) -> Scalar | None:
        """Return the value of `key` if it is text."""
        node = self.get(key)
        return node if isinstance(node, Scalar) and node.is_text() else None

    def mapping(self, key: str) -> Mapping | None:
        """Return the value of `key` if it is a mapping."""
        node = self.get(key)
        return node if isinstance(node, Mapping) else None

    def items(self, key: str) -> list[Node]:
        """Return the items of `key` if it is a list, else []."""
        node = self.get(key)
        return node.items if isinstance(node, Sequence) else []


@dataclass(slots=True)
class Sequence:
    """Items, in order."""

    place: Place
    items: list[Node] = field(default_factory=list)
    width: int = 1


Node = Scalar | Mapping | Sequence


def plain(node: Node, *, raw: bool = False) -> Any:
    """Return the tree as dicts, lists and scalars; with `raw`, text as it was written."""
    match node:
        case Scalar():
            return node.raw if raw and node.is_text() else node.value
        case Mapping():
            return {key: plain(entry.value, raw=raw) for key, entry in node.entries.items()}
        case Sequence():
            return [plain(item, raw=raw) for item in node.items]


def scalars(node: Node, key: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield every scalar of the tree with the key it stands under ("" in none)."""
    match node:
        case Scalar():
            yield key, node
        case Mapping():
            for name, entry in node.entries.items():
                yield from scalars(entry.value, name)
        case Sequence():
            for item in node.items:
                yield from scalars(item, key)


def place_of(node: Node, path: Iterable[str | int], key: Scalar | None) -> tuple[Place, int]:
    """Return where to point for what `path` leads to from `node`, and how wide it is.

    That is a value that can be seen on its line, or else its key; `key` is the node's own. Where
    the path leads out of the tree, it is the last part that is there.
    """
    for step in path:
        if isinstance(node, Mapping) and step in node.entries:
            found = node.entries[str(step)]
            node, key = found.value, found.key
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node, key = node.items[step], None
    if isinstance(node, Scalar) and node.span[0] != node.span[1]:
        return node.place, node.width
    return (node.place, node.width) if key is None else (key.place, key.width)


def merged(base: Mapping, over: Mapping) -> Mapping:
    """Return the entries of both; where both have a key, that of `over`."""
    return Mapping(over.place, {**base.entries, **over.entries}, over.width)
