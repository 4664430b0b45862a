"""What a jq program reads of its context, so that libjq is handed that and nothing else.

An over-estimate, always: where it is not plain that a part is not read, it counts as read. Handing
over the whole context of an event, in which its data stands five times, costs four times as much
as running a typical program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transforms.expressions.syntax import (
    Array,
    Binary,
    Call,
    Form,
    Identity,
    Index,
    Literal,
    Node,
    NotUnderstood,
    Object,
    Optional,
    Pipe,
    parse,
)
from transforms.expressions.tokens import Token

Place = tuple[str, ...]
"""Keys that lead from the context to a value; () is the context itself."""

Reads = Mapping[str, frozenset[str] | None]
"""Root → the keys that are read below it, None for the whole of it."""

_PARTED = {"steps", "trigger"}
"""Roots of which single keys are handed over; all others are handed over whole."""

_WITHOUT_INPUT = {
    "empty",
    "error",
    "first",
    "infinite",
    "isempty",
    "last",
    "limit",
    "nan",
    "now",
    "range",
}
"""Functions that look at their input through their arguments only (those that have some)."""


def reads_of(tokens: Sequence[Token]) -> Reads | None:
    """Return what the program reads; None when that may be anything."""
    try:
        tree = parse(tokens)
    except (NotUnderstood, RecursionError):
        return None
    reader = _Reader()
    reader.use(reader.walk(tree, ()))
    return None if () in reader.places else _by_root(reader.places)


class _Reader:
    def __init__(self) -> None:
        self.places: set[Place] = set()

    def use(self, place: Place | None) -> None:
        """Count the whole value at `place` as read; None is a value made on the way."""
        if place is not None:
            self.places.add(place)

    def walk(self, node: Node, at: Place | None) -> Place | None:
        """Visit a node whose input stands at `at`; return where its output stands, if anywhere."""
        match node:
            case Identity():
                return at
            case Literal():
                return None
            case Index(target, key):
                place = self.walk(target, at)
                if place is not None and isinstance(key, Literal) and isinstance(key.value, str):
                    return (*place, key.value)
                self.use(place)
                self.use(self.walk(key, at))
            case Pipe(left, right, binds):
                place = self.walk(left, at)
                if not binds:
                    return self.walk(right, place)
                self.use(place)
                return self.walk(right, at)
            case Optional(body):
                return self.walk(body, at)
            case Binary(_, left, right):
                self.use(self.walk(left, at))
                self.use(self.walk(right, at))
            case Object(entries):
                for key, value in entries:
                    self.use(self.walk(key, at))
                    self.use(self.walk(value, at))
            case Array(items):
                if items is not None:
                    self.use(self.walk(items, at))
            case Call():
                return self._call(node, at)
            case Form():
                if node.reads_input:
                    self.use(at)
                for part in node.over_input:
                    self.use(self.walk(part, at))
                for part in node.over_other:
                    self.use(self.walk(part, None))
        return None

    def _call(self, call: Call, at: Place | None) -> Place | None:
        if call.name.startswith("$"):
            return None  # read where it was bound
        if call.name == "select" and len(call.arguments) == 1:
            self.use(self.walk(call.arguments[0], at))
            return at
        silent = call.name in _WITHOUT_INPUT and (
            call.arguments or call.name not in {"error", "first", "last"}
        )
        if not silent:
            # It may hand its arguments any part of its input, which is all read by then.
            self.use(at)
            at = None
        for argument in call.arguments:
            self.use(self.walk(argument, at))
        return None


def _by_root(places: Iterable[Place]) -> Reads:
    found: dict[str, set[str] | None] = {}
    for place in places:
        root = place[0]
        below = found.setdefault(root, set())
        # Below the trigger, these three are fields of the event and not what they are at the root.
        whole = len(place) == 1 or root not in _PARTED or place[1] in {"trigger", "steps", "meta"}
        if whole or below is None:
            found[root] = None
        else:
            below.add(place[1])
    return {root: None if below is None else frozenset(below) for root, below in found.items()}


def part_of(value: Any, keys: frozenset[str] | None) -> Any:
    """Return an object with those of its keys; anything else as it is."""
    if keys is None or not isinstance(value, dict):
        return value
    return {key: value[key] for key in keys if key in value}
